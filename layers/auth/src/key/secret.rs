//! Keys that sign.

use std::fmt;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use ring::{hmac, rand};

use super::{Key, der, thumbprint};
use crate::algorithm::Algorithm;
use crate::error::KeyError;

/// A key that signs: a private key, or a secret. It signs by one algorithm (RFC 8725 §3.1).
///
/// ```
/// use tower_keep_auth::{Algorithm, SigningKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = SigningKey::generate(Algorithm::EdDsa)?;
/// // What verifies its signatures, and the same key's name.
/// assert_eq!(key.verifying_key().kid(), key.kid());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SigningKey {
    algorithm: Algorithm,
    secret: Arc<Secret>,
    verifying: Key,
}

enum Secret {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// A secret for HS256, HS384 or HS512; see [`Key::hmac`]. It has no name, unless
    /// [`with_kid`](Self::with_kid) gives it one: a name made of the secret would help to guess it.
    ///
    /// # Errors
    ///
    /// As for [`Key::hmac`].
    pub fn hmac(algorithm: Algorithm, secret: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let verifying = Key::hmac(algorithm, secret)?;
        match verifying.material() {
            super::Material::Hmac { key, .. } => {
                let secret = Arc::new(Secret::Hmac(key.clone()));
                Ok(Self { algorithm, secret, verifying })
            }
            _ => Err(KeyError::Asymmetric(algorithm)),
        }
    }

    /// A private key in PEM: `PRIVATE KEY` (PKCS #8), or `RSA PRIVATE KEY`.
    ///
    /// Its name is its thumbprint (RFC 7638), until [`with_kid`](Self::with_kid) gives it another.
    ///
    /// # Errors
    ///
    /// [`KeyError`], with what to change.
    pub fn from_pem(algorithm: Algorithm, pem: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let (tag, contents) = der::unwrap_pem(pem.as_ref())?;
        match tag.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8(algorithm, contents),
            "RSA PRIVATE KEY" if algorithm.is_rsa() => {
                Self::rsa(algorithm, RsaKeyPair::from_der(&contents).map_err(|_| unusable())?)
            }
            "EC PRIVATE KEY" => Err(KeyError::Unreadable(
                "this is an EC key without PKCS #8; convert it with `openssl pkcs8 -topk8 -nocrypt`",
            )),
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Unreadable(
                "the key is encrypted; decrypt it with `openssl pkcs8`, and keep it from others by the file's permissions",
            )),
            "PUBLIC KEY" | "RSA PUBLIC KEY" => Err(KeyError::Unreadable(
                "this is a public key, which verifies only; Key::from_pem takes it",
            )),
            _ => Err(KeyError::WrongType(algorithm)),
        }
    }

    /// A private key in DER, as PKCS #8.
    ///
    /// # Errors
    ///
    /// As for [`from_pem`](Self::from_pem).
    pub fn from_pkcs8(algorithm: Algorithm, der: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let der = der.as_ref();
        match algorithm {
            _ if algorithm.is_symmetric() => Err(KeyError::Symmetric(algorithm)),
            Algorithm::Es256 | Algorithm::Es384 => {
                let kind = if algorithm == Algorithm::Es256 {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let pair = EcdsaKeyPair::from_pkcs8(kind, der, &SystemRandom::new())
                    .map_err(|_| unusable())?;
                let verifying = Key::ec(algorithm, pair.public_key().as_ref())?;
                Ok(Self::named(algorithm, Secret::Ec(pair), verifying))
            }
            Algorithm::EdDsa => {
                let pair =
                    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| unusable())?;
                let verifying = Key::ed25519(pair.public_key().as_ref())?;
                Ok(Self::named(algorithm, Secret::Ed25519(pair), verifying))
            }
            _ => Self::rsa(algorithm, RsaKeyPair::from_pkcs8(der).map_err(|_| unusable())?),
        }
    }

    /// A new key: for ES256, ES384 and EdDSA, or a secret. It lives as long as the process, so this
    /// is for tests and for tokens that need not outlive a restart. RSA keys are made by other tools:
    /// `openssl genrsa 3072`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] for RSA, and if the system has no randomness to give.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pkcs8 = match algorithm {
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            }
            Algorithm::Es384 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random)
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random),
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                let secret: [u8; 64] =
                    rand::generate(&random).map_err(|_| KeyError::NoRandomness)?.expose();
                return Ok(Self::hmac(algorithm, secret)?.with_kid(super::random_name()?));
            }
            _ => {
                let text = "RSA keys are not made here; make one with `openssl genrsa 3072`";
                return Err(KeyError::Unreadable(text));
            }
        };
        Self::from_pkcs8(algorithm, pkcs8.map_err(|_| KeyError::NoRandomness)?)
    }

    fn rsa(algorithm: Algorithm, pair: RsaKeyPair) -> Result<Self, KeyError> {
        let encoding: &'static dyn RsaEncoding = match algorithm {
            Algorithm::Rs256 => &RSA_PKCS1_SHA256,
            Algorithm::Rs384 => &RSA_PKCS1_SHA384,
            Algorithm::Rs512 => &RSA_PKCS1_SHA512,
            Algorithm::Ps256 => &RSA_PSS_SHA256,
            Algorithm::Ps384 => &RSA_PSS_SHA384,
            Algorithm::Ps512 => &RSA_PSS_SHA512,
            _ => return Err(KeyError::WrongType(algorithm)),
        };
        let verifying = der::from_pkcs1(algorithm, pair.public().as_ref())?;
        Ok(Self::named(algorithm, Secret::Rsa(pair, encoding), verifying))
    }

    fn named(algorithm: Algorithm, secret: Secret, verifying: Key) -> Self {
        let verifying = match thumbprint::of(&verifying) {
            Some(name) => verifying.with_kid(name),
            None => verifying,
        };
        Self { algorithm, secret: Arc::new(secret), verifying }
    }

    /// Names the key, in the tokens that it signs and in published sets.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.verifying = self.verifying.with_kid(kid);
        self
    }

    /// Its name.
    pub fn kid(&self) -> Option<&str> {
        self.verifying.kid()
    }

    /// What it signs by.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key that verifies what this one signs: the public part, or the same secret.
    pub fn verifying_key(&self) -> &Key {
        &self.verifying
    }

    /// The signature over `message`, in the form that tokens have (RFC 7518 §3).
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`] if the system has none to give, which RSA-PSS and ECDSA need.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &*self.secret {
            Secret::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Secret::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)
                    .map_err(|_| KeyError::NoRandomness)?;
                Ok(signature)
            }
            Secret::Ec(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| KeyError::NoRandomness)?;
                Ok(signature.as_ref().to_vec())
            }
            Secret::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// Tells which key it is, and no secret.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid())
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

fn unusable() -> KeyError {
    KeyError::Unreadable(
        "the private key can't be used: not PKCS #8, of another type or curve than its algorithm, of less than 2048 bits, or its numbers don't fit together",
    )
}
