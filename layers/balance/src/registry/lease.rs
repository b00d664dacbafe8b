//! A lease: an instance's place in a registry, for as long as its holder says that it lives.

use std::time::Duration;

use super::error::RegistryError;
use super::instance::Instance;

/// The shortest time to live: a third of it must be enough for an answer of the registry.
const SHORTEST: Duration = Duration::from_millis(30);

/// The longest time to live.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// An instance, for how long it counts as alive, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The instance.
    pub instance: Instance,
    /// For how long it counts as alive after a heartbeat: 30 ms to a day.
    pub ttl: Duration,
    /// Names who holds it among all who ever register: a process that registers the same id anew is
    /// another. The one before can neither renew it nor end it.
    pub holder: u64,
    /// Whether this is a registration, which takes the id over from whoever holds it; else it is a
    /// renewal, and refused while another one holds it.
    pub takes_over: bool,
}

impl Lease {
    /// A registration of `instance` by a new holder.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], with what to change, if the instance or the time is out of bounds.
    pub fn new(instance: Instance, ttl: Duration) -> Result<Self, RegistryError> {
        let lease = Self { instance, ttl, holder: fastrand::u64(..), takes_over: true };
        lease.validate().map(|()| lease)
    }

    /// Whether the instance and the time are within bounds: its fields can be changed.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], with what to change.
    pub fn validate(&self) -> Result<(), RegistryError> {
        self.instance.validate()?;
        if !Self::can_be(self.ttl) {
            let text = "an instance's time to live is from 30 ms to a day";
            return Err(RegistryError::Setting(text));
        }
        Ok(())
    }

    /// Whether an instance may live for so long.
    pub(super) fn can_be(ttl: Duration) -> bool {
        (SHORTEST..=LONGEST).contains(&ttl)
    }
}
