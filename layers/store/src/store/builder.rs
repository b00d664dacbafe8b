//! Settings of a store, checked when it is built.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::runtime::Handle;

use super::Store;
use super::coherence::Coherence;
use super::inner::{FlightsByName, Inner};
use super::packing::Permits;
use super::step::Step;
use crate::backlog::Backlog;
#[cfg(feature = "zstd")]
use crate::compression::Compression;
use crate::early::Beta;
use crate::error::Error;
use crate::fence::Fences;
use crate::l1::{L1, Memory};
use crate::lease::{LONGEST_LEASE, SHORTEST_LEASE};
use crate::pending::Pending;
use crate::recent::Recent;
use crate::remote::Remote;
use crate::removals::Removals;
use crate::stats::Counters;
use crate::tag_table::TagTable;
use crate::time::Clock;

/// Settings of a [`Store`].
///
/// | setting | default |
/// | --- | --- |
/// | [`l1`](Self::l1), [`l2`](Self::l2) | none; at least one is needed |
/// | [`jitter`](Self::jitter) | 5 % |
/// | [`early_refresh`](Self::early_refresh) | 1 |
/// | [`max_fill`](Self::max_fill) | 60 s |
/// | [`lease`](Self::lease) | off |
/// | [`max_tags`](Self::max_tags) | 100,000 |
/// | [`max_backlog`](Self::max_backlog) | 10,000 |
/// | [`max_unsynced`](Self::max_unsynced) | 10 s |
/// | `compress` (feature `zstd`) | off |
#[derive(Debug)]
#[must_use]
pub struct StoreBuilder {
    l1: Option<L1>,
    l2: Option<Arc<dyn Remote>>,
    jitter: u8,
    early: Beta,
    max_fill: Duration,
    lease: Option<Duration>,
    max_tags: usize,
    max_backlog: usize,
    max_unsynced: Duration,
    #[cfg(feature = "zstd")]
    compression: Option<Compression>,
}

impl Default for StoreBuilder {
    fn default() -> Self {
        Self {
            l1: None,
            l2: None,
            jitter: 5,
            early: Beta::ONE,
            max_fill: Duration::from_secs(60),
            lease: None,
            max_tags: 100_000,
            max_backlog: 10_000,
            max_unsynced: Duration::from_secs(10),
            #[cfg(feature = "zstd")]
            compression: None,
        }
    }
}

impl StoreBuilder {
    /// A first tier, in this process.
    pub fn l1(mut self, l1: L1) -> Self {
        self.l1 = Some(l1);
        self
    }

    /// A second tier, shared with other processes, such as `Redis` (feature `redis`).
    pub fn l2(mut self, l2: impl Remote) -> Self {
        self.l2 = Some(Arc::new(l2));
        self
    }

    /// The share of its fresh time, in percent (at most 100), by which the life of a typed value
    /// is shortened at random, unless its [`Ttl`](crate::Ttl) says otherwise.
    pub fn jitter(mut self, percent: u8) -> Self {
        self.jitter = percent.min(100);
        self
    }

    /// How eagerly entries are refreshed while they are still fresh, in the background, so that nobody
    /// waits for an entry that is often asked for.
    ///
    /// Each lookup throws a die: the longer the fill took, the nearer the end, and the more lookups,
    /// the surer one of them begins a refresh ([XFetch](https://doi.org/10.14778/2757807.2757813)). At
    /// 1 and 1,000 lookups a second, what takes 100 ms to fill is refreshed about half a second before
    /// its end. More is earlier, 0 is not at all. Nothing is refreshed in the first half of its time, nor
    /// what took less than a millisecond to fill or was [`set`](crate::Typed::set), and hardly ever what
    /// is asked for more rarely than once in the time of a fill. No value is served that would not have
    /// been otherwise: it costs a few fills more, and no staleness.
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.early = Beta::new(beta);
        self
    }

    /// The longest a fill may take and still be stored in the second tier; removals are remembered
    /// there for twice as long. A slower one is stored in the first tier only.
    pub fn max_fill(mut self, longest: Duration) -> Self {
        self.max_fill = longest;
        self
    }

    /// Single flight across nodes: of all that miss an entry at the same time, one calls the origin, and
    /// the others wait until the value is in the second tier. For both typed values and responses; two
    /// seconds are a good span.
    ///
    /// The node that calls has a lease of `span`, from 300 ms to 60 s, which it renews while the call
    /// runs. If it dies or hangs, another takes over once that has run out; if its call fails, at once,
    /// each with its own call and its own error. After three calls without a value, all that still wait
    /// call for themselves; where the value turns out to be for its caller alone
    /// ([`Fill::pass`](crate::Fill::pass), a response that isn't storable) or too large for the second
    /// tier, at once, and for some seconds nobody waits. A node that was replaced, and comes late,
    /// stores nothing; only where the second tier doesn't answer it, its own first tier keeps what it got.
    ///
    /// A stale value that may be served while it is refreshed is refreshed by one node. Without the
    /// second tier, or when that is full, everybody calls for themselves, as without this.
    ///
    /// A call costs one more trip to the second tier, and one with each third of `span`. One that waits
    /// asks again after a quarter of the time that it has waited, from 5 to 100 ms, and so gets the value
    /// that much later. Values that are quicker to get than to wait for are better off without.
    pub fn lease(mut self, span: Duration) -> Self {
        self.lease = Some(span);
        self
    }

    /// How many tags are remembered that no entry of the first tier carries.
    pub fn max_tags(mut self, tags: usize) -> Self {
        self.max_tags = tags;
        self
    }

    /// How many invalidations are kept while the second tier is out of reach; past that, all of
    /// them become one invalidation of everything.
    pub fn max_backlog(mut self, invalidations: usize) -> Self {
        self.max_backlog = invalidations;
        self
    }

    /// How long a node that has lost touch with the others may go on serving what it holds in its
    /// first tier. It counts from when the loss is noticed; with Redis, that is within four heartbeats
    /// (`RedisBuilder::heartbeat`). Past that, and until it has caught up, a value
    /// is served for so long after this node itself fetched it.
    ///
    /// Once it has caught up, it serves all that it holds again, but for what was invalidated meanwhile.
    ///
    /// So what another node invalidates meanwhile is served for a few seconds at most, and not for as
    /// long as an outage lasts; and during one, the origin is asked for each key by each node no more
    /// often than this. `Duration::ZERO` leaves the first tier out as soon as the loss is noticed;
    /// `Duration::MAX` trusts it until the values expire.
    pub fn max_unsynced(mut self, longest: Duration) -> Self {
        self.max_unsynced = longest;
        self
    }

    /// Compresses large values in the second tier, where that makes them smaller by a tenth or more. The
    /// first tier holds them decoded, as ever. Default: none are.
    ///
    /// It is about what this store writes: it reads both kinds, as does every node with the feature
    /// `zstd`. To a node without it, what is compressed is a miss, counted in
    /// [`bad_frames`](crate::Stats::bad_frames). What takes more than about 0.1 ms is done on Tokio's
    /// threads for blocking work, as many at a time as there are processors.
    #[cfg(feature = "zstd")]
    pub fn compress(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// The store. With a second tier, this must be called inside a Tokio runtime, which has to live
    /// as long as the store is used.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], with what to change, if the settings can't work together.
    pub fn build(self) -> Result<Store, Error> {
        if self.l1.is_none() && self.l2.is_none() {
            let text = "a store needs a tier: call `.l1(L1::bytes(…))`, `.l2(…)` or both";
            return Err(Error::Config(text.into()));
        }
        if self.max_fill.is_zero() {
            return Err(Error::Config("max_fill is zero: no fill could ever be stored".into()));
        }
        if self.lease.is_some() && self.l2.is_none() {
            let text = "a lease is for several nodes, which need a second tier: add `.l2(…)`, or leave `lease` out";
            return Err(Error::Config(text.into()));
        }
        if self.lease.is_some_and(|span| !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&span)) {
            let text = "a lease is from 300 ms, or it could run out before it is renewed, to 60 s, for which a node that died holds up the others";
            return Err(Error::Config(text.into()));
        }
        let runtime = Handle::try_current().ok().filter(|_| self.l2.is_some());
        if self.l2.is_some() && runtime.is_none() {
            let text = "a store with a second tier must be built inside a Tokio runtime";
            return Err(Error::Config(text.into()));
        }
        #[cfg(feature = "zstd")]
        let compression = match self.compression.map(Compression::check).transpose()? {
            Some(_) if self.l2.is_none() => {
                let text = "compress is about the second tier: call `.l2(…)`, too, or leave it out";
                return Err(Error::Config(text.into()));
            }
            compression => compression,
        };
        #[cfg(not(feature = "zstd"))]
        let compression = None;
        let clock = Clock::system();
        let inner = Arc::new(Inner {
            l1: self.l1.map(Memory::new).transpose()?,
            remote: self.l2.clone(),
            runtime,
            tags: TagTable::new(self.max_tags),
            fences: Arc::new(Fences::default()),
            backlog: Backlog::new(self.max_backlog),
            recent: Recent::default(),
            pending: Pending::default(),
            removals: Removals::new(self.l2.as_ref().map_or(0, |remote| remote.buckets())),
            draining: AtomicBool::new(false),
            step: Step::new(clock.now(), self.l2.is_some(), self.max_unsynced),
            counters: Counters::default(),
            clock,
            id: fastrand::u64(..),
            flights: FlightsByName::default(),
            jitter: self.jitter,
            early: self.early,
            max_fill: self.max_fill,
            lease: self.lease,
            compression,
            packing: Permits::default(),
        });
        if let Some(remote) = &inner.remote {
            remote.listen(Arc::new(Coherence::new(&inner)))?;
        }
        Ok(Store::new(inner))
    }
}
