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
    assert_eq!(store.l1_size().0, 0, "single keys may have been removed");

    remote.answers(1);
    assert!(listener.regained().await.is_ok(), "there is nothing left to ask for");
    listener.lost();
    assert!(listener.regained().await.is_err(), "now there is");
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
