//! A pool that changes while it is in use.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tower_keep_balance::{
    Backend, BuildError, Hash, PickError, Pool, Strategy, WhenNoneHealthy, Wish,
};

fn rules() -> [Strategy; 6] {
    [
        Strategy::RoundRobin,
        Strategy::Random,
        Strategy::LeastConnections,
        Strategy::TwoChoices,
        Strategy::default(),
        Strategy::Hash(Hash::default()),
    ]
}

fn pool(rule: Strategy, names: &[&str]) -> Pool<String> {
    let backends = names.iter().map(|name| Backend::new(*name, name.to_string()));
    Pool::builder().strategy(rule).backends(backends).build().unwrap()
}

/// Where time stands still, all answers are as quick: else one during which this thread had to wait would
/// be taken for slow.
fn names(pool: &Pool<String>, picks: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..picks)
        .map(|at| pool.pick_by(Wish::new().hash(at as u64)).unwrap().to_string())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn an_empty_pool_says_so_and_can_be_filled() {
    for rule in rules() {
        let pool = pool(rule, &[]);
        assert_eq!(pool.pick().unwrap_err(), PickError::Empty);
        pool.insert(Backend::new("a", "a".to_owned()).weight(0));
        assert_eq!(pool.pick().unwrap_err(), PickError::Empty, "it has no weight");
        assert!(pool.set_weight("a", 1));
        assert_eq!(*pool.pick().unwrap(), "a");
        assert!(!pool.set_weight("b", 1));
    }
}

#[test]
fn a_name_stands_for_one_backend() {
    let twice = ["a", "a"].map(|name| Backend::new(name, ()));
    let error = Pool::builder().backends(twice).build().unwrap_err();
    assert_eq!(error, BuildError::DuplicateName("a".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_removed_gets_nothing_more() {
    for rule in rules() {
        let pool = pool(rule, &["a", "b", "c"]);
        assert_eq!(names(&pool, 1_000), ["a", "b", "c"], "{rule:?}");
        assert!(pool.remove("b").is_some());
        assert!(pool.remove("b").is_none());
        assert_eq!(names(&pool, 1_000), ["a", "c"], "{rule:?}");
    }
}

#[tokio::test]
async fn a_removed_backend_finishes_what_it_has() {
    let pool = pool(Strategy::RoundRobin, &["a"]);
    let pick = pool.pick().unwrap();
    let removed = pool.remove("a").unwrap();
    assert_eq!((removed.in_flight(), &**pick), (1, "a"));
    let waits = tokio::spawn(async move { removed.drained().await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!waits.is_finished());
    drop(pick);
    waits.await.unwrap();
    assert_eq!(pool.pick().unwrap_err(), PickError::Empty);
}

#[test]
fn an_update_keeps_what_is_known_and_its_counters() {
    let pool = pool(Strategy::LeastConnections, &["a", "b"]);
    let held: Vec<_> = (0..10).map(|_| pool.pick().unwrap()).collect();
    let before = pool.status();
    let again = ["a", "b", "c"].map(|name| Backend::new(name, "new".to_owned()).weight(2));
    pool.update(again);
    let after = pool.status();
    assert_eq!((after[0].id, after[0].in_flight, after[0].weight), (before[0].id, 5, 2));
    assert_eq!(after.len(), 3);
    // The newcomer is filled up to what the others have.
    let more: Vec<_> = (0..5).map(|_| pool.pick().unwrap()).collect();
    assert!(more.iter().all(|pick| pick.name() == "c"));
    assert_eq!(held[0].as_str().len(), 1, "the target is the one that was there");
}

#[test]
fn another_under_the_same_name_is_another() {
    let pool = pool(Strategy::RoundRobin, &["a"]);
    let old = pool.pick().unwrap();
    let id = pool.insert(Backend::new("a", "other".to_owned()));
    let new = pool.pick().unwrap();
    assert_eq!((old.as_str(), new.as_str(), new.id()), ("a", "other", id));
    assert_ne!(old.id(), id);
    drop(old);
    assert_eq!(pool.status()[0].in_flight, 1);
}

#[test]
fn limits_send_on_what_goes_beyond_them() {
    for rule in rules() {
        let backends = ["a", "b"].map(|name| Backend::new(name, ()).max_in_flight(3));
        let spare = Backend::new("spare", ()).priority(1).max_in_flight(1);
        let pool =
            Pool::builder().strategy(rule).backends(backends).backend(spare).build().unwrap();
        let mut held: Vec<_> = (0..6).map(|_| pool.pick().unwrap()).collect();
        assert!(held.iter().all(|pick| pick.name() != "spare"), "{rule:?}");
        held.push(pool.pick().unwrap());
        assert_eq!(held[6].name(), "spare", "{rule:?}");
        assert_eq!(pool.pick().unwrap_err(), PickError::Saturated, "{rule:?}");
        held.swap_remove(0);
        assert!(pool.pick().is_ok(), "{rule:?}");
    }
}

#[test]
fn who_tries_again_gets_another_if_there_is_one() {
    for rule in rules() {
        let pool = pool(rule, &["a", "b"]);
        for hash in 0..100 {
            let first = pool.pick_by(Wish::new().hash(hash)).unwrap();
            let tried = [first.id()];
            let second = pool.pick_by(Wish::new().hash(hash).avoid(&tried)).unwrap();
            assert_ne!(first.id(), second.id(), "{rule:?}");
            let tried = [first.id(), second.id()];
            assert!(pool.pick_by(Wish::new().hash(hash).avoid(&tried)).is_ok(), "{rule:?}");
        }
    }
}

#[test]
fn picks_and_changes_at_the_same_time_lose_nothing() {
    for rule in rules() {
        let pool = pool(rule, &["a", "b", "c"]);
        let ended = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !ended.load(SeqCst) {
                        let pick = pool.pick().unwrap();
                        assert!(!pick.is_empty());
                    }
                });
            }
            for round in 0..40u16 {
                pool.insert(Backend::new("b", "b".to_owned()).weight(round % 5 + 1));
                pool.set_weight("a", round % 7 + 1);
                pool.remove("c");
                pool.insert(Backend::new("c", "c".to_owned()));
            }
            ended.store(true, SeqCst);
        });
        assert!(pool.status().iter().all(|status| status.in_flight == 0), "{rule:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_backend_gets_nothing_while_there_is_another() {
    for rule in rules() {
        let pool = pool(rule, &["a", "b", "c"]);
        assert!(pool.set_healthy("b", false) && !pool.set_healthy("b", false));
        assert_eq!(names(&pool, 1_000), ["a", "c"], "{rule:?}");
        pool.set_healthy("c", false);
        assert_eq!(names(&pool, 100), ["a"], "{rule:?}");
        assert!(!pool.panics());
        pool.set_healthy("a", false);
        assert_eq!(names(&pool, 1_000), ["a", "b", "c"], "{rule:?}: none is healthy");
        assert!(pool.panics());
        pool.set_healthy("b", true);
        assert_eq!(names(&pool, 100), ["b"], "{rule:?}");
        assert!(!pool.panics());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_can_be_told_to_use_none_that_is_not_healthy() {
    for rule in rules() {
        let backends = ["a", "b"].map(|name| Backend::new(name, ()));
        let refuse = WhenNoneHealthy::Refuse;
        let pool = Pool::builder().strategy(rule).backends(backends).when_none_healthy(refuse);
        let pool = pool.build().unwrap();
        pool.set_healthy("a", false);
        assert!(pool.pick().is_ok());
        pool.set_healthy("b", false);
        assert_eq!(pool.pick().unwrap_err(), PickError::Unhealthy);
    }
}

#[tokio::test(start_paused = true)]
async fn spares_are_used_while_no_other_can_take_it() {
    for rule in rules() {
        let backends = [("a", 0), ("b", 0), ("spare", 1), ("last", 9)];
        let backends = backends.map(|(name, at)| Backend::new(name, name.to_owned()).priority(at));
        let pool = Pool::builder().strategy(rule).backends(backends).build().unwrap();
        assert_eq!(names(&pool, 1_000), ["a", "b"], "{rule:?}");
        pool.set_healthy("a", false);
        assert_eq!(names(&pool, 100), ["b"], "{rule:?}");
        pool.set_healthy("b", false);
        assert_eq!(names(&pool, 100), ["spare"], "{rule:?}");
        pool.set_healthy("spare", false);
        assert_eq!(names(&pool, 100), ["last"], "{rule:?}");
    }
}

#[test]
fn a_hash_comes_back_to_its_backend_and_the_others_stay_where_they_are() {
    let pool = pool(Strategy::Hash(Hash::default()), &["a", "b", "c", "d"]);
    let find = |hash| pool.pick_by(Wish::new().hash(hash)).unwrap().to_string();
    let before: Vec<_> = (0..1_000).map(find).collect();
    pool.set_healthy("c", false);
    for (hash, before) in before.iter().enumerate() {
        let now = find(hash as u64);
        assert_eq!(now == *before, before != "c", "{hash}");
        assert_eq!(now, find(hash as u64));
    }
    pool.set_healthy("c", true);
    assert_eq!((0..1_000).map(find).collect::<Vec<_>>(), before);
}
