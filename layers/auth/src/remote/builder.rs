//! Settings of keys that are fetched, checked when they are built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::Empty;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tower_service::Service;

use super::client::HttpsClient;
use super::discovery::{self, Convention};
use super::error::BoxError;
use super::fetcher::{Fetcher, Lifetimes, Place};
use super::keeper::{Keeper, Schedule};
use super::state::{Patience, Progress, State};
use super::{Inner, RemoteKeys};
use crate::error::BuildError;

/// The most bytes of a document: as many as a set may have.
const MAX_SIZE: usize = 256 * 1024;

/// A hundred years: what is longer means never, and would be too long to be added to an instant.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Settings of [`RemoteKeys`].
///
/// | setting | default |
/// | --- | --- |
/// | [`client`](Self::client) | an [`HttpsClient`] that trusts whom the operating system does |
/// | [`refresh`](Self::refresh) | 10 min, where the issuer doesn't say |
/// | [`refresh_between`](Self::refresh_between) | 1 min and 1 h, whatever the issuer says |
/// | [`retry`](Self::retry) | after 1 s, up to 1 min |
/// | [`max_stale`](Self::max_stale) | as long as an outage lasts |
/// | [`timeout`](Self::timeout) | 5 s an attempt |
/// | [`max_size`](Self::max_size) | 256 KiB |
/// | [`look_interval`](Self::look_interval) | 5 s |
/// | [`max_wait`](Self::max_wait) | 10 s |
/// | [`max_waiting`](Self::max_waiting) | 4,096 |
/// | [`allow_http`](Self::allow_http) | no |
#[must_use]
pub struct RemoteKeysBuilder<S = HttpsClient> {
    from: From,
    make: Make<S>,
    lifetimes: Lifetimes,
    schedule: Schedule,
    patience: Patience,
    timeout: Duration,
    max_size: usize,
    allow_http: bool,
}

/// Makes the client, for a URL that is https or isn't.
type Make<S> = Box<dyn FnOnce(bool) -> Result<S, BuildError> + Send>;

#[derive(Clone, Debug)]
pub(super) enum From {
    Url(String),
    Issuer(String, Convention),
}

impl RemoteKeysBuilder {
    pub(super) fn new(from: From) -> Self {
        Self {
            from,
            make: Box::new(HttpsClient::for_default),
            lifetimes: Lifetimes {
                default: Duration::from_secs(600),
                least: Duration::from_secs(60),
                most: Duration::from_secs(3600),
            },
            schedule: Schedule {
                retry: (Duration::from_secs(1), Duration::from_secs(60)),
                max_stale: None,
                interval: Duration::from_secs(5),
            },
            patience: Patience { max_wait: Duration::from_secs(10), max_waiting: 4096 },
            timeout: Duration::from_secs(5),
            max_size: MAX_SIZE,
            allow_http: false,
        }
    }
}

impl<S> RemoteKeysBuilder<S> {
    /// Fetches through `client`: any Tower service that takes absolute URLs, with whatever layers
    /// around it. It is asked one thing at a time. It should not follow redirects, and not cache by
    /// itself, or keys that the issuer takes out are accepted for longer than is said here.
    pub fn client<T: Send + 'static>(self, client: T) -> RemoteKeysBuilder<T> {
        let Self { from, lifetimes, schedule, patience, timeout, max_size, allow_http, make: _ } =
            self;
        let make: Make<T> = Box::new(|_| Ok(client));
        RemoteKeysBuilder {
            from,
            make,
            lifetimes,
            schedule,
            patience,
            timeout,
            max_size,
            allow_http,
        }
    }

    /// How long keys are good if the issuer doesn't say, in `Cache-Control` or `Expires`. Default:
    /// 10 min.
    pub fn refresh(mut self, interval: Duration) -> Self {
        self.lifetimes.default = interval.min(NEVER);
        self
    }

    /// How long keys are good at the least and at the most, whatever the issuer says. A key that the
    /// issuer takes out is accepted for no longer than `most` after that, and the time that it takes
    /// to fetch the set; the last tenth is cut off at random. Default: 1 min and 1 h.
    pub fn refresh_between(mut self, least: Duration, most: Duration) -> Self {
        (self.lifetimes.least, self.lifetimes.most) = (least.min(NEVER), most.min(NEVER));
        self
    }

    /// How long to wait after a failure: `least` after the first, twice as long after each further
    /// one, up to `most`; half of it by chance. A `Retry-After` counts if it is longer. Each refresh
    /// fails only after three attempts in short order. Default: 1 s and 1 min.
    pub fn retry(mut self, least: Duration, most: Duration) -> Self {
        self.schedule.retry = (least.min(NEVER), most.min(NEVER));
        self
    }

    /// How long keys are used once they should have been fetched again and can't be, because the
    /// issuer is away or answers something else. After that, tokens are refused with
    /// [`Refusal::KeysUnavailable`](crate::Refusal::KeysUnavailable).
    ///
    /// Default: no bound. Keys that were good are most likely still good, and an outage of the issuer
    /// should not be one of everything behind it. Set a bound if it matters more that a stolen key
    /// is taken out in time, even where somebody keeps this service from its issuer.
    pub fn max_stale(mut self, bound: Duration) -> Self {
        self.schedule.max_stale = Some(bound.min(NEVER));
        self
    }

    /// How long an attempt to fetch a document may take, its body included. Default: 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The most bytes of a document, 1 KiB to 256 KiB. What is longer is not read to its end.
    /// Default: 256 KiB; sets have 1 to 20.
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// How long after one refresh has begun another one may begin because of a token whose key isn't
    /// known: this bounds what a flood of such tokens costs the issuer. Default: 5 s.
    ///
    /// Tokens that come in between wait for the next refresh, so that a new key is found whenever it
    /// is first used; keep it shorter than [`max_wait`](Self::max_wait).
    pub fn look_interval(mut self, interval: Duration) -> Self {
        self.schedule.interval = interval.min(NEVER);
        self
    }

    /// How long a token whose key isn't known waits for a refresh. If the issuer's answer isn't there
    /// by then, the token is refused with
    /// [`Refusal::KeysUnavailable`](crate::Refusal::KeysUnavailable). Default: 10 s. Tokens whose key is
    /// known never wait.
    pub fn max_wait(mut self, bound: Duration) -> Self {
        self.patience.max_wait = bound;
        self
    }

    /// How many tokens wait at a time; what comes beyond is refused at once, with
    /// [`Refusal::KeysUnavailable`](crate::Refusal::KeysUnavailable). Each holds its request and a copy of
    /// itself. Default: 4,096.
    pub fn max_waiting(mut self, tokens: usize) -> Self {
        self.patience.max_waiting = tokens;
        self
    }

    /// Fetches by `http` URLs, too. Whoever is on the way can then put his own keys in place of the
    /// issuer's, so this is for loopback, for meshes that encrypt by themselves, and for tests.
    pub fn allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    fn check(&self) -> Result<Place, BuildError> {
        let wrong = |what| Err(BuildError::Setting(what));
        let Lifetimes { default, least, most } = self.lifetimes;
        if least.is_zero() || least > most {
            return wrong(
                "`refresh_between` needs a least time above zero, and no more than the most",
            );
        }
        if !(least..=most).contains(&default) {
            return wrong("`refresh` must lie within `refresh_between`; set both");
        }
        let (least, most) = self.schedule.retry;
        if least.is_zero() || least > most {
            return wrong("`retry` needs a least time above zero, and no more than the most");
        }
        if self.timeout.is_zero() || self.patience.max_wait.is_zero() {
            return wrong("`timeout` and `max_wait` must be above zero");
        }
        if self.schedule.interval.is_zero() {
            return wrong("a `look_interval` of zero lets anybody flood the issuer; raise it");
        }
        if self.patience.max_waiting == 0 {
            return wrong("`max_waiting` is zero, so new keys are found late; raise it");
        }
        if !(1024..=MAX_SIZE).contains(&self.max_size) {
            return wrong("`max_size` must be 1 KiB to 256 KiB");
        }
        match &self.from {
            From::Url(given) => {
                let wrong = |what| BuildError::Url { url: given.clone(), what };
                let what = "this is no URL; give one as in https://id.example.com/jwks.json";
                let url: Uri = given.parse().map_err(|_| wrong(what))?;
                discovery::check(&url, self.allow_http).map_err(wrong)?;
                Ok(Place::Jwks(url))
            }
            From::Issuer(issuer, convention) => {
                let url = convention.url_of(issuer)?;
                discovery::check(&url, self.allow_http)
                    .map_err(|what| BuildError::Url { url: issuer.clone(), what })?;
                Ok(Place::Metadata { url, issuer: issuer.as_str().into() })
            }
        }
    }
}

impl<S, B> RemoteKeysBuilder<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Has a task fetch the keys, now and from then on, for as long as the result or a clone of it is
    /// there. Must be called within a tokio runtime. It doesn't wait for the issuer:
    /// [`RemoteKeys::ready`] does, for services that should not start without keys.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change.
    pub fn build(self) -> Result<RemoteKeys, BuildError> {
        let place = self.check()?;
        let text = "keys are fetched by a task; build them within a tokio runtime";
        let runtime = Handle::try_current().map_err(|_| BuildError::Setting(text))?;
        let client = (self.make)(place.url().scheme_str() == Some("https"))?;
        let fetcher = Fetcher {
            client,
            place: place.clone(),
            lifetimes: self.lifetimes,
            timeout: self.timeout,
            max_size: self.max_size,
            allow_http: self.allow_http,
            found: None,
            etag: None,
        };
        let state = Arc::new(State::new(self.patience));
        let (sender, progress) = watch::channel(Progress::default());
        let keeper = Keeper::new(fetcher, self.schedule, Arc::clone(&state), sender);
        let task = runtime.spawn(keeper.keep()).abort_handle();
        Ok(RemoteKeys { inner: Arc::new(Inner { place, state, progress, task }) })
    }
}

impl<S> fmt::Debug for RemoteKeysBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeysBuilder")
            .field("from", &self.from)
            .field("lifetimes", &self.lifetimes)
            .field("schedule", &self.schedule)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
