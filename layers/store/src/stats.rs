//! Counters of what the store does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::time::Timestamp;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often each thing has happened since the store was built, and how it stands.
        ///
        /// Taken with [`Store::stats`](crate::Store::stats). Counts only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Whether this node is in step: hears what the others announce, and has caught up with
            /// what it missed. Always, without a second tier.
            pub in_step: bool,
            /// Since when it has, or hasn't, been.
            pub in_step_since: Timestamp,
            /// Invalidations made here that the second tier hasn't got yet. While there are some, it
            /// isn't used for anything else.
            pub owed: u64,
            /// Whether the second tier is being left alone, after failures in a row.
            pub l2_resting: bool,
            /// How often that has begun.
            pub l2_rests: u64,
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            /// The counts; how things stand is for the caller to add.
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.sum(),)* ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Values that were found in the first tier, valid.
    l1_hits,
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
    /// Leases taken: fills of which the other nodes know.
    leases,
    /// Fills that waited for that of another node.
    lease_waits,
    /// Leases that another node took over, or a removal or another value ended, before the fill did.
    lost_leases,
    /// Fills that failed, panicked or ran out of time.
    failed_fills,
    /// Stale values served, because a refresh was running or had failed.
    stale_served,
    /// Refreshes that began while the value was still fresh.
    early_refreshes,
    /// Stale values served without a refresh, because one had failed a moment ago.
    retries_paused,
    /// Fills whose value was not kept, because an invalidation arrived while they ran.
    overtaken,
    /// Invalidations sent to the other nodes, or received from them.
    invalidations,
    /// Invalidations that had to wait for the second tier to come back.
    deferred_invalidations,
    /// Times that this node fell out of step: announcements may have been missed.
    losses,
    /// Buckets of keys, such as 1 in 1,024 of all, that were dropped from the first tier because
    /// this node had missed a removal in them.
    missed_buckets,
    /// Values in the first tier that were not served, because this node had been out of step for too
    /// long to vouch for them.
    unvouched,
    /// Values larger than a tier accepts, and therefore not kept there.
    too_large,
    /// Values that their codec could not encode.
    encode_errors,
    /// Values that were compressed for the second tier (`StoreBuilder::compress`).
    compressed,
    /// How many bytes those had.
    compressed_from_bytes,
    /// How many bytes were left of them.
    compressed_to_bytes,
}

/// Something that happens in a layer, for the store to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Count {
    /// An origin was called.
    Fill,
    /// A caller waited for another's fill.
    Coalesced,
    /// A fill failed.
    FailedFill,
    /// A stale value was served.
    StaleServed,
    /// A stale value was served without a refresh, because one had failed a moment ago.
    RetryPaused,
}

impl Counters {
    pub(crate) fn count(&self, what: Count) {
        let counter = match what {
            Count::Fill => &self.fills,
            Count::Coalesced => &self.coalesced,
            Count::FailedFill => &self.failed_fills,
            Count::StaleServed => &self.stale_served,
            Count::RetryPaused => &self.retries_paused,
        };
        counter.add();
    }
}

/// How many parts a counter has.
const STRIPES: usize = 16;

/// A counter in parts, so that threads which count at the same time don't wait for each other's
/// cache lines.
#[derive(Debug, Default)]
pub(crate) struct Counter([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    #[inline]
    pub(crate) fn add_many(&self, many: u64) {
        thread_local! {
            static STRIPE: usize = fastrand::usize(..STRIPES);
        }
        self.0[STRIPE.with(|stripe| *stripe)].0.fetch_add(many, Relaxed);
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(Relaxed)).sum()
    }
}
