//! Public keys written as JWKs, and the thumbprints that name them (RFC 7638).

use super::{Key, Material, sha256};
use crate::token::encode;

/// The members that make a public key, in the order of their names; none of a secret.
pub(crate) fn members(key: &Key) -> Option<Vec<(&'static str, String)>> {
    let ec = |curve: &str, point: &[u8], size: usize| {
        let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(size)?;
        Some(vec![
            ("crv", curve.to_owned()),
            ("kty", "EC".to_owned()),
            ("x", encode(x)),
            ("y", encode(y)),
        ])
    };
    match key.material() {
        Material::Hmac { .. } => None,
        Material::Rsa { n, e } => {
            Some(vec![("e", encode(e)), ("kty", "RSA".to_owned()), ("n", encode(n))])
        }
        Material::P256(point) => ec("P-256", &point[..], 32),
        Material::P384(point) => ec("P-384", &point[..], 48),
        Material::Ed25519(point) => Some(vec![
            ("crv", "Ed25519".to_owned()),
            ("kty", "OKP".to_owned()),
            ("x", encode(point)),
        ]),
    }
}

/// RFC 7638 §3: the digest of just those members. None of them has a character to escape.
pub(super) fn of(key: &Key) -> Option<String> {
    let members = members(key)?;
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
    let json = format!("{{{}}}", members.join(","));
    Some(encode(&sha256(&[json.as_bytes()])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_that_of_the_rfcs() {
        // RFC 7638 §3.1, and RFC 8037 §A.3.
        let rsa = Key::from_jwk(
            r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#,
        )
        .unwrap();
        assert_eq!(of(&rsa).as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
        let ed = Key::from_jwk(
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        )
        .unwrap();
        assert_eq!(of(&ed).as_deref(), Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
    }
}
