//! Fetches the set of keys: where it is, up to three attempts, and not what is known already.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, Uri};
use http_body::Body;
use http_body_util::Empty;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::discovery;
use super::error::{BoxError, FetchError};
use super::exchange::{self, Document, Failure};
use crate::key::KeySet;

/// How often a document is asked for before a refresh has failed.
const ATTEMPTS: u32 = 3;

/// Between two attempts, at the least; each time twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Where keys are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Jwks(Uri),
    /// Where the issuer's metadata says.
    Metadata {
        url: Uri,
        issuer: Box<str>,
    },
}

impl Place {
    /// Where to begin.
    pub(super) fn url(&self) -> &Uri {
        match self {
            Self::Jwks(url) | Self::Metadata { url, .. } => url,
        }
    }
}

/// How long things hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetimes {
    /// Where the issuer doesn't say.
    pub(super) default: Duration,
    pub(super) least: Duration,
    pub(super) most: Duration,
}

impl Lifetimes {
    pub(super) fn of(&self, said: Option<Duration>) -> Duration {
        said.unwrap_or(self.default).clamp(self.least, self.most)
    }
}

/// What an issuer answered.
#[derive(Debug)]
pub(super) struct Fetched {
    /// None if the keys are those that are known.
    pub(super) set: Option<KeySet>,
    /// How long the issuer says they are good.
    pub(super) lifetime: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Fetcher<S> {
    pub(super) client: S,
    pub(super) place: Place,
    pub(super) lifetimes: Lifetimes,
    /// For each attempt.
    pub(super) timeout: Duration,
    pub(super) max_size: usize,
    pub(super) allow_http: bool,
    /// Where the metadata said that the keys are, and until when that holds.
    pub(super) found: Option<(Uri, Instant)>,
    /// Of the set that is known.
    pub(super) etag: Option<HeaderValue>,
}

impl<S, B> Fetcher<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    /// Up to three attempts, as a moment later things may be better.
    pub(super) async fn fetch(&mut self) -> Result<Fetched, Failure> {
        let mut attempt = 1;
        loop {
            let attempted = AssertUnwindSafe(self.attempt()).catch_unwind().await;
            let failure = match attempted.unwrap_or_else(|_| Err(FetchError::Panic.into())) {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => failure,
            };
            let again = failure.error.is_transient() && failure.retry_after.is_none();
            if !again || attempt == ATTEMPTS {
                return Err(failure);
            }
            let pause = PAUSE * 2u32.pow(attempt - 1);
            sleep(pause.mul_f64(1.0 + fastrand::f64())).await;
            attempt += 1;
        }
    }

    async fn attempt(&mut self) -> Result<Fetched, Failure> {
        let uri = match self.place.clone() {
            Place::Jwks(uri) => uri,
            Place::Metadata { url, issuer } => self.find(&url, &issuer).await?,
        };
        let fetched = self.get(&uri, self.etag.clone()).await;
        if fetched.is_err()
            && let Some((_, until)) = &mut self.found
        {
            // They may have moved.
            *until = Instant::now();
        }
        let Document { content, etag, lifetime } = fetched?;
        let Some(content) = content else { return Ok(Fetched { set: None, lifetime }) };
        let set = KeySet::from_jwks_by_turns(&content).await.map_err(FetchError::Keys)?;
        self.etag = etag;
        Ok(Fetched { set: Some(set), lifetime })
    }

    /// Where the issuer says that its keys are. If that was known and can't be found out again, they
    /// are looked for where they were.
    async fn find(&mut self, url: &Uri, issuer: &str) -> Result<Uri, Failure> {
        let known = self.found.clone();
        if let Some((uri, until)) = &known
            && Instant::now() < *until
        {
            return Ok(uri.clone());
        }
        let known = known.map(|(uri, _)| uri);
        match self.ask(url, issuer).await {
            Ok((uri, lifetime)) => {
                if known.is_some_and(|known| known != uri) {
                    // It names a set that is elsewhere.
                    self.etag = None;
                }
                let until = Instant::now() + self.lifetimes.of(lifetime);
                self.found = Some((uri.clone(), until));
                Ok(uri)
            }
            Err(failure) => {
                let Some(known) = known else { return Err(failure) };
                let error = &failure.error;
                tracing::warn!(issuer, %error, "an issuer's metadata can't be read; its keys are looked for where they were");
                Ok(known)
            }
        }
    }

    async fn ask(&mut self, url: &Uri, issuer: &str) -> Result<(Uri, Option<Duration>), Failure> {
        let document = self.get(url, None).await?;
        let content = document.content.unwrap_or_default();
        let uri = discovery::jwks_uri(&content, issuer, self.allow_http)?;
        Ok((uri, document.lifetime))
    }

    async fn get(&mut self, uri: &Uri, etag: Option<HeaderValue>) -> Result<Document, Failure> {
        let (client, limit) = (&mut self.client, self.timeout);
        let getting = exchange::get(client, uri, etag.as_ref(), self.max_size);
        timeout(limit, getting).await.map_err(|_| FetchError::Timeout(limit))?
    }
}
