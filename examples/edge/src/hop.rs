//! What belongs to one connection, and not to the message (RFC 9110 §7.6.1).

use http::header::{
    CONNECTION, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Request};

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Makes a client's request the edge's own.
///
/// It must be done in front of the cache. A client can name any field in `Connection`; if that were
/// removed only on the way to the origin, the cache would take the origin's answer without the field
/// for the variant with it, and serve it to others.
pub(crate) fn receive<B>(request: &mut Request<B>) {
    let headers = request.headers_mut();
    let trailers = wants_trailers(headers);
    strip(headers);
    if trailers {
        headers.insert(TE, TRAILERS);
    }
}

/// Whether trailers will be passed on to the client (RFC 9110 §10.1.4).
fn wants_trailers(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(TE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let coding = coding.split(';').next().unwrap_or_default();
        coding.trim().eq_ignore_ascii_case("trailers")
    })
}

/// Makes a request one on the connection to the origin.
pub(crate) fn send(headers: &mut HeaderMap) {
    if headers.contains_key(TE) {
        // RFC 9110 §10.1.4
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Removes the fields that are about one connection.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Without it, the target would be another one.
        .filter(|name| name != HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in
        [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE]
    {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authentication-info"] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut request = Request::new(());
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        receive(&mut request);
        request.into_parts().0.headers
    }

    #[test]
    fn fields_of_the_connection_go_and_those_it_names() {
        let headers = received(&[
            ("connection", "X-One, close"),
            ("connection", "x-two,, ,b@d"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eA=="),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
        ]);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-three"]);
    }

    #[test]
    fn the_host_stays_whatever_the_connection_says() {
        let headers = received(&[("connection", "host"), ("host", "example.com")]);
        assert_eq!(headers["host"], "example.com");
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn of_te_only_trailers_are_asked_of_the_origin() {
        let mut headers = received(&[("connection", "te"), ("te", "gzip;q=0.5, Trailers")]);
        assert_eq!(headers["te"], "trailers");
        send(&mut headers);
        assert_eq!(headers["connection"], "te");
        let mut headers = received(&[("connection", "te"), ("te", "gzip")]);
        send(&mut headers);
        assert!(headers.is_empty());
    }
}
