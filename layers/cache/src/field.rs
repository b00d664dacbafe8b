//! What header fields share: list members, quoted strings, tokens, numbers and dates.
//!
//! Everything here reads bytes, not text: a field may hold bytes that are not UTF-8. Every function
//! looks at each byte a fixed number of times, and none can fail in another way than by `None`.

use std::time::UNIX_EPOCH;

use http::HeaderValue;

/// The largest delta-seconds; greater ones mean the same (RFC 9111 §1.2.2).
pub(crate) const MAX_DELTA_SECONDS: u32 = 1 << 31;

/// `bytes` without the optional whitespace (RFC 9110 §5.6.3) around it.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a list (RFC 9110 §5.6.1), trimmed, without the empty ones.
///
/// A comma inside a quoted string divides nothing.
#[derive(Clone, Debug)]
pub(crate) struct Members<'a> {
    rest: &'a [u8],
    escapes: bool,
    unbalanced: bool,
}

impl<'a> Members<'a> {
    /// Reads a list whose quoted strings may hold quoted pairs (RFC 9110 §5.6.4).
    pub(crate) fn new(list: &'a [u8]) -> Self {
        Self { rest: list, escapes: true, unbalanced: false }
    }

    /// Reads a list of entity tags, in which a backslash is a character like any other
    /// (RFC 9110 §8.8.3).
    pub(crate) fn of_entity_tags(list: &'a [u8]) -> Self {
        Self { escapes: false, ..Self::new(list) }
    }

    /// Whether a quoted string was opened, and never closed.
    pub(crate) fn unbalanced(&self) -> bool {
        self.unbalanced
    }

    fn take_one(&mut self) -> &'a [u8] {
        let mut quoted = false;
        let mut escaped = false;
        let comma = self.rest.iter().position(|&byte| {
            if escaped {
                escaped = false;
                return false;
            }
            match byte {
                b'"' => quoted = !quoted,
                b'\\' => escaped = quoted && self.escapes,
                _ => {}
            }
            byte == b',' && !quoted
        });
        let (member, rest) = match comma.and_then(|at| self.rest.split_at_checked(at)) {
            Some((member, rest)) => (member, rest.get(1..).unwrap_or_default()),
            None => (self.rest, &[][..]),
        };
        self.unbalanced |= quoted;
        self.rest = rest;
        member
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let member = trim(self.take_one());
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// A non-negative number of seconds (RFC 9111 §1.2.2); one too large saturates.
pub(crate) fn delta_seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit).min(MAX_DELTA_SECONDS))
    })
}

/// An HTTP date (RFC 9110 §5.6.7), in seconds since the Unix epoch.
pub(crate) fn http_date(value: &HeaderValue) -> Option<u64> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Runs `read` on `number` in decimal digits, without an allocation.
pub(crate) fn with_digits<T>(number: u64, read: impl FnOnce(&[u8]) -> T) -> T {
    let mut digits = [b'0'; 20];
    let mut rest = number;
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        // The remainder of a division by ten always fits.
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    read(digits.get(digits.len() - used..).unwrap_or(b"0"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(list: &str) -> Vec<&str> {
        Members::new(list.as_bytes()).map(|m| std::str::from_utf8(m).unwrap()).collect()
    }

    #[test]
    fn a_list_is_divided_at_commas_outside_of_quotes() {
        assert_eq!(members(" a ,,b=\"c, d\" , \t e"), ["a", "b=\"c, d\"", "e"]);
        assert_eq!(members(r#"a="\",b", c"#), [r#"a="\",b""#, "c"]);
        assert!(members(" , ,").is_empty());
    }

    #[test]
    fn a_backslash_escapes_nothing_in_an_entity_tag() {
        let tags = br#""a\", "b""#;
        assert_eq!(Members::of_entity_tags(tags).count(), 2);
    }

    #[test]
    fn delta_seconds_saturate_and_refuse_anything_but_digits() {
        assert_eq!(delta_seconds(b"060"), Some(60));
        assert_eq!(delta_seconds(b"99999999999999999999999"), Some(MAX_DELTA_SECONDS));
        for wrong in ["", "-1", "+1", "1.0", " 1", "1s", "\u{663}"] {
            assert_eq!(delta_seconds(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn digits_are_those_of_the_standard_library(number: u64) {
            let text = with_digits(number, <[u8]>::to_vec);
            prop_assert_eq!(text, number.to_string().into_bytes());
        }

        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            let members = Members::new(&bytes).chain(Members::of_entity_tags(&bytes));
            prop_assert!(members.map(<[u8]>::len).all(|len| len > 0));
            delta_seconds(&bytes);
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                http_date(&value);
            }
        }

        #[test]
        fn any_date_like_text_can_be_read(
            text in "(Sun|Thu|Friday), [0-9]{2}[ -](Jan|Feb|Dec)[ -]([0-9]{2}|[0-9]{4}) [0-9:]{8} GMT"
        ) {
            http_date(&HeaderValue::from_str(&text).unwrap());
        }
    }
}
