//! A fill that finds the earlier value still good keeps it: but not one that was removed, or invalidated,
//! before it began.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::Instant;
use tower_keep_store::{Fill, L1, Store, Ttl, Typed};

const LONG: Duration = Duration::from_secs(600);

fn stale() -> Ttl {
    Ttl::new(Duration::ZERO).stale_if_error(LONG).tags(["t"])
}

/// A fill in a runtime that ends with it, before it has got anything. Returns how to end it.
fn doomed_fill(numbers: &Typed<u64, u32>) -> impl FnOnce() {
    let (numbers, (begun, begins), (end, ends)) =
        (numbers.clone(), mpsc::channel(), mpsc::channel::<()>());
    let thread = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let fill = || async move {
            begun.send(()).unwrap();
            std::future::pending::<io::Result<u32>>().await
        };
        runtime.block_on(async {
            let fill = tokio::spawn(async move { numbers.get_or_try_set(&1, stale(), fill).await });
            while ends.try_recv().is_err() {
                yield_now().await;
            }
            fill.abort();
        });
    });
    begins.recv().unwrap();
    move || {
        end.send(()).unwrap();
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn what_was_removed_while_one_waited_for_another_is_not_kept_for_being_validated() {
    for by_tag in [true, false] {
        let store = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
        let numbers = store.typed::<u64, u32>("number");
        numbers.set(&1, 1, stale()).await.unwrap();
        let end = doomed_fill(&numbers);
        let waiting = tokio::spawn({
            let numbers = numbers.clone();
            let validates = |earlier: Option<Arc<u32>>| async move {
                Ok::<_, io::Error>(earlier.map_or(Fill::value(2), |_| Fill::not_modified()))
            };
            let ttl = Ttl::new(LONG).tags(["t"]);
            async move { numbers.get_or_try_refresh(&1, ttl, validates).await }
        });
        let start = Instant::now();
        while store.stats().coalesced == 0 && start.elapsed() < LONG {
            yield_now().await;
        }
        if by_tag {
            store.invalidate_tag("t").await.unwrap();
        } else {
            numbers.remove(&1).await;
        }
        end();
        assert_eq!(*waiting.await.unwrap().unwrap(), 2);
        assert_eq!(numbers.get(&1).await.as_deref(), Some(&2));
    }
}
