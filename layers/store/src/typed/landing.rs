//! The task that fills, and what it tells those who wait.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;

use super::fill::{Fill, Verdict};
use super::tags_of;
use crate::error::{BoxError, FillError};
use crate::fence::Ticket;
use crate::flight::Lead;
use crate::hit::Hit;
use crate::lease::Attempt;
use crate::proof::{Asking, Proof};
use crate::space::Space;
use crate::time::Timestamp;
use crate::ttl::{State, Ttl};

/// What a flight ends in.
pub(super) struct Landing<V> {
    pub(super) outcome: Result<Arc<V>, FillError>,
    evidence: Evidence<V>,
}

/// How one who waits can tell that the outcome isn't older than an invalidation it knows of.
enum Evidence<V> {
    /// The value was fetched.
    Filled(Proof),
    /// The value is that of an entry.
    Stored(Hit<V>),
    /// There is no value.
    Nothing,
}

impl<V> Clone for Landing<V> {
    fn clone(&self) -> Self {
        let evidence = match &self.evidence {
            Evidence::Filled(proof) => Evidence::Filled(proof.clone()),
            Evidence::Stored(hit) => Evidence::Stored(hit.clone()),
            Evidence::Nothing => Evidence::Nothing,
        };
        Self { outcome: self.outcome.clone(), evidence }
    }
}

impl<V> Landing<V> {
    pub(super) fn failed(error: FillError) -> Self {
        Self { outcome: Err(error), evidence: Evidence::Nothing }
    }

    pub(super) fn stored(hit: Hit<V>) -> Self {
        Self { outcome: Ok(hit.clone().into_value()), evidence: Evidence::Stored(hit) }
    }

    /// Whether one whose fill it wasn't, and who was `asking`, may have it.
    pub(super) fn is_current(&self, space: &Space<V>, asking: Asking) -> bool
    where
        V: Send + Sync + 'static,
    {
        match &self.evidence {
            Evidence::Filled(proof) => space.satisfies(proof, asking),
            Evidence::Stored(hit) => space.given(hit, asking, space.store().now()).is_some(),
            Evidence::Nothing => true,
        }
    }
}

/// The value that a fill is to replace, if there is one. What a fill gets that takes it is taken to be
/// made of it.
pub(super) struct Earlier<'a, V> {
    hit: Option<&'a Hit<V>>,
    ticket: &'a Ticket,
}

impl<V> Earlier<'_, V> {
    pub(super) fn take(self) -> Option<Arc<V>> {
        let hit = self.hit?;
        self.ticket.builds_on(hit);
        Some(hit.clone().into_value())
    }
}

/// A caller's fill, and how its outcome is to be kept.
pub(super) struct Filler<F> {
    pub(super) ttl: Ttl,
    pub(super) fill: F,
    pub(super) timeout: Duration,
    pub(super) retry_pause: Duration,
}

impl<F> Filler<F> {
    /// What is fresh only until `due` is refreshed all the same.
    pub(super) async fn run<V, Fut, R, E>(
        self,
        space: Space<V>,
        mut lead: Lead<Landing<V>>,
        due: Option<Timestamp>,
    ) where
        V: Send + Sync + 'static,
        F: FnOnce(Earlier<'_, V>) -> Fut,
        Fut: Future<Output = Result<R, E>>,
        R: Into<Fill<V>>,
        E: Into<BoxError>,
    {
        let counters = &space.store().inner().counters;
        let will_do = |hit: &Hit<V>| {
            hit.state() == State::Fresh && due.is_none_or(|due| hit.lifetime().fresh_until > due)
        };
        // From here on the ticket tells of removals. What was removed before, since the caller looked, must
        // not come back by being validated. And another flight may have landed since.
        let mut stale = space.peek(lead.key(), space.store().now());
        if let Some(hit) = stale.as_ref().filter(|hit| will_do(hit)) {
            return lead.land(Landing::stored(hit.clone()));
        }
        let key = lead.key().to_key();
        let mut turn = space.turn(key.as_ref(), self.timeout);
        let mut is_answered = false;
        let seen = loop {
            let (found, seen) = space.fetch(lead.ticket(), key.as_ref()).await;
            match found {
                Some(hit) if will_do(&hit) => return lead.land(Landing::stored(hit)),
                Some(hit) => {
                    if hit.state() == State::Stale && !is_answered {
                        // Nobody needs to wait for the refresh.
                        is_answered = true;
                        counters.stale_served.add();
                        lead.land(Landing::stored(hit.clone()));
                    }
                    stale = Some(hit);
                }
                None => {}
            }
            let attempt = turn.attempt(seen).await;
            if turn.has_waited() && lead.begin_again(|| space.begin(&[key.as_ref()])) {
                // It is what was removed.
                (stale, is_answered) = (None, false);
            }
            if let Attempt::Go(seen) = attempt {
                break seen;
            }
        };
        counters.fills.add();
        // Nor what was invalidated by tag meanwhile.
        let stale = stale.and_then(|hit| hit.again(space.store().now()));
        let earlier = Earlier { hit: stale.as_ref(), ticket: lead.ticket() };
        // The closure may panic, too, before there is a future.
        let fill = AssertUnwindSafe(async { (self.fill)(earlier).await }).catch_unwind();
        let filled = match timeout(self.timeout, fill).await {
            Ok(Ok(Ok(filled))) => Ok(filled.into()),
            Ok(Ok(Err(error))) => Err(FillError::of(error.into())),
            Ok(Err(_)) => Err(FillError::Panicked),
            Err(_) => Err(FillError::TimedOut),
        };
        let decided = filled.and_then(|filled| {
            let ttl = filled.ttl.unwrap_or(self.ttl);
            let tags = tags_of(&ttl)?;
            let (value, keep) = match filled.verdict {
                Verdict::Keep(value) => (Arc::new(value), true),
                Verdict::Pass(value) => (Arc::new(value), false),
                Verdict::NotModified => {
                    let stale = stale.as_ref().ok_or(FillError::NothingToKeep)?;
                    lead.ticket().builds_on(stale);
                    (stale.clone().into_value(), true)
                }
            };
            Ok((value, keep.then_some(ttl), tags))
        });
        match decided {
            Ok((value, ttl, tags)) => {
                let evidence = Evidence::Filled(space.proof(lead.ticket(), &tags));
                lead.land(Landing { outcome: Ok(Arc::clone(&value)), evidence });
                if let Some(ttl) = ttl {
                    let lifetime = space.store().inner().lifetime(&ttl);
                    space.commit(lead.ticket(), lead.key(), value, lifetime, &tags, seen).await;
                } else {
                    seen.passes();
                }
            }
            Err(error) => {
                counters.failed_fills.add();
                if let Some(hit) = &stale {
                    space.refresh_failed(lead.ticket(), hit, self.retry_pause);
                }
                // One who waits falls back on what it knows; one who came from the second tier's
                // stale value has it here.
                let fallback = stale.filter(|hit| hit.state_at(space.store().now()) != State::Gone);
                lead.land(fallback.map_or_else(|| Landing::failed(error), Landing::stored));
            }
        }
    }
}
