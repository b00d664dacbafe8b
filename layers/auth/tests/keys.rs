//! Keys out of files and sets, and what isn't taken for one.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use serde_json::{Value, json};
use support::{SECRET, encode, with};
use tower_keep_auth::{Algorithm, Key, KeyError, KeySet, SigningKey};

const PUBLIC: [(Algorithm, &str); 6] = [
    (Algorithm::Rs256, include_str!("keys/rsa2048-public.pem")),
    (Algorithm::Ps512, include_str!("keys/rsa2048-public.pem")),
    (Algorithm::Rs384, include_str!("keys/rsa2048-public-pkcs1.pem")),
    (Algorithm::Es256, include_str!("keys/p256-public.pem")),
    (Algorithm::Es384, include_str!("keys/p384-public.pem")),
    (Algorithm::EdDsa, include_str!("keys/ed25519-public.pem")),
];

fn der(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(lines).unwrap()
}

#[test]
fn reads_public_keys_from_pem_and_der_for_their_algorithm_alone() {
    for (algorithm, pem) in PUBLIC {
        for key in [Key::from_pem(algorithm, pem), Key::from_der(algorithm, der(pem))] {
            let key = key.unwrap();
            let all = Algorithm::ASYMMETRIC.into_iter().chain([Algorithm::Hs256]);
            let is_for: Vec<_> = all.filter(|it| key.is_for(*it)).collect();
            assert_eq!(is_for, [algorithm]);
            assert!(!key.is_symmetric() && key.kid().is_none());
        }
    }
}

#[test]
fn refuses_keys_of_another_type_or_curve_or_size() {
    let p521 = include_str!("keys/p521-public.pem");
    for (algorithm, pem, error) in [
        (Algorithm::Es256, PUBLIC[0].1, KeyError::WrongType(Algorithm::Es256)),
        (Algorithm::Es256, PUBLIC[4].1, KeyError::WrongType(Algorithm::Es256)),
        (Algorithm::Es384, PUBLIC[3].1, KeyError::WrongType(Algorithm::Es384)),
        (Algorithm::Es384, p521, KeyError::WrongType(Algorithm::Es384)),
        (Algorithm::EdDsa, PUBLIC[2].1, KeyError::WrongType(Algorithm::EdDsa)),
        (Algorithm::EdDsa, PUBLIC[3].1, KeyError::WrongType(Algorithm::EdDsa)),
        (Algorithm::Rs256, PUBLIC[5].1, KeyError::WrongType(Algorithm::Rs256)),
        (Algorithm::Hs256, PUBLIC[0].1, KeyError::Symmetric(Algorithm::Hs256)),
        (Algorithm::Hs256, PUBLIC[2].1, KeyError::Symmetric(Algorithm::Hs256)),
        (Algorithm::Rs256, include_str!("keys/rsa1024-public.pem"), KeyError::RsaSize(1024)),
    ] {
        assert_eq!(Key::from_pem(algorithm, pem).unwrap_err(), error);
        assert_eq!(Key::from_der(algorithm, der(pem)).unwrap_err(), error);
    }
}

#[test]
fn says_what_to_do_with_files_that_hold_something_else() {
    let fix = |pem: &str| Key::from_pem(Algorithm::Es256, pem).unwrap_err().to_string();
    assert!(fix(include_str!("keys/certificate.pem")).contains("openssl x509 -pubkey"));
    assert!(fix(include_str!("keys/p256.pem")).contains("SigningKey::from_pem"));
    assert!(fix("no key").contains("BEGIN"));
    assert!(fix("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----").contains("not PEM"));
    assert!(fix(&PUBLIC[3].1.repeat(2)).contains("several"));
    assert!(fix(&PUBLIC[3].1.repeat(100)).contains("16 KiB"));
    let fix = |pem: &str| SigningKey::from_pem(Algorithm::Es256, pem).unwrap_err().to_string();
    assert!(fix(include_str!("keys/p256-sec1.pem")).contains("openssl pkcs8"));
    assert!(fix(PUBLIC[3].1).contains("Key::from_pem"));
    assert!(fix(include_str!("keys/rsa2048.pem")).contains("can't be used"));
    let small = SigningKey::from_pem(Algorithm::Rs256, include_str!("keys/rsa1024.pem"));
    assert!(small.unwrap_err().to_string().contains("2048 bits"));
}

#[test]
fn secrets_are_at_least_as_long_as_the_digest() {
    for (algorithm, needed) in
        [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)]
    {
        assert!(Key::hmac(algorithm, &SECRET[..needed]).unwrap().is_for(algorithm));
        let error = Key::hmac(algorithm, &SECRET[..needed - 1]).unwrap_err();
        assert_eq!(error, KeyError::SecretTooShort { algorithm, given: needed - 1, needed });
        assert!(error.to_string().contains(&needed.to_string()));
    }
    let error = Key::hmac(Algorithm::Rs256, SECRET).unwrap_err();
    assert_eq!(error, KeyError::Asymmetric(Algorithm::Rs256));
}

#[test]
fn keys_of_either_form_are_the_same_key() {
    for pem in [include_str!("keys/rsa2048.pem"), include_str!("keys/rsa2048-pkcs1.pem")] {
        let key = SigningKey::from_pem(Algorithm::Rs256, pem).unwrap();
        assert_eq!(key.kid().map(str::len), Some(43));
        let other = SigningKey::from_pem(Algorithm::Rs256, include_str!("keys/rsa2048.pem"));
        assert_eq!(key.kid(), other.unwrap().kid());
    }
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa, Algorithm::Hs512] {
        let (one, other) = (SigningKey::generate(algorithm), SigningKey::generate(algorithm));
        assert_ne!(one.unwrap().kid(), other.unwrap().kid());
    }
    assert!(SigningKey::generate(Algorithm::Rs256).is_err());
}

#[test]
fn nothing_secret_is_shown() {
    let key = SigningKey::hmac(Algorithm::Hs256, SECRET).unwrap().with_kid("one");
    let shown = format!("{key:?} {:?}", key.verifying_key());
    assert_eq!(
        shown,
        "SigningKey { kid: Some(\"one\"), algorithm: Hs256, .. } \
         Key { kid: Some(\"one\"), algorithms: {Hs256}, .. }"
    );
}

fn rsa() -> Value {
    json!({"kty": "RSA", "kid": "rsa", "n": encode([0xff; 256]), "e": "AQAB"})
}

fn ed25519() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

#[test]
fn an_rsa_key_without_alg_is_for_all_of_rsa_and_with_it_for_that() {
    let key = Key::from_jwk(rsa().to_string()).unwrap();
    let is_for: Vec<_> = Algorithm::ASYMMETRIC.into_iter().filter(|it| key.is_for(*it)).collect();
    assert_eq!(is_for.len(), 6);
    let key = Key::from_jwk(with(rsa(), "alg", "PS256").to_string()).unwrap();
    assert!(key.is_for(Algorithm::Ps256) && !key.is_for(Algorithm::Rs256));
    for name in ["EdDSA", "Ed25519"] {
        let key = Key::from_jwk(with(ed25519(), "alg", name).to_string()).unwrap();
        assert!(key.is_for(Algorithm::EdDsa));
    }
}

#[test]
fn passes_over_what_it_cannot_use_and_keeps_the_rest() {
    let small = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let cases = [
        (with(rsa(), "use", "enc"), "`use`"),
        (with(rsa(), "key_ops", json!(["sign"])), "`key_ops`"),
        (with(rsa(), "alg", "RSA-OAEP"), "`alg`"),
        (with(rsa(), "alg", "none"), "`alg`"),
        (with(rsa(), "alg", "HS256"), "type and curve"),
        (with(rsa(), "alg", "ES256"), "type and curve"),
        (with(rsa(), "n", encode([0xff; 128])), "1024"),
        (with(rsa(), "n", Value::Null), "lacks"),
        (with(rsa(), "n", "+/=="), "base64url"),
        (with(rsa(), "e", "AQ"), "exponent"),
        (with(rsa(), "d", "AQAB"), "private"),
        (with(rsa(), "kid", "k".repeat(257)), "256 bytes"),
        (with(rsa(), "kid", 7), "wrong types"),
        (with(ed25519(), "x", small), "no valid point"),
        (with(ed25519(), "x", "AQAB"), "type and curve"),
        (with(ed25519(), "crv", "X25519"), "`crv`"),
        (with(ed25519(), "alg", "ES256"), "type and curve"),
        (with(ed25519(), "kty", "AKP"), "`kty`"),
        (with(ed25519(), "kty", Value::Null), "`kty`"),
        (json!({"kty": "EC", "crv": "P-256", "x": encode([1; 32]), "y": encode([1; 32])}), "point"),
        (
            json!({"kty": "EC", "crv": "P-256", "x": encode([1; 31]), "y": encode([1; 32])}),
            "length",
        ),
        (json!({"kty": "EC", "crv": "P-521", "x": "AQ", "y": "AQ"}), "`crv`"),
        (json!({"kty": "oct", "alg": "HS256", "k": encode(SECRET)}), "public set"),
        (json!("key"), "`kty`"),
    ];
    let mut keys: Vec<_> = cases.iter().map(|(key, _)| key.clone()).collect();
    keys.extend([rsa(), ed25519()]);
    let set = KeySet::from_jwks(json!({"keys": keys, "other": {}}).to_string()).unwrap();
    let names: Vec<_> = set.keys().map(|key| key.kid().unwrap()).collect();
    assert_eq!(names, ["rsa", "ed"]);
    assert_eq!(set.skipped().len(), cases.len());
    for (skipped, (key, why)) in set.skipped().iter().zip(&cases) {
        assert!(skipped.why.to_string().contains(why), "{key}: {}", skipped.why);
    }
}

#[test]
fn secrets_are_read_from_sets_that_are_said_to_be_secret() {
    let set = json!({"keys": [
        {"kty": "oct", "alg": "HS256", "kid": "a", "k": encode(SECRET)},
        {"kty": "oct", "kid": "b", "k": encode(SECRET)},
        {"kty": "oct", "alg": "HS256", "kid": "c", "k": "c2hvcnQ"},
        with(ed25519(), "d", "AQAB"),
    ]})
    .to_string();
    assert_eq!(KeySet::from_jwks(&set).unwrap().keys().len(), 0);
    let set = KeySet::from_secret_jwks(&set).unwrap();
    let names: Vec<_> = set.keys().map(|key| (key.kid().unwrap(), key.is_symmetric())).collect();
    assert_eq!(names, [("a", true), ("ed", false)]);
}

#[test]
fn refuses_what_is_no_set_or_too_large() {
    let many = json!({"keys": vec![json!({"kty": "x"}); 257]}).to_string();
    let large = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(256 * 1024));
    let deep = format!(r#"{{"keys":[{}{}]}}"#, "[".repeat(20), "]".repeat(20));
    let twice = r#"{"keys":[],"keys":[]}"#.to_owned();
    let hidden = r#"{"keys":[{"kty":"OKP","kty":"oct"}]}"#.to_owned();
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, "{\"keys\":[]", "<html>"] {
        assert!(KeySet::from_jwks(text).is_err(), "{text}");
    }
    for text in [many, large, deep, twice, hidden] {
        assert!(KeySet::from_jwks(&text).is_err(), "{text:.80}");
    }
    assert!(KeySet::from_jwks(b"{\"keys\":[],\"x\":\"\xff\"}").is_err());
    assert!(KeySet::from_jwks("{\"keys\":[]}").unwrap().is_empty());
}
