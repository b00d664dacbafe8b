//! A request and its response, from the one's arrival to the end of the other: counted as in flight
//! on its connection, and logged at its end.

use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use percent_encoding::percent_decode_str;
use tower_keep_balance::ServedBy;

use crate::activity::InFlight;
use crate::config::Jwt;

/// The target of access logs, for filters.
const ACCESS: &str = "access";

/// One that is under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    record: Option<Box<Record>>,
    /// How much of the content is sent, and whether that is all of it.
    bytes: u64,
    is_whole: bool,
    _in_flight: InFlight,
}

/// The parameters of queries in which tokens come: their values are in no log.
#[derive(Debug, Default)]
pub(crate) struct Hidden(Vec<String>);

impl Hidden {
    pub(crate) fn of<'a>(jwts: impl IntoIterator<Item = &'a Jwt>) -> Self {
        Self(jwts.into_iter().filter_map(|jwt| jwt.query.clone()).collect())
    }

    /// The target as it is logged.
    fn hide(&self, target: &PathAndQuery) -> String {
        let Some(query) = target.query().filter(|_| !self.0.is_empty()) else {
            return target.to_string();
        };
        let pairs = query.split('&').map(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            let plain = percent_decode_str(name).decode_utf8_lossy();
            let is_hidden = self.0.iter().any(|hidden| *hidden == *plain);
            if is_hidden { format!("{name}=…") } else { pair.to_owned() }
        });
        format!("{}?{}", target.path(), pairs.collect::<Vec<_>>().join("&"))
    }
}

/// What is logged.
#[derive(Debug)]
struct Record {
    start: Instant,
    method: Method,
    host: String,
    uri: String,
    version: Version,
    client: IpAddr,
    /// None if the client went away before there was one.
    status: Option<StatusCode>,
    route: Option<Arc<str>>,
    cache: Option<String>,
    served_by: ServedBy,
}

impl Exchange {
    /// Of a request that has just come, and is logged unless `logged` is none.
    pub(crate) fn new<B>(
        request: &mut Request<B>,
        host: &str,
        client: IpAddr,
        logged: Option<&Hidden>,
        in_flight: InFlight,
    ) -> Self {
        let record = logged
            .filter(|_| tracing::enabled!(target: ACCESS, tracing::Level::INFO))
            .map(|hidden| {
                let served_by = ServedBy::default();
                request.extensions_mut().insert(served_by.clone());
                let target = request.uri().path_and_query();
                Box::new(Record {
                    start: Instant::now(),
                    method: request.method().clone(),
                    host: host.to_owned(),
                    uri: target.map_or_else(String::new, |target| hidden.hide(target)),
                    version: request.version(),
                    client,
                    status: None,
                    route: None,
                    cache: None,
                    served_by,
                })
            });
        Self { record, bytes: 0, is_whole: false, _in_flight: in_flight }
    }

    pub(crate) fn routed(&mut self, route: &Arc<str>) {
        if let Some(record) = &mut self.record {
            record.route = Some(Arc::clone(route));
        }
    }

    /// The head of the response is there.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        if let Some(record) = &mut self.record {
            record.status = Some(response.status());
            record.cache = cache_status(response.headers());
        }
    }

    /// So much of the content was handed on.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub(crate) fn ends(&mut self, is_whole: bool) {
        self.is_whole |= is_whole;
    }
}

/// What the last cache says: ours, if it says anything.
fn cache_status(headers: &HeaderMap) -> Option<String> {
    let last = headers.get_all("cache-status").iter().next_back()?;
    Some(last.to_str().ok()?.to_owned())
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else { return };
        let backend = record.served_by.name();
        tracing::info!(
            target: ACCESS,
            client = %record.client,
            method = %record.method,
            host = record.host,
            uri = record.uri,
            version = ?record.version,
            status = record.status.map(|status| status.as_u16()),
            bytes = self.bytes,
            whole = self.is_whole,
            // In whole microseconds, or the digits that follow say nothing.
            ms = (record.start.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            route = record.route.as_deref(),
            backend = backend.as_deref(),
            cache = record.cache,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_of_a_query_is_logged_in_any_spelling() {
        let hidden = Hidden(vec!["access_token".to_owned()]);
        let shown = |target: &str| hidden.hide(&target.parse().unwrap());
        assert_eq!(shown("/a?b=c&access_token=x.y.z&d"), "/a?b=c&access_token=…&d");
        assert_eq!(shown("/a?access%5Ftoken=x"), "/a?access%5Ftoken=…");
        assert_eq!(shown("/a?b=c"), "/a?b=c");
        assert_eq!(shown("/a"), "/a");
    }
}
