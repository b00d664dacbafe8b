//! The removal epochs this process knows: by them it notices removals of keys that it never heard of.
//!
//! A tag has an epoch of its own; for each single key that would be too much. So each key belongs to a
//! bucket, by what the second tier makes of its bytes, and a bucket's *removal epoch* changes whenever
//! a key of it is removed, replaced or made stale. An announcement tells the epoch that the bucket has
//! now, and the one it had before. As long as that is the one this node knows, it has heard all. If it
//! isn't, an announcement was lost, about some key of the bucket: what the first tier holds of the
//! bucket is *doomed*. The same holds where the second tier, asked, names another epoch.
//!
//! Only whether two epochs are equal counts, never which is higher: one that was lost, with its
//! server or by eviction, or that a failover has set back, is another one, and so costs misses and
//! hides nothing.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What no bucket has.
const UNKNOWN: u64 = 0;

#[derive(Debug)]
pub(crate) struct Removals {
    table: Mutex<Table>,
    /// Held by the one who takes what is doomed out of the first tier.
    sweeping: Mutex<()>,
}

#[derive(Debug)]
struct Table {
    /// By bucket.
    known: Box<[u64]>,
    /// The buckets that are yet to be taken out of the first tier.
    doomed: HashSet<u16>,
    /// Whether somebody has been told to do so.
    is_called: bool,
}

/// What the second tier said of a bucket, and what was known here before it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) bucket: u16,
    pub(crate) asked: u64,
    pub(crate) found: u64,
}

impl Removals {
    /// A table of so many buckets, of which nothing is known. It takes 8 bytes for each.
    pub(crate) fn new(buckets: u16) -> Self {
        let known = vec![UNKNOWN; usize::from(buckets)].into();
        let table = Table { known, doomed: HashSet::new(), is_called: false };
        Self { table: Mutex::new(table), sweeping: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many buckets there are.
    pub(crate) fn buckets(&self) -> u16 {
        u16::try_from(self.lock().known.len()).unwrap_or(u16::MAX)
    }

    /// The epochs of `buckets` that are known here.
    pub(crate) fn known(&self, buckets: &[u16]) -> Vec<u64> {
        let table = self.lock();
        buckets.iter().map(|bucket| table.epoch(*bucket)).collect()
    }

    /// A removal that changed the epoch of `bucket` from `before` to `epoch` was announced. If an
    /// earlier announcement was missed, the bucket is doomed.
    pub(crate) fn heard(&self, bucket: u16, before: u64, epoch: u64) -> Learned {
        let mut table = self.lock();
        let known = table.epoch(bucket);
        let mut learned = Learned::default();
        if known != before || known == UNKNOWN {
            learned.add(known);
            table.doomed.insert(bucket);
        }
        table.learn(bucket, epoch);
        learned
    }

    /// Those of `readings` that differ from what is known. Where something was heard of the bucket
    /// since it was asked for, that counts: it said itself whether anything was missed before it.
    pub(crate) fn differing(&self, readings: &[Reading]) -> Vec<Reading> {
        let table = self.lock();
        readings.iter().filter(|reading| table.differs(**reading)).copied().collect()
    }

    /// Learns what the second tier said, and dooms the buckets [of which it is
    /// news](Self::differing).
    pub(crate) fn learn(&self, readings: &[Reading]) -> Learned {
        let mut table = self.lock();
        let mut learned = Learned::default();
        for &Reading { bucket, asked, found } in readings {
            if table.differs(Reading { bucket, asked, found }) {
                learned.add(asked);
                table.learn(bucket, found);
                table.doomed.insert(bucket);
            }
        }
        learned
    }

    /// Whether somebody has to be told to [sweep](Self::sweep): not, if one has been who hasn't begun.
    pub(crate) fn call_for_sweep(&self) -> bool {
        let mut table = self.lock();
        !table.doomed.is_empty() && !std::mem::replace(&mut table.is_called, true)
    }

    /// Lets `sweep` take the doomed buckets out of the first tier. When this returns, all that were
    /// doomed when it was called are gone, whoever took them.
    pub(crate) fn sweep(&self, sweep: impl FnOnce(&HashSet<u16>)) {
        let _alone = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let doomed = {
            let mut table = self.lock();
            table.is_called = false;
            std::mem::take(&mut table.doomed)
        };
        if !doomed.is_empty() {
            sweep(&doomed);
        }
    }
}

/// How many buckets were doomed, and how many of them because something was missed: not those of
/// which nothing had been known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(crate) struct Learned {
    pub(crate) doomed: u64,
    pub(crate) missed: u64,
}

impl Learned {
    fn add(&mut self, known: u64) {
        self.doomed += 1;
        self.missed += u64::from(known != UNKNOWN);
    }
}

impl Table {
    fn epoch(&self, bucket: u16) -> u64 {
        self.known.get(usize::from(bucket)).copied().unwrap_or(UNKNOWN)
    }

    fn differs(&self, Reading { bucket, asked, found }: Reading) -> bool {
        self.epoch(bucket) == asked && (asked != found || asked == UNKNOWN)
    }

    fn learn(&mut self, bucket: u16, epoch: u64) {
        if let Some(known) = self.known.get_mut(usize::from(bucket)) {
            *known = epoch;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use proptest::prelude::*;

    fn doomed(removals: &Removals) -> Vec<u16> {
        let mut all = Vec::new();
        removals.sweep(|doomed| all.extend(doomed));
        all.sort_unstable();
        all
    }

    fn reading(bucket: u16, asked: u64, found: u64) -> Reading {
        Reading { bucket, asked, found }
    }

    #[test]
    fn what_was_never_known_is_doomed_once() {
        let removals = Removals::new(2);
        assert_eq!(removals.learn(&[reading(0, 0, 7)]), Learned { doomed: 1, missed: 0 });
        let of_the_other = removals.heard(1, 0, 8);
        assert_eq!(of_the_other.doomed, 1, "a bucket without an epoch may have lost one");
        assert_eq!(doomed(&removals), [0, 1]);
        assert_eq!(removals.learn(&[reading(0, 7, 7), reading(1, 8, 8)]), Learned::default());
        assert!(doomed(&removals).is_empty());
    }

    #[test]
    fn an_announcement_that_does_not_follow_the_last_dooms_its_bucket_alone() {
        let removals = Removals::new(3);
        let _ = removals.learn(&[reading(0, 0, 10), reading(1, 0, 10), reading(2, 0, 10)]);
        doomed(&removals);
        let missed = |bucket, before, epoch| removals.heard(bucket, before, epoch).missed == 1;
        assert!(!missed(0, 10, 11));
        assert!(!missed(0, 11, 12));
        assert!(missed(0, 13, 14));
        assert!(!missed(0, 14, 15), "from there on, nothing was");
        assert!(missed(1, 9, 11), "it was set back");
        assert_eq!(doomed(&removals), [0, 1]);
        assert_eq!(removals.known(&[0, 1, 2]), [15, 11, 10]);
    }

    #[test]
    fn an_answer_that_an_announcement_has_overtaken_changes_nothing() {
        let removals = Removals::new(1);
        let _ = removals.learn(&[reading(0, 0, 10)]);
        doomed(&removals);
        assert_eq!(removals.heard(0, 10, 11), Learned::default());
        for found in [10, 11, 12] {
            let answer = [reading(0, 10, found)];
            assert!(removals.differing(&answer).is_empty());
            assert_eq!(removals.learn(&answer), Learned::default());
        }
        assert_eq!((removals.known(&[0]), doomed(&removals)), (vec![11], vec![]));
    }

    #[test]
    fn one_sweep_is_called_for_at_a_time() {
        let removals = Removals::new(2);
        assert!(!removals.call_for_sweep(), "nothing is doomed");
        let _ = removals.heard(0, 1, 2);
        assert!(removals.call_for_sweep());
        let _ = removals.heard(1, 1, 2);
        assert!(!removals.call_for_sweep(), "that one will do");
        removals.sweep(|doomed| {
            assert_eq!(doomed.len(), 2);
            let _ = removals.heard(1, 3, 4);
            assert!(removals.call_for_sweep(), "it has begun");
        });
        assert_eq!(doomed(&removals), [1]);
    }

    #[test]
    fn a_bucket_that_does_not_exist_is_no_bucket() {
        let removals = Removals::new(1);
        assert_eq!(removals.heard(1, 0, 5).doomed, 1);
        assert_eq!(removals.known(&[1]), [0]);
    }

    /// What happens to one bucket, as its server and a node see it.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A key is removed, and this node hears of it in its turn, or never.
        Remove {
            heard: bool,
        },
        /// The next announcement on its way arrives.
        Arrive,
        /// The node asks, and so many announcements arrive before the answer.
        Ask {
            meanwhile: u8,
        },
        /// The server loses the epoch; or a failover sets it back to that before the last removal.
        Lose,
        SetBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => any::<bool>().prop_map(|heard| Step::Remove { heard }),
            3 => Just(Step::Arrive),
            2 => (0..3u8).prop_map(|meanwhile| Step::Ask { meanwhile }),
            1 => Just(Step::Lose),
            1 => Just(Step::SetBack),
        ]
    }

    /// Lets the next announcement arrive; what was missed is gone if that shows that something was.
    fn arrive(removals: &Removals, way: &mut VecDeque<(u64, u64)>, missed: &mut Vec<u64>) {
        if let Some((before, epoch)) = way.pop_front()
            && removals.heard(0, before, epoch).doomed > 0
        {
            missed.clear();
        }
    }

    proptest! {
        /// Once all that is on its way has arrived, and the node has asked after that, no removal of
        /// which it missed the announcement is one that it hasn't made up for.
        #[test]
        fn no_removal_stays_hidden(steps in proptest::collection::vec(step(), 0..40)) {
            let removals = Removals::new(1);
            let (mut server, mut last, mut drawn) = (0, 0, 0);
            let (mut way, mut missed) = (VecDeque::new(), vec![0]);
            let end = [Step::Arrive; 40].into_iter().chain([Step::Ask { meanwhile: 0 }]);
            for step in steps.into_iter().chain(end) {
                match step {
                    Step::Remove { heard } => {
                        drawn += 1;
                        (last, server) = (server, drawn);
                        if heard { way.push_back((last, server)) } else { missed.push(server) }
                    }
                    Step::Arrive => arrive(&removals, &mut way, &mut missed),
                    Step::Ask { meanwhile } => {
                        let asked = removals.known(&[0])[0];
                        if server == 0 {
                            drawn += 1;
                            server = drawn;
                        }
                        for _ in 0..meanwhile {
                            arrive(&removals, &mut way, &mut missed);
                        }
                        if removals.learn(&[reading(0, asked, server)]).doomed > 0 {
                            missed.clear();
                        }
                    }
                    Step::Lose => server = 0,
                    // What came after the last but one has never been, for the second tier.
                    Step::SetBack => {
                        missed.retain(|epoch| *epoch <= last);
                        server = last;
                    }
                }
            }
            prop_assert!(missed.is_empty());
        }
    }
}
