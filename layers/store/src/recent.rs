//! The single keys that this node has removed or set lately.
//!
//! Redis replicates asynchronously, so a replica that takes over may not have got the last of what
//! was acknowledged. A lost invalidation of a tag is noticed by its epoch. The removal of a key is lost
//! together with the removal epoch that it drew: so once the server has been replaced, each node
//! removes again what it removed lately.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::backlog::{Debt, Target};
use crate::tag::Strength;

/// For how long they are remembered: longer than a replica that may take over lags behind.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How many are remembered, and how many bytes they take.
const MOST: usize = 4096;
const MOST_BYTES: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    /// In the order in which they were done.
    done: BTreeMap<u64, Done>,
    places: HashMap<Vec<u8>, u64>,
    next: u64,
    bytes: usize,
    /// What stands before this is to be done again.
    doubtful: u64,
}

#[derive(Debug)]
struct Done {
    key: Vec<u8>,
    strength: Strength,
    at: Instant,
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what the second tier has acknowledged now.
    pub(crate) fn push(&self, key: &[u8], mut strength: Strength) {
        let mut log = self.lock();
        let earlier = log.places.get(key).copied().and_then(|place| log.forget(place));
        if earlier.is_some_and(|earlier| earlier.strength == Strength::Hard) {
            strength = Strength::Hard;
        }
        let (place, at) = (log.next, Instant::now());
        log.next += 1;
        log.bytes += key.len();
        log.places.insert(key.to_vec(), place);
        log.done.insert(place, Done { key: key.to_vec(), strength, at });
        log.keep_bounds();
    }

    /// The server has been replaced by one that may not have got all of it.
    pub(crate) fn doubt(&self) {
        let mut log = self.lock();
        log.doubtful = log.next;
    }

    /// The oldest that are to be done again, at most so many. They stay until they are
    /// [done](Self::push).
    pub(crate) fn doubtful(&self, most: usize) -> Vec<Debt> {
        let log = self.lock();
        let doubtful = log.done.range(..log.doubtful).take(most);
        doubtful
            .map(|(_, done)| Debt {
                target: Target::Key(done.key.clone()),
                strength: done.strength,
            })
            .collect()
    }
}

impl Log {
    fn forget(&mut self, place: u64) -> Option<Done> {
        let done = self.done.remove(&place)?;
        self.places.remove(&done.key);
        self.bytes -= done.key.len();
        Some(done)
    }

    fn keep_bounds(&mut self) {
        while let Some((&place, oldest)) = self.done.first_key_value() {
            let too_many = self.done.len() > MOST || self.bytes > MOST_BYTES;
            if !too_many && oldest.at.elapsed() < REMEMBERED {
                break;
            }
            self.forget(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(recent: &Recent) -> Vec<(Vec<u8>, Strength)> {
        recent
            .doubtful(usize::MAX)
            .into_iter()
            .map(|debt| (key(debt.target), debt.strength))
            .collect()
    }

    fn key(target: Target) -> Vec<u8> {
        match target {
            Target::Key(key) => key,
            Target::Tag(_) => Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_came_before_the_doubt_is_done_again_and_only_once() {
        let recent = Recent::default();
        recent.push(b"a", Strength::Hard);
        recent.push(b"b", Strength::Soft);
        assert!(keys(&recent).is_empty());
        recent.doubt();
        recent.push(b"c", Strength::Hard);
        let both = [(b"a".to_vec(), Strength::Hard), (b"b".to_vec(), Strength::Soft)];
        assert_eq!(keys(&recent), both);
        recent.push(b"a", Strength::Soft);
        assert_eq!(keys(&recent), both[1..]);
        recent.doubt();
        assert_eq!(keys(&recent)[2], (b"a".to_vec(), Strength::Hard), "the stronger counts");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_or_too_much_is_forgotten() {
        let recent = Recent::default();
        recent.push(b"old", Strength::Hard);
        tokio::time::advance(REMEMBERED).await;
        for n in 0..2 * MOST {
            recent.push(format!("{n}").as_bytes(), Strength::Hard);
        }
        recent.doubt();
        assert_eq!(keys(&recent).len(), MOST);
        for n in 0..200 {
            recent.push(&[vec![b'x'; 16 * 1024], vec![n]].concat(), Strength::Hard);
        }
        recent.doubt();
        assert!(keys(&recent).len() < 64);
        let log = recent.lock();
        assert_eq!((log.done.len(), log.bytes <= MOST_BYTES), (log.places.len(), true));
    }
}
