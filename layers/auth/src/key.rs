//! Keys that verify, each bound to the algorithms it is for.

mod der;
mod jwk;
mod point;
mod secret;
mod set;
pub(crate) mod thumbprint;

use std::fmt;

use ring::{digest, hmac, rand, signature};

use crate::algorithm::{Algorithm, Algorithms};
use crate::error::KeyError;

#[cfg(feature = "jwks")]
pub(crate) use jwk::checked;
pub use secret::SigningKey;
pub use set::{KeySet, Skipped};

/// A key that verifies signatures: a public key, or a secret shared with the issuer.
///
/// It is bound to what it is for: a public key never verifies HS256, whatever a token says (the
/// confusion of RFC 8725 §2.1), and a key read for RS256 does nothing else. An RSA key from a JWK
/// that names no algorithm may do all of RSA's; the issuer's list narrows that.
///
/// ```
/// use tower_keep_auth::{Algorithm, Key};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pem = "-----BEGIN PUBLIC KEY-----
/// MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
/// -----END PUBLIC KEY-----";
/// let key = Key::from_pem(Algorithm::EdDsa, pem)?.with_kid("2026-01");
/// assert_eq!(key.kid(), Some("2026-01"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Key {
    kid: Option<Box<str>>,
    algorithms: Algorithms,
    material: Material,
}

/// What was read of a key, checked as far as it can be without a signature.
#[derive(Clone)]
pub(crate) enum Material {
    Hmac {
        key: hmac::Key,
        fingerprint: [u8; 32],
    },
    /// Big-endian, without leading zeros.
    Rsa {
        n: Box<[u8]>,
        e: Box<[u8]>,
    },
    /// An uncompressed point (SEC 1 §2.3.3).
    P256(Box<[u8; 65]>),
    P384(Box<[u8; 97]>),
    Ed25519([u8; 32]),
}

/// What makes a key that very key: name, algorithms and material.
pub(crate) type Identity = [u8; 32];

impl Key {
    /// A secret for HS256, HS384 or HS512, at least as long as the digest: 32, 48 or 64 bytes
    /// (RFC 7518 §3.2). They should be random; a password isn't, and can be guessed from a single
    /// token.
    ///
    /// # Errors
    ///
    /// [`KeyError::SecretTooShort`], or [`KeyError::Asymmetric`] for an algorithm without a secret.
    pub fn hmac(algorithm: Algorithm, secret: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let secret = secret.as_ref();
        let (kind, needed) = match algorithm {
            Algorithm::Hs256 => (hmac::HMAC_SHA256, 32),
            Algorithm::Hs384 => (hmac::HMAC_SHA384, 48),
            Algorithm::Hs512 => (hmac::HMAC_SHA512, 64),
            _ => return Err(KeyError::Asymmetric(algorithm)),
        };
        if secret.len() < needed {
            return Err(KeyError::SecretTooShort { algorithm, given: secret.len(), needed });
        }
        let key = hmac::Key::new(kind, secret);
        let fingerprint = sha256(&[secret]);
        Ok(Self::new(Algorithms::one(algorithm), Material::Hmac { key, fingerprint }))
    }

    /// A public key in PEM: `PUBLIC KEY` (what `openssl pkey -pubout` writes), or `RSA PUBLIC KEY`.
    ///
    /// Of a certificate, take the key out first: `openssl x509 -pubkey -noout`. Nothing would check
    /// who signed it, or until when it is valid.
    ///
    /// # Errors
    ///
    /// [`KeyError`], with what to change: a key of another type or curve than the algorithm's, an RSA
    /// key of less than 2048 bits, a point that isn't on its curve, text that isn't PEM.
    pub fn from_pem(algorithm: Algorithm, pem: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        der::public_from_pem(algorithm, pem.as_ref())
    }

    /// A public key in DER: `SubjectPublicKeyInfo`, or PKCS #1's `RSAPublicKey`.
    ///
    /// # Errors
    ///
    /// As for [`from_pem`](Self::from_pem).
    pub fn from_der(algorithm: Algorithm, der: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        der::public_from_der(algorithm, der.as_ref())
    }

    /// A key as a JWK (RFC 7517), private members ignored. A secret (`oct`) must name its `alg`.
    ///
    /// # Errors
    ///
    /// [`KeyError`], with what is wrong.
    pub fn from_jwk(json: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        jwk::read_one(json.as_ref())
    }

    /// Names the key: tokens whose `kid` is just that are verified by it. A key without a name is
    /// tried for any token.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into().into_boxed_str());
        self
    }

    /// Its name.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it verifies signatures of `algorithm`.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(algorithm)
    }

    /// Whether it is a secret, that signs as well as it verifies.
    pub fn is_symmetric(&self) -> bool {
        matches!(self.material, Material::Hmac { .. })
    }

    pub(crate) fn new(algorithms: Algorithms, material: Material) -> Self {
        Self { kid: None, algorithms, material }
    }

    pub(crate) fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    pub(crate) fn material(&self) -> &Material {
        &self.material
    }

    /// Whether `signature` is this key's over `message`, by `algorithm`.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.algorithms.contains(algorithm) {
            return false;
        }
        match &self.material {
            // Takes the same time wherever the difference is.
            Material::Hmac { key, .. } => hmac::verify(key, message, signature).is_ok(),
            Material::Rsa { n, e } => rsa_parameters(algorithm).is_some_and(|parameters| {
                let key = signature::RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature).is_ok()
            }),
            Material::P256(point) => {
                check(&signature::ECDSA_P256_SHA256_FIXED, &point[..], message, signature)
            }
            Material::P384(point) => {
                check(&signature::ECDSA_P384_SHA384_FIXED, &point[..], message, signature)
            }
            Material::Ed25519(point) => check(&signature::ED25519, point, message, signature),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        let kid = self.kid().map_or(&[][..], str::as_bytes);
        let named = [u8::from(self.kid.is_some())];
        let lengths = (kid.len() as u64).to_be_bytes();
        let bits = self.algorithms.bits().to_be_bytes();
        let (kind, first, second): (u8, &[u8], &[u8]) = match &self.material {
            Material::Hmac { fingerprint, .. } => (0, fingerprint, &[]),
            Material::Rsa { n, e } => (1, n, e),
            Material::P256(point) => (2, &point[..], &[]),
            Material::P384(point) => (3, &point[..], &[]),
            Material::Ed25519(point) => (4, point, &[]),
        };
        let size = (first.len() as u64).to_be_bytes();
        sha256(&[&named, &lengths, kid, &bits, &[kind], &size, first, second])
    }
}

/// Tells which key it is, and no secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

fn check(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// A name that nobody can guess and that no other has: 128 random bits.
pub(crate) fn random_name() -> Result<String, KeyError> {
    let bytes: [u8; 16] =
        rand::generate(&rand::SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?.expose();
    Ok(crate::token::encode(&bytes))
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}
