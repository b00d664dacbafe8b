//! Comparing paths.

use std::borrow::Cow;

/// A path as it is compared: escapes of characters that need none are undone, which doesn't change
/// what it names (RFC 3986 §6.2.2.2).
pub(super) fn normal(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut pieces = path.split('%');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let octet = piece.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(plain) = octet.map(char::from).filter(|plain| is_unreserved(*plain)) {
            out.push(plain);
            out.push_str(piece.get(2..).unwrap_or_default());
        } else {
            out.push('%');
            out.push_str(piece);
        }
    }
    Cow::Owned(out)
}

fn is_unreserved(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '.' | '_' | '~')
}

/// Whether a path, in its normal form, has dot segments, as any server may read it: behind an
/// escaped slash, or a backslash, too. What such a path names depends on who resolves it; no client
/// sends one that is up to no mischief, since clients resolve them.
pub(super) fn is_ambiguous(path: &str) -> bool {
    let mut pieces = path.split(['/', '\\', '%', ';']);
    pieces.any(|piece| {
        let segment = match piece.get(..2) {
            Some("2f" | "2F" | "5c" | "5C") => piece.get(2..).unwrap_or_default(),
            _ => piece,
        };
        matches!(segment, "." | "..")
    })
}

/// Whether `path` is `prefix`, or lies under it: `/a` is a prefix of `/a/b`, and not of `/ab`.
pub(super) fn is_under(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_that_mean_nothing_are_undone() {
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/%61%2Db", "/a-b"),
            ("/a%2Fb%20", "/a%2Fb%20"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%zz%e", "/%zz%e"),
            ("/%\u{e9}1", "/%\u{e9}1"),
            ("/%2561", "/%2561"),
            ("/%+1", "/%+1"),
        ] {
            assert_eq!(normal(path), expected);
        }
    }

    #[test]
    fn paths_that_climb_are_told() {
        for path in [
            "/a/../b",
            "/a/..",
            "/./a",
            "/a/%2e%2e/b",
            "/a/.%2E",
            "/a/..%2fb",
            "/a%2f../b",
            "/a\\..\\b",
            "/a/..%5Cb",
            "/a/..;x/b",
        ] {
            assert!(is_ambiguous(&normal(path)), "{path}");
        }
        for path in ["/", "/a.b/c..d", "/...", "/a%2Fb", "/.well-known/x", "/a;b=1.2/c"] {
            assert!(!is_ambiguous(&normal(path)), "{path}");
        }
    }

    #[test]
    fn a_prefix_ends_where_a_segment_does() {
        for (prefix, under, not) in
            [("/a", "/a", "/ab"), ("/a", "/a/b", "/"), ("/a/", "/a/b", "/a"), ("/", "/x", "x")]
        {
            assert!(is_under(under, prefix) && !is_under(not, prefix), "{prefix}");
        }
    }

    proptest! {
        #[test]
        fn any_path_can_be_compared(path in "(/|%|%2[eEfF]|[.a;\\\\]|é){0,12}") {
            let once = normal(&path);
            is_ambiguous(&once);
            prop_assert!(is_under(&once, "/") == once.starts_with('/'));
        }
    }
}
