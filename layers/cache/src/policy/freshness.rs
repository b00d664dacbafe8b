//! How long a response is fresh, and how old it was when it came (RFC 9111 §4.2).

use std::time::Duration;

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::{CacheKind, Exchange, Heuristic, NotStored, PolicyOptions};
use crate::cache_control::{CacheControl, Scope};
use crate::conditional::Validators;
use crate::field::{self, Members};

/// How long a response may be used, counted from when it was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// For how much longer it is fresh.
    pub(crate) fresh_for: Duration,
    /// How old it was already.
    pub(crate) age_at_receipt: Duration,
    /// For how long it had been stale already.
    pub(crate) stale_at_receipt: Duration,
    /// For how long after that it may be used while a new one is fetched.
    pub(crate) stale_while_revalidate: Duration,
    /// For how long after that it may be used when the origin fails.
    pub(crate) stale_if_error: Duration,
    /// Whether it must never be used stale, not even if a client would take it.
    pub(crate) must_revalidate: bool,
    /// Whether it will not change while it is fresh (RFC 8246).
    pub(crate) immutable: bool,
}

pub(super) fn lifetime(
    exchange: &Exchange<'_>,
    control: &CacheControl,
    options: &PolicyOptions,
) -> Result<Lifetime, NotStored> {
    let date = date_secs(exchange);
    let age = age_at_receipt(exchange, date);
    // The qualified form is about some fields only, which are not stored (`omitted`).
    let no_cache = control.no_cache == Scope::Whole;
    let explicit = explicit(exchange, control, options.kind, date);
    // RFC 9111 §3: no-cache alone makes no response storable, but one that may be is, without a time.
    let to_validate = || (no_cache && is_usual(exchange, control)).then_some(Duration::ZERO);
    let lifetime = explicit
        .or_else(to_validate)
        .or_else(|| guessed(exchange, control, options, date))
        .ok_or(NotStored::NoFreshness)?;
    // RFC 9111 §5.2.2.4: usable only after a validation, so never fresh.
    let lifetime = if no_cache { Duration::ZERO } else { lifetime };

    // What forbids stale responses (RFC 9111 §4.2.4) wins over what permits them (RFC 5861 §3, §4).
    // In a shared cache that is proxy-revalidate too, and s-maxage, which implies it (§5.2.2.10).
    let shared = options.kind == CacheKind::Shared;
    let must_revalidate = control.must_revalidate
        || no_cache
        || (shared && (control.proxy_revalidate || control.s_maxage.is_some()));
    // More than the RFC permits, so only where somebody asked for it: the origin's time is
    // stretched, but not where it forbids anything past it, nor for an error.
    let stretched = explicit.is_some() && !must_revalidate && exchange.status.as_u16() < 400;
    let least = options.min_ttl.filter(|_| stretched);
    let lifetime = least.map_or(lifetime, |least| lifetime.max(age.saturating_add(least)));
    // A response can be stale when it comes; the windows began when it became so.
    let stale_for = age.saturating_sub(lifetime);
    let window = |said: Option<u32>, default: Duration| match said {
        _ if must_revalidate => Duration::ZERO,
        Some(secs) => seconds(secs).saturating_sub(stale_for),
        None => default.saturating_sub(stale_for),
    };
    let decided = Lifetime {
        fresh_for: lifetime.saturating_sub(age).min(options.max_ttl.unwrap_or(Duration::MAX)),
        age_at_receipt: age,
        stale_at_receipt: stale_for,
        stale_while_revalidate: window(
            control.stale_while_revalidate,
            options.stale_while_revalidate,
        ),
        stale_if_error: window(control.stale_if_error, options.stale_if_error),
        must_revalidate,
        immutable: control.immutable,
    };
    let usable = decided.fresh_for.max(decided.stale_while_revalidate).max(decided.stale_if_error);
    // With a validator even a stale response saves a body, by a 304.
    if usable.is_zero() && !can_be_validated(exchange.response) {
        return Err(NotStored::Stale);
    }
    Ok(decided)
}

fn seconds(secs: u32) -> Duration {
    Duration::from_secs(secs.into())
}

fn can_be_validated(response: &HeaderMap) -> bool {
    !Validators::from_headers(response).is_empty()
}

/// When the response was generated; when it doesn't say, when it was received (RFC 9110 §6.6.1).
fn date_secs(exchange: &Exchange<'_>) -> u64 {
    let date = exchange.response.get(DATE).and_then(field::http_date);
    date.unwrap_or(exchange.response_time_ms / 1000)
}

/// The `corrected_initial_age` of RFC 9111 §4.2.3.
fn age_at_receipt(exchange: &Exchange<'_>, date: u64) -> Duration {
    // Compared in whole seconds: the fraction that Date leaves out is no age.
    let apparent = Duration::from_secs((exchange.response_time_ms / 1000).saturating_sub(date));
    // RFC 9111 §5.1: of a list the first member counts, and what is no number is ignored.
    let said = exchange.response.get(AGE).and_then(|line| Members::new(line.as_bytes()).next());
    let said = said.and_then(field::delta_seconds).map_or(Duration::ZERO, seconds);
    let delay = exchange.response_time_ms.saturating_sub(exchange.request_time_ms);
    apparent.max(said.saturating_add(Duration::from_millis(delay)))
}

/// The lifetime that the response itself says (RFC 9111 §4.2.1).
fn explicit(
    exchange: &Exchange<'_>,
    control: &CacheControl,
    kind: CacheKind,
    date: u64,
) -> Option<Duration> {
    let shared = (kind == CacheKind::Shared).then_some(control.s_maxage).flatten();
    shared.or(control.max_age).map(seconds).or_else(|| {
        if control.targeted {
            // RFC 9213 §2.2
            return None;
        }
        // RFC 9111 §5.3: an invalid date, `0` above all, is one in the past. Of several the
        // earliest counts.
        let lines = exchange.response.get_all(EXPIRES).iter();
        let expires = lines.map(|line| field::http_date(line).unwrap_or(0)).min()?;
        Some(Duration::from_secs(expires.saturating_sub(date)))
    })
}

/// A lifetime for a response that says none, where guessing is permitted (RFC 9111 §4.2.2).
fn guessed(
    exchange: &Exchange<'_>,
    control: &CacheControl,
    options: &PolicyOptions,
    date: u64,
) -> Option<Duration> {
    let usual = is_usual(exchange, control);
    let from_modification = match options.heuristic {
        Heuristic::Fraction { percent, cap } if usual => {
            let modified = exchange.response.get(LAST_MODIFIED).and_then(field::http_date);
            modified.map(|modified| {
                let since = Duration::from_secs(date.saturating_sub(modified));
                (since.saturating_mul(percent.into()) / 100).min(cap)
            })
        }
        _ => None,
    };
    let by_status = options.status_ttls.of(exchange.status);
    let default = by_status.or(options.default_ttl.filter(|_| usual));
    from_modification.or(default).filter(|lifetime| !lifetime.is_zero())
}

/// Whether a response may be stored that doesn't say how long it is fresh (RFC 9111 §3).
fn is_usual(exchange: &Exchange<'_>, control: &CacheControl) -> bool {
    control.public || is_heuristically_cacheable(exchange.status)
}

/// RFC 9110 §15.1, without 206, which is never stored.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

#[cfg(test)]
pub(super) mod tests;
