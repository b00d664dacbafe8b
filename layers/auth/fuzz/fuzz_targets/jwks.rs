//! Any bytes as a set of keys: read within bounds, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_keep_auth::KeySet;

fuzz_target!(|json: &[u8]| {
    if let Ok(set) = KeySet::from_jwks(json) {
        assert!(set.keys().all(|key| !key.is_symmetric()));
        assert!(set.keys().len() + set.skipped().len() <= 256);
    }
    let _ = KeySet::from_secret_jwks(json);
});
