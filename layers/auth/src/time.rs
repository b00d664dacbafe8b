//! Instants as claims have them, and the clock that they are compared with.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// The last second of the year 9999.
const LAST: i64 = 253_402_300_799;

/// `NumericDate` (RFC 7519 §2): seconds since the Unix epoch, leap seconds not counted, fractions
/// allowed. Kept in whole milliseconds; what is finer is cut off.
///
/// One in a token must be within 9,999 years of the epoch, on either side: what is further off is
/// refused rather than rounded to something that would never expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumericDate(i64);

impl NumericDate {
    /// `seconds` after the epoch.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This instant moved forward, at most to the end of time.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// This instant moved back, at most to the beginning of time.
    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How long this is after `earlier`; zero if it isn't.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    #[expect(clippy::cast_precision_loss, reason = "exact for any date that is written")]
    pub(crate) fn to_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    pub(crate) const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for NumericDate {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            // On the way of every request, so without `as_millis`, which divides 128 bits.
            Ok(since) => {
                let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 1000);
                Self(seconds.saturating_mul(1000).saturating_add(i64::from(since.subsec_millis())))
            }
            Err(before) => Self(0).saturating_sub(before.duration()),
        }
    }
}

/// In whole seconds, as most who read tokens expect.
impl Serialize for NumericDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.as_secs())
    }
}

/// Reads a `NumericDate` from JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Date;

impl<'de> DeserializeSeed<'de> for Date {
    type Value = NumericDate;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<NumericDate, D::Error> {
        deserializer.deserialize_f64(self)
    }
}

impl Visitor<'_> for Date {
    type Value = NumericDate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds since the epoch")
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<NumericDate, E> {
        if (-LAST..=LAST).contains(&seconds) {
            Ok(NumericDate::from_secs(seconds))
        } else {
            Err(E::custom("out of range"))
        }
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<NumericDate, E> {
        let seconds = i64::try_from(seconds).map_err(|_| E::custom("out of range"))?;
        self.visit_i64(seconds)
    }

    #[expect(clippy::cast_precision_loss, reason = "the bound is exact in 53 bits")]
    #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
    fn visit_f64<E: Error>(self, seconds: f64) -> Result<NumericDate, E> {
        if seconds.abs() <= LAST as f64 {
            Ok(NumericDate((seconds * 1000.0).floor() as i64))
        } else {
            Err(E::custom("out of range"))
        }
    }
}

/// What tells the time that tokens are judged by.
///
/// [`Clock::system`], the default, asks the system each time. It is not made of a start and a
/// monotonic clock, as a cache's clock is: that stands still while a machine is suspended, and
/// tokens would outlive their `exp` by as much.
///
/// ```
/// use std::time::Duration;
/// use tower_keep_auth::{Clock, NumericDate};
///
/// let clock = Clock::manual(NumericDate::from_secs(1_700_000_000));
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), NumericDate::from_secs(1_700_000_060));
/// ```
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still, for tests. Its clones are the same clock.
    pub fn manual(now: NumericDate) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(now.0))))
    }

    /// The time.
    pub fn now(&self) -> NumericDate {
        match &self.0 {
            Source::System => SystemTime::now().into(),
            Source::Manual(millis) => NumericDate(millis.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock forward. The system's clock is left alone.
    pub fn advance(&self, span: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(millis(span), Ordering::Relaxed);
        }
    }

    /// Sets a manual clock, also back. The system's clock is left alone.
    pub fn set(&self, to: NumericDate) {
        if let Source::Manual(now) = &self.0 {
            now.store(to.0, Ordering::Relaxed);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<NumericDate> {
        Date.deserialize(&mut serde_json::Deserializer::from_str(text)).ok()
    }

    #[test]
    fn reads_whole_and_broken_seconds_on_both_sides_of_the_epoch() {
        assert_eq!(read("1700000000"), Some(NumericDate::from_secs(1_700_000_000)));
        assert_eq!(read("1700000000.25"), Some(NumericDate(1_700_000_000_250)));
        assert_eq!(read("1.7e9"), Some(NumericDate::from_secs(1_700_000_000)));
        assert_eq!(read("-1.5"), Some(NumericDate(-1500)));
        assert_eq!(NumericDate(-1500).as_secs(), -2);
        assert_eq!(read("-0"), Some(NumericDate(0)));
        assert_eq!(read("253402300799"), Some(NumericDate::from_secs(LAST)));
    }

    #[test]
    fn refuses_what_is_out_of_range_or_no_number() {
        for text in [
            "253402300800",
            "-253402300800",
            "9223372036854775807",
            "18446744073709551615",
            "99999999999999999999999999",
            "1e300",
            "-1e300",
            "\"1700000000\"",
            "null",
            "true",
            "[1700000000]",
            "{}",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn saturates_at_both_ends() {
        let date = NumericDate::from_secs(i64::MAX);
        assert_eq!(date.saturating_add(Duration::MAX).as_millis(), i64::MAX);
        assert_eq!(NumericDate::from_secs(i64::MIN).saturating_sub(Duration::MAX).0, i64::MIN);
        assert_eq!(NumericDate(0).saturating_since(date), Duration::ZERO);
    }

    #[test]
    fn follows_the_system_clock_or_stands_still() {
        let before = NumericDate::from(SystemTime::now());
        assert!(Clock::system().now() >= before);
        let clock = Clock::manual(before);
        clock.clone().advance(Duration::from_millis(1));
        assert_eq!(clock.now().saturating_since(before), Duration::from_millis(1));
    }
}
