//! One fill for many keys.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/counting.rs"]
mod counting;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use counting::Counting;
use futures_util::future::join;
use tokio::sync::Notify;
use tower_keep_store::{Fill, FillError, L1, Store, Ttl, Typed};

type Numbers = Typed<u64, u64>;

fn numbers() -> Numbers {
    Store::builder().l1(L1::bytes(16 << 20)).jitter(0).build().unwrap().typed("number")
}

/// Answers ten times the key, and remembers what it was asked for.
#[derive(Clone, Default)]
struct Origin {
    asked: Arc<Mutex<Vec<Vec<u64>>>>,
    /// If there is one, it is waited for.
    go: Option<Arc<Notify>>,
}

impl Origin {
    fn held() -> (Self, Arc<Notify>) {
        let go = Arc::new(Notify::new());
        (Self { go: Some(Arc::clone(&go)), ..Self::default() }, go)
    }

    fn asked(&self) -> Vec<Vec<u64>> {
        self.asked.lock().unwrap().clone()
    }

    async fn is_asked(&self, times: usize) {
        while self.asked().len() < times {
            tokio::task::yield_now().await;
        }
    }

    async fn get(&self, numbers: &Numbers, keys: &[u64]) -> Vec<Result<u64, FillError>> {
        let origin = self.clone();
        let fill = move |keys: Vec<u64>| {
            origin.asked.lock().unwrap().push(keys.clone());
            let go = origin.go.clone();
            async move {
                if let Some(go) = go {
                    go.notified().await;
                }
                Ok::<_, io::Error>(keys.into_iter().rev().map(|key| (key, 10 * key)))
            }
        };
        let found = numbers.get_or_try_set_many(keys.to_vec(), Ttl::secs(60), fill).await;
        found.into_iter().map(|found| found.map(|value| *value)).collect()
    }
}

fn all(found: Vec<Result<u64, FillError>>) -> Vec<u64> {
    found.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn all_that_is_missing_is_filled_by_one_call() {
    let (numbers, origin) = (numbers(), Origin::default());
    numbers.set(&2, 7, Ttl::secs(60)).await.unwrap();
    assert_eq!(all(origin.get(&numbers, &[3, 2, 1, 3]).await), [30, 7, 10, 30]);
    assert_eq!(origin.asked(), [[3, 1]]);
    assert_eq!(all(origin.get(&numbers, &[1, 2, 3]).await), [10, 7, 30]);
    assert_eq!(origin.asked().len(), 1, "everything is stored");
    assert!(origin.get(&numbers, &[]).await.is_empty());
}

#[tokio::test]
async fn many_keys_are_filled_some_hundred_at_a_time() {
    let (numbers, origin) = (numbers(), Origin::default());
    let keys: Vec<u64> = (0..600).collect();
    let found = all(origin.get(&numbers, &keys).await);
    assert!(keys.iter().zip(found).all(|(key, found)| found == 10 * key));
    let asked = origin.asked();
    assert!(asked.len() >= 3 && asked.iter().all(|keys| keys.len() <= 256), "{asked:?}");
    assert_eq!(asked.concat().len(), 600, "each once");
}

#[tokio::test]
async fn a_fill_for_one_key_and_one_for_many_are_shared() {
    let (numbers, go) = (numbers(), Arc::new(Notify::new()));
    let alone = {
        let go = Arc::clone(&go);
        numbers.get_or_try_set(&1, Ttl::secs(60), move || async move {
            go.notified().await;
            Ok::<_, io::Error>(5)
        })
    };
    let origin = Origin::default();
    let together = async {
        let found = origin.get(&numbers, &[1, 2]);
        let release = async {
            // It doesn't wait for the other's fill.
            origin.is_asked(1).await;
            go.notify_one();
        };
        join(found, release).await.0
    };
    let (alone, together) = join(alone, together).await;
    assert_eq!((*alone.unwrap(), all(together)), (5, vec![5, 20]));
    assert_eq!(origin.asked(), [[2]]);

    let (origin, go) = Origin::held();
    let together = origin.get(&numbers, &[3, 4]);
    let alone = async {
        origin.is_asked(1).await;
        let found = numbers.get_or_try_set(&4, Ttl::secs(60), || async {
            panic!("somebody else's fill runs") as Result<u64, io::Error>
        });
        let release = async {
            tokio::task::yield_now().await;
            go.notify_one();
        };
        join(found, release).await.0
    };
    let (together, alone) = join(together, alone).await;
    assert_eq!((all(together), *alone.unwrap()), (vec![30, 40], 40));
}

#[tokio::test]
async fn calls_whose_keys_cross_do_not_wait_for_each_other() {
    let (numbers, origin) = (numbers(), Origin::default());
    let calls = (0..20).map(|call| {
        let (numbers, origin) = (numbers.clone(), origin.clone());
        let keys: Vec<u64> = (0..50).map(|key| (key * 7 + call * 11) % 50).collect();
        tokio::spawn(async move {
            let found = all(origin.get(&numbers, &keys).await);
            assert!(keys.iter().zip(found).all(|(key, found)| found == 10 * key));
        })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        tokio::time::timeout(Duration::from_secs(10), call).await.unwrap().unwrap();
    }
    assert_eq!(origin.asked().concat().len(), 50, "each key was filled once");
}

#[tokio::test]
async fn keys_that_a_fill_leaves_out_are_told_so() {
    let numbers = numbers();
    let fill = |keys: Vec<u64>| async move {
        let odd = keys.into_iter().filter(|key| key % 2 == 1);
        // One that nobody asked for, and one that isn't to be stored.
        let answers = odd.map(|key| (key, Fill::value(key))).chain([(6, Fill::value(6))]);
        Ok::<_, io::Error>(answers.chain([(4, Fill::pass(4))]))
    };
    let found = numbers.get_or_try_set_many([1, 2, 3, 4], Ttl::secs(60), fill).await;
    assert!(matches!(found[1], Err(FillError::Missing)), "{found:?}");
    let found: Vec<_> = found.into_iter().filter_map(|value| value.ok().map(|it| *it)).collect();
    assert_eq!(found, [1, 3, 4]);
    assert!(numbers.get(&6).await.is_none() && numbers.get(&4).await.is_none());
    assert_eq!(numbers.get(&3).await.as_deref(), Some(&3));
}

#[tokio::test]
async fn a_fill_that_fails_or_panics_tells_all_its_keys() {
    let numbers = numbers();
    let stale = Ttl::new(Duration::from_millis(1)).stale_if_error(Duration::from_secs(600));
    numbers.set(&3, 33, stale).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let fails = |_: Vec<u64>| async { Err::<Vec<(u64, u64)>, _>(io::Error::other("broken")) };
    let found = numbers.get_or_try_set_many([1, 2, 3], Ttl::secs(60), fails).await;
    for found in &found[..2] {
        let error = found.as_ref().unwrap_err();
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().to_string(), "broken");
    }
    assert_eq!(**found[2].as_ref().unwrap(), 33, "stale");

    let panics = |_: Vec<u64>| async { panic!("a bug") as Result<Vec<(u64, u64)>, io::Error> };
    let found = numbers.get_or_try_set_many([1, 2], Ttl::secs(60), panics).await;
    assert!(found.iter().all(|found| matches!(found, Err(FillError::Panicked))), "{found:?}");

    let numbers = numbers.hard_timeout(Duration::from_millis(20));
    let hangs = |_: Vec<u64>| std::future::pending::<Result<Vec<(u64, u64)>, io::Error>>();
    let found = numbers.get_or_try_set_many([1, 2], Ttl::secs(60), hangs).await;
    assert!(found.iter().all(|found| matches!(found, Err(FillError::TimedOut))), "{found:?}");
}

#[tokio::test]
async fn a_key_that_is_removed_meanwhile_is_not_stored() {
    let numbers = numbers();
    let (origin, go) = Origin::held();
    let found = origin.get(&numbers, &[1, 2, 3]);
    let remove = async {
        origin.is_asked(1).await;
        numbers.remove(&2).await;
        go.notify_one();
    };
    assert_eq!(all(join(found, remove).await.0), [10, 20, 30]);
    let found = numbers.get_many(&[1, 2, 3]).await;
    let found: Vec<_> = found.iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true]);
}

#[tokio::test]
async fn a_caller_that_is_cancelled_cancels_nothing() {
    let numbers = numbers();
    let (origin, go) = Origin::held();
    let caller = tokio::spawn({
        let (origin, numbers) = (origin.clone(), numbers.clone());
        async move { origin.get(&numbers, &[1, 2]).await }
    });
    origin.is_asked(1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    go.notify_one();
    while numbers.get(&1).await.is_none() || numbers.get(&2).await.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(origin.asked(), [[1, 2]]);
}

#[tokio::test]
async fn with_a_second_tier_that_has_nothing_there_is_one_call_too() {
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(Counting::default()).build().unwrap();
    let (numbers, origin) = (store.typed("number"), Origin::default());
    let keys: Vec<u64> = (0..100).collect();
    assert_eq!(all(origin.get(&numbers, &keys).await)[99], 990);
    assert_eq!(origin.asked().concat().len(), 100);
}
