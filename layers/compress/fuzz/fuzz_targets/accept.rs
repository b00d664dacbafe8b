//! Any lines of `Accept-Encoding`: what is chosen is accepted, and no coding is wanted more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_keep_compress::{AcceptEncoding, Encoding};

fuzz_target!(|lines: Vec<&[u8]>| {
    let accept = AcceptEncoding::parse(lines);
    if let Some(chosen) = accept.choose(Encoding::ALL) {
        let weight = accept.weight(chosen);
        assert!(weight.accepts());
        assert!(Encoding::ALL.into_iter().all(|other| accept.weight(other) <= weight));
    }
});
