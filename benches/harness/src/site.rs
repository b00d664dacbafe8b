//! What all servers answer with, so that they can be compared: a handler that counts its calls, and may
//! take its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use tower_keep::cache::CacheTags;

use crate::BoxError;

/// What is asked for, with a number behind it.
pub const PATH: &str = "/products/";

/// The settings of the handler, which go to servers as their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Bytes of a response.
    pub size: usize,
    /// How long the handler takes.
    pub delay: Duration,
    /// Seconds for which a response is fresh.
    pub max_age: u64,
    /// Seconds for which it may be used while it is fetched again (RFC 5861); 0 says nothing of it.
    pub stale: u64,
    /// Whether responses have tags: `products`, and one of their own.
    pub is_tagged: bool,
}

impl Default for Site {
    fn default() -> Self {
        Self { size: 1024, delay: Duration::ZERO, max_age: 3600, stale: 0, is_tagged: false }
    }
}

impl Site {
    /// As arguments.
    pub fn arguments(&self) -> [String; 5] {
        [
            format!("size={}", self.size),
            format!("delay={}", self.delay.as_millis()),
            format!("max-age={}", self.max_age),
            format!("stale={}", self.stale),
            format!("tagged={}", self.is_tagged),
        ]
    }

    /// Reads one of its arguments.
    ///
    /// # Errors
    ///
    /// If it isn't one.
    pub fn read(&mut self, argument: &str) -> Result<(), BoxError> {
        let (name, value) = argument.split_once('=').ok_or("an argument is NAME=VALUE")?;
        match name {
            "size" => self.size = value.parse()?,
            "delay" => self.delay = Duration::from_millis(value.parse()?),
            "max-age" => self.max_age = value.parse()?,
            "stale" => self.stale = value.parse()?,
            "tagged" => self.is_tagged = value.parse()?,
            _ => return Err(format!("there is no setting {name}").into()),
        }
        Ok(())
    }

    /// What is in each response.
    pub fn body(&self) -> Bytes {
        Bytes::from(vec![b'x'; self.size])
    }

    /// The tag of one response.
    pub fn tag(id: u64) -> String {
        format!("product:{id}")
    }

    /// The field that says for how long a response is fresh.
    fn cache_control(&self) -> HeaderValue {
        let stale = match self.stale {
            0 => String::new(),
            stale => format!(", stale-while-revalidate={stale}"),
        };
        format!("public, max-age={}{stale}", self.max_age)
            .try_into()
            .unwrap_or(HeaderValue::from_static("no-store"))
    }
}

/// The handler.
#[derive(Clone, Debug)]
pub struct Handler {
    site: Site,
    body: Bytes,
    kind: HeaderValue,
    freshness: HeaderValue,
    calls: Arc<AtomicU64>,
}

impl Handler {
    /// With these settings.
    pub fn new(site: Site) -> Self {
        let kind = HeaderValue::from_static("text/plain");
        let freshness = site.cache_control();
        Self { site, body: site.body(), kind, freshness, calls: Arc::default() }
    }

    /// The same, which answers with JSON.
    #[must_use]
    pub fn with_json(mut self, json: Vec<u8>) -> Self {
        self.body = json.into();
        self.kind = HeaderValue::from_static("application/json");
        self
    }

    /// How often it was called.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// At once.
    pub fn answer(&self, id: u64) -> Response<Body> {
        self.calls.fetch_add(1, Relaxed);
        let mut response = Response::new(Body::from(self.body.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.kind.clone());
        headers.insert(CACHE_CONTROL, self.freshness.clone());
        if self.site.is_tagged {
            let tags = CacheTags::from(["products".to_owned(), Site::tag(id)]);
            response.extensions_mut().insert(tags);
        }
        response
    }

    /// As a route of axum's.
    pub fn route(&self) -> MethodRouter {
        let handler = self.clone();
        get(async move |Path(id): Path<u64>| {
            if !handler.site.delay.is_zero() {
                tokio::time::sleep(handler.site.delay).await;
            }
            handler.answer(id)
        })
    }

    /// The whole site: that route.
    pub fn router(&self) -> Router {
        Router::new().route("/products/{id}", self.route())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_being_arguments() {
        let site = Site {
            size: 7,
            delay: Duration::from_millis(50),
            max_age: 1,
            stale: 10,
            is_tagged: true,
        };
        let mut read = Site::default();
        for argument in site.arguments() {
            read.read(&argument).unwrap();
        }
        assert_eq!(read, site);
        assert!(read.read("size=many").is_err() && read.read("color=red").is_err());
    }
}
