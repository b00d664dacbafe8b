//! Text that compresses as JSON of a real site does.

use std::fmt::Write as _;

/// Products as a shop would list them: the same names, other values, some text. `len` bytes of it.
#[must_use]
pub fn json(len: usize) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "oak", "chair", "with", "a", "seat", "of", "woven", "paper", "cord", "and", "legs", "that",
        "are", "turned", "by", "hand", "light", "enough", "to", "carry", "table", "solid", "lamp",
        "brass",
    ];
    // The same on each machine.
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::from("[");
    for id in 1_000.. {
        let words: Vec<&str> = (0..random.usize(8..30))
            .map(|_| WORDS.get(random.usize(..WORDS.len())).copied().unwrap_or_default())
            .collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{{\"id\":{id},\"sku\":\"{:08x}\",\"price\":{}.{:02},\"stock\":{},\"rating\":{}.{},\
             \"tags\":[\"{}\",\"{}\"],\"description\":\"{}\"}},",
            random.u32(..),
            random.u32(5..900),
            random.u32(..100),
            random.u32(..500),
            random.u32(1..5),
            random.u32(..10),
            words[0],
            words[1],
            words.join(" ")
        );
        if text.len() >= len {
            break;
        }
    }
    // It is cut off at the end: no one reads it as JSON.
    text.truncate(len);
    text.into_bytes()
}
