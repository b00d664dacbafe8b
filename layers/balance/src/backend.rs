//! A backend: a target, and how it takes part in a pool.

use std::sync::Arc;

/// One target of a [`Pool`](crate::Pool), under a name of its own: an address, a service, a
/// connection pool of a database, whatever can be picked.
///
/// ```
/// use tower_keep_balance::Backend;
///
/// let big = Backend::new("big", "http://10.0.0.1:3000").weight(10);
/// let spare = Backend::new("spare", "http://10.0.0.9:3000").priority(1).max_in_flight(100);
/// # let _ = (big, spare);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Backend<T> {
    pub(crate) name: Arc<str>,
    pub(crate) target: T,
    pub(crate) settings: Settings,
}

/// What of a backend can change while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) weight: u16,
    pub(crate) priority: u8,
    pub(crate) max_in_flight: u32,
}

impl<T> Backend<T> {
    /// `target` under `name`, by which the pool tells its backends apart, and hash strategies find
    /// the same one again after a restart and on other machines. Weight 1, priority 0, no limit.
    pub fn new(name: impl Into<Arc<str>>, target: T) -> Self {
        let settings = Settings { weight: 1, priority: 0, max_in_flight: u32::MAX };
        Self { name: name.into(), target, settings }
    }

    /// Its share of what the pool gets, relative to the weights of the others. With 0 it gets nothing
    /// new, and goes on with what it has. Default: 1.
    pub fn weight(mut self, weight: u16) -> Self {
        self.settings.weight = weight;
        self
    }

    /// The lower, the sooner it is used: a backend of priority 1 gets something only while none of
    /// priority 0 can take it. Default: 0.
    pub fn priority(mut self, priority: u8) -> Self {
        self.settings.priority = priority;
        self
    }

    /// How many requests it may be at work on at the same time; others get what goes beyond that. At
    /// least 1. Default: no limit.
    pub fn max_in_flight(mut self, requests: u32) -> Self {
        self.settings.max_in_flight = requests.max(1);
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The target.
    pub fn target(&self) -> &T {
        &self.target
    }
}
