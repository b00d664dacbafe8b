//! A watch: the instances of one service as they come and go, as whole lists.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::MAX_INSTANCES;
use super::error::RegistryError;
use super::instance::Instance;

/// The instances of a service, by id.
pub type Instances = Arc<[Instance]>;

/// What is known of a service.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Nothing if it isn't known yet.
    list: Option<Instances>,
    /// Why it can't be asked for, while that is so.
    error: Option<RegistryError>,
}

#[derive(Debug, Default)]
struct Counters {
    updates: AtomicU64,
    failures: AtomicU64,
    skipped: AtomicU64,
}

/// What has happened to a [`Watch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchStats {
    /// Lists that differ from the one before.
    pub updates: u64,
    /// How often the registry couldn't be asked.
    pub failures: u64,
    /// Instances that the registry said and that were left out: out of bounds, or not readable.
    pub skipped: u64,
}

/// The instances of one service, from now on: see [`Discovery::watch`](super::Discovery::watch).
///
/// It hands out whole lists. One who is slower than they change gets the latest. While the registry
/// can't be asked, the last list stays, and [`error`](Self::error) says why.
#[derive(Clone)]
pub struct Watch {
    receiver: watch::Receiver<Seen>,
    counters: Arc<Counters>,
    /// The list that was handed out last.
    given: Option<Instances>,
}

impl Watch {
    /// A watch, and what feeds it, for a [`Discovery`](super::Discovery) of one's own. `service` is
    /// for the log.
    pub fn channel(service: &str) -> (Publisher, Self) {
        let (sender, receiver) = watch::channel(Seen::default());
        let counters = Arc::<Counters>::default();
        let publisher =
            Publisher { sender, counters: Arc::clone(&counters), service: service.into() };
        (publisher, Self { receiver, counters, given: None })
    }

    /// The next list that isn't the one before: the first one as soon as it is known. `None` when
    /// the registry is gone.
    pub async fn next(&mut self) -> Option<Instances> {
        loop {
            let list = self.receiver.borrow_and_update().list.clone();
            if let Some(list) = list
                && self.given.as_ref().is_none_or(|given| !Arc::ptr_eq(given, &list))
            {
                self.given = Some(Arc::clone(&list));
                return Some(list);
            }
            self.receiver.changed().await.ok()?;
        }
    }

    /// What is known now, if anything is.
    pub fn latest(&self) -> Option<Instances> {
        self.receiver.borrow().list.clone()
    }

    /// Why the registry can't be asked, while that is so.
    pub fn error(&self) -> Option<RegistryError> {
        self.receiver.borrow().error.clone()
    }

    /// What has happened so far.
    pub fn stats(&self) -> WatchStats {
        let Counters { updates, failures, skipped } = &*self.counters;
        WatchStats {
            updates: updates.load(Relaxed),
            failures: failures.load(Relaxed),
            skipped: skipped.load(Relaxed),
        }
    }

    /// The lists as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Instances> + Send {
        stream::unfold(self, async |mut watch| Some((watch.next().await?, watch)))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("latest", &self.latest())
            .field("error", &self.error())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What feeds a [`Watch`]. Dropping it ends the watch.
#[derive(Debug)]
pub struct Publisher {
    sender: watch::Sender<Seen>,
    counters: Arc<Counters>,
    service: Box<str>,
}

impl Publisher {
    /// These are the instances. Of several with the same id, the first one counts; those that are
    /// out of bounds are left out, as is what goes beyond [`MAX_INSTANCES`].
    pub fn publish(&self, instances: impl IntoIterator<Item = Instance>) {
        let mut list: Vec<_> = instances.into_iter().collect();
        let all = list.len();
        list.retain(|instance| instance.validate().is_ok());
        let out_of_bounds = all - list.len();
        list.sort_by(|a, b| a.id.cmp(&b.id));
        list.dedup_by(|a, b| a.id == b.id);
        self.skipped(out_of_bounds + list.len().saturating_sub(MAX_INSTANCES));
        list.truncate(MAX_INSTANCES);
        self.sender.send_if_modified(|seen| {
            if seen.error.take().is_some() {
                tracing::info!(service = &*self.service, "the registry can be asked again");
            }
            let is_news = seen.list.as_deref() != Some(&*list);
            if is_news {
                self.counters.updates.fetch_add(1, Relaxed);
                seen.list = Some(list.into());
            }
            is_news
        });
    }

    /// The registry couldn't be asked: what was published last stays. Logged at the first of several
    /// failures in a row.
    pub fn failed(&self, error: RegistryError) {
        self.counters.failures.fetch_add(1, Relaxed);
        self.sender.send_if_modified(|seen| {
            if seen.error.is_none() {
                let (service, keeps) = (&*self.service, seen.list.is_some());
                tracing::warn!(service, keeps, %error, "the registry can't be asked");
            }
            seen.error = Some(error);
            false
        });
    }

    /// So many instances had to be left out.
    pub fn skipped(&self, instances: usize) {
        if instances > 0 {
            let more = u64::try_from(instances).unwrap_or(u64::MAX);
            if self.counters.skipped.fetch_add(more, Relaxed) == 0 {
                let service = &*self.service;
                tracing::warn!(
                    service,
                    instances,
                    "the registry says instances that can't be used"
                );
            }
        }
    }

    /// Waits until nobody watches any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whole_lists_come_in_order_of_ids_and_only_when_they_differ() {
        let (publisher, mut watch) = Watch::channel("shop");
        let [a, b] = ["a", "b"].map(|id| Instance::new(id, "x"));
        publisher.publish([b.clone(), a.clone(), b.clone().weight(9), Instance::new("", "x")]);
        assert_eq!(*watch.next().await.unwrap(), [a.clone(), b.clone()]);
        publisher.publish([a.clone(), b.clone()]);
        publisher.failed(RegistryError::unavailable("it is gone"));
        assert!(watch.error().is_some());
        assert_eq!(watch.latest().unwrap().len(), 2);
        publisher.publish([a.clone()]);
        publisher.publish([]);
        assert_eq!(watch.next().await.unwrap().len(), 0, "the latest wins");
        assert!(watch.error().is_none());
        let stats = WatchStats { updates: 3, failures: 1, skipped: 1 };
        assert_eq!(watch.stats(), stats);
        drop(publisher);
        assert_eq!(watch.next().await, None);
    }
}
