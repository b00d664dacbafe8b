//! A page of 100 KiB of JSON, and what sends it: the bare handler, caches, and layers that compress.

use std::convert::Infallible;
use std::future::{Ready, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::util::{ServiceFn, service_fn};
use tower_keep_cache::CacheLayer;
use tower_keep_compress::{CompressLayer, Encoding, Levels, encode_all};
use tower_keep_store::{L1, Store};

use crate::BoxError;
use crate::products::json;

/// How long it is.
pub const LEN: usize = 100 * 1024;

/// Where the page is, and where something is that is as long as its form in Brotli.
pub const PAGE: &str = "/page.json";
/// See [`PAGE`].
pub const SHORT: &str = "/short";

/// What the handler answers with.
#[derive(Clone, Debug)]
pub struct Pages {
    page: Bytes,
    short: Bytes,
}

impl Pages {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// If there is no memory to compress.
    pub fn new() -> Result<Self, BoxError> {
        let page = json(LEN);
        let level = Levels::stored().of(Encoding::Brotli);
        let short = encode_all(&page, Encoding::Brotli, level)?;
        Ok(Self { page: page.into(), short: short.into() })
    }

    /// Answers at once, with the same bytes again and again.
    pub fn handler<B>(&self) -> ServiceFn<impl Fn(Request<B>) -> Ready<Answer> + Clone + use<B>> {
        let pages = self.clone();
        service_fn(move |request: Request<B>| ready(Ok(pages.answer(request.uri().path()))))
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let (body, kind) = match path {
            SHORT => (&self.short, "application/octet-stream"),
            _ => (&self.page, "application/json"),
        };
        let response = Response::builder()
            .header("content-type", kind)
            .header("cache-control", "max-age=3600")
            .header("etag", "\"5f3c2a\"");
        response.body(Full::new(body.clone())).unwrap_or_default()
    }
}

/// What the handler's calls end in.
pub type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// A cache over a store of its own; with compressed forms, if they are wanted.
///
/// # Errors
///
/// If the settings are wrong.
pub fn cache(has_forms: bool) -> Result<CacheLayer, BoxError> {
    let store = Store::builder().l1(L1::bytes(64 << 20)).build()?;
    let builder = CacheLayer::builder(store);
    Ok(if has_forms { builder.compress(&compress()?).build()? } else { builder.build()? })
}

/// What compresses each response.
///
/// # Errors
///
/// If the settings are wrong.
pub fn compress() -> Result<CompressLayer, BoxError> {
    Ok(CompressLayer::builder().build()?)
}
