//! Whether a stored response may answer a request (RFC 9111 §4.2, §5.2.1).

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Lifetime, RequestDirectives};

/// The instants between which a stored response may be used.
///
/// `response_time_ms ≤ fresh_until_ms ≤ swr_until_ms, sie_until_ms`; every computation saturates,
/// so one that was read from elsewhere and doesn't hold to that does no harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredTimes {
    /// When it was received, or last validated.
    pub(crate) response_time_ms: u64,
    /// How old it was then.
    pub(crate) age_at_receipt_ms: u64,
    /// When it goes stale.
    pub(crate) fresh_until_ms: u64,
    /// For how long it had been stale when it was received.
    pub(crate) stale_at_receipt_ms: u64,
    /// Until when it may be used while a new one is fetched.
    pub(crate) swr_until_ms: u64,
    /// Until when it may be used if the origin fails.
    pub(crate) sie_until_ms: u64,
    /// Whether it must not be used stale, not even if a client would take it.
    pub(crate) must_revalidate: bool,
    /// Whether it will not change while it is fresh, so that a reload need not ask (RFC 8246).
    pub(crate) immutable: bool,
}

impl StoredTimes {
    /// The instants of a response received at `response_time_ms`.
    pub(crate) fn new(lifetime: &Lifetime, response_time_ms: u64) -> Self {
        let fresh_until_ms = response_time_ms.saturating_add(millis(lifetime.fresh_for));
        let after = |window| fresh_until_ms.saturating_add(millis(window));
        Self {
            response_time_ms,
            age_at_receipt_ms: millis(lifetime.age_at_receipt),
            fresh_until_ms,
            stale_at_receipt_ms: millis(lifetime.stale_at_receipt),
            swr_until_ms: after(lifetime.stale_while_revalidate),
            sie_until_ms: after(lifetime.stale_if_error),
            must_revalidate: lifetime.must_revalidate,
            immutable: lifetime.immutable,
        }
    }

    /// Whether it can never be used without asking the origin.
    pub(crate) fn is_never_usable(&self) -> bool {
        self.fresh_until_ms.max(self.swr_until_ms) <= self.response_time_ms
    }

    /// Its age in milliseconds: the `current_age` of RFC 9111 §4.2.3.
    #[inline]
    pub(crate) fn age_ms(&self, now_ms: u64) -> u64 {
        // The clock may have been set back.
        let resident = now_ms.saturating_sub(self.response_time_ms);
        self.age_at_receipt_ms.saturating_add(resident)
    }

    /// The value of `Age`.
    #[inline]
    pub(crate) fn age(&self, now_ms: u64) -> u64 {
        self.age_ms(now_ms) / 1000
    }

    /// For how many more seconds it is fresh; negative when it is stale: the `ttl` of RFC 9211.
    #[inline]
    pub(crate) fn ttl(&self, now_ms: u64) -> i64 {
        let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
        match self.stale_for_ms(now_ms) {
            0 => seconds(self.fresh_until_ms.saturating_sub(now_ms)),
            stale_for => -seconds(stale_for),
        }
    }

    /// For how long it has been stale, here and before it came.
    fn stale_for_ms(&self, now_ms: u64) -> u64 {
        let here = now_ms.checked_sub(self.fresh_until_ms);
        here.map_or(0, |here| here.saturating_add(self.stale_at_receipt_ms))
    }

    #[inline]
    fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms < self.fresh_until_ms
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// How a stored response may answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// As it is: it is fresh.
    Fresh,
    /// As it is, though stale: the client said that it would do (`max-stale`).
    Stale,
    /// As it is, though stale, while a new one is fetched.
    StaleWhileRevalidate,
    /// Only once the origin has validated it. With `only-if-cached` that is not possible.
    MustValidate,
}

/// Decides how a stored response may answer a request with these directives.
#[inline]
pub(crate) fn reuse(stored: &StoredTimes, directives: &RequestDirectives, now_ms: u64) -> Reuse {
    if directives.any {
        return reuse_as_directed(stored, directives, now_ms);
    }
    if stored.is_fresh(now_ms) {
        Reuse::Fresh
    } else if now_ms < stored.swr_until_ms && !stored.must_revalidate {
        Reuse::StaleWhileRevalidate
    } else {
        Reuse::MustValidate
    }
}

fn reuse_as_directed(stored: &StoredTimes, directives: &RequestDirectives, now_ms: u64) -> Reuse {
    let ms = |secs: u32| u64::from(secs) * 1000;
    // RFC 9111 §5.2.1.4
    if directives.no_cache {
        return Reuse::MustValidate;
    }
    // RFC 9111 §5.2.1.1: the age is at most that. But max-age=0 means a reload, also in the
    // millisecond in which the response came.
    let older = |limit| limit == 0 || stored.age_ms(now_ms) > ms(limit);
    let too_old = directives.max_age.is_some_and(older);
    // RFC 8246 §2: what is immutable needs no validation while it is fresh, unless the client insists,
    // as by no-cache.
    if too_old && !(stored.immutable && stored.is_fresh(now_ms)) {
        return Reuse::MustValidate;
    }
    if stored.is_fresh(now_ms) {
        // RFC 9111 §5.2.1.3
        let left = stored.fresh_until_ms - now_ms;
        let enough = directives.min_fresh.is_none_or(|limit| left >= ms(limit));
        return if enough { Reuse::Fresh } else { Reuse::MustValidate };
    }
    if stored.must_revalidate || directives.min_fresh.is_some() {
        return Reuse::MustValidate;
    }
    // RFC 9111 §5.2.1.2
    let stale_for = stored.stale_for_ms(now_ms);
    let tolerated = directives.max_stale.is_some_and(|limit| stale_for <= ms(limit));
    // RFC 9111 §5.2.1.1: max-age without max-stale refuses everything stale; and a max-stale that is
    // exceeded refuses what the origin would permit.
    let particular = directives.max_age.is_some() || directives.max_stale.is_some();
    if now_ms < stored.swr_until_ms && (tolerated || !particular) {
        Reuse::StaleWhileRevalidate
    } else if tolerated {
        Reuse::Stale
    } else {
        Reuse::MustValidate
    }
}

/// The statuses for which RFC 5861 §4 lets a stale response stand in.
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504)
}

/// Whether a stored response may be used when the origin failed to validate it (RFC 5861 §4).
///
/// Directives of a request are advice (RFC 9111 §5.2.1), and an old answer serves somebody who
/// reloads better than none; but `no-cache` says that it is not wanted.
pub(crate) fn usable_on_error(
    stored: &StoredTimes,
    directives: &RequestDirectives,
    now_ms: u64,
) -> bool {
    let until = if stored.must_revalidate { stored.fresh_until_ms } else { stored.sie_until_ms };
    now_ms < until && !directives.no_cache
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// Received at 100 s, 10 s old, fresh for 60 s, then 30 s and 90 s of stale use.
    fn stored() -> StoredTimes {
        let lifetime = Lifetime {
            fresh_for: Duration::from_secs(60),
            age_at_receipt: Duration::from_secs(10),
            stale_at_receipt: Duration::ZERO,
            stale_while_revalidate: Duration::from_secs(30),
            stale_if_error: Duration::from_secs(90),
            must_revalidate: false,
            immutable: false,
        };
        StoredTimes::new(&lifetime, 100_000)
    }

    fn at(secs: u64, control: &'static str) -> Reuse {
        let directives = RequestDirectives::parse([&HeaderValue::from_static(control)]).unwrap();
        reuse(&stored(), &directives, secs * 1000)
    }

    #[test]
    fn without_directives_the_origin_decides() {
        assert_eq!(at(100, ""), Reuse::Fresh);
        assert_eq!(at(159, ""), Reuse::Fresh);
        assert_eq!(at(160, ""), Reuse::StaleWhileRevalidate);
        assert_eq!(at(190, ""), Reuse::MustValidate);
    }

    #[test]
    fn a_client_may_want_something_fresher() {
        assert_eq!(at(120, "no-cache"), Reuse::MustValidate);
        assert_eq!(at(120, "max-age=30"), Reuse::Fresh);
        assert_eq!(at(120, "max-age=29"), Reuse::MustValidate);
        assert_eq!(at(0, "max-age=0"), Reuse::MustValidate);
        assert_eq!(at(120, "min-fresh=40"), Reuse::Fresh);
        assert_eq!(at(120, "min-fresh=41"), Reuse::MustValidate);
        assert_eq!(at(170, "max-age=1000"), Reuse::MustValidate);
        assert_eq!(at(170, "min-fresh=0"), Reuse::MustValidate);
    }

    #[test]
    fn a_client_may_take_something_staler() {
        assert_eq!(at(170, "max-stale"), Reuse::StaleWhileRevalidate);
        assert_eq!(at(170, "max-stale=5"), Reuse::MustValidate);
        assert_eq!(at(200, "max-stale"), Reuse::Stale);
        assert_eq!(at(200, "max-stale=40"), Reuse::Stale);
        assert_eq!(at(200, "max-stale=39"), Reuse::MustValidate);
        assert_eq!(at(200, "max-stale, max-age=1000"), Reuse::Stale);
        assert_eq!(at(200, "max-stale, max-age=50"), Reuse::MustValidate);
    }

    #[test]
    fn what_is_immutable_survives_a_reload_while_it_is_fresh() {
        let immutable = StoredTimes { immutable: true, ..stored() };
        let decide = |secs: u64, control: &'static str| {
            let directives =
                RequestDirectives::parse([&HeaderValue::from_static(control)]).unwrap();
            reuse(&immutable, &directives, secs * 1000)
        };
        assert_eq!(decide(120, "max-age=0"), Reuse::Fresh);
        assert_eq!(decide(120, "no-cache"), Reuse::MustValidate);
        assert_eq!(decide(165, "max-age=0"), Reuse::MustValidate);
    }

    #[test]
    fn what_was_stale_when_it_came_has_been_so_for_longer() {
        let lifetime = Lifetime {
            age_at_receipt: Duration::from_secs(90),
            stale_at_receipt: Duration::from_secs(30),
            ..Lifetime::default()
        };
        let stored = StoredTimes::new(&lifetime, 100_000);
        let decide = |control: &'static str| {
            let directives =
                RequestDirectives::parse([&HeaderValue::from_static(control)]).unwrap();
            reuse(&stored, &directives, 110_000)
        };
        assert_eq!(decide("max-stale=40"), Reuse::Stale);
        assert_eq!(decide("max-stale=39"), Reuse::MustValidate);
        assert_eq!((stored.ttl(100_000), stored.ttl(110_000)), (-30, -40));
    }

    #[test]
    fn must_revalidate_is_stronger_than_the_client() {
        let strict = StoredTimes { must_revalidate: true, ..stored() };
        let any = RequestDirectives::parse([&HeaderValue::from_static("max-stale")]).unwrap();
        assert_eq!(reuse(&strict, &any, 161_000), Reuse::MustValidate);
        assert_eq!(reuse(&strict, &RequestDirectives::default(), 161_000), Reuse::MustValidate);
        assert!(!usable_on_error(&strict, &any, 161_000));
    }

    #[test]
    fn an_error_opens_the_longer_window() {
        let none = RequestDirectives::default();
        let reload = RequestDirectives::parse([&HeaderValue::from_static("no-cache")]).unwrap();
        assert!(usable_on_error(&stored(), &none, 249_999));
        assert!(!usable_on_error(&stored(), &none, 250_000));
        assert!(!usable_on_error(&stored(), &reload, 120_000));
    }

    #[test]
    fn ages_and_ttls_count_in_seconds() {
        let stored = stored();
        assert_eq!((stored.age(100_999), stored.ttl(100_999)), (10, 59));
        assert_eq!((stored.age(170_000), stored.ttl(170_000)), (80, -10));
        assert_eq!(stored.age(0), 10);
    }

    proptest! {
        #[test]
        fn any_times_are_decided_and_age_only_grows(
            times: (u64, u64, u64, u64, u64, bool, bool, u64),
            limits: (Option<u32>, Option<u32>, Option<u32>),
            now: u64,
            later: u64,
        ) {
            let stored = StoredTimes {
                response_time_ms: times.0,
                age_at_receipt_ms: times.1,
                fresh_until_ms: times.2,
                stale_at_receipt_ms: times.7,
                swr_until_ms: times.3,
                sie_until_ms: times.4,
                must_revalidate: times.5,
                immutable: times.6,
            };
            let directives = RequestDirectives {
                any: true,
                max_age: limits.0,
                min_fresh: limits.1,
                max_stale: limits.2,
                ..RequestDirectives::default()
            };
            let later = now.max(later);
            prop_assert!(stored.age(now) <= stored.age(later));
            prop_assert!(stored.ttl(now) >= stored.ttl(later));
            // A client can ask for more than the origin promises, but not make anything fresh.
            if reuse(&stored, &directives, now) == Reuse::Fresh {
                prop_assert_eq!(
                    reuse(&stored, &RequestDirectives::default(), now), Reuse::Fresh
                );
            }
        }
    }
}
