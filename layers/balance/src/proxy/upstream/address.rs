//! Where an upstream is, as its URL says it.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// Why a URL names no upstream, and what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} {problem}")]
pub struct AddressError {
    url: String,
    problem: String,
}

impl AddressError {
    pub(super) fn new(url: &str, problem: impl Into<String>) -> Self {
        Self { url: url.to_owned(), problem: problem.into() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Empty, or a path that doesn't end with a slash.
    base: Box<str>,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, AddressError> {
        let refused = |problem: &str| AddressError::new(url, problem);
        let uri: Uri = url.parse().map_err(|error| refused(&format!("is not a URL: {error}")))?;
        let parts = uri.into_parts();
        let scheme = match parts.scheme {
            Some(scheme) if scheme == Scheme::HTTP || scheme == Scheme::HTTPS => scheme,
            _ => return Err(refused("is not of the form http://host:port or https://host:port")),
        };
        if scheme == Scheme::HTTPS && cfg!(not(feature = "tls")) {
            return Err(refused("needs TLS, which is behind the feature `tls`"));
        }
        let authority = parts.authority.filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or_else(|| refused("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("holds credentials, which would not be sent"));
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(refused("has a port that is none; ports are 1 to 65535"));
        }
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err(refused("has a query; requests bring their own"));
        }
        let base = path.path().trim_end_matches('/').into();
        Ok(Self { scheme, authority, base })
    }

    /// The URI to connect to.
    pub(super) fn uri(&self) -> Uri {
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        // The parts come from a valid URI, so this always is one.
        uri.path_and_query("/").build().unwrap_or_default()
    }

    /// What to ask it for.
    pub(super) fn target(&self, asked: &Uri) -> PathAndQuery {
        let asked = asked.path_and_query().cloned();
        let asked = asked.unwrap_or_else(|| PathAndQuery::from_static("/"));
        // RFC 9112 §3.2.4: the asterisk stands for the server as a whole.
        if self.base.is_empty() || asked == "*" {
            return asked;
        }
        // One valid path behind another is one, too.
        PathAndQuery::try_from(format!("{}{asked}", self.base)).unwrap_or(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named() {
        let cases = [
            ("", "is not a URL"),
            ("a:80", "is not of the form"),
            ("ftp://a", "is not of the form"),
            ("http://", "is not a URL"),
            ("http://:80", "names no host"),
            ("http://u:p@a", "holds credentials"),
            ("http://a:0", "has a port that is none"),
            ("http://a:99999", "has a port that is none"),
            ("http://a?b", "has a query"),
            ("http://a b", "is not a URL"),
        ];
        for (url, problem) in cases {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{url:?} {problem}")), "{error}");
        }
    }

    #[test]
    fn requests_go_below_the_base_path() {
        let target = |url: &str, asked: &'static str| {
            Address::parse(url).unwrap().target(&Uri::from_static(asked)).to_string()
        };
        assert_eq!(target("http://a", "/x?y"), "/x?y");
        assert_eq!(target("http://a/", "http://b"), "/");
        assert_eq!(target("http://a/v1/", "/x?y"), "/v1/x?y");
        assert_eq!(target("http://[::1]:80/v1", "https://b/x"), "/v1/x");
        assert_eq!(target("http://a/v1", "*"), "*");
    }
}
