//! Keys as JSON (RFC 7517, RFC 7518 §6, RFC 8037).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::Key;
use crate::algorithm::{Algorithm, Algorithms};
use crate::error::KeyError;
use crate::header::MAX_KID_LEN;
use crate::json::{self, Fault, Faults, Walk};

/// The members that count. Others, `x5c` among them, are neither needed nor believed.
#[derive(Debug, Deserialize)]
pub(super) struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    pub(super) kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<String>,
}

/// Makes sure that `json` is JSON that all programs read alike.
pub(crate) fn checked(json: &[u8]) -> Result<&str, KeyError> {
    let text = std::str::from_utf8(json).map_err(|_| KeyError::Jwk("it is not UTF-8"))?;
    let faults = Faults::default();
    json::read(text, &faults, Walk::whole(&faults)).map_err(|fault| match fault {
        Some(Fault::TooDeep) => KeyError::Jwk("it nests too deeply"),
        Some(Fault::DuplicateMember) => KeyError::Jwk("it has two members of one name"),
        Some(Fault::Member(_)) | None => KeyError::Jwk("it is not JSON"),
    })?;
    Ok(text)
}

pub(super) fn read_one(json: &[u8]) -> Result<Key, KeyError> {
    if json.len() > super::set::MAX_LEN {
        return Err(KeyError::Jwk("it is larger than 256 KiB"));
    }
    let jwk: Jwk = serde_json::from_str(checked(json)?).map_err(|_| {
        KeyError::Jwk("it is no JSON object with a `kty`, or has members of wrong types")
    })?;
    jwk.read()
}

impl Jwk {
    pub(super) fn is_symmetric(&self) -> bool {
        self.kty == "oct"
    }

    /// Whether it tells a private key to whom it should not.
    pub(super) fn is_private(&self) -> bool {
        self.d.is_some()
    }

    pub(super) fn read(&self) -> Result<Key, KeyError> {
        if self.usage.as_ref().is_some_and(|usage| usage != "sig") {
            return Err(KeyError::Jwk("its `use` is not `sig`"));
        }
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if self.key_ops.as_ref().is_some_and(|ops| !verifies(ops)) {
            return Err(KeyError::Jwk("its `key_ops` do not have `verify`"));
        }
        if self.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_LEN) {
            return Err(KeyError::Jwk("its `kid` is longer than 256 bytes"));
        }
        let named = self.alg.as_deref().map(|name| {
            Algorithm::from_name(name).ok_or(KeyError::Jwk("its `alg` is not supported"))
        });
        let key = self.material(named.transpose()?)?;
        Ok(match &self.kid {
            Some(kid) => key.with_kid(kid.clone()),
            None => key,
        })
    }

    fn material(&self, named: Option<Algorithm>) -> Result<Key, KeyError> {
        let only = |algorithm| match named {
            Some(named) if named != algorithm => Err(KeyError::WrongType(named)),
            _ => Ok(algorithm),
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let algorithms = match named {
                    Some(named) if named.is_rsa() => Algorithms::one(named),
                    Some(named) => return Err(KeyError::WrongType(named)),
                    None => Algorithms::RSA,
                };
                Key::rsa(algorithms, &decode(self.n.as_deref())?, &decode(self.e.as_deref())?)
            }
            ("EC", Some("P-256")) => Key::ec(only(Algorithm::Es256)?, &self.point(32)?),
            ("EC", Some("P-384")) => Key::ec(only(Algorithm::Es384)?, &self.point(48)?),
            ("OKP", Some("Ed25519")) => {
                only(Algorithm::EdDsa)?;
                Key::ed25519(&decode(self.x.as_deref())?)
            }
            ("EC" | "OKP", _) => Err(KeyError::Jwk("its `crv` is not supported")),
            ("oct", _) => {
                let algorithm =
                    named.ok_or(KeyError::Jwk("a secret must name its `alg`, such as HS256"))?;
                Key::hmac(algorithm, decode(self.k.as_deref())?)
            }
            _ => Err(KeyError::Jwk("its `kty` is not supported")),
        }
    }

    /// Both coordinates, each of just `size` bytes (RFC 7518 §6.2.1.2), as an uncompressed point.
    fn point(&self, size: usize) -> Result<Vec<u8>, KeyError> {
        let (x, y) = (decode(self.x.as_deref())?, decode(self.y.as_deref())?);
        if x.len() != size || y.len() != size {
            return Err(KeyError::Jwk("its `x` or `y` has not the length of the curve's numbers"));
        }
        Ok([&[4], &*x, &*y].concat())
    }
}

fn decode(member: Option<&str>) -> Result<Vec<u8>, KeyError> {
    let text = member.ok_or(KeyError::Jwk("it lacks a member that its `kty` needs"))?;
    let unreadable = KeyError::Jwk("a member is not base64url without padding");
    URL_SAFE_NO_PAD.decode(text).map_err(|_| unreadable)
}
