//! A proxy's name in `Via` (RFC 9110 §7.6.3).

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use http::header::{HeaderValue, VIA};
use http::{HeaderMap, Request, Version};

/// The name by which a proxy is known in `Via`, and knows its own messages again.
///
/// Two proxies of which one may be in front of the other need different ones.
#[derive(Clone)]
pub struct Pseudonym(Arc<Names>);

struct Names {
    name: Box<str>,
    /// As it stands in `Via`, behind HTTP/1.0, 1.1 and 2.
    via: [HeaderValue; 3],
}

impl Pseudonym {
    /// `name` itself; or nothing if it isn't a token (RFC 9110 §5.6.2): letters, digits and
    /// ``!#$%&'*+-.^_`|~``.
    pub fn new(name: &str) -> Option<Self> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let via = |version: &str| HeaderValue::try_from(format!("{version} {name}")).ok();
        let via = [via("1.0")?, via("1.1")?, via("2.0")?];
        Some(Self(Arc::new(Names { name: name.into(), via })))
    }

    /// `name` with something random behind it, so that each process has its own; under the same
    /// condition as [`new`](Self::new).
    pub fn random(name: &str) -> Option<Self> {
        Self::new(&format!("{name}-{:08x}", RandomState::new().hash_one(name) >> 32))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0.name
    }

    /// Whether a message has been here before: RFC 9110 §7.6 forbids to forward a message to oneself
    /// without end. In front of a cache, that should be asked first: behind it, the message would
    /// wait for its own response.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(VIA).iter().filter_map(|line| line.to_str().ok());
        let mut hops = lines.flat_map(|line| line.split(','));
        hops.any(|hop| hop.split_whitespace().nth(1) == Some(self.as_str()))
    }

    /// Signs a request, which came in its version.
    pub(super) fn sign_request<B>(&self, request: &mut Request<B>) {
        let version = request.version();
        self.sign(request.headers_mut(), version);
    }

    /// Signs a message that came in `version`.
    pub(super) fn sign(&self, headers: &mut HeaderMap, version: Version) {
        let [http10, http11, http2] = &self.0.via;
        let via = match version {
            Version::HTTP_2 => http2,
            Version::HTTP_10 => http10,
            _ => http11,
        };
        headers.append(VIA, via.clone());
    }
}

impl Default for Pseudonym {
    /// A random one that begins with `tower-keep`.
    fn default() -> Self {
        Self::random("tower-keep").unwrap_or_else(|| {
            let via = ["1.0 tower-keep", "1.1 tower-keep", "2.0 tower-keep"];
            Self(Arc::new(Names {
                name: "tower-keep".into(),
                via: via.map(HeaderValue::from_static),
            }))
        })
    }
}

impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pseudonym").field(&self.as_str()).finish()
    }
}
