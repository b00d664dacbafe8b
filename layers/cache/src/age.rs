//! The `Age` of a response (RFC 9111 §5.1).

use std::sync::LazyLock;

use http::HeaderValue;

use crate::field::with_digits;

/// The value of `Age`; below a thousand seconds it takes no allocation.
pub(crate) fn age_value(secs: u64) -> HeaderValue {
    // Copies of a static value share nothing that would have to be counted.
    static SMALL: LazyLock<Box<[HeaderValue]>> = LazyLock::new(|| {
        let text = |digits: &'static [u8; 3]| std::str::from_utf8(digits).unwrap_or("000");
        let value = |text: &'static str| match text.trim_start_matches('0') {
            "" => HeaderValue::from_static("0"),
            digits => HeaderValue::from_static(digits),
        };
        DIGITS.iter().map(text).map(value).collect()
    });
    let small = usize::try_from(secs).ok().and_then(|at| SMALL.get(at));
    small.map_or_else(|| large(secs), HeaderValue::clone)
}

/// `000`, `001` and so on.
static DIGITS: [[u8; 3]; 1000] = {
    let mut table = [[b'0'; 3]; 1000];
    let mut at = 0;
    // The digits of a number below 1000 all fit.
    #[allow(clippy::cast_possible_truncation, reason = "a digit fits a byte")]
    while at < 1000 {
        table[at] = [b'0' + (at / 100) as u8, b'0' + (at / 10 % 10) as u8, b'0' + (at % 10) as u8];
        at += 1;
    }
    table
};

fn large(secs: u64) -> HeaderValue {
    // Digits are a valid value.
    with_digits(secs, HeaderValue::from_bytes).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ages_are_decimal(secs in prop_oneof![0..1100u64, any::<u64>()]) {
            prop_assert_eq!(age_value(secs), secs.to_string());
        }
    }
}
