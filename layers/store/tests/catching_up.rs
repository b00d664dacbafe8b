//! What a node asks for once it has missed announcements.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/counting.rs"]
mod counting;

use std::io;

use tower_keep_store::{L1, Store, Ttl};

use counting::Counting;

async fn store_with_tags(remote: &Counting, tags: u32) -> Store {
    let store = Store::builder().l1(L1::bytes(16 << 20)).l2(remote.clone()).build().unwrap();
    let numbers = store.typed::<u32, u32>("number");
    for n in 0..tags {
        let ttl = Ttl::secs(600).tags([n.to_string()]);
        let fill = move || async move { Ok::<_, io::Error>(n) };
        numbers.get_or_try_set(&n, ttl, fill).await.unwrap();
    }
    store
}

#[tokio::test]
async fn an_attempt_that_fails_is_gone_on_with() {
    let remote = Counting::default();
    let store = store_with_tags(&remote, 1000).await;
    let listener = remote.listener();
    remote.answers(3);
    assert!(listener.regained().await.is_err());
    assert_eq!(remote.batches().len(), 4);
    assert!(remote.batches().iter().all(|&tags| tags <= 256), "{:?}", remote.batches());
    remote.answers(usize::MAX);
    listener.regained().await.unwrap();
    // 1,000 tags, that of the space, and two times that of everything.
    assert_eq!(remote.batches().iter().sum::<usize>(), 1003 - 3 * 256);
    assert_eq!(store.l1_size().0, 0, "it wasn't in step when that was filled");

    remote.answers(1);
    assert!(listener.regained().await.is_ok(), "there is nothing left to ask for");
    listener.lost();
    assert!(listener.regained().await.is_err(), "now there is");
}

#[tokio::test]
async fn only_the_buckets_that_have_changed_are_dropped() {
    let remote = Counting::default();
    let store = store_with_tags(&remote, 0).await;
    let listener = remote.listener();
    listener.regained().await.unwrap();
    let store_again = || async {
        for n in 0..100u32 {
            let fill = move || async move { Ok::<_, io::Error>(n) };
            let numbers = store.typed::<u32, u32>("number");
            numbers.get_or_try_set(&n, Ttl::secs(600), fill).await.unwrap();
        }
    };
    store_again().await;
    listener.lost();
    listener.regained().await.unwrap();
    assert_eq!((store.l1_size().0, store.stats().missed_buckets), (100, 0));

    listener.lost();
    remote.has_epoch(b'3', 2);
    remote.has_epoch(b'7', 2);
    listener.regained().await.unwrap();
    assert_eq!((store.l1_size().0, store.stats().missed_buckets), (80, 2));
    store_again().await;

    remote.has_epoch(b'5', 9);
    listener.check().await.unwrap();
    assert_eq!(store.l1_size().0, 100, "the announcement may be on its way");
    listener.check().await.unwrap();
    while store.l1_size().0 > 90 {
        tokio::task::yield_now().await;
    }
    listener.check().await.unwrap();
    assert_eq!((store.l1_size().0, store.stats().missed_buckets), (90, 3));
}

#[tokio::test]
async fn every_tag_is_checked_in_its_turn() {
    let remote = Counting::default();
    let _store = store_with_tags(&remote, 600).await;
    let listener = remote.listener();
    remote.answers(usize::MAX);
    for _ in 0..6 {
        listener.check().await.unwrap();
    }
    assert_eq!(remote.batches(), [256, 256, 90, 256, 256, 90]);
}
