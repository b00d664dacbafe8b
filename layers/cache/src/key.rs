//! The primary key of a request: its target URI (RFC 9111 §2), and what a policy adds to it.

mod cookie;
mod part;
mod policy;
mod query;
mod whole;

use http::header::HOST;
use http::uri::{PathAndQuery, Uri};
use http::{Extensions, HeaderMap, HeaderValue, Request};
use tower_keep_store::KeyBuf;

pub use self::policy::KeyPolicy;
pub(crate) use self::whole::{each_form, resource, short_digest, write_whole};
use crate::vary::push_lowercase;

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

/// What a request asks for.
///
/// The path and the query are taken byte for byte. What a server behind the cache takes to be the
/// same (`/a/../b`, `%2e`, a parameter twice) is for it to say: a cache that normalises otherwise
/// than its origin answers for the wrong resource.
///
/// The scheme is a part of the key where the request names one (HTTP/2, HTTP/3 and the absolute
/// form do; RFC 9110 §4.2): a redirect from `http` to `https` must not answer for what it leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    scheme: Option<&'a str>,
    /// With its port, without user information.
    host: &'a [u8],
    path: &'a str,
    query: Option<&'a str>,
    /// Where the client's target was rewritten on the way here: the path and query that it sent.
    sent: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// The target of a request.
    pub(crate) fn of<B>(request: &'a Request<B>) -> Result<Self, KeyError> {
        Self::of_known(request, HostField::of(request.headers()))
    }

    /// The same, where it is known already what `Host` says.
    #[inline]
    pub(crate) fn of_known<B>(
        request: &'a Request<B>,
        host: HostField<'a>,
    ) -> Result<Self, KeyError> {
        let uri = request.uri();
        match sent_uri(request.extensions()) {
            Some(sent) if sent != uri => Self::rewritten(uri, sent, host),
            _ => Self::named(uri, host),
        }
    }

    /// The target that `uri` is, if the client sent another.
    fn rewritten(uri: &'a Uri, sent: &'a Uri, host: HostField<'a>) -> Result<Self, KeyError> {
        // A nested router leaves the end of the path, from a slash on. A slash alone may be all that is
        // left of it, or the root to which something else has led.
        let nested =
            uri.path() != "/" && sent.path().ends_with(uri.path()) && sent.query() == uri.query();
        if nested {
            return Self::named(sent, host);
        }
        let target = Self::named(uri, host)?;
        Ok(Self { sent: sent.path_and_query().map(PathAndQuery::as_str), ..target })
    }

    /// The target that `uri` is, with what the fields of the request say of its host.
    pub(crate) fn new(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Self, KeyError> {
        Self::named(uri, HostField::of(headers))
    }

    #[inline]
    fn named(uri: &'a Uri, host: HostField<'a>) -> Result<Self, KeyError> {
        let scheme = uri.scheme_str();
        let named = host.named()?;
        let same = |a: &[u8], b: &[u8]| {
            without_port(scheme, a).eq_ignore_ascii_case(without_port(scheme, b))
        };
        let host = match (authority(uri), named) {
            (Some(authority), Some(named)) if !same(authority, named) => {
                return Err(KeyError::Host);
            }
            (Some(host), _) | (None, Some(host)) => host,
            (None, None) => b"",
        };
        Ok(Self::at(host, uri))
    }

    /// The targets that a request may be for: where it names several hosts, one for each, since
    /// nobody here knows which of them whoever answers it goes by.
    pub(crate) fn all_of<B>(request: &'a Request<B>) -> Vec<Self> {
        match Self::of(request) {
            Err(KeyError::Host) => Self::at_all_hosts(request.uri(), request.headers()),
            target => target.into_iter().collect(),
        }
    }

    /// As [`all_of`](Self::all_of), of the target that `uri` is.
    pub(crate) fn at_all_hosts(uri: &'a Uri, headers: &'a HeaderMap) -> Vec<Self> {
        let named = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
        let hosts = authority(uri).into_iter().chain(named);
        hosts.take(MAX_HOSTS).map(|host| Self::at(host, uri)).collect()
    }

    fn at(host: &'a [u8], uri: &'a Uri) -> Self {
        let scheme = uri.scheme_str();
        let host = without_port(scheme, host);
        Self { scheme, host, path: uri.path(), query: uri.query(), sent: None }
    }

    /// The host, without a port that its scheme may have anyway.
    pub(crate) fn host_without_usual_port(&self) -> &'a [u8] {
        let bare = [&b":80"[..], b":443"].iter().find_map(|port| self.host.strip_suffix(*port));
        bare.unwrap_or(self.host)
    }

    /// Writes the key.
    pub(crate) fn write(&self, out: &mut impl Sink) -> Result<(), KeyError> {
        self.write_as(self.scheme, out)
    }

    /// Writes each of the keys that the same resource may have: the client whose request changed it
    /// may speak another version of HTTP than the one whose request stored it.
    pub(crate) fn each_form<S: Sink>(&self, mut new: impl FnMut() -> S) -> Vec<S> {
        let other = self.scheme.filter(|scheme| !matches!(*scheme, "http" | "https"));
        let schemes = [None, Some("http"), Some("https")].into_iter().chain(other.map(Some));
        // Where the scheme isn't named, nor is it known that a port is the one that it has anyway.
        let usual = [&b":80"[..], b":443"];
        let bare = self.host_without_usual_port();
        let with_port = usual.map(|port| [bare, port].concat());
        let has_another = bare
            .rsplit(|byte| *byte == b':')
            .next()
            .is_some_and(|port| port.len() < bare.len() && port.iter().all(u8::is_ascii_digit));
        let with_port = with_port.iter().filter(|_| !bare.is_empty() && !has_another);
        let forms = schemes
            .map(|scheme| (scheme, bare))
            .chain(with_port.map(|host| (None, host.as_slice())));
        let forms = forms.filter_map(|(scheme, host)| {
            let mut key = new();
            Target { host, ..*self }.write_as(scheme, &mut key).ok()?;
            Some(key)
        });
        forms.collect()
    }

    fn write_as(&self, scheme: Option<&str>, out: &mut impl Sink) -> Result<(), KeyError> {
        let host = without_port(scheme, self.host);
        let parts =
            [self.query, self.sent, scheme].map(|part| part.map_or(0, |part| part.len() + 1));
        if host.len() + self.path.len() + parts.iter().sum::<usize>() > MAX_LEN {
            return Err(KeyError::TooLong);
        }
        // No host has a space, and no target.
        if let Some(scheme) = scheme {
            out.push(scheme.as_bytes());
            out.push(b" ");
        }
        push_lowercase(host, out);
        // The path begins with a slash; no host has one.
        out.push(self.path.as_bytes());
        if let Some(query) = self.query {
            out.push(b"?");
            out.push(query.as_bytes());
        }
        if let Some(sent) = self.sent {
            out.push(b" ");
            out.push(sent.as_bytes());
        }
        Ok(())
    }
}

/// The URI that the client sent, if something on the way here has changed it: a nested router of
/// axum strips the prefix of the path, and without it `/api/users` and `/admin/users` are the same.
#[cfg(feature = "axum")]
pub(crate) fn sent_uri(extensions: &Extensions) -> Option<&Uri> {
    extensions.get::<axum::extract::OriginalUri>().map(|sent| &sent.0)
}

/// Only routers that are known tell.
#[cfg(not(feature = "axum"))]
pub(crate) fn sent_uri(_: &Extensions) -> Option<&Uri> {
    None
}

/// How many hosts of one request are gone by.
const MAX_HOSTS: usize = 4;

/// The host and port that a target names, without user information.
fn authority(uri: &Uri) -> Option<&[u8]> {
    let text = uri.authority()?.as_str();
    Some(text.rsplit_once('@').map_or(text, |(_, host)| host).as_bytes())
}

/// A host without the port that its scheme has anyway (RFC 9110 §4.2.3).
fn without_port<'a>(scheme: Option<&str>, host: &'a [u8]) -> &'a [u8] {
    let port: &[u8] = match scheme {
        Some("http") => b":80",
        Some("https") => b":443",
        _ => return host,
    };
    host.strip_suffix(port).unwrap_or(host)
}

/// Which bytes a host may have (RFC 3986 §3.2.2), with those around an address and before a port.
const HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"-._~!$&'()*+,;=:[]%";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] |= byte.is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// What the `Host` fields of a request say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostField<'a> {
    first: Option<&'a HeaderValue>,
    has_more: bool,
}

impl<'a> HostField<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut host = Self::default();
        headers.get_all(HOST).iter().for_each(|line| host.add(line));
        host
    }

    /// Takes note of one more, for whoever goes by all fields anyway.
    #[inline]
    pub(crate) fn add(&mut self, line: &'a HeaderValue) {
        self.has_more |= self.first.is_some();
        self.first = self.first.or(Some(line));
    }

    #[inline]
    fn named(self) -> Result<Option<&'a [u8]>, KeyError> {
        let Some(host) = self.first.map(HeaderValue::as_bytes) else { return Ok(None) };
        // All of them, which takes less than to stop at the first that is none.
        let is_host = |all, byte: &u8| all & HOST_BYTES[usize::from(*byte)];
        if self.has_more || !host.iter().fold(true, is_host) {
            return Err(KeyError::Host);
        }
        Ok(Some(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(uri: &str, hosts: &[&str]) -> Request<()> {
        let mut request = Request::get(uri).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, host.parse().unwrap());
        }
        request
    }

    fn key(uri: &str, hosts: &[&str]) -> Result<String, KeyError> {
        let request = request(uri, hosts);
        let mut out = Vec::new();
        Target::of(&request)?.write(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_same_target_has_one_key() {
        let expected = Ok("example.com/a?b=c".to_owned());
        assert_eq!(key("/a?b=c", &["Example.COM"]), expected);
        assert_eq!(key("/a", &[]), Ok("/a".to_owned()));
        let expected = key("http://example.com/?q", &[]);
        assert_eq!(expected, Ok("http example.com/?q".to_owned()));
        assert_eq!(key("http://example.com?q", &["example.com"]), expected);
        assert_eq!(key("http://EXAMPLE.com:80/?q", &["example.com"]), expected);
        assert_eq!(key("http://user@example.com/?q", &["example.com:80"]), expected);
        assert_ne!(key("http://example.com:443/?q", &[]), expected);
    }

    #[test]
    fn schemes_have_different_keys_and_a_change_finds_them_all() {
        let keys = [key("/a", &["h"]), key("http://h/a", &[]), key("https://h/a", &["h"])];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
        for (uri, hosts) in [("/a", &["h"][..]), ("http://h/a", &[]), ("https://h:443/a", &["h"])] {
            let request = request(uri, hosts);
            let forms = Target::of(&request).unwrap().each_form(Vec::new);
            for key in &keys {
                assert!(forms.contains(&key.clone().unwrap().into_bytes()), "{uri} {key:?}");
            }
        }
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

    #[cfg(feature = "axum")]
    #[test]
    fn what_a_router_stripped_or_changed_still_counts() {
        let of = |sent: &str, uri: &str| {
            let mut request = request(uri, &["h"]);
            request.extensions_mut().insert(axum::extract::OriginalUri(sent.parse().unwrap()));
            let mut out = Vec::new();
            Target::of(&request).unwrap().write(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of("/api/users?a", "/users?a"), "h/api/users?a");
        assert_eq!(of("/api", "/"), "h/ /api");
        assert_eq!(of("/x/ab", "/b"), "h/b /x/ab");
        assert_eq!(of("/users", "/users"), "h/users");
        assert_eq!(of("/v1/x", "/users"), "h/users /v1/x");
    }

    proptest! {
        #[test]
        fn different_targets_have_different_keys(
            a in (prop::option::of("https?"), "[a-b.:]{0,3}", "/[a-b?/]{0,4}"),
            b in (prop::option::of("https?"), "[a-b.:]{0,3}", "/[a-b?/]{0,4}"),
        ) {
            let of = |(scheme, host, target): &(Option<String>, String, String)| {
                let (path, query) = match target.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (target.as_str(), None),
                };
                let scheme = scheme.as_deref();
                let target = Target { scheme, host: host.as_bytes(), path, query, sent: None };
                let mut out = Vec::new();
                target.write(&mut out).unwrap();
                out
            };
            prop_assert_eq!(a == b, of(&a) == of(&b));
        }
    }
}
