//! Records, which no tier but the second holds, and tags that are watched.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::time::{Duration, SystemTime};

use nodes::{node, until};
use tower_keep_store::{Bincode, L1, Space, Store, Strength, Tag, Watch};
use tower_keep_testing::RedisServer;

const MINUTE: Duration = Duration::from_secs(60);

fn space(store: &Store) -> Space<u64> {
    store.space("record", Bincode)
}

async fn read(space: &Space<u64>, key: &str) -> Option<u64> {
    let mut buf = space.key_buf();
    buf.push(key.as_bytes());
    space.read(space.key(&buf)).await.unwrap().0
}

/// Adds `more` to what lies at `key`. How often it was tried in vain.
async fn add(space: &Space<u64>, key: &str, more: u64) -> u64 {
    let mut buf = space.key_buf();
    buf.push(key.as_bytes());
    let key = space.key(&buf);
    for attempt in 0.. {
        let (there, seen) = space.read(key).await.unwrap();
        if space.exchange(key, &seen, &(there.unwrap_or(0) + more), MINUTE).await.unwrap() {
            return attempt;
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_who_have_seen_the_same_one_replaces_it() {
    let server = RedisServer::start().await;
    let (a, b) = (space(&node(&server).await), space(&node(&server).await));
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let space = if n % 2 == 0 { a.clone() } else { b.clone() };
            tokio::spawn(async move {
                let mut in_vain = 0;
                for _ in 0..25 {
                    in_vain += add(&space, "sum", 1).await;
                }
                in_vain
            })
        })
        .collect();
    let mut in_vain = 0;
    for task in tasks {
        in_vain += task.await.unwrap();
    }
    assert_eq!(read(&a, "sum").await, Some(200));
    assert!(in_vain > 0, "nobody came in between, so this shows nothing");
}

#[tokio::test]
async fn records_outlast_the_invalidation_of_everything_and_end_in_time() {
    let server = RedisServer::start().await;
    let store = node(&server).await;
    let space = space(&store);
    add(&space, "kept", 7).await;
    store.clear().await;
    space.clear(Strength::Hard).await;
    assert_eq!(read(&space, "kept").await, Some(7));

    let mut buf = space.key_buf();
    buf.push(b"short");
    let (_, seen) = space.read(space.key(&buf)).await.unwrap();
    let keep = Duration::from_millis(50);
    assert!(space.exchange(space.key(&buf), &seen, &1, keep).await.unwrap());
    assert!(!space.exchange(space.key(&buf), &seen, &2, keep).await.unwrap());
    until("it is forgotten", async || read(&space, "short").await.is_none()).await;
}

#[tokio::test]
async fn without_the_second_tier_nothing_is_taken_for_absent() {
    let mut server = RedisServer::start().await;
    let store = node(&server).await;
    let space = space(&store);
    let mut buf = space.key_buf();
    buf.push(b"x");
    let (_, seen) = space.read(space.key(&buf)).await.unwrap();
    server.kill();
    assert!(space.read(space.key(&buf)).await.is_err());
    assert!(space.exchange(space.key(&buf), &seen, &1, MINUTE).await.is_err());
    assert!(store.watch(&[Tag::new("t").unwrap()]).await.is_err());

    let alone = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
    assert!(!alone.is_shared() && store.is_shared());
    assert!(alone.watch(&[Tag::new("t").unwrap()]).await.is_err());
}

async fn watch(store: &Store, tags: &[&str]) -> Vec<Watch> {
    let tags: Vec<Tag> = tags.iter().map(|tag| Tag::new(tag).unwrap()).collect();
    store.watch(&tags).await.unwrap()
}

#[tokio::test]
async fn a_watch_changes_with_its_own_tag_and_with_everything() {
    let server = RedisServer::start().await;
    let (a, b) = (node(&server).await, node(&server).await);
    let watches = watch(&b, &["one", "two"]).await;
    a.invalidate_tag("one").await.unwrap();
    until("the news arrive", async || watches[0].has_changed()).await;
    assert!(!watches[1].has_changed() && watches[1].is_heard());
    a.clear().await;
    until("the news arrive", async || watches[1].has_changed()).await;
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

#[tokio::test]
async fn a_watch_tells_since_when_nothing_can_have_been_forgotten() {
    let mut server = RedisServer::start().await;
    let store = node(&server).await;
    let at = async |tag: &str| watch(&store, &[tag]).await[0].may_have_changed_at().as_millis();
    let began = now();
    assert!(at("t").await <= began, "since it began");
    store.invalidate_tag("t").await.unwrap();
    let invalidated = at("t").await;
    assert!(invalidated >= began && invalidated <= now() + 1);
    assert_eq!(at("t").await, invalidated);
    tokio::time::sleep(Duration::from_millis(20)).await;

    server.restart().await;
    until("it is back", async || store.watch(&[Tag::new("t").unwrap()]).await.is_ok()).await;
    assert!(at("t").await > invalidated + 10, "what was known is lost");
}
