//! Any bytes as a token: none of them is accepted, and none does harm.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tower_keep_auth::{Algorithm, Issuer, Key, Verifier};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let key = Key::from_jwk(
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    )
    .unwrap();
    let issuer = Issuer::new("i").keys(key).algorithms([Algorithm::EdDsa]).any_audience();
    Verifier::builder().issuer(issuer).build().unwrap()
});

fuzz_target!(|token: &[u8]| assert!(VERIFIER.verify_now(token).is_err()));
