//! Any claims, rightly signed: what is accepted has an issuer and hasn't expired.
#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use tower_keep_auth::{Algorithm, Clock, Issuer, NumericDate, SigningKey, Verifier};

const NOW: NumericDate = NumericDate::from_secs(1_800_000_000);

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::hmac(Algorithm::Hs256, [7; 32]).unwrap());

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let issuer = Issuer::new("i")
        .keys(KEY.verifying_key().clone())
        .algorithms([Algorithm::Hs256])
        .any_audience();
    Verifier::builder().issuer(issuer).clock(Clock::manual(NOW)).build().unwrap()
});

fuzz_target!(|claims: &[u8]| {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(KEY.sign(signed.as_bytes()).unwrap());
    let token = format!("{signed}.{signature}");
    if let Ok(verified) = VERIFIER.verify_now(&token) {
        assert_eq!(verified.issuer(), "i");
        assert!(verified.accepted_until().unwrap() > NOW);
        assert_eq!(verified.payload().as_bytes(), claims);
        assert!(verified.claim("exp").unwrap().is_number());
        assert!(VERIFIER.verify_now(&token).is_ok());
    }
});
