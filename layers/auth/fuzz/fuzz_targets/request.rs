//! Any fields and target of a request: nobody who was not verified passes with anything that looks like a
//! token to who is inside.
#![no_main]

use std::convert::Infallible;
use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_auth::{Algorithm, Identity, Issuer, JwtLayer, Key, Verifier};

static LAYER: LazyLock<JwtLayer> = LazyLock::new(|| {
    let key = Key::hmac(Algorithm::Hs256, [7; 32]).unwrap();
    let issuer = Issuer::new("i").keys(key).algorithms([Algorithm::Hs256]).any_audience();
    let verifier = Verifier::builder().issuer(issuer).build().unwrap();
    JwtLayer::builder(verifier)
        .cookie("t")
        .query("token")
        .optional()
        .ignore_invalid()
        .build()
        .unwrap()
});

/// Whatever ends the scheme.
fn looks_like_one(field: &[u8]) -> bool {
    let field = field.trim_ascii();
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let scheme: Vec<u8> = field.iter().copied().take_while(is_tchar).collect();
    scheme.eq_ignore_ascii_case(b"bearer")
}

async fn inner(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert!(Identity::of(request.extensions()).is_none(), "nothing is signed");
    for field in request.headers().get_all(AUTHORIZATION) {
        assert!(!looks_like_one(field.as_bytes()), "{field:?}");
    }
    for line in request.headers().get_all(COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let value = pair.strip_prefix(b"t=").map(<[u8]>::trim_ascii);
            assert!(value.is_none_or(|it| it.is_empty() || it == b"\"\""), "{line:?}");
        }
    }
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    assert!(!pairs.any(|pair| pair == "token" || pair.starts_with("token=")), "{}", request.uri());
    Ok(Response::default())
}

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(mut request) = Request::post(lines.next().unwrap_or_default()).body(Full::default())
    else {
        return;
    };
    for line in lines {
        // The first byte says which field.
        let Some((which, value)) = line.split_first() else { continue };
        let name = match which % 4 {
            0 => AUTHORIZATION,
            1 => COOKIE,
            2 => http::header::CONTENT_TYPE,
            _ => HeaderName::from_static("x-other"),
        };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        request.headers_mut().append(name, value);
    }
    let answer = LAYER.layer(service_fn(inner)).oneshot(request).now_or_never();
    assert!(answer.is_some(), "nobody waits");
});
