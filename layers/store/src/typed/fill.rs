//! What a fill says of the value it got.

use crate::ttl::Ttl;

/// The outcome of a successful fill. A plain value converts into one.
///
/// ```
/// use tower_keep_store::{Fill, Ttl};
///
/// // Keep it, for as long as the origin said.
/// let fill = Fill::value("Ada").ttl(Ttl::secs(300).tags(["user:1"]));
/// // Hand it to those who wait, but don't keep it.
/// let fill = Fill::pass("nobody");
/// # let _ = fill;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Fill<V> {
    pub(super) verdict: Verdict<V>,
    pub(super) ttl: Option<Ttl>,
}

#[derive(Clone, Debug)]
pub(super) enum Verdict<V> {
    Keep(V),
    Pass(V),
    NotModified,
}

impl<V> Fill<V> {
    /// Store this value.
    pub fn value(value: V) -> Self {
        Self { verdict: Verdict::Keep(value), ttl: None }
    }

    /// Return this value to those who wait, and store nothing.
    pub fn pass(value: V) -> Self {
        Self { verdict: Verdict::Pass(value), ttl: None }
    }

    /// The earlier value is still right: store it anew.
    pub fn not_modified() -> Self {
        Self { verdict: Verdict::NotModified, ttl: None }
    }

    /// Lifetime and tags, instead of those that the caller gave.
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

impl<V> From<V> for Fill<V> {
    fn from(value: V) -> Self {
        Self::value(value)
    }
}
