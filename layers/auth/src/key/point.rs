//! Public keys as numbers and points, checked when they are read rather than with each signature.

use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use ring::rand::SystemRandom;

use super::{Key, Material};
use crate::algorithm::{Algorithm, Algorithms};
use crate::error::KeyError;

/// The `y` of the points on edwards25519 whose order is 8 or less, in each way to write it that
/// decodes; the sign, which is the highest bit, is left out. For such a key, signatures can be made
/// without any secret.
const SMALL_ORDER: [[u8; 32]; 7] = [
    filled(0x00, 0x00, 0x00),
    filled(0x01, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    filled(0xec, 0xff, 0x7f),
    filled(0xed, 0xff, 0x7f),
    filled(0xee, 0xff, 0x7f),
];

const fn filled(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

impl Key {
    /// From modulus and exponent, big-endian.
    pub(super) fn rsa(algorithms: Algorithms, n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        // RFC 7518 §6.3.1.1 forbids leading zeros, and some write one all the same.
        let (n, e) = (trim(n), trim(e));
        let bits = n.first().map_or(0, |top| n.len() * 8 - top.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(KeyError::RsaSize(bits));
        }
        // ring takes 3 to 2^33 - 1, odd; anything else would fail with each token.
        let odd = |bytes: &[u8]| bytes.last().is_some_and(|last| last % 2 == 1);
        if !odd(n) || !odd(e) || e == [1] || e.len() > 5 || (e.len() == 5 && e[0] > 1) {
            return Err(KeyError::Unreadable("the modulus or exponent is not that of an RSA key"));
        }
        Ok(Self::new(algorithms, Material::Rsa { n: n.into(), e: e.into() }))
    }

    /// From an uncompressed point on P-256 or P-384.
    pub(super) fn ec(algorithm: Algorithm, point: &[u8]) -> Result<Self, KeyError> {
        let (curve, material) = match algorithm {
            Algorithm::Es256 => {
                let point = point.try_into().map_err(|_| KeyError::WrongType(algorithm))?;
                (&agreement::ECDH_P256, Material::P256(Box::new(point)))
            }
            Algorithm::Es384 => {
                let point = point.try_into().map_err(|_| KeyError::WrongType(algorithm))?;
                (&agreement::ECDH_P384, Material::P384(Box::new(point)))
            }
            _ => return Err(KeyError::WrongType(algorithm)),
        };
        // ring tells whether a point is on its curve when it is to agree on a secret with its owner.
        let agreed = EphemeralPrivateKey::generate(curve, &SystemRandom::new()).and_then(|own| {
            let peer = UnparsedPublicKey::new(curve, point);
            agreement::agree_ephemeral(own, &peer, |_| ())
        });
        agreed.map_err(|_| KeyError::InvalidPoint)?;
        Ok(Self::new(Algorithms::one(algorithm), material))
    }

    /// From a point on edwards25519.
    pub(super) fn ed25519(point: &[u8]) -> Result<Self, KeyError> {
        let point: [u8; 32] =
            point.try_into().map_err(|_| KeyError::WrongType(Algorithm::EdDsa))?;
        let mut unsigned = point;
        unsigned[31] &= 0x7f;
        if SMALL_ORDER.contains(&unsigned) {
            return Err(KeyError::InvalidPoint);
        }
        Ok(Self::new(Algorithms::one(Algorithm::EdDsa), Material::Ed25519(point)))
    }
}

fn trim(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_points_of_small_order_with_either_sign() {
        for point in SMALL_ORDER {
            let mut other = point;
            other[31] |= 0x80;
            for point in [point, other] {
                assert_eq!(Key::ed25519(&point).unwrap_err(), KeyError::InvalidPoint);
            }
        }
    }

    #[test]
    fn refuses_points_off_their_curve_or_of_another() {
        let mut point = [0x42; 65];
        point[0] = 4;
        assert_eq!(Key::ec(Algorithm::Es256, &point).unwrap_err(), KeyError::InvalidPoint);
        let wrong = KeyError::WrongType(Algorithm::Es384);
        assert_eq!(Key::ec(Algorithm::Es384, &point).unwrap_err(), wrong);
        assert_eq!(Key::ed25519(&point[..31]).unwrap_err(), KeyError::WrongType(Algorithm::EdDsa));
    }

    #[test]
    fn refuses_rsa_keys_that_are_small_or_make_no_sense() {
        let mut n = [0xff; 256];
        assert!(Key::rsa(Algorithms::RSA, &n, &[1, 0, 1]).is_ok());
        let short = Key::rsa(Algorithms::RSA, &n[..128], &[1, 0, 1]);
        assert_eq!(short.unwrap_err(), KeyError::RsaSize(1024));
        n[0] = 0x7f;
        assert_eq!(Key::rsa(Algorithms::RSA, &n, &[3]).unwrap_err(), KeyError::RsaSize(2047));
        assert_eq!(Key::rsa(Algorithms::RSA, &[0; 300], &[3]).unwrap_err(), KeyError::RsaSize(0));
        n[0] = 0xff;
        for e in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[1; 6]] {
            assert!(Key::rsa(Algorithms::RSA, &n, e).is_err(), "{e:?}");
        }
    }
}
