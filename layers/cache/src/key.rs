//! The primary key of a request: its host and target (RFC 9111 §2).

use http::header::HOST;
use http::uri::Uri;
use http::{HeaderMap, HeaderValue};
use tower_keep_store::KeyBuf;

/// The longest key, in bytes. A longer target is not cached: keys are kept in memory.
const MAX_LEN: usize = 8 * 1024;

/// Something that bytes can be appended to.
pub(crate) trait Sink {
    fn push(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn push(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for KeyBuf {
    fn push(&mut self, bytes: &[u8]) {
        Self::push(self, bytes);
    }
}

/// Why a request has no key, and so isn't looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// Host and target together are too long.
    TooLong,
    /// More than one `Host`, one with characters that no host has, or another one than the target
    /// names: who reads which can't be known (RFC 9112 §3.2).
    Host,
}

impl KeyError {
    /// The same as a `detail` of `Cache-Status`.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::TooLong => "key-too-long",
            Self::Host => "host",
        }
    }
}

/// Writes the key of a request.
///
/// The path and the query are taken byte for byte. What a server behind the cache takes to be the
/// same (`/a/../b`, `%2e`, a parameter twice) is for it to say: a cache that normalises otherwise
/// than its origin answers for the wrong resource. The scheme is not part of the key, as it is not
/// part of what a server is sent.
pub(crate) fn write_primary(
    uri: &Uri,
    headers: &HeaderMap,
    out: &mut impl Sink,
) -> Result<(), KeyError> {
    let named = host_field(headers)?;
    let host = match (uri.authority(), named) {
        (Some(authority), Some(named))
            if !authority.as_str().as_bytes().eq_ignore_ascii_case(named) =>
        {
            return Err(KeyError::Host);
        }
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, named) => named.unwrap_or_default(),
    };
    let target = uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes();
    if host.len() + target.len() > MAX_LEN {
        return Err(KeyError::TooLong);
    }
    if host.iter().any(u8::is_ascii_uppercase) {
        out.push(&host.to_ascii_lowercase());
    } else {
        out.push(host);
    }
    // The target begins with a slash, or is the asterisk of OPTIONS; a host has neither.
    out.push(target);
    Ok(())
}

fn host_field(headers: &HeaderMap) -> Result<Option<&[u8]>, KeyError> {
    let mut lines = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let Some(host) = lines.next() else { return Ok(None) };
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte);
    if lines.next().is_some() || !host.iter().all(is_host) {
        return Err(KeyError::Host);
    }
    Ok(Some(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(uri: &str, hosts: &[&str]) -> Result<String, KeyError> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        let mut out = Vec::new();
        write_primary(&uri.parse().unwrap(), &headers, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_same_resource_has_one_key_over_every_version() {
        let expected = Ok("example.com/a?b=c".to_owned());
        assert_eq!(key("/a?b=c", &["Example.COM"]), expected);
        assert_eq!(key("https://example.com/a?b=c", &[]), expected);
        assert_eq!(key("http://example.com/a?b=c", &["example.com"]), expected);
        assert_eq!(key("/a", &[]), Ok("/a".to_owned()));
    }

    #[test]
    fn nothing_about_the_target_is_normalised() {
        for other in ["/a/", "/a/./", "/%61", "/a?", "/A", "//a", "/a%2f"] {
            assert_ne!(key("/a", &["h"]), key(other, &["h"]), "{other}");
        }
    }

    #[test]
    fn ambiguous_hosts_and_long_targets_have_no_key() {
        assert_eq!(key("/", &["a", "b"]), Err(KeyError::Host));
        assert_eq!(key("/", &["a/b"]), Err(KeyError::Host));
        assert_eq!(key("http://a/", &["b"]), Err(KeyError::Host));
        let long = format!("/{}", "x".repeat(MAX_LEN));
        assert_eq!(key(&long, &["h"]), Err(KeyError::TooLong));
    }

    proptest! {
        #[test]
        fn different_hosts_or_targets_have_different_keys(
            a in ("[a-b.:]{0,3}", "/[a-b?/]{0,4}"), b in ("[a-b.:]{0,3}", "/[a-b?/]{0,4}"),
        ) {
            let [left, right] = [&a, &b].map(|(host, target)| key(target, &[host]));
            prop_assert_eq!(a == b, left == right);
        }
    }
}
