//! What holds for any token.

#[path = "support/tokens.rs"]
mod support;

use proptest::prelude::*;
use support::{claims, clock, issuer, key, token, with};
use tower_keep_auth::{Algorithm, KeySet, Verifier};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let key = key(Algorithm::Hs256);
        let verifier = Verifier::builder().issuer(issuer(&key)).clock(clock()).build().unwrap();
        prop_assert!(verifier.verify_now(&bytes).is_err());
    }

    #[test]
    fn any_header_and_claims_are_read_or_refused(
        header in ".{0,80}",
        claims in r#"\{("(iss|exp|aud|scp|roles|x)":([0-9.eE+-]{1,9}|"[a-z \\]{0,4}"|\[.{0,9}\]|\{.{0,9}\}),?){0,6}\}"#,
    ) {
        let key = key(Algorithm::Hs256);
        let verifier = Verifier::builder().issuer(issuer(&key)).clock(clock()).build().unwrap();
        let result = verifier.verify_now(&support::sign(&key, header, "{}"));
        prop_assert!(result.is_err());
        let head = support::header(&key).to_string();
        // None of these has the right issuer.
        prop_assert!(verifier.verify_now(&support::sign(&key, head, claims)).is_err());
    }

    #[test]
    fn any_text_is_a_set_or_refused(text in ".{0,200}", keys in r#"\{"keys":\[(\{("(kty|crv|x|y|n|e|alg)":"[A-Za-z0-9-]{0,9}",?){0,4}\},?){0,3}\]\}"#) {
        let _ = KeySet::from_jwks(&text);
        let _ = KeySet::from_secret_jwks(&keys);
    }

    #[test]
    fn a_valid_token_is_accepted_and_with_any_bit_flipped_refused(
        sub in ".{0,20}",
        algorithm in prop_oneof![Just(Algorithm::Hs256), Just(Algorithm::EdDsa), Just(Algorithm::Es256)],
        bit in any::<proptest::sample::Index>(),
    ) {
        let key = key(algorithm);
        let verifier = Verifier::builder().issuer(issuer(&key)).clock(clock()).build().unwrap();
        let mut token = token(&key, &with(claims(), "sub", sub.clone())).into_bytes();
        let verified = verifier.verify_now(&token).unwrap();
        prop_assert_eq!(verified.subject(), Some(sub.as_str()));
        let bit = bit.index(token.len() * 8);
        token[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verifier.verify_now(&token).is_err());
    }
}

/// Not a sample: each bit of one token of each kind.
#[test]
fn no_bit_of_a_token_can_be_flipped() {
    for algorithm in
        [Algorithm::Hs512, Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es384, Algorithm::EdDsa]
    {
        let key = key(algorithm);
        let verifier = Verifier::builder().issuer(issuer(&key)).clock(clock()).build().unwrap();
        let good = token(&key, &claims()).into_bytes();
        assert!(verifier.verify_now(&good).is_ok());
        for bit in 0..good.len() * 8 {
            let mut token = good.clone();
            token[bit / 8] ^= 1 << (bit % 8);
            assert!(verifier.verify_now(&token).is_err(), "{algorithm}: bit {bit}");
        }
    }
}
