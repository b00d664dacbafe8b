//! Cache groups (RFC 9875): responses of one origin that are invalidated together. Each group is a tag
//! that no other response, and no user of the store, can name.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};
use sha2::{Digest as _, Sha256};

use crate::field::joined;
use crate::key::short_digest;

/// The groups of a response (RFC 9875 §2).
pub(crate) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// The groups that a response to an unsafe request invalidates (RFC 9875 §3).
pub(crate) const CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// How much of a field, all its lines together, is read.
const MAX_LEN: usize = 16 * 1024;

/// The groups that a field names, each once. One that isn't a list of strings names none, as a
/// structured field that can't be parsed is ignored (RFC 9651 §2.2).
pub(crate) fn named(headers: &HeaderMap, field: &HeaderName) -> Vec<String> {
    let Some(text) = joined(headers, field, MAX_LEN) else { return Vec::new() };
    let members: List = Parser::new(&text).parse().unwrap_or_default();
    let mut groups = Vec::new();
    for member in members {
        let ListEntry::Item(item) = member else { return Vec::new() };
        let BareItem::String(group) = item.bare_item else { return Vec::new() };
        let group = String::from(group);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// What tells a group of an origin from all others (RFC 9875 §2.1), whatever the scheme: that isn't
/// always known, and to invalidate too much does no harm. `host` is without a usual port; it is empty
/// where all hosts share their responses.
pub(crate) fn digest(host: &[u8], group: &str) -> u128 {
    let host = host.to_ascii_lowercase();
    let mut hash = Sha256::new();
    // Neither a host nor a group has a line feed.
    for part in [b"group", host.as_slice(), group.as_bytes()] {
        hash.update(part);
        hash.update(b"\n");
    }
    short_digest(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::Target;

    fn groups(lines: &[&str]) -> Vec<String> {
        let lines = lines.iter().map(|line| (CACHE_GROUPS, line.parse().unwrap()));
        named(&lines.collect(), &CACHE_GROUPS)
    }

    #[test]
    fn a_list_of_strings_names_groups() {
        assert_eq!(
            groups(&[r#""scripts", "a b";x=1"#, r#""scripts", "c\"d""#]),
            ["scripts", "a b", "c\"d"]
        );
        for none in ["", "scripts", r#""a", b"#, r#""a", ("b")"#, r#""a"#, r#""a",, "b""#] {
            assert!(groups(&[none]).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_group_is_of_one_origin() {
        let of = |uri: &str, group: &str| {
            let uri = uri.parse().unwrap();
            let none = HeaderMap::new();
            digest(Target::new(&uri, &none).unwrap().host_without_usual_port(), group)
        };
        let expected = of("http://a.example/x", "g");
        assert_eq!(of("https://A.example:443/y?z", "g"), expected);
        for (uri, group) in [
            ("http://b.example/x", "g"),
            ("http://a.example:81/x", "g"),
            ("http://a.example/x", "G"),
        ] {
            assert_ne!(of(uri, group), expected, "{uri} {group}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line: Vec<u8>) {
            if let Ok(value) = http::HeaderValue::from_bytes(&line) {
                named(&HeaderMap::from_iter([(CACHE_GROUPS, value)]), &CACHE_GROUPS);
            }
        }
    }
}
