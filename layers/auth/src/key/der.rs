//! Public keys out of PEM and DER.

use pkcs1::RsaPublicKeyRef;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::Key;
use crate::algorithm::{Algorithm, Algorithms};
use crate::error::KeyError;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The most bytes of PEM or DER: an RSA key of 8192 bits has a sixth of it.
const MAX_LEN: usize = 16 * 1024;

/// The one object in `text` that is PEM: what it is called, and its bytes.
pub(super) fn unwrap_pem(text: &[u8]) -> Result<(String, Vec<u8>), KeyError> {
    if text.len() > MAX_LEN {
        return Err(KeyError::Unreadable("a PEM file for a key has 16 KiB at most"));
    }
    let mut objects = pem::parse_many(text)
        .map_err(|_| KeyError::Unreadable("this is not PEM: `-----BEGIN … KEY-----` and base64"))?;
    match (objects.pop(), objects.is_empty()) {
        (Some(object), true) => Ok((object.tag().to_owned(), object.into_contents())),
        (None, _) => Err(KeyError::Unreadable("the text has no `-----BEGIN … KEY-----`")),
        (Some(_), false) => Err(KeyError::Unreadable("the PEM has several objects; give one key")),
    }
}

pub(super) fn public_from_pem(algorithm: Algorithm, text: &[u8]) -> Result<Key, KeyError> {
    let (tag, contents) = unwrap_pem(text)?;
    match tag.as_str() {
        "PUBLIC KEY" => from_spki(algorithm, &contents),
        "RSA PUBLIC KEY" => from_pkcs1(algorithm, &contents),
        "CERTIFICATE" => Err(KeyError::Unreadable(
            "this is a certificate; take the key out of it with `openssl x509 -pubkey -noout`",
        )),
        _ if tag.ends_with("PRIVATE KEY") => Err(KeyError::Unreadable(
            "this is a private key, which SigningKey::from_pem takes; make it a public one with `openssl pkey -pubout`",
        )),
        _ => Err(KeyError::Unreadable("the PEM has no PUBLIC KEY")),
    }
}

pub(super) fn public_from_der(algorithm: Algorithm, der: &[u8]) -> Result<Key, KeyError> {
    if der.len() > MAX_LEN {
        return Err(KeyError::Unreadable("a key in DER has 16 KiB at most"));
    }
    if RsaPublicKeyRef::try_from(der).is_ok() {
        return from_pkcs1(algorithm, der);
    }
    from_spki(algorithm, der)
}

fn from_spki(algorithm: Algorithm, der: &[u8]) -> Result<Key, KeyError> {
    let unreadable = KeyError::Unreadable("the DER is no SubjectPublicKeyInfo (RFC 5280 §4.1)");
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| unreadable.clone())?;
    let bits = info.subject_public_key.as_bytes().ok_or(unreadable)?;
    let curve = || info.algorithm.parameters_oid().ok();
    match algorithm {
        _ if algorithm.is_symmetric() => Err(KeyError::Symmetric(algorithm)),
        _ if algorithm.is_rsa() && info.algorithm.oid == RSA => from_pkcs1(algorithm, bits),
        Algorithm::Es256 if info.algorithm.oid == EC && curve() == Some(P256) => {
            Key::ec(algorithm, bits)
        }
        Algorithm::Es384 if info.algorithm.oid == EC && curve() == Some(P384) => {
            Key::ec(algorithm, bits)
        }
        Algorithm::EdDsa if info.algorithm.oid == ED25519 => Key::ed25519(bits),
        _ => Err(KeyError::WrongType(algorithm)),
    }
}

pub(super) fn from_pkcs1(algorithm: Algorithm, der: &[u8]) -> Result<Key, KeyError> {
    if algorithm.is_symmetric() {
        return Err(KeyError::Symmetric(algorithm));
    }
    if !algorithm.is_rsa() {
        return Err(KeyError::WrongType(algorithm));
    }
    let key = RsaPublicKeyRef::try_from(der)
        .map_err(|_| KeyError::Unreadable("the DER is no RSAPublicKey (RFC 8017 §A.1.1)"))?;
    let algorithms = Algorithms::one(algorithm);
    Key::rsa(algorithms, key.modulus.as_bytes(), key.public_exponent.as_bytes())
}
