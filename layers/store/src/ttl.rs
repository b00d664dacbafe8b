//! How long a value lives, and under which tags.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::early::Beta;
use crate::error::Error;
use crate::tag::{MAX_TAGS, Tag};
use crate::time::Timestamp;

/// Longer than this, 1,000 years, nothing is fresh: it keeps the arithmetic from overflowing.
const LONGEST: Duration = Duration::from_secs(1_000 * 366 * 24 * 3600);

/// How long a value is fresh, how long it may be served stale, and the tags it carries.
///
/// ```
/// use std::time::Duration;
/// use tower_keep_store::Ttl;
///
/// let ttl = Ttl::secs(60)
///     .stale_while_revalidate(Duration::from_secs(30))
///     .stale_if_error(Duration::from_secs(3600))
///     .tags(["users", "tenant:7"]);
/// # let _ = ttl;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ttl {
    fresh: Duration,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    jitter: Option<u8>,
    early: Option<Beta>,
    tags: Vec<String>,
}

impl Ttl {
    /// Fresh for `span`, then gone.
    pub fn new(span: Duration) -> Self {
        Self { fresh: span, ..Self::default() }
    }

    /// Fresh for `secs` seconds, then gone.
    pub fn secs(secs: u64) -> Self {
        Self::new(Duration::from_secs(secs))
    }

    /// For `span` after it stopped being fresh, the value is served at once while it is refreshed
    /// behind the caller's back (as RFC 5861 §3 has it for HTTP). Default: zero.
    #[must_use]
    pub fn stale_while_revalidate(mut self, span: Duration) -> Self {
        self.stale_while_revalidate = span;
        self
    }

    /// For `span` after it stopped being fresh, the value is served if a refresh fails (as RFC 5861
    /// §4 has it for HTTP). Default: zero.
    #[must_use]
    pub fn stale_if_error(mut self, span: Duration) -> Self {
        self.stale_if_error = span;
        self
    }

    /// Shortens the fresh time of each entry by a random share of up to `percent`, so that what was
    /// stored together doesn't expire together. It overrides the store's default; over 100 is 100.
    #[must_use]
    pub fn jitter(mut self, percent: u8) -> Self {
        self.jitter = Some(percent.min(100));
        self
    }

    /// How eagerly the value is refreshed before it stops being fresh, in the background, so that
    /// nobody waits for that: 1 is right where the time that fills take varies little, more is
    /// earlier, 0 is not at all. It overrides the [store's default](crate::StoreBuilder::early_refresh),
    /// and is that of whoever asks for the value.
    #[must_use]
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.early = Some(Beta::new(beta));
        self
    }

    /// Adds tags, under which the value can be invalidated together with others.
    #[must_use]
    pub fn tags<I>(mut self, tags: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    pub(crate) fn early(&self) -> Option<Beta> {
        self.early
    }

    /// The tags, checked.
    pub(crate) fn checked_tags(&self) -> Result<Vec<Tag>, Error> {
        if self.tags.len() > MAX_TAGS {
            let more = format!("{} and more", self.tags[0]);
            return Err(Error::Tag(more, "an entry carries at most 64 tags"));
        }
        self.tags.iter().map(Tag::new).collect()
    }

    /// The instants this comes to for a value stored at `now`. `default_jitter` and the percentage
    /// here are shares of the fresh time; `dice` is uniform in 0..=1.
    pub(crate) fn lifetime(&self, now: Timestamp, default_jitter: u8, dice: f64) -> Lifetime {
        let percent = f64::from(self.jitter.unwrap_or(default_jitter));
        let fresh = self.fresh.min(LONGEST).mul_f64((1.0 - dice * percent / 100.0).clamp(0.0, 1.0));
        let fresh_until = now.saturating_add(fresh);
        let refresh_until = fresh_until.saturating_add(self.stale_while_revalidate);
        let keep_until = refresh_until.max(fresh_until.saturating_add(self.stale_if_error));
        Lifetime { stored_at: now, fresh_until, refresh_until, keep_until }
    }
}

/// The instants at which an entry changes state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// When it was stored.
    pub stored_at: Timestamp,
    /// Until then it is fresh: the soft expiry.
    pub fresh_until: Timestamp,
    /// Until then it may be served while it is refreshed.
    pub refresh_until: Timestamp,
    /// Until then it is kept, to be served if a refresh fails: the hard expiry.
    pub keep_until: Timestamp,
}

impl Lifetime {
    /// What an entry with this lifetime is at `now`. `softened` says that a soft invalidation has
    /// covered it.
    pub(crate) fn state(&self, now: Timestamp, softened: bool) -> State {
        if now >= self.keep_until {
            State::Gone
        } else if now < self.fresh_until && !softened {
            State::Fresh
        } else if now < self.refresh_until {
            State::Stale
        } else {
            State::Fallback
        }
    }

    /// How long the entry is kept from `now` on.
    pub(crate) fn kept_for(&self, now: Timestamp) -> Duration {
        self.keep_until.saturating_since(now)
    }
}

/// What an entry is good for at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Serve it.
    Fresh,
    /// Serve it, and refresh it.
    Stale,
    /// Refresh it, and serve it only if that fails.
    Fallback,
    /// As if it had never been.
    Gone,
}

#[cfg(test)]
mod tests {
    use super::State::{Fallback, Fresh, Gone, Stale};
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn passes_through_its_states_in_order() {
        let ttl = Ttl::secs(10)
            .stale_while_revalidate(Duration::from_secs(5))
            .stale_if_error(Duration::from_secs(20));
        let life = ttl.lifetime(at(0), 0, 0.0);
        let states =
            [0, 9_999, 10_000, 14_999, 15_000, 29_999, 30_000].map(|t| life.state(at(t), false));
        assert_eq!(states, [Fresh, Fresh, Stale, Stale, Fallback, Fallback, Gone]);
    }

    #[test]
    fn a_softened_entry_is_stale_while_it_would_be_fresh() {
        let life = Ttl::secs(10).lifetime(at(0), 0, 0.0);
        assert_eq!(life.state(at(1), true), Stale);
        assert_eq!(life.state(at(10_000), true), Gone);
    }

    #[test]
    fn the_longest_life_is_long_and_does_not_overflow() {
        let life = Ttl::new(Duration::MAX)
            .stale_while_revalidate(Duration::MAX)
            .stale_if_error(Duration::MAX)
            .lifetime(at(1), 5, 1.0);
        assert_eq!(life.state(at(30_000_000_000_000 - 1), false), Fresh);
        assert_eq!(life.keep_until.as_millis(), u64::MAX);
    }

    #[test]
    fn too_many_or_unusable_tags_are_refused() {
        assert!(Ttl::secs(1).tags((0..65).map(|i| i.to_string())).checked_tags().is_err());
        assert!(Ttl::secs(1).tags(["*"]).checked_tags().is_err());
        assert_eq!(Ttl::secs(1).tags(["a", "b"]).checked_tags().unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn jitter_only_shortens_and_by_no_more_than_its_share(
            secs in 0u64..1_000_000, percent in 0u8..=100, dice in 0.0f64..=1.0,
        ) {
            let life = Ttl::secs(secs).jitter(percent).lifetime(at(0), 0, dice);
            let fresh = life.fresh_until.as_millis();
            prop_assert!(fresh <= secs * 1000);
            prop_assert!(fresh + 1 >= secs * 10 * u64::from(100 - percent));
        }
    }
}
