//! Which backend has the fewest requests in flight for its weight: all are compared, by counts that
//! lie side by side.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::lanes::{Lane, Seat, WIDTH};

/// The counts of all backends of a level, and what they are worth.
#[derive(Debug)]
pub(crate) struct Loads {
    rows: Box<[Row]>,
    /// For each backend, at which row and seat its count is.
    places: Box<[(u32, u32)]>,
}

/// A lane, of which some seats may be those of other backends, or of none.
#[derive(Debug)]
struct Row {
    lane: Arc<Lane>,
    /// How much one request in flight counts there.
    shares: [u64; WIDTH],
    /// What that is added to: more than there can be, where the seat isn't one of ours.
    bases: [u64; WIDTH],
    /// Whose seats they are.
    owners: [usize; WIDTH],
    /// From where on none is.
    end: usize,
    kind: Kind,
}

/// How a row's least load can be known.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// All seats are ours, and each request counts the same.
    Even,
    /// All seats are ours.
    Full,
    /// Some are not.
    Part,
}

impl Row {
    fn new(lane: &Arc<Lane>) -> Self {
        let (shares, bases, owners) = ([0; WIDTH], [u64::MAX; WIDTH], [usize::MAX; WIDTH]);
        Self { lane: Arc::clone(lane), shares, bases, owners, end: 0, kind: Kind::Part }
    }

    fn kind(&self) -> Kind {
        if self.bases.contains(&u64::MAX) {
            Kind::Part
        } else if self.shares.iter().all(|share| *share == self.shares[0]) {
            Kind::Even
        } else {
            Kind::Full
        }
    }

    #[inline]
    fn load(&self, at: usize) -> u64 {
        self.bases[at].wrapping_add(self.count(at) * self.shares[at])
    }

    fn count(&self, at: usize) -> u64 {
        self.lane.counts[at].load(Ordering::Relaxed).into()
    }

    /// Whether it is worth to look at each seat for a load below `least`.
    #[inline]
    fn may_have_less_than(&self, least: u64) -> bool {
        match self.kind {
            Kind::Even => least_of(|at| self.count(at)) * self.shares[0] < least,
            Kind::Full => least_of(|at| self.count(at) * self.shares[at]) < least,
            Kind::Part => true,
        }
    }
}

impl Loads {
    /// Of backends of which each has a weight above 0, and a seat.
    pub(crate) fn new<'a>(backends: impl Iterator<Item = (u16, &'a Seat)>) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        let places = backends.zip(0..).map(|((weight, seat), owner)| {
            let known = rows.iter().rposition(|row| Arc::ptr_eq(&row.lane, &seat.lane));
            let row = known.unwrap_or_else(|| {
                rows.push(Row::new(&seat.lane));
                rows.len() - 1
            });
            let at = seat.at % WIDTH;
            rows[row].shares[at] = (1 << 32) / u64::from(weight.max(1));
            rows[row].bases[at] = 0;
            rows[row].owners[at] = owner;
            rows[row].end = rows[row].end.max(at + 1);
            (u32::try_from(row).unwrap_or_default(), u32::try_from(at).unwrap_or_default())
        });
        let places = places.collect();
        for row in &mut rows {
            row.kind = row.kind();
        }
        Self { rows: rows.into(), places }
    }

    /// The one with the least load of those that `can_take` another; of those that are equal, the
    /// first from `first` on.
    pub(crate) fn least(&self, first: usize, can_take: impl Fn(usize) -> bool) -> Option<usize> {
        let (row, at) = self.places.get(first)?;
        let (row, at) = (*row as usize, *at as usize % WIDTH);
        let mut search = Search { can_take, least: u64::MAX, best: None };
        let (before, from) = self.rows.split_at(row.min(self.rows.len()));
        let (own, after) = from.split_first()?;
        // One without any can't be outdone: the rest isn't looked at.
        if search.look(own, at..at + 1) {
            return search.best;
        }
        let is_worth_it = own.may_have_less_than(search.least);
        let _ = (is_worth_it && search.look(own, at..own.end))
            || after.iter().chain(before).any(|row| search.look_into(row))
            || (is_worth_it && search.look(own, 0..at));
        search.best
    }
}

/// The least of as many as there are in a row. Without a branch in it, that takes few cycles.
#[inline]
fn least_of(value: impl Fn(usize) -> u64) -> u64 {
    let (mut even, mut odd) = (u64::MAX, u64::MAX);
    for pair in 0..WIDTH / 2 {
        even = even.min(value(2 * pair));
        odd = odd.min(value(2 * pair + 1));
    }
    even.min(odd)
}

struct Search<F> {
    can_take: F,
    least: u64,
    best: Option<usize>,
}

impl<F: Fn(usize) -> bool> Search<F> {
    /// As [`look`](Self::look), at all of `row`, if there is anything to be found.
    #[inline]
    fn look_into(&mut self, row: &Row) -> bool {
        row.may_have_less_than(self.least) && self.look(row, 0..row.end)
    }

    /// Looks at a part of `row`. Says whether it has found one without any load.
    fn look(&mut self, row: &Row, part: Range<usize>) -> bool {
        for at in part {
            // It is always less.
            let at = at % WIDTH;
            let load = row.load(at);
            if load < self.least && (self.can_take)(row.owners[at]) {
                (self.least, self.best) = (load, Some(row.owners[at]));
                if load == 0 {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::Lanes;

    proptest! {
        /// Of a level whose seats are among those of others: the first of those that have least, in
        /// the order of seats, from the first on.
        #[test]
        fn the_least_loaded_is_found_and_of_equals_the_next_in_turn(
            backends in prop::collection::vec((0u32..4, 1u16..4, any::<bool>(), 0u8..4), 1..80),
            first in any::<prop::sample::Index>(),
        ) {
            let lanes = Lanes::default();
            let seats: Vec<_> = backends.iter().map(|_| lanes.seat()).collect();
            for ((count, ..), seat) in backends.iter().zip(&seats) {
                seat.count().store(*count, Ordering::Relaxed);
            }
            let ours = backends.iter().zip(&seats).filter(|((.., kind), _)| *kind > 0);
            let ours: Vec<_> = ours.map(|((count, weight, is_up, _), seat)| (*count, *weight, *is_up, seat)).collect();
            let loads = Loads::new(ours.iter().map(|(_, weight, _, seat)| (*weight, *seat)));
            if ours.is_empty() {
                prop_assert_eq!(loads.least(0, |_| true), None);
                return Ok(());
            }
            let first = first.index(ours.len());
            let found = loads.least(first, |at| ours[at].2);
            let load = |at: usize| u64::from(ours[at].0) * ((1 << 32) / u64::from(ours[at].1));
            let in_turn = (first..ours.len()).chain(0..first).filter(|at| ours[*at].2);
            prop_assert_eq!(found, in_turn.min_by_key(|at| load(*at)));
        }
    }
}
