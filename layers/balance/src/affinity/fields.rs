//! Affinity by what a request says: a field, a cookie, its path.

use http::header::{COOKIE, HeaderName};
use http::{HeaderMap, Request};

use super::{Affinity, hash_bytes};

/// By the value of a field. Requests without it have no hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHeader(HeaderName);

impl ByHeader {
    /// By the first field `name`.
    pub fn new(name: HeaderName) -> Self {
        Self(name)
    }
}

impl<B> Affinity<Request<B>> for ByHeader {
    fn hash(&self, request: &Request<B>) -> Option<u64> {
        request.headers().get(&self.0).map(|value| hash_bytes(value.as_bytes()))
    }
}

/// By the value of a cookie (RFC 6265, section 4.2.1). Requests without it have no hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByCookie(String);

impl ByCookie {
    /// By the first cookie `name`, whose case matters.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

impl<B> Affinity<Request<B>> for ByCookie {
    fn hash(&self, request: &Request<B>) -> Option<u64> {
        cookie(request.headers(), self.0.as_bytes()).map(hash_bytes)
    }
}

/// The value of the first cookie `name`.
fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    let fields = headers.get_all(COOKIE).into_iter();
    let mut pairs = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
    pairs.find_map(|pair| {
        let rest = pair.trim_ascii().strip_prefix(name)?;
        rest.strip_prefix(b"=").map(<[u8]>::trim_ascii)
    })
}

/// By path and query, so that each backend caches its own part of what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByUri;

impl<B> Affinity<Request<B>> for ByUri {
    fn hash(&self, request: &Request<B>) -> Option<u64> {
        let target = request.uri().path_and_query()?;
        Some(hash_bytes(target.as_str().as_bytes()))
    }
}
