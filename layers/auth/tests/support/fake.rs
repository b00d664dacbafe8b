//! An issuer that is a function, for tests on a clock that they move.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::time::{Instant, sleep};
use tower::service_fn;
use tower_keep_auth::{RemoteKeys, RemoteKeysBuilder, SigningKey};

use super::jwks;

pub(crate) const URL: &str = "https://id.example.com/jwks";
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) type Answer = Result<Response<Full<Bytes>>, io::Error>;

type AnswerFn = Box<dyn FnMut(&Request<Empty<Bytes>>) -> Answer + Send>;

/// An issuer that is a function, and when it was asked.
#[derive(Clone)]
pub(crate) struct Fake {
    answer: Arc<Mutex<AnswerFn>>,
    pub(crate) asked: Arc<Mutex<Vec<Instant>>>,
    /// How long it takes.
    pub(crate) delay: Arc<Mutex<Duration>>,
}

impl Fake {
    pub(crate) fn new(
        answer: impl FnMut(&Request<Empty<Bytes>>) -> Answer + Send + 'static,
    ) -> Self {
        let answer: AnswerFn = Box::new(answer);
        Self { answer: Arc::new(Mutex::new(answer)), asked: Arc::default(), delay: Arc::default() }
    }

    pub(crate) fn with(keys: &[&SigningKey]) -> Self {
        let set = jwks(keys);
        Self::new(move |_| Ok(Response::new(set.clone().into())))
    }

    /// From now on.
    pub(crate) fn answers(
        &self,
        answer: impl FnMut(&Request<Empty<Bytes>>) -> Answer + Send + 'static,
    ) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    pub(crate) fn publishes(&self, keys: &[&SigningKey]) {
        let set = jwks(keys);
        self.answers(move |_| Ok(Response::new(set.clone().into())));
    }

    pub(crate) fn is_away(&self) {
        self.answers(|_| Err(io::ErrorKind::ConnectionRefused.into()));
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// How long there was between the last two requests.
    pub(crate) fn last_gap(&self) -> Duration {
        let asked = self.asked.lock().unwrap();
        asked.windows(2).last().map(|pair| pair[1] - pair[0]).unwrap()
    }

    pub(crate) fn keys(
        &self,
        set: impl FnOnce(RemoteKeysBuilder) -> RemoteKeysBuilder,
    ) -> RemoteKeys {
        let fake = self.clone();
        let client = service_fn(move |request| {
            let fake = fake.clone();
            async move {
                fake.asked.lock().unwrap().push(Instant::now());
                let delay = *fake.delay.lock().unwrap();
                sleep(delay).await;
                (fake.answer.lock().unwrap())(&request)
            }
        });
        set(RemoteKeys::jwks(URL)).client(client).build().unwrap()
    }
}

pub(crate) fn saying(cache_control: &'static str, keys: &[&SigningKey]) -> Fake {
    let set = jwks(keys);
    Fake::new(move |_| {
        Ok(Response::builder()
            .header(CACHE_CONTROL, cache_control)
            .body(set.clone().into())
            .unwrap())
    })
}
