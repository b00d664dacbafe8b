//! Any bytes in any codings: they are read or refused, within the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_keep_compress::{Encoding, Limits, decode_all};

const MAX_LEN: u64 = 1 << 20;

fuzz_target!(|input: (u8, &[u8])| {
    let (codings, encoded) = input;
    // Two bits for each of up to three.
    let encodings: Vec<_> = (0..=codings >> 6)
        .filter_map(|at| Encoding::ALL.get(usize::from(codings >> (2 * at) & 3)).copied())
        .take(3)
        .collect();
    if let Ok(plain) = decode_all(encoded, &encodings, Limits::none().max_len(MAX_LEN)) {
        assert!(plain.len() as u64 <= MAX_LEN);
    }
});
