//! What proxies in front have said of the client, as it came.

use http::Extensions;
use http::header::{HeaderMap, HeaderName};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The fields that tell for whom a request was forwarded, before they were rewritten for the
/// upstream: in the extensions of a request that had any. Whoever decides by them then decides the
/// same, wherever he stands.
#[derive(Clone, Debug)]
pub(crate) struct Arrived(HeaderMap);

impl Arrived {
    /// Keeps them. Those that are kept already are older, and stay.
    #[cfg(feature = "proxy")]
    pub(crate) fn keep<B>(request: &mut http::Request<B>) {
        if request.extensions().get::<Self>().is_some() {
            return;
        }
        let mut kept = HeaderMap::new();
        for name in [X_FORWARDED_FOR, http::header::FORWARDED] {
            for value in request.headers().get_all(&name) {
                kept.append(name.clone(), value.clone());
            }
        }
        // Where there was none, what is written tells of the peer alone, whom everybody knows anyway.
        if !kept.is_empty() {
            request.extensions_mut().insert(Self(kept));
        }
    }

    /// The fields to go by: those that were kept, or else `headers`.
    pub(crate) fn of<'a>(headers: &'a HeaderMap, extensions: &'a Extensions) -> &'a HeaderMap {
        extensions.get::<Self>().map_or(headers, |arrived| &arrived.0)
    }
}
