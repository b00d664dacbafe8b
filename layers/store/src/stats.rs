//! Counters of what the store does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often each thing has happened since the store was built.
        ///
        /// Taken with [`Store::stats`](crate::Store::stats). Every number only grows.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Values that were found in the second tier, valid.
    l2_hits,
    /// Lookups that the second tier had nothing valid for.
    l2_misses,
    /// Operations of the second tier that failed or took longer than its deadline.
    l2_errors,
    /// Operations left out because the second tier was known to be out of reach.
    l2_skipped,
    /// What the second tier returned that was not a frame of ours, was damaged, or came from
    /// another version or codec: each counted as a miss.
    bad_frames,
    /// Origin calls: fills that ran.
    fills,
    /// Callers that waited for somebody else's fill instead of running their own.
    coalesced,
    /// Fills that failed, panicked or ran out of time.
    failed_fills,
    /// Stale values served, because a refresh was running or had failed.
    stale_served,
    /// Fills whose value was not kept, because an invalidation arrived while they ran.
    overtaken,
    /// Invalidations sent to the other nodes, or received from them.
    invalidations,
    /// Invalidations that had to wait for the second tier to come back.
    deferred_invalidations,
    /// Values larger than a tier accepts, and therefore not kept there.
    too_large,
    /// Values that their codec could not encode.
    encode_errors,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}
