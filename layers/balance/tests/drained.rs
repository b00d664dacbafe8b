//! Once a backend that was removed is said to be drained, nothing begins there any more.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use futures_util::FutureExt;
use tower_keep_balance::{Backend, Hash, Pool, Strategy, WhenNoneHealthy};

/// A target that is closed when it is drained, as a database's pool of connections is.
#[derive(Default)]
struct Target {
    is_closed: AtomicBool,
}

fn backend(number: u64) -> Backend<Arc<Target>> {
    Backend::new(format!("{number}"), Arc::default())
}

#[test]
fn nothing_is_picked_that_was_said_to_be_drained() {
    let strategies = [
        Strategy::RoundRobin,
        Strategy::LeastConnections,
        Strategy::default(),
        Strategy::Hash(Hash::default().bounded_load(150)),
    ];
    for strategy in strategies {
        for limit in [u32::MAX, 100] {
            // All are unhealthy at times, and then all are used.
            let pool = Pool::builder().strategy(strategy).backend(backend(0).max_in_flight(limit));
            let pool = pool.when_none_healthy(WhenNoneHealthy::UseAll).build().unwrap();
            let (ended, picks) = (AtomicBool::new(false), AtomicU64::new(0));
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !ended.load(SeqCst) {
                            let pick = pool.pick().unwrap();
                            assert!(!pick.is_closed.load(SeqCst), "{pick:?} {strategy:?}");
                            picks.fetch_add(1, SeqCst);
                        }
                    });
                }
                let mut number = 0;
                while picks.load(SeqCst) < 50_000 && number < 50_000 {
                    number += 1;
                    pool.insert(backend(number).max_in_flight(limit));
                    if number % 3 == 0 {
                        pool.set_healthy(&number.to_string(), false);
                    }
                    let removed = pool.remove(&(number - 1).to_string()).unwrap();
                    while removed.drained().now_or_never().is_none() {
                        std::thread::yield_now();
                    }
                    removed.target().is_closed.store(true, SeqCst);
                }
                ended.store(true, SeqCst);
            });
            assert!(pool.status().iter().all(|it| it.in_flight == 0));
        }
    }
}
