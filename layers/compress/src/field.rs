//! What header fields share: lists and their members.
//!
//! Everything here reads bytes, not text: a field may hold bytes that are not UTF-8. Every function
//! looks at each byte a fixed number of times, and none can fail.

use http::{HeaderMap, HeaderName};

/// `bytes` without the optional whitespace (RFC 9110 §5.6.3) around it.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
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
///
/// ```
/// use tower_keep_compress::field::Members;
///
/// let members: Vec<_> = Members::new(b"max-age=1, private=\"a, b\",").collect();
/// assert_eq!(members, [&b"max-age=1"[..], b"private=\"a, b\""]);
/// ```
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a [u8],
    escapes: bool,
    unbalanced: bool,
}

impl<'a> Members<'a> {
    /// Reads a list whose quoted strings may hold quoted pairs (RFC 9110 §5.6.4).
    pub fn new(list: &'a [u8]) -> Self {
        Self { rest: list, escapes: true, unbalanced: false }
    }

    /// Reads a list of entity tags, in which a backslash is a character like any other
    /// (RFC 9110 §8.8.3).
    pub fn of_entity_tags(list: &'a [u8]) -> Self {
        Self { escapes: false, ..Self::new(list) }
    }

    /// Whether a quoted string was opened, and never closed.
    pub fn unbalanced(&self) -> bool {
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

/// The members of all lines of a field whose value is a list (RFC 9110 §5.6.1), without empty ones.
pub fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(|line| Members::new(line.as_bytes()))
}

/// Whether one of the members of a field is this, whatever its case.
pub fn has_member(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    members(headers, name).any(|member| member.eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(list: &str) -> Vec<&str> {
        Members::new(list.as_bytes()).map(|m| std::str::from_utf8(m).unwrap()).collect()
    }

    #[test]
    fn a_list_is_divided_at_commas_outside_of_quotes() {
        assert_eq!(read(" a ,,b=\"c, d\" , \t e"), ["a", "b=\"c, d\"", "e"]);
        assert_eq!(read(r#"a="\",b", c"#), [r#"a="\",b""#, "c"]);
        assert!(read(" , ,").is_empty());
    }

    #[test]
    fn a_backslash_escapes_nothing_in_an_entity_tag() {
        let tags = br#""a\", "b""#;
        assert_eq!(Members::of_entity_tags(tags).count(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            let members = Members::new(&bytes).chain(Members::of_entity_tags(&bytes));
            prop_assert!(members.map(<[u8]>::len).all(|len| len > 0));
        }
    }
}
