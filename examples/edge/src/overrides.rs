//! Fields by which clients ask some backends for something else than what their target says, by which
//! the edge has routed and guarded them.

use http::{HeaderMap, HeaderName};

/// Those that frameworks and servers heed. What `X-Forwarded-*` can say of it the proxy sees to.
pub(crate) const NAMES: [&str; 8] = [
    "front-end-https",
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
    "x-url-scheme",
];

/// Removes them, but for those by the names that `is_kept` says. In other spellings, which CGI, WSGI and
/// the like take for the same, they are no proxy's, and always removed.
pub(crate) fn remove(headers: &mut HeaderMap, is_kept: impl Fn(&str) -> bool) {
    let goes = |name: &HeaderName| {
        let name = name.as_str();
        NAMES.iter().any(|known| is_alike(name, known)) && !(NAMES.contains(&name) && is_kept(name))
    };
    // Mostly there is none.
    while let Some(name) = headers.keys().find(|name| goes(name)).cloned() {
        headers.remove(name);
    }
}

fn is_alike(name: &str, known: &str) -> bool {
    let mut letters = name.bytes().zip(known.bytes());
    name.len() == known.len()
        && letters.all(|(it, known)| it == known || known == b'-' && !it.is_ascii_alphanumeric())
}
