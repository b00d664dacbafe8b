//! Paths and hosts as they are compared.

use std::borrow::Cow;

use http::Request;
use http::header::HOST;
use http::uri::Authority;

/// A path in which escapes of characters that need none are undone, which doesn't change what it
/// names (RFC 3986 §6.2.2.2). Its length is that of `path`, or less.
pub(crate) fn normal(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut pieces = path.split('%');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match (escaped(piece), piece.get(2..)) {
            (Some(plain), Some(rest)) if is_unreserved(plain) => {
                out.push(plain);
                out.push_str(rest);
            }
            _ => {
                out.push('%');
                out.push_str(piece);
            }
        }
    }
    Cow::Owned(out)
}

/// What stands behind a `%`.
fn escaped(piece: &str) -> Option<char> {
    u8::from_str_radix(piece.get(..2)?, 16).ok().map(char::from)
}

fn is_unreserved(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '.' | '_' | '~')
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
            Some("2f" | "2F" | "5c" | "5C") => piece.get(2..).unwrap_or_default(),
            _ => piece,
        };
        matches!(segment, "." | "..")
    })
}

/// The path as a server may read it that undoes escaped slashes, takes backslashes for slashes, counts
/// several as one, or cuts the parameters off its segments; none if all read it as it is.
pub(crate) fn loose(path: &str) -> Option<String> {
    if !path.contains(['%', '\\', ';']) && !path.contains("//") {
        return None;
    }
    let mut slashed = normal(path).into_owned();
    for escaped in ["%2f", "%2F", "%5c", "%5C", "\\"] {
        slashed = slashed.replace(escaped, "/");
    }
    for escaped in ["%3b", "%3B"] {
        slashed = slashed.replace(escaped, ";");
    }
    let end = if slashed.ends_with('/') { "/" } else { "" };
    let segments = slashed.split('/').filter(|segment| !segment.is_empty());
    let segments = segments.map(|it| it.split(';').next().unwrap_or_default());
    let loose = segments.fold(String::new(), |path, segment| path + "/" + segment) + end;
    Some(if loose.is_empty() { "/".to_owned() } else { loose })
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
        assert_eq!(normal("/%61dmin/%7Ex/%2f/%"), "/admin/~x/%2f/%");
        assert_eq!(normal("/a%zz%2"), "/a%zz%2");
        assert_eq!(normal("/%e4%C3%BC"), "/%e4%C3%BC");
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
        ] {
            assert_eq!(loose(path).as_deref(), Some(read), "{path}");
        }
        assert_eq!(loose("/admin/x"), None);
    }
}
