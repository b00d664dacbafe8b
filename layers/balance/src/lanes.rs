//! How many requests backends have in flight, side by side in memory, for strategies that compare
//! all of them: a hundred counts are seven cache lines then, and not a hundred.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many counts are in a cache line.
pub(crate) const WIDTH: usize = 16;

/// A cache line of counts.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Lane {
    pub(crate) counts: [AtomicU32; WIDTH],
    /// A bit for each seat that somebody has.
    taken: AtomicU16,
}

/// All lanes of a pool. They are as many as it ever had use for at a time.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<Vec<Arc<Lane>>>);

impl Lanes {
    /// A place for one more count, that is 0.
    pub(crate) fn seat(&self) -> Seat {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only those who hold the lock take seats; others may leave them meanwhile.
        let free = lanes.iter().find_map(|lane| Some((lane, lane.free()?)));
        let (lane, at) = if let Some((lane, at)) = free {
            (Arc::clone(lane), at)
        } else {
            let lane = Arc::new(Lane::default());
            lanes.push(Arc::clone(&lane));
            (lane, 0)
        };
        lane.taken.fetch_or(1 << at, Ordering::Relaxed);
        Seat { lane, at }
    }
}

impl Lane {
    fn free(&self) -> Option<usize> {
        // What was counted there before is to be over, seen from here.
        let at = self.taken.load(Ordering::Acquire).trailing_ones() as usize;
        (at < WIDTH).then_some(at)
    }
}

/// A place in a lane. It is somebody else's when it is dropped, so its count must be 0 then.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) lane: Arc<Lane>,
    pub(crate) at: usize,
}

impl Seat {
    pub(crate) fn count(&self) -> &AtomicU32 {
        // It is always less.
        &self.lane.counts[self.at % WIDTH]
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lane.taken.fetch_and(!(1 << self.at), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_had_by_one_at_a_time_and_then_by_the_next() {
        let lanes = Lanes::default();
        let mut seats: Vec<Seat> = (0..40).map(|_| lanes.seat()).collect();
        for (value, seat) in (0..).zip(&seats) {
            seat.count().store(value, Ordering::Relaxed);
        }
        for (value, seat) in (0..).zip(&seats) {
            assert_eq!(seat.count().load(Ordering::Relaxed), value);
        }
        let left = seats.remove(20);
        let (lane, at) = (Arc::clone(&left.lane), left.at);
        drop(left);
        let next = lanes.seat();
        assert!(Arc::ptr_eq(&next.lane, &lane));
        assert_eq!(next.at, at);
        assert_eq!(lanes.0.lock().unwrap().len(), 3);
    }
}
