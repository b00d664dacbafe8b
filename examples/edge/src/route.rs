//! What becomes of a request that has found its route.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode};
use tower::Layer;
use tower_keep::cache::Cache;
use tower_keep_balance::proxy::Pseudonym;

use crate::caches::Caches;
use crate::config::{self, Action, Bound, Config, Fields};
use crate::outbound::{Changes, Outbound};
use crate::upstreams::{PoolProxy, Upstreams};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's way to a backend.
pub(crate) type Way = Outbound<PoolProxy>;

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    /// In place of the listener's.
    pub(crate) max_body: Bound<u64>,
    pub(crate) response_headers: Fields,
    pub(crate) does: Does,
}

/// What it does.
///
/// Other layers around a way (compression, authentication) go here as well: outside of the cache
/// what has to see every request, inside of it what only the backends' responses need.
#[derive(Debug)]
pub(crate) enum Does {
    /// Asks the cache first; what isn't for it goes straight on.
    Cache(Box<Cache<Way>>, Box<Way>),
    Forward(Box<Way>),
    Respond {
        status: StatusCode,
        content_type: HeaderValue,
        body: String,
    },
    Redirect {
        status: StatusCode,
        to: String,
    },
}

impl Route {
    pub(crate) fn new(
        route: &config::Route,
        config: &Config,
        upstreams: &Upstreams,
        (caches, before): (&mut Caches, Option<&Caches>),
        pseudonym: &Pseudonym,
    ) -> Result<Self, Error> {
        let does = match &route.action {
            Action::Respond { status, content_type, body } => Does::Respond {
                status: *status,
                content_type: content_type.clone(),
                body: body.clone(),
            },
            Action::Redirect { status, to } => Does::Redirect { status: *status, to: to.clone() },
            Action::Pool(pool) => {
                let way = Outbound {
                    inner: upstreams.proxy_for(route, pool, config, pseudonym)?,
                    changes: Arc::new(Changes {
                        rewrite: route.rewrite.clone().map(|to| (route.condition.path.clone(), to)),
                        headers: route.request_headers.clone(),
                        tags: route.tags.clone(),
                    }),
                };
                let policy = route.cache.as_ref().and_then(|name| config.cache.policies.get(name));
                match policy {
                    None => Does::Forward(Box::new(way)),
                    Some(policy) => {
                        let (name, field) = (&config.server.name, config.cache.status_field);
                        let space = space(route, pool);
                        let layer = caches.layer(policy, name, field, space, before)?;
                        Does::Cache(Box::new(layer.layer(way.clone())), Box::new(way))
                    }
                }
            }
        };
        Ok(Self {
            name: route.name.as_str().into(),
            max_body: route.max_body,
            response_headers: route.response_headers.clone(),
            does,
        })
    }
}

/// Where responses lie in the store: apart for routes that ask something else for the same URL. The
/// methods make no difference, so that a POST by one route removes what a GET by another has stored.
fn space(route: &config::Route, pool: &str) -> String {
    let mut space = format!("edge/{pool}");
    // Writing to memory doesn't fail.
    if let Some(rewrite) = &route.rewrite {
        let _ = write!(space, "/{:?}={rewrite}", route.condition.path);
    }
    if !route.request_headers.is_empty() {
        let _ = write!(space, "/{:?}", route.request_headers);
    }
    space
}

/// Where a redirect leads.
pub(crate) fn redirect(status: StatusCode, to: &str, host: &str, path: &str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    // What stands for the request's own parts can't end the line, as it comes from a URI.
    let location = to.replace("{host}", host).replace("{path}", path);
    match HeaderValue::try_from(location) {
        Ok(location) => drop(response.headers_mut().insert(http::header::LOCATION, location)),
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}
