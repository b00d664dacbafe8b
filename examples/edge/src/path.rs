//! Paths and hosts as they are compared.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::Request;
use http::header::HOST;
use http::uri::Authority;

/// A path in which escapes of characters that need none are undone, and all others are written in one
/// way, which doesn't change what it names (RFC 3986 §6.2.2): letters of other scripts escaped, as
/// browsers send them, and the digits of escapes in upper case.
pub(crate) fn normal(path: &str) -> Cow<'_, str> {
    if path.is_ascii() && !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let (mut out, mut rest) = (String::with_capacity(path.len()), path.as_bytes());
    while let [byte, behind @ ..] = rest {
        let (byte, is_escaped, behind) = match escaped(rest) {
            Some((plain, behind)) => (plain, !is_unreserved(plain), behind),
            None => (*byte, !byte.is_ascii(), behind),
        };
        if is_escaped {
            // Writing to memory doesn't fail.
            let _ = write!(out, "%{byte:02X}");
        } else {
            out.push(char::from(byte));
        }
        rest = behind;
    }
    Cow::Owned(out)
}

/// What `bytes` begin with, if that is an escape, and what is behind it.
fn escaped(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, behind @ ..] = bytes else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    Some((digit(*high)? << 4 | digit(*low)?, behind))
}

/// A path without any escapes, also those that come out of others (`%253a`): each byte as the letter of
/// that number, so that what is no UTF-8 stays different, too. Only for comparing.
pub(crate) fn decoded(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        out.push(byte);
        while let Some(at) = out.len().checked_sub(3)
            && let Some((plain, _)) = out.get(at..).and_then(escaped)
        {
            out.truncate(at);
            out.push(plain);
        }
    }
    out.into_iter().map(char::from).collect()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a path has dot segments, as any server may read it: also behind an escaped slash, a
/// backslash, or with parameters. What such a path names depends on who resolves it, so it could be
/// routed by one path and answered by another; and since clients resolve dots themselves, no honest
/// one sends them.
pub(crate) fn is_ambiguous(path: &str) -> bool {
    if !path.contains(['.', '%']) {
        return false;
    }
    normal(path).split(['/', '\\', '%', ';']).any(|piece| {
        let segment = match piece.get(..2) {
            Some("2F" | "5C") => piece.get(2..).unwrap_or_default(),
            _ => piece,
        };
        matches!(segment, "." | "..")
    })
}

/// Whether servers may read a path as another one than it is written as.
pub(crate) fn has_readings(path: &str) -> bool {
    path.contains(['%', '\\', ';']) || path.contains("//") || !path.is_ascii()
}

/// The path as servers may read it: one that undoes [all escapes](decoded), and one that takes
/// backslashes for slashes as well, counts several of these as one, and cuts the parameters off segments.
pub(crate) fn readings(path: &str) -> [String; 2] {
    let decoded = decoded(path);
    let slashed = decoded.replace('\\', "/");
    let end = if slashed.ends_with('/') { "/" } else { "" };
    let segments = slashed.split('/').filter(|segment| !segment.is_empty());
    let segments = segments.map(|it| it.split(';').next().unwrap_or_default());
    let loose = segments.fold(String::new(), |path, segment| path + "/" + segment) + end;
    let loose = if loose.is_empty() { "/".to_owned() } else { loose };
    [decoded, loose]
}

/// The host that is asked for: that of the target, or else `Host` (RFC 9112 §3.2.2).
pub(crate) fn host<B>(request: &Request<B>) -> Option<Authority> {
    let of_target = request.uri().authority().cloned();
    of_target.or_else(|| Authority::try_from(request.headers().get(HOST)?.as_bytes()).ok())
}

/// A host as it is compared: in lower case, without the dot that may stand at its end.
pub(crate) fn normal_host(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_that_need_not_be_make_no_difference() {
        assert_eq!(normal("/%61dmin/%7Ex/%2f/%"), "/admin/~x/%2F/%");
        assert_eq!(normal("/a%zz%2%+1"), "/a%zz%2%+1");
        for path in ["/é:%3a", "/%c3%a9:%3A", "/%C3%A9:%3a"] {
            assert_eq!(normal(path), "/%C3%A9:%3A", "{path}");
        }
    }

    #[test]
    fn dots_are_found_however_they_are_written() {
        let dotted =
            ["/a/../b", "/..", "/%2e%2E/b", "/a/..%2fb", "/a%5c..", "/a\\..\\b", "/..;x/b", "/./a"];
        for path in dotted {
            assert!(is_ambiguous(path), "{path}");
        }
        for path in ["/", "/a.b/c", "/...", "/.well-known/x", "/a/b.", "/a%2fb"] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn a_path_is_read_as_servers_do_that_are_less_strict() {
        for (path, read) in [
            ("//admin/x", "/admin/x"),
            ("/admin%2fx", "/admin/x"),
            ("/admin%5Cx", "/admin/x"),
            ("/admin;a=b/x", "/admin/x"),
            ("/admin%3ba/x;y/", "/admin/x/"),
            ("/a//", "/a/"),
            ("//", "/"),
            ("/%61%7e", "/a~"),
            ("/a%3ab%40", "/a:b@"),
            ("/%252561%%36%31", "/aa"),
            ("/é%c3%a9", "/\u{c3}\u{a9}\u{c3}\u{a9}"),
            ("/%e9%zz%2", "/\u{e9}%zz%2"),
        ] {
            assert_eq!(readings(path)[1], read, "{path}");
            assert!(has_readings(path), "{path}");
        }
        assert_eq!(readings("/a%3Bb//c")[0], "/a;b//c");
        assert!(!has_readings("/admin/x:y"));
    }
}
