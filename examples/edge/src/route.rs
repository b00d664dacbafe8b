//! What becomes of a request that has found its route.

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderName, Request, Response};
use http_body_util::Either as EitherBody;
use tower::util::{Either, MapResponse};
use tower::{Layer, ServiceExt};
use tower_keep::auth::{AuthBody, Jwt};
use tower_keep::compress::{Compress, CompressBody};
use tower_keep_balance::proxy::Pseudonym;

use crate::body::{Answer, Content, Packed, RequestBody};
use crate::caches::Caches;
use crate::claims::{OurFields, Told};
use crate::config::{self, Action, Bound, CacheSettings, Config, Fields};
use crate::guards::Guards;
use crate::inside::{Does, Inside};
use crate::outbound::{Changes, Outbound};
use crate::overrides;
use crate::space;
use crate::upstreams::Upstreams;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A service whose responses have the body `To` in place of `From`.
type With<S, From, To> = MapResponse<S, fn(Response<From>) -> Response<To>>;

/// What a route does, and compresses if it is to.
type Pack =
    Either<With<Inside, Answer, Packed>, With<Compress<Inside>, CompressBody<Answer>, Packed>>;

/// The same, for those whose token is right, if it asks for one.
type Entrance = Either<With<Pack, Packed, Content>, With<Jwt<Pack>, AuthBody<Packed>, Content>>;

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    /// In place of the listener's.
    pub(crate) max_body: Bound<u64>,
    pub(crate) body_rate: Bound<u64>,
    pub(crate) response_headers: Fields,
    pub(crate) does: Arc<Does>,
    pub(crate) guard: Option<config::Guard>,
    entrance: Entrance,
}

/// What a configuration has made already, and routes are made of.
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) upstreams: &'a Upstreams,
    pub(crate) caches: &'a mut Caches,
    /// Those that there were before.
    pub(crate) caches_before: Option<&'a Caches>,
    pub(crate) guards: &'a Guards,
    pub(crate) pseudonym: &'a Pseudonym,
}

impl Route {
    pub(crate) fn new(route: &config::Route, parts: &mut Parts<'_>) -> Result<Self, Error> {
        let does = Arc::new(match &route.action {
            Action::Respond { status, content_type, body } => Does::Respond {
                status: *status,
                content_type: content_type.clone(),
                body: body.clone(),
            },
            Action::Redirect { status, to } => Does::Redirect { status: *status, to: to.clone() },
            Action::Pool(pool) => to_pool(route, pool, parts)?,
        });
        let pack = pack(Inside(Arc::clone(&does)), route)?;
        Ok(Self {
            name: route.name.as_str().into(),
            max_body: route.max_body,
            body_rate: route.body_rate,
            response_headers: route.response_headers.clone(),
            does,
            guard: route.guard.clone(),
            entrance: entrance(pack, route, parts)?,
        })
    }

    /// Whether there are some whom this route doesn't let through, and `other` might.
    pub(crate) fn keeps_out(&self, other: &Self) -> bool {
        if let Does::Respond { status, .. } = &*self.does {
            return status.is_client_error() && !std::ptr::eq(self, other);
        }
        self.guard.is_some() && self.guard != other.guard
    }

    pub(crate) async fn answer(&self, request: Request<RequestBody>) -> Response<Content> {
        let answered: Result<_, Infallible> = self.entrance.clone().oneshot(request).await;
        let Ok(response) = answered;
        response
    }
}

fn to_pool(route: &config::Route, pool: &str, parts: &mut Parts<'_>) -> Result<Does, Error> {
    let config = parts.config;
    let jwt = route.guard.as_ref().and_then(|guard| config.jwts.get(&guard.jwt));
    let set = || OurFields::new(route.request_headers.iter().map(|(name, _)| name));
    let overriding = overrides::NAMES.map(HeaderName::from_static);
    let kept_out = OurFields::of(config.jwts.values()).and(set()).and(OurFields::new(&overriding));
    let way = Outbound {
        inner: parts.upstreams.proxy_for(route, pool, config, parts.pseudonym)?,
        changes: Arc::new(Changes {
            rewrite: route.rewrite.clone().map(|to| (route.condition.path.clone(), to)),
            told: jwt.map(Told::by),
            headers: route.request_headers.clone(),
            ours: set(),
            kept_out: Arc::new(kept_out),
            tags: route.tags.clone(),
            has_secrets: route.compress.as_ref().is_some_and(|compress| compress.secrets),
        }),
    };
    let policy = route.cache.as_ref().and_then(|name| config.cache.policies.get(name));
    let Some(policy) = policy else { return Ok(Does::Forward(way)) };
    let settings = CacheSettings {
        policy: policy.clone(),
        name: config.server.name.clone(),
        status_field: config.cache.status_field,
        space: space::of(route, pool),
        compress: route.compress.clone(),
        has_tokens: !config.jwts.is_empty(),
    };
    let layer = parts.caches.layer(settings, parts.caches_before)?;
    Ok(Does::Cache(layer.layer(way.clone()), way))
}

/// Outside of the cache, which has compressed forms of what is stored, and of nothing else.
fn pack(inside: Inside, route: &config::Route) -> Result<Pack, Error> {
    let plain: fn(_) -> _ = |response: Response<Answer>| response.map(EitherBody::Left);
    let packed: fn(_) -> _ = |response: Response<_>| response.map(EitherBody::Right);
    Ok(match &route.compress {
        None => Either::Left(inside.map_response(plain)),
        Some(compress) => Either::Right(compress.layer()?.layer(inside).map_response(packed)),
    })
}

/// Outside of everything: each request is verified, also those that the cache answers.
fn entrance(pack: Pack, route: &config::Route, parts: &Parts<'_>) -> Result<Entrance, Error> {
    let open: fn(_) -> _ = |response: Response<Packed>| response.map(EitherBody::Left);
    let guarded: fn(_) -> _ = |response: Response<_>| response.map(EitherBody::Right);
    let Some(guard) = &route.guard else { return Ok(Either::Left(pack.map_response(open))) };
    let jwt = parts.config.jwts.get(&guard.jwt);
    let jwt = jwt.ok_or_else(|| format!("there is no [jwt.{}]", guard.jwt))?;
    let layer = parts.guards.layer(guard, jwt)?;
    Ok(Either::Right(layer.layer(pack).map_response(guarded)))
}
