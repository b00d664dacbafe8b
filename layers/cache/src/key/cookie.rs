//! The values of one cookie of a request (RFC 6265 §4.2.1, §5.4).

use http::HeaderMap;
use http::header::COOKIE;

use crate::field::trim;

/// What one pair of a `Cookie` field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given<'a> {
    /// The value.
    Value(&'a [u8]),
    /// The name stands there without a `=`.
    Bare,
    /// A line that can be divided in more ways than one, as a whole: a quoted string in it may hold
    /// semicolons, or not, depending on who reads it.
    Ambiguous(&'a [u8]),
}

/// Calls `each` with what a request says of the cookie `name`, in order. What it calls it with is
/// all that an origin can take for the cookie's value, however it chooses among several.
pub(super) fn each_value<'a>(headers: &'a HeaderMap, name: &[u8], mut each: impl FnMut(Given<'a>)) {
    for line in headers.get_all(COOKIE) {
        let line = line.as_bytes();
        if pairs(line).any(|(_, value)| value.is_some_and(is_open)) {
            each(Given::Ambiguous(line));
            continue;
        }
        for (_, value) in pairs(line).filter(|(found, _)| *found == name) {
            each(value.map_or(Given::Bare, Given::Value));
        }
    }
}

/// The pairs of a line: a name, and what follows its `=`.
fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    line.split(|byte| *byte == b';').map(|pair| {
        let pair = trim(pair);
        match pair.iter().position(|byte| *byte == b'=').and_then(|at| pair.split_at_checked(at)) {
            Some((name, value)) => (trim(name), value.get(1..).map(trim)),
            None => (pair, None),
        }
    })
}

/// Whether a value begins with a quote that it doesn't end with.
fn is_open(value: &[u8]) -> bool {
    value.starts_with(b"\"") && (value.len() < 2 || !value.ends_with(b"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Vec<String> {
        let lines = lines.iter().map(|line| (COOKIE, line.parse().unwrap()));
        let headers: HeaderMap = lines.collect();
        let mut found = Vec::new();
        each_value(&headers, b"theme", |given| {
            found.push(match given {
                Given::Value(value) => String::from_utf8(value.to_vec()).unwrap(),
                Given::Bare => "(bare)".to_owned(),
                Given::Ambiguous(_) => "(ambiguous)".to_owned(),
            });
        });
        found
    }

    #[test]
    fn a_cookie_is_found_in_every_line_as_often_as_it_is_there() {
        assert!(of(&[]).is_empty());
        assert!(of(&["a=theme; b=theme=x; Theme=x; themes=x"]).is_empty());
        assert_eq!(of(&["theme=dark"]), ["dark"]);
        assert_eq!(of(&["a=1;theme= dark ;b=2", "c=3; theme=a=b; theme="]), ["dark", "a=b", ""]);
        assert_eq!(of(&["theme; theme=\"x\""]), ["(bare)", "\"x\""]);
    }

    #[test]
    fn a_line_that_others_may_divide_otherwise_counts_as_a_whole() {
        assert_eq!(of(&["a=\"x; theme=dark; y\"", "theme=light"]), ["(ambiguous)", "light"]);
        assert_eq!(of(&["theme=\""]), ["(ambiguous)"]);
    }
}
