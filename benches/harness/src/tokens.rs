//! Ways of letting a request through by its token: ours, and those of peers.

mod by_hand;
mod issue;
mod ours;
mod peer;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Ready, ready};
use std::hint::black_box;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use serde::Deserialize;
use tower::{Service, ServiceExt, service_fn};

use issue::Issuance;

pub use issue::ALGORITHMS;

/// What a request of the comparison is.
pub type Asked = Request<Empty<Bytes>>;

/// Sends so many requests, one after the other.
pub type Run = Box<dyn Fn(Vec<Asked>)>;

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// A way of letting requests through.
pub struct Way {
    /// Whose it is, and what.
    pub name: &'static str,
    /// Makes it ready for one round. That is not measured.
    pub begin: Box<dyn Fn() -> Result<Run, Box<dyn Error>>>,
}

impl Way {
    /// A way that is the same in each round.
    fn steady<S, B>(name: &'static str, service: S) -> Self
    where
        S: Service<Asked, Response = Response<B>, Error = Infallible> + Clone + 'static,
    {
        Self { name, begin: Box::new(move || Ok(sender(service.clone()))) }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Way").field(&self.name).finish()
    }
}

/// The ways for one algorithm, and the requests that they are given.
#[derive(Debug)]
pub struct Comparison {
    /// Its name in tokens.
    pub algorithm: &'static str,
    /// The first is the service without any of them; the second is what the others are compared with.
    pub ways: Vec<Way>,
    fields: Vec<HeaderValue>,
}

impl Comparison {
    /// Tokens of `algorithm`, so many, and the ways to verify them.
    ///
    /// # Errors
    ///
    /// What an issuer or a verifier says against its settings.
    pub fn new(algorithm: &'static str, tokens: usize) -> Result<Self, Box<dyn Error>> {
        let issuance = Issuance::new(algorithm, tokens)?;
        let mut ways = vec![Way::steady("the service alone", bare()), by_hand::way(&issuance)?];
        ways.push(peer::way(&issuance)?);
        ways.extend(ours::ways(&issuance)?);
        let fields = issuance.tokens.iter().map(|token| format!("Bearer {token}").try_into());
        Ok(Self { algorithm, ways, fields: fields.collect::<Result<_, _>>()? })
    }

    /// A request for each token.
    pub fn requests(&self) -> Vec<Asked> {
        self.fields.iter().map(request).collect()
    }

    /// How long the tokens are, in bytes.
    pub fn length(&self) -> usize {
        self.fields.iter().map(|field| field.len() - "Bearer ".len()).max().unwrap_or_default()
    }
}

/// The claims as a handler wants them.
#[derive(Clone, Debug, Deserialize)]
#[expect(dead_code, reason = "as in a server, somebody may read each")]
struct Claims {
    iss: String,
    sub: String,
    exp: u64,
    iat: u64,
    jti: String,
    client_id: String,
    scope: String,
}

fn request(authorization: &HeaderValue) -> Asked {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = http::Uri::from_static("/orders/1");
    let fields = request.headers_mut();
    fields.insert(HOST, HeaderValue::from_static("api.example.com"));
    fields.insert("user-agent", HeaderValue::from_static("bench/1.0"));
    fields.insert("accept", HeaderValue::from_static("*/*"));
    fields.insert(AUTHORIZATION, authorization.clone());
    request
}

/// Answers with 1 KiB and two fields.
fn answer(body: &Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.clone()));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

fn body() -> Bytes {
    Bytes::from(vec![b'x'; 1024])
}

/// What is behind each layer.
fn bare()
-> impl Service<Asked, Response = Response<Full<Bytes>>, Error = Infallible, Future = Ready<Answer>>
+ Clone
+ 'static {
    let body = body();
    service_fn(move |_| ready(Ok(answer(&body))))
}

/// Sends requests to `service`, and makes sure that none is refused.
fn sender<S, B>(service: S) -> Run
where
    S: Service<Asked, Response = Response<B>, Error = Infallible> + Clone + 'static,
{
    Box::new(move |requests| {
        for request in requests {
            let response = service.clone().oneshot(request).now_or_never();
            let is_answered = response.is_some_and(|response| {
                black_box(response).is_ok_and(|response| response.status().is_success())
            });
            assert!(is_answered, "a right token is refused, or waits");
        }
    })
}
