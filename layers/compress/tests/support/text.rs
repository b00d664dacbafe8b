//! Content that compresses as that of sites does.

/// Text that is repetitive, but not only.
pub(crate) fn text(len: usize, seed: u32) -> Vec<u8> {
    let (mut text, mut seed) = (Vec::with_capacity(len + 40), seed);
    while text.len() < len {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(
            format!("{{\"id\":{},\"name\":\"chair\"}},\n", seed >> 12).as_bytes(),
        );
    }
    text.truncate(len);
    text
}
