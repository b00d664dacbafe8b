//! Requests that may change what is stored: they pass, and their targets are dropped (RFC 9111 §4.4).

use std::sync::Arc;

use futures_util::future::join;
use http::header::{CONTENT_LOCATION, HOST, LOCATION};
use http::uri::{Authority, Uri};
use http::{HeaderMap, Method, Request, Response};
use tower::ServiceExt;
use tower_keep_store::Tag;
use tower_service::Service;

use crate::body::CacheBody;
use crate::body_key::Content;
use crate::cache_status::{CacheStatus, Fwd};
use crate::core::{Core, Resource};
use crate::groups::{self, CACHE_GROUP_INVALIDATION};
use crate::grpc::is_grpc;
use crate::key::{Target, sent_uri};
use crate::respond;

/// Passes on a request whose method may change its target. When the response is no error, drops what
/// is stored of that, and of what the response names as `Location` or `Content-Location`, within the
/// same origin.
pub(crate) async fn pass_and_invalidate<S, ReqBody, ResBody>(
    service: S,
    request: Request<ReqBody>,
    core: Arc<Core>,
) -> Result<Response<CacheBody<ResBody>>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    // Without a key, nothing can be stored of it.
    let by_content = Content::of(&request).is_some();
    let own = Target::all_of(&request);
    let own: Vec<_> = own.iter().map(|target| core.resource(target, by_content)).collect();
    // A call of an RPC protocol is no operation on a cacheable resource; but only its response tells
    // that it is one, and calls that read may be stored.
    let may_be_rpc = !by_content && *request.method() == Method::POST && is_grpc(request.headers());
    let unless = if may_be_rpc { Vec::new() } else { own.clone() };
    let mut unless_answered = InvalidateOnDrop { targets: Some((Arc::clone(&core), unless)) };
    let uri = sent_uri(request.extensions()).unwrap_or(request.uri()).clone();
    let headers = request.headers().clone();
    let result = service.oneshot(request).await;
    // An error of the service tells nothing of what the handler did before it.
    let failed = result.as_ref().is_ok_and(|response| response.status().as_u16() >= 400);
    let is_rpc = |response: &Response<ResBody>| may_be_rpc && is_grpc(response.headers());
    let own = if result.as_ref().is_ok_and(is_rpc) { Vec::new() } else { own };
    if !failed {
        let named = result.iter().flat_map(|response| {
            [LOCATION, CONTENT_LOCATION].map(|field| response.headers().get(field))
        });
        let others =
            named.flatten().filter_map(|url| same_origin(url.to_str().ok()?, &uri, &headers));
        let others = others.filter_map(|uri| {
            Target::new(&uri, &headers).map(|target| core.resource(&target, by_content)).ok()
        });
        let all: Vec<Resource> = others.chain(own).collect();
        // RFC 9875 §3
        let groups = result.as_ref().ok().map(|response| {
            let groups = groups::named(response.headers(), &CACHE_GROUP_INVALIDATION);
            let targets = Target::at_all_hosts(&uri, &headers);
            targets.into_iter().flat_map(|target| core.group_tags(Some(target), &groups)).collect()
        });
        let groups: Option<Vec<Tag>> = groups;
        join(core.remove_all(&all), core.invalidate_all(&groups.unwrap_or_default())).await;
    }
    // Not before the removals are done: a client that leaves meanwhile must not leave them half done.
    unless_answered.targets = None;
    result.map(|response| respond::pass(&core, response, &CacheStatus::forwarded(Fwd::Method)))
}

/// The target that a URL names, seen from that of the request; `None` unless it is of the same
/// origin: no server may invalidate what is another's (RFC 9111 §4.4).
fn same_origin(url: &str, base: &Uri, headers: &HeaderMap) -> Option<Uri> {
    // RFC 3986 §5.2, as far as it takes to find resources of the same origin. What climbs (`..`) is
    // left out: it merely stays until it is stale.
    let url = url.split('#').next()?;
    let target = match url.parse::<Uri>() {
        Ok(absolute) if absolute.scheme().is_some() => {
            let host = base.authority().map(Authority::as_str);
            let host = host.or_else(|| headers.get(HOST)?.to_str().ok())?;
            let same = absolute.authority()?.as_str().eq_ignore_ascii_case(host);
            return same.then_some(absolute);
        }
        _ if url.starts_with("//") => return None,
        _ if url.starts_with('/') => url.to_owned(),
        _ if url.starts_with('?') => format!("{}{url}", base.path()),
        _ if url.split('/').any(|segment| segment == "..") => return None,
        _ => {
            let (directory, _) = base.path().rsplit_once('/')?;
            format!("{directory}/{url}")
        }
    };
    let target: Uri = target.parse().ok()?;
    let Some(host) = base.authority() else { return Some(target) };
    let mut parts = target.into_parts();
    parts.authority = Some(host.clone());
    parts.scheme = base.scheme().cloned();
    Uri::from_parts(parts).ok()
}

/// A client that goes away after the handler has begun leaves it unknown what the handler did, so
/// the worst is assumed.
struct InvalidateOnDrop {
    targets: Option<(Arc<Core>, Vec<Resource>)>,
}

impl Drop for InvalidateOnDrop {
    fn drop(&mut self) {
        if let (Some((core, resources)), Ok(runtime)) =
            (self.targets.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move { core.remove_all(&resources).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(url: &str, base: &str, host: Option<&str>) -> Option<String> {
        let headers = host.map(|host| (HOST, host.parse().unwrap()));
        same_origin(url, &base.parse().unwrap(), &headers.into_iter().collect())
            .map(|uri| uri.to_string())
    }

    #[test]
    fn only_urls_of_the_same_origin_are_resolved() {
        let of = |url| named(url, "/a/b?c", Some("example.com"));
        assert_eq!(of("/x?y#z").as_deref(), Some("/x?y"));
        assert_eq!(of("x").as_deref(), Some("/a/x"));
        assert_eq!(of("?x").as_deref(), Some("/a/b?x"));
        assert_eq!(of("http://EXAMPLE.com/x").as_deref(), Some("http://EXAMPLE.com/x"));
        for other in
            ["http://other.com/x", "//other.com/x", "../x", "http://example.com:81/x", "\u{7f}"]
        {
            assert_eq!(of(other), None, "{other}");
        }
        let absolute = named("/x", "https://example.com/a", None);
        assert_eq!(absolute.as_deref(), Some("https://example.com/x"));
    }
}
