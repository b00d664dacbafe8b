//! Spans of time without an end: a setting like `Duration::MAX` means "never", and sums with it would
//! panic.

use std::time::Duration;

use tokio::time::Instant;

/// Further ahead than any process lives.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// `span` after `from`, or as good as never.
pub(crate) fn after(from: Instant, span: Duration) -> Instant {
    from.checked_add(span.min(FAR)).unwrap_or(from)
}

/// A part of `span`, `share` being in 0.0..=1.0. The longest spans have no exact counterpart among
/// floats, of which some would be too long for a `Duration`.
pub(crate) fn part(span: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(span.as_secs_f64() * share).unwrap_or(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_panics_nowhere() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::MAX), now + FAR);
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(part(Duration::MAX, 1.0), Duration::MAX);
        assert_eq!(part(Duration::from_millis(10), 0.5), Duration::from_millis(5));
    }
}
