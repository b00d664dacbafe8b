//! Any bytes as an issuer's metadata, or as the set that it names: read within bounds, or refused.
#![no_main]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use libfuzzer_sys::fuzz_target;
use tower::service_fn;
use tower_keep_auth::{KeySource, RemoteKeys};

const ISSUER: &str = "https://id.example.com";

fuzz_target!(|answer: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        // The first byte says which document is meant; the other one is right.
        let (&[which], answer) = answer.split_first_chunk::<1>().unwrap_or((&[0], &[]));
        let answer = Bytes::copy_from_slice(answer);
        let client = service_fn(move |request: Request<Empty<Bytes>>| {
            let is_metadata = request.uri().path().contains("well-known");
            let content = if is_metadata == (which % 2 == 0) {
                answer.clone()
            } else if is_metadata {
                format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{ISSUER}/jwks"}}"#).into()
            } else {
                Bytes::from_static(b"{\"keys\":[]}")
            };
            async move { Ok::<_, Infallible>(Response::new(Full::new(content))) }
        });
        let keys = RemoteKeys::openid(ISSUER).client(client).build().unwrap();
        let ready = keys.ready().await;
        assert_eq!(ready.is_ok(), keys.keys().len().is_some());
        assert_ne!(ready.err().map(|error| error.as_str()), Some("panic"));
    });
});
