//! Taking out of the first tier what may have been removed without this node's having heard of it.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::inner::Inner;
use crate::error::RemoteError;
use crate::remote::Remote;
use crate::removals::{Learned, Reading};

impl Inner {
    /// What the second tier says of `buckets`.
    pub(super) async fn read_buckets(
        &self,
        remote: &dyn Remote,
        buckets: Vec<u16>,
    ) -> Result<Vec<Reading>, RemoteError> {
        let asked = self.removals.known(&buckets);
        let found = remote.removals(buckets.clone()).await?;
        if found.len() != buckets.len() {
            return Err(RemoteError::Protocol("a wrong number of removal epochs".into()));
        }
        let readings = buckets.into_iter().zip(asked).zip(found);
        Ok(readings.map(|((bucket, asked), found)| Reading { bucket, asked, found }).collect())
    }

    /// Removals may have been missed: from now on, no fill that runs stores what it got. Fills of
    /// other buckets neither: this is rare, and to know the bucket of each fill would cost every miss.
    pub(super) fn overtake(&self, learned: Learned) {
        self.counters.missed_buckets.add_many(learned.missed);
        if learned.doomed > 0 {
            self.fences.overtake_all();
        }
    }

    /// Takes what is doomed out of the first tier: not here and now, since it takes as long as that has
    /// entries, but as soon as there is a thread for it.
    pub(super) fn sweep_soon(self: &Arc<Self>) {
        if self.removals.call_for_sweep() {
            drop(self.sweep());
        }
    }

    /// The same, for one who waits until it is done. Who only drops the handle stops nothing.
    pub(super) fn sweep(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let inner = Arc::clone(self);
        Some(self.runtime.as_ref()?.spawn_blocking(move || inner.sweep_now()))
    }

    fn sweep_now(&self) {
        let (Some(l1), Some(remote)) = (&self.l1, &self.remote) else { return };
        self.removals.sweep(|doomed| {
            if doomed.len() == usize::from(self.removals.buckets()) {
                l1.clear();
            } else {
                l1.remove_all(|key| doomed.contains(&remote.bucket(key.as_bytes())));
            }
        });
    }
}
