//! How long a response is fresh that doesn't say, by its status.

use std::time::Duration;

use http::StatusCode;

/// Statuses of responses: one, or a class of them (RFC 9110 §15).
///
/// A class is about the resource: it leaves out what is about the one who asked, or how, since a
/// stored response answers others, too. Those are 206, 304, 401, 403, 407, 408, 421, 425, and
/// 428, 429, 431 and 511, which no cache stores (RFC 6585 §3–§6). Of these 401, 403, 407, 408, 421
/// and 425 can be named one by one.
///
/// ```
/// use http::StatusCode;
/// use tower_keep_cache::Statuses;
///
/// let gone = Statuses::from(StatusCode::GONE);
/// assert!(gone.contains(StatusCode::GONE) && !gone.contains(StatusCode::NOT_FOUND));
/// assert!(Statuses::CLIENT_ERROR.contains(StatusCode::NOT_FOUND));
/// assert!(!Statuses::CLIENT_ERROR.contains(StatusCode::UNAUTHORIZED));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    One(StatusCode),
    /// Those with this hundred.
    Class(u16),
}

impl Statuses {
    /// 2xx.
    pub const SUCCESS: Self = Self(Set::Class(2));
    /// 3xx.
    pub const REDIRECTION: Self = Self(Set::Class(3));
    /// 4xx.
    pub const CLIENT_ERROR: Self = Self(Set::Class(4));
    /// 5xx.
    pub const SERVER_ERROR: Self = Self(Set::Class(5));

    /// Whether `status` is one of them.
    pub fn contains(self, status: StatusCode) -> bool {
        match self.0 {
            Set::One(one) => one == status,
            Set::Class(hundred) => {
                status.as_u16() / 100 == hundred
                    && !is_never_stored(status)
                    && !matches!(status.as_u16(), 401 | 403 | 407 | 408 | 421 | 425)
            }
        }
    }

    /// The single one, if no response with it is ever stored.
    pub(crate) fn never_stored(self) -> Option<StatusCode> {
        match self.0 {
            Set::One(one) => {
                let is_final = (200..600).contains(&one.as_u16());
                (!is_final || is_never_stored(one)).then_some(one)
            }
            Set::Class(_) => None,
        }
    }
}

impl From<StatusCode> for Statuses {
    fn from(status: StatusCode) -> Self {
        Self(Set::One(status))
    }
}

/// Whether a response with this final status is no whole response, or one that must not be stored
/// whatever it says.
fn is_never_stored(status: StatusCode) -> bool {
    matches!(status.as_u16(), 206 | 304) || super::storable::is_forbidden(status)
}

/// Lifetimes by status.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatusTtls(Vec<(Statuses, Duration)>);

impl StatusTtls {
    /// Adds one; of two for the same statuses the later counts.
    pub(crate) fn add(&mut self, statuses: Statuses, ttl: Duration) {
        self.0.retain(|(known, _)| *known != statuses);
        self.0.push((statuses, ttl));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Statuses, Duration)> {
        self.0.iter().copied()
    }

    /// The lifetime for a status: its own, or that of its class.
    pub(super) fn of(&self, status: StatusCode) -> Option<Duration> {
        let matching = self.iter().filter(|(statuses, _)| statuses.contains(status));
        let particular = |(statuses, _): &(Statuses, Duration)| matches!(statuses.0, Set::One(_));
        matching.max_by_key(particular).map(|(_, ttl)| ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_status_counts_for_more_than_its_class() {
        let secs = Duration::from_secs;
        let mut ttls = StatusTtls::default();
        ttls.add(StatusCode::NOT_FOUND.into(), secs(1));
        ttls.add(Statuses::CLIENT_ERROR, secs(2));
        ttls.add(StatusCode::NOT_FOUND.into(), secs(3));
        assert_eq!(ttls.of(StatusCode::NOT_FOUND), Some(secs(3)));
        assert_eq!(ttls.of(StatusCode::GONE), Some(secs(2)));
        assert_eq!(ttls.of(StatusCode::UNAUTHORIZED), None);
        assert_eq!(ttls.of(StatusCode::BAD_GATEWAY), None);
    }

    #[test]
    fn some_statuses_are_never_stored() {
        for status in [101, 206, 304, 428, 429, 431, 511, 600] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Statuses::from(status).never_stored(), Some(status));
        }
        assert_eq!(Statuses::from(StatusCode::UNAUTHORIZED).never_stored(), None);
        assert_eq!(Statuses::SERVER_ERROR.never_stored(), None);
        assert!(!Statuses::SERVER_ERROR.contains(StatusCode::NETWORK_AUTHENTICATION_REQUIRED));
    }
}
