//! HTTP caching (RFC 9111) as a Tower layer, over the [tiered store](tower_keep_store).
//!
//! [`CacheLayer`] wraps any `Service<Request<_>, Response = Response<_>>`: axum, hyper, tonic.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use http::{Request, Response};
//! use http_body_util::{Empty, Full};
//! use bytes::Bytes;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_keep_cache::{CacheControl, CacheLayer, CacheTags};
//! use tower_keep_store::{L1, Store};
//!
//! let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
//! let service = ServiceBuilder::new().layer(CacheLayer::builder(keep.clone()).build()?).service(service_fn(
//!     |_: Request<Empty<Bytes>>| async {
//!         let mut response = Response::new(Full::<Bytes>::from("hello"));
//!         let policy = CacheControl::public().max_age(Duration::from_secs(60));
//!         response.headers_mut().insert("cache-control", policy.to_header_value());
//!         response.extensions_mut().insert(CacheTags::from(["greetings"]));
//!         Ok::<_, Infallible>(response)
//!     },
//! ));
//!
//! let get = || Request::get("http://example.com/").body(Empty::new()).unwrap();
//! let first = service.clone().oneshot(get()).await?;
//! assert_eq!(first.headers()["cache-status"], "tower-keep; fwd=uri-miss; fwd-status=200; stored");
//! # http_body_util::BodyExt::collect(first.into_body()).await.unwrap();
//! # tokio::task::yield_now().await;
//! let second = service.clone().oneshot(get()).await?;
//! assert!(second.headers()["cache-status"].to_str()?.starts_with("tower-keep; hit; ttl="));
//! keep.invalidate_tag("greetings").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to put it
//!
//! Around the whole router (`ServiceBuilder::new().layer(cache).service(router)`), so that a hit
//! skips routing; inside of what must see every request (access logs, metrics, rate limits), and
//! of authentication, if what is behind it is not for everybody.
//!
//! A response is stored for the target as the layer sees it. A router that strips a prefix on the
//! way to it must leave word of that, or `/api/users` and `/admin/users` are the same: with the
//! feature `axum`, nested routers of axum do. Elsewhere, give layers behind different prefixes a
//! [`space`](CacheLayerBuilder::space) of their own.
//!
//! A miss runs in a task of its own, so that it outlives its client. Spans go with it; task-locals
//! don't: put what the handler needs into the extensions of the request.
//!
//! # What is stored, and for whom
//!
//! By default only responses to GET that say how long they are fresh. In a shared cache, never one
//! that is `private` or sets a cookie; and one to a request that had `Authorization` or `Cookie`
//! only if it says `public` or `s-maxage` (a `Vary: Cookie` does, too), or if the key tells users
//! apart ([`KeyPolicy::identity`]), unless [`Credentials`] say otherwise. A request with a body, an
//! `Upgrade` or a precondition passes through. What a path looks like makes nothing storable:
//! `/account/x.css` is stored if the origin says so, and else not.
//!
//! Ranges in bytes are answered from what is stored: one part, several as `multipart/byteranges`,
//! or 416 (RFC 9110 §14). What isn't stored is asked of the inner service as the client asked, and a
//! part that comes of it is kept. When the whole is asked for, only the rest is fetched, if the version
//! can be told by a strong entity tag.
//!
//! The key is the host and the target, and the scheme where the request names it (HTTP/2 does,
//! HTTP/1.1 mostly not); then the fields that `Vary` names. A [`KeyPolicy`] leaves parts out (query
//! parameters, the host) or adds some (fields, cookies, whatever a layer outside knows). Unsafe
//! methods drop a resource in every scheme and with every added part.
//!
//! What the key doesn't cover can't be told apart: if the origin builds its response from it, one
//! client decides what all get. So a request that has one of the fields by which clients are known to
//! deceive origins, `X-Forwarded-Host` above all, shares responses only with those that say the same
//! in it ([`untrusted_headers`](CacheLayerBuilder::untrusted_headers)), and one that asks for another
//! method than its own (`X-HTTP-Method-Override`) goes to the origin alone. Other fields that the
//! origin reads have to be in its `Vary`, or in the [`KeyPolicy::header`]s.
//!
//! Requests with content are answered from the store where a [`BodyKeyLayer`] outside is told which
//! of them read: searches and GraphQL queries by `POST`, unary calls of gRPC.
//!
//! # Origins that don't say
//!
//! A [`Rule`] says it for them, by path, host, method or any condition: how long a response is fresh
//! that doesn't say, by its status; the least and the most for one that does; for how long a stale
//! one may be used; or that a request is none of the cache's business
//! ([`CacheLayerBuilder::rule`]). No rule makes shareable what is not.
//!
//! # Concurrent misses
//!
//! Of those who ask for the same at the same time, one asks the inner service, and the others get the
//! same response while it arrives. If it turns out not to be storable they each ask for themselves,
//! and for a while nobody waits for another's ([`hit_for_miss`](CacheLayerBuilder::hit_for_miss)).
//! If it hangs ([`max_wait`](CacheLayerBuilder::max_wait)) or is lost, another of them takes over. If
//! it fails and nothing stale may stand in, the others try again in groups, each three times as large
//! as the one before: an origin in trouble isn't met by all at once, and one that recovers answers
//! the rest from the store.
//!
//! # Several nodes
//!
//! Over a store with a second tier, what one node has stored all of them have, and what is removed on
//! one is removed on all. Each asks the inner service for what is in neither tier; if the store has a
//! [lease](tower_keep_store::StoreBuilder::lease), one does, and the others wait until the response is
//! complete and in the second tier: they stream only what they fetch themselves. They don't wait for
//! longer than [`max_wait`](CacheLayerBuilder::max_wait), nor once it is known that the response is
//! not stored: `no-store`, `private` or too large. A request that has directives of its own, such as a
//! reload, waits for no other node; nor does one for a variant of a resource that is being fetched for
//! the first time, where its own node can tell that.
//!
//! # Nobody waits for what is asked for often
//!
//! A response that is often asked for is refreshed shortly before it goes stale, behind the back of a
//! request that is answered from the store ([`early_refresh`](CacheLayerBuilder::early_refresh)).
//! An origin that failed to refresh one that may be served stale is left alone for a moment, and then
//! asked again by one request, for which nobody waits
//! ([`retry_pause`](CacheLayerBuilder::retry_pause)).
//!
//! # What a response says about it
//!
//! `Cache-Status` (RFC 9211) is on every response, unless it is
//! [switched off](CacheLayerBuilder::cache_status): `hit` with the seconds left, or `fwd` with the
//! reason, whether it is `stored`, whether it was `collapsed` with another request, and a
//! [`detail`](#what-detail-says) where there is more to say, as of what kept it from being stored. `stored` is what the head of the response lets hope
//! for: a body that then breaks off, or an invalidation that comes first, still prevents it.
//!
#![doc = include_str!("../docs/details.md")]
#![doc = include_str!("../docs/rfc9111.md")]

mod age;
mod behind;
mod body;
mod body_key;
mod budget;
mod builder;
mod cache_control;
mod cache_status;
mod capture;
mod commit;
mod conditional;
mod core;
mod error;
mod field;
mod fill;
mod forms;
mod future;
mod groups;
mod grpc;
mod head;
mod invalidate;
mod judge;
mod key;
mod landing;
mod layer;
mod look;
mod marks;
mod miss;
mod nested;
mod part;
mod plan;
mod policy;
mod pump;
mod range;
mod renewal;
mod respond;
mod rule;
mod service;
mod settle;
mod shared;
mod solo;
mod splice;
mod status_field;
mod stored;
mod tags;
mod vary;

pub use body::CacheBody;
pub use body_key::{BodyKey, BodyKeyFuture, BodyKeyLayer, BodyKeyLayerBuilder, ReplayBody};
pub use builder::CacheLayerBuilder;
pub use cache_control::CacheControl;
pub use error::ConfigError;
pub use forms::CompressedForms;
pub use future::CacheFuture;
pub use head::RequestHead;
pub use key::KeyPolicy;
pub use layer::CacheLayer;
pub use policy::{CacheKind, Credentials, Heuristic, SetCookie, Statuses};
pub use rule::Rule;
pub use service::Cache;
pub use status_field::CacheStatusField;
pub use tags::CacheTags;
