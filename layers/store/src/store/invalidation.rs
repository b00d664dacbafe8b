//! Bringing an invalidation, in force on this node already, to the second tier and the other nodes;
//! or remembering that it must be.
//!
//! It is brought in a task of the store's own, so that it is done or remembered whatever becomes of
//! the caller.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};

use super::inner::Inner;
use crate::backlog::{Debt, Target};
use crate::epoch::Epochs;
use crate::error::RemoteError;
use crate::frame;
use crate::key::{KeyRef, MAX_KEY_LEN};
use crate::pending::UnderWay;
use crate::remote::{Put, Remote, Removal, Stored};
use crate::tag::{Reach, Strength, Tag};

/// How long to wait before another attempt to pay what is owed.
const DRAIN_EVERY: Duration = Duration::from_millis(200);

/// How many debts are paid at once.
const PAID_AT_ONCE: usize = 64;

/// How often an entry is read and marked stale before it is removed instead, because others
/// replace it in between.
const SOFTENINGS: usize = 4;

impl Inner {
    /// Runs `task` to its end, whatever becomes of the caller. `None` if the runtime that the store
    /// was built in has ended.
    pub(crate) async fn see_through<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.runtime.as_ref()?.spawn(task).await.ok()
    }

    /// Brings an invalidation, in force here already, to the second tier and the other nodes; or
    /// remembers that it must be. Then it is not `under_way` any more.
    pub(crate) async fn spread(
        self: &Arc<Self>,
        target: Target,
        strength: Strength,
        under_way: Option<UnderWay>,
    ) -> Reach {
        if self.remote.is_none() {
            return Reach::Everywhere;
        }
        let debt = Debt { target, strength };
        let (inner, unpaid) = (Arc::clone(self), debt.clone());
        let task = async move {
            let reach = inner.pay_or_owe(debt.clone()).await;
            inner.apply_again(&debt, reach);
            drop(under_way);
            reach
        };
        self.see_through(task).await.unwrap_or_else(|| {
            // Its runtime is ending, or the second tier panicked.
            let reach = self.owe(unpaid.clone());
            self.apply_again(&unpaid, reach);
            reach
        })
    }

    /// Once more on this node: until the second tier had the invalidation, a read that had begun before
    /// it could fetch from there what it was about.
    fn apply_again(&self, debt: &Debt, reach: Reach) {
        match &debt.target {
            Target::Key(key) => self.drop_local(KeyRef::new(key), debt.strength),
            Target::Tag(tag) if reach == Reach::ThisNode => {
                self.tags.invalidate(tag, debt.strength);
            }
            // Its new epoch has been learned.
            Target::Tag(_) => {}
        }
    }

    /// Does at the second tier what `debt` says, now or later.
    pub(crate) async fn pay_or_owe(self: &Arc<Self>, debt: Debt) -> Reach {
        if matches!(&debt.target, Target::Key(key) if key.len() > MAX_KEY_LEN) {
            // No tier of any node can have it.
            return Reach::Everywhere;
        }
        // Also while older debts wait: else they would grow faster than they are paid.
        if let Some(remote) = self.remote.as_deref().filter(|remote| remote.is_available()) {
            match self.pay(remote, &debt).await {
                Ok(()) => return Reach::Everywhere,
                Err(error) => self.not_paid(&error),
            }
        }
        self.owe(debt)
    }

    async fn pay(&self, remote: &dyn Remote, debt: &Debt) -> Result<(), RemoteError> {
        match &debt.target {
            Target::Tag(tag) => self.pay_tag(remote, tag, debt.strength).await,
            Target::Key(key) => {
                self.pay_key(remote, key, debt.strength).await?;
                self.recent.push(key, debt.strength);
                Ok(())
            }
        }
    }

    /// Removes again what was removed lately, where the second tier may have lost that.
    pub(super) async fn do_again(&self, remote: &dyn Remote) -> Result<(), RemoteError> {
        loop {
            let doubtful = self.recent.doubtful(PAID_AT_ONCE);
            if doubtful.is_empty() {
                return Ok(());
            }
            try_join_all(doubtful.iter().map(|debt| self.pay(remote, debt))).await?;
        }
    }

    pub(super) async fn pay_tag(
        &self,
        remote: &dyn Remote,
        tag: &Tag,
        strength: Strength,
    ) -> Result<(), RemoteError> {
        let known = self.tags.highest();
        let epoch = remote.invalidate(tag.clone(), strength, known, self.id).await?;
        Epochs::all(epoch).check()?;
        self.tags.invalidated(tag, epoch, strength);
        Ok(())
    }

    async fn pay_key(
        &self,
        remote: &dyn Remote,
        key: &[u8],
        strength: Strength,
    ) -> Result<(), RemoteError> {
        let key = Bytes::copy_from_slice(key);
        let tombstone = || Put {
            key: key.clone(),
            frame: frame::tombstone(fastrand::u64(..)),
            keep: self.max_fill.saturating_mul(2),
            only_if: None,
            announce: Some(Removal { sender: self.id, strength }),
        };
        if strength == Strength::Soft {
            for _ in 0..SOFTENINGS {
                let found = remote.get(key.clone()).await?.unwrap_or_default();
                let only_if = Some(frame::token(&found));
                let put = match frame::soften(fastrand::u64(..), &found) {
                    Ok(Some((meta, frame))) => {
                        let keep = meta.lifetime.kept_for(self.clock.now());
                        Put { frame, keep, only_if, ..tombstone() }
                    }
                    // Nothing is there to be marked, but a fill that began before this may be under
                    // way, on any node.
                    _ => Put { only_if, ..tombstone() },
                };
                if remote.put(put).await? == Stored::Yes {
                    return Ok(());
                }
            }
        }
        match remote.put(tombstone()).await? {
            Stored::Yes => Ok(()),
            Stored::Refused | Stored::TooLarge => {
                Err(RemoteError::Protocol("a removal was refused".into()))
            }
        }
    }

    /// Remembers an invalidation that the second tier hasn't got, and sees to it that it gets it.
    fn owe(self: &Arc<Self>, debt: Debt) -> Reach {
        self.counters.deferred_invalidations.add();
        self.backlog.push(debt);
        self.drain_soon();
        Reach::ThisNode
    }

    /// Pays all debts, the oldest first.
    pub(super) async fn pay_all(&self, remote: &dyn Remote) -> Result<(), RemoteError> {
        loop {
            let debts = self.backlog.oldest(PAID_AT_ONCE);
            if debts.is_empty() {
                return Ok(());
            }
            let paid = join_all(debts.iter().map(|(_, debt)| self.pay(remote, debt))).await;
            let mut failed = None;
            for ((place, _), paid) in debts.iter().zip(paid) {
                match paid {
                    Ok(()) => self.backlog.settle(*place),
                    Err(error) => {
                        if matches!(error, RemoteError::Protocol(_)) {
                            self.backlog.postpone(*place);
                        }
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    /// Sees to it that what is owed gets paid, also if no connection is lost or found meanwhile.
    fn drain_soon(self: &Arc<Self>) {
        let Some(runtime) = &self.runtime else { return };
        if self.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        let weak = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                let Some(inner) = weak.upgrade() else { return };
                if let Some(remote) = inner.remote.as_deref().filter(|remote| remote.is_available())
                    && let Err(error) = inner.pay_all(remote).await
                {
                    inner.not_paid(&error);
                }
                inner.draining.store(false, Ordering::Release);
                // Something may have been owed just before the flag fell.
                if inner.backlog.is_empty() || inner.draining.swap(true, Ordering::AcqRel) {
                    return;
                }
                drop(inner);
                tokio::time::sleep(DRAIN_EVERY).await;
            }
        });
    }

    fn not_paid(&self, error: &RemoteError) {
        self.trouble("invalidate", error);
        if let RemoteError::Protocol(answer) = error {
            // Nothing that passes by itself, such as an outage; and until it does, the second tier
            // is not used.
            tracing::warn!(answer, "the second tier refuses an invalidation; it is tried again");
        }
    }
}
