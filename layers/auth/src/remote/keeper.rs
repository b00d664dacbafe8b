//! The task that keeps keys: it fetches them when they are due, and when a token needs one that isn't
//! there.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Empty;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use super::error::BoxError;
use super::exchange::Failure;
use super::fetcher::{Fetched, Fetcher};
use super::state::{Progress, State};
use crate::key::KeySet;

/// How many names of keys that left are kept.
const MOST_FORMER: usize = 64;

/// When to fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// After failures: at first, and at most.
    pub(super) retry: (Duration, Duration),
    pub(super) max_stale: Option<Duration>,
    /// Between two refreshes that tokens ask for.
    pub(super) interval: Duration,
}

#[derive(Debug)]
pub(super) struct Keeper<S> {
    fetcher: Fetcher<S>,
    schedule: Schedule,
    state: Arc<State>,
    progress: watch::Sender<Progress>,
    /// How long the issuer said that the set is good.
    lifetime: Option<Duration>,
    /// The names of the keys.
    names: Vec<Box<str>>,
    former: VecDeque<Box<str>>,
    /// In a row.
    failures: u32,
    due: Instant,
    /// When keys that could not be fetched again must go.
    expiry: Option<Instant>,
}

impl<S, B> Keeper<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(
        fetcher: Fetcher<S>,
        schedule: Schedule,
        state: Arc<State>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self {
            fetcher,
            schedule,
            state,
            progress,
            lifetime: None,
            names: Vec::new(),
            former: VecDeque::new(),
            failures: 0,
            due: Instant::now(),
            expiry: None,
        }
    }

    /// Never ends: whoever holds the keys ends it.
    pub(super) async fn keep(mut self) {
        loop {
            let begun = Instant::now();
            self.progress.send_modify(|progress| {
                progress.begun += 1;
                progress.may_begin = Some(begun + self.schedule.interval);
            });
            match self.refresh().await {
                Ok(fetched) => self.succeed(begun, fetched),
                Err(failure) => self.fail(begun, failure),
            }
            self.rest().await;
        }
    }

    /// Keys that must go do so on time, also while the issuer is slow to answer.
    async fn refresh(&mut self) -> Result<Fetched, Failure> {
        let Some(expiry) = self.expiry else { return self.fetcher.fetch().await };
        let fetched = {
            let mut fetching = Box::pin(self.fetcher.fetch());
            tokio::select! {
                biased;
                fetched = &mut fetching => return fetched,
                () = sleep_until(expiry) => self.state.keys.forget(),
            }
            fetching.await
        };
        self.expire();
        match fetched {
            // What is gone can't be confirmed.
            Ok(Fetched { set: None, .. }) => self.fetcher.fetch().await,
            fetched => fetched,
        }
    }

    /// Until the next refresh is due, or may begin for those who wait.
    async fn rest(&mut self) {
        let mut is_wanted = false;
        loop {
            let (done, may_begin) = {
                let progress = self.progress.borrow();
                (progress.done, progress.may_begin.unwrap_or(self.due))
            };
            let next = if is_wanted { self.due.min(may_begin) } else { self.due };
            tokio::select! {
                () = sleep_until(next) => {
                    if Instant::now() >= self.due {
                        return;
                    }
                    if self.state.is_needed_after(done) {
                        self.state.counters.on_demand.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    // They have all gone.
                    is_wanted = false;
                }
                () = self.state.wanted.notified(), if !is_wanted => {
                    is_wanted = self.state.is_needed_after(done);
                }
                () = until(self.expiry) => self.expire(),
            }
        }
    }

    fn expire(&mut self) {
        let url = self.fetcher.place.url();
        tracing::warn!(%url, "keys could not be fetched for longer than `max_stale`, and are forgotten");
        self.state.keys.forget();
        self.expiry = None;
        self.fetcher.etag = None;
        self.names.clear();
    }

    fn succeed(&mut self, begun: Instant, fetched: Fetched) {
        let counters = &self.state.counters;
        counters.refreshes.fetch_add(1, Ordering::Relaxed);
        // RFC 9111 §4.3.4: what a 304 doesn't say again still holds.
        if fetched.set.is_some() {
            self.lifetime = fetched.lifetime;
        } else {
            counters.not_modified.fetch_add(1, Ordering::Relaxed);
            self.lifetime = fetched.lifetime.or(self.lifetime);
        }
        let lifetime = self.fetcher.lifetimes.of(self.lifetime);
        // Counted from when it was asked for: the issuer may have answered by what it had then. And
        // shortened at random, so that many nodes don't all ask at once.
        let fresh_until = begun + lifetime;
        self.due = begun + lifetime.mul_f64(1.0 - 0.1 * fastrand::f64());
        self.expiry = self.schedule.max_stale.map(|stale| fresh_until + stale);
        let is_changed = fetched.set.is_some_and(|set| self.replace(set));
        let was_failing = std::mem::take(&mut self.failures) > 0;
        let former: Arc<[_]> = self.former.iter().cloned().collect();
        self.progress.send_modify(|progress| {
            progress.done = progress.begun;
            progress.changes += u64::from(is_changed);
            progress.error = None;
            progress.confirmed_at = Some(begun);
            progress.fresh_until = Some(fresh_until);
            progress.former = former;
        });
        if was_failing {
            let url = self.fetcher.place.url();
            tracing::info!(%url, "keys can be fetched again");
        }
    }

    /// Whether the set is another one than before.
    fn replace(&mut self, set: KeySet) -> bool {
        let names: Vec<Box<str>> = set.keys().filter_map(|key| key.kid().map(Box::from)).collect();
        self.former.retain(|name| !names.contains(name));
        let left = self.names.iter().filter(|name| !names.contains(name)).cloned();
        self.former.extend(left);
        let too_many = self.former.len().saturating_sub(MOST_FORMER);
        self.former.drain(..too_many);
        self.names = names;
        let (url, is_empty, skipped) =
            (self.fetcher.place.url(), set.is_empty(), set.skipped().len());
        let change = self.state.keys.replace(set);
        let is_changed = change.added + change.removed > 0;
        if is_empty {
            tracing::warn!(%url, skipped, "the issuer has no key that can be used, so all its tokens are refused");
        } else if is_changed {
            tracing::info!(%url, ?change, skipped, "the issuer's keys have changed");
        }
        is_changed
    }

    fn fail(&mut self, begun: Instant, Failure { error, retry_after }: Failure) {
        self.state.counters.failures.fetch_add(1, Ordering::Relaxed);
        if self.failures == 0 {
            let (url, keeps) = (self.fetcher.place.url(), self.state.keys.len());
            tracing::warn!(%url, ?keeps, %error, "keys can't be fetched");
        }
        let (least, most) = self.schedule.retry;
        let longest = least.saturating_mul(2u32.saturating_pow(self.failures)).min(most);
        self.failures = self.failures.saturating_add(1);
        // Half of it by chance, so that many nodes that lost an issuer don't all come back at once.
        let pause = longest.mul_f64(0.5 + 0.5 * fastrand::f64());
        let pause = pause.max(retry_after.unwrap_or_default().min(self.fetcher.lifetimes.most));
        let now = Instant::now();
        self.due = now + pause;
        let may_begin = (begun + self.schedule.interval).max(retry_after.map_or(now, |_| self.due));
        self.progress.send_modify(|progress| {
            progress.done = progress.begun;
            progress.error = Some(error);
            progress.may_begin = Some(may_begin);
        });
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
