//! What belongs to one connection, and not to the message (RFC 9110 §7.6.1).

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, SET_COOKIE,
    TE, TRAILER,
};
use http::{HeaderMap, Request};
use http_body::Frame;

use super::forwarded;

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Makes a client's request one's own: [`Proxy`](super::Proxy) does so with every request.
///
/// In front of a cache, it must be done there. A client can name any field in `Connection`; if that were
/// removed only on the way to the origin, the cache would take the origin's answer without the field
/// for the variant with it, and serve it to others.
pub fn receive<B>(request: &mut Request<B>) {
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

/// Whether a field is about one connection, whatever `Connection` says.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes the fields that are about one connection.
pub(super) fn strip(headers: &mut HeaderMap) {
    // Mostly there is none, and to look at each name once is quicker than to look for each of ours.
    if !headers.keys().any(is_of_connection) {
        return;
    }
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
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| is_of_connection(name)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Removes from trailers what must be known before the content (RFC 9110 §6.5.1), or is about one
/// connection. hyper does so for HTTP/1.1 only.
pub(super) fn clean_trailers<T>(frame: Frame<T>) -> Frame<T> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            strip(&mut trailers);
            for name in [AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, SET_COOKIE, TRAILER] {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// The same in what a client sends, of which nothing in trailers says where it comes from.
pub(super) fn clean_request_trailers<T>(frame: Frame<T>) -> Frame<T> {
    let mut frame = clean_trailers(frame);
    if let Some(trailers) = frame.trailers_mut() {
        forwarded::clean_trailers(trailers);
    }
    frame
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
    fn each_field_of_the_connection_goes_by_itself_and_others_stay() {
        let names = [
            "keep-alive",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ];
        for name in names {
            assert_eq!(received(&[("x-one", "1"), (name, "1")]).len(), 1, "{name}");
        }
        assert_eq!(received(&[("trailer", "1"), ("content-length", "1"), ("via", "1")]).len(), 3);
    }

    #[test]
    fn the_host_stays_whatever_the_connection_says() {
        let headers = received(&[("connection", "host"), ("host", "example.com")]);
        assert_eq!(headers["host"], "example.com");
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn trailers_of_requests_say_nothing_of_who_sends_them() {
        let trailers = || {
            let names = ["x-forwarded-for", "x_real_ip", "forwarded", "x-forwarded-uri", "x-sum"];
            let one = |name: &str| (name.parse().unwrap(), HeaderValue::from_static("1"));
            Frame::<()>::trailers(names.map(one).into_iter().collect())
        };
        let left = clean_request_trailers(trailers()).into_trailers().unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["x-sum"]);
        // Those of responses are nothing to whoever gets them.
        assert_eq!(clean_trailers(trailers()).into_trailers().unwrap().len(), 5);
    }

    #[test]
    fn of_te_only_trailers_are_asked_of_the_origin() {
        let headers = received(&[("connection", "te"), ("te", "gzip;q=0.5, Trailers")]);
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers.len(), 1);
        let headers = received(&[("connection", "te"), ("te", "gzip")]);
        assert!(headers.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_connection_names_gets_through(
            lines in proptest::collection::vec("([a-c, \t]|x-[a-c]|te|host|close|\"|;){0,12}", 0..4),
        ) {
            let mut request = Request::new(());
            for name in ["x-a", "x-b", "x-c", "a", "b", "c", "host"] {
                request.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
            for line in &lines {
                if let Ok(line) = HeaderValue::from_str(line) {
                    request.headers_mut().append("connection", line);
                }
            }
            receive(&mut request);
            let headers = request.headers();
            let named: Vec<_> = lines.iter().flat_map(|line| line.split(',')).map(str::trim).collect();
            for name in ["x-a", "x-b", "x-c", "a", "b", "c"] {
                assert_eq!(headers.contains_key(name), !named.contains(&name), "{name} {lines:?}");
            }
            assert!(headers.contains_key("host") && !headers.contains_key("connection"));
        }
    }
}
