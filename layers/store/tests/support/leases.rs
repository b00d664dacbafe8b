//! Nodes that share leases, and callers who ask them all at once.
#![allow(unreachable_pub, dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower_keep_store::remote::Remote;
use tower_keep_store::{Fill, FillError, L1, Redis, RedisBuilder, Store, Ttl, Typed};
use tower_keep_testing::RedisServer;

use crate::nodes::{fill, numbers, until};

/// As short as it may be.
pub const SHORT: Duration = Duration::from_millis(300);

/// Short, but a busy machine renews it in time.
pub const MODERATE: Duration = Duration::from_millis(1500);

/// So long that nobody waits it out: what happens sooner does so for another reason.
pub const LONG: Duration = Duration::from_secs(60);

/// Sooner than that.
pub const SOON: Duration = Duration::from_secs(15);

/// How long an origin takes where fills in a row are to be told from fills at once.
pub const SLOW: Duration = Duration::from_millis(500);

pub const KEY: &str = "tk:2:number:1";

pub async fn node_with(lease: Duration, remote: impl Remote) -> Store {
    let l1 = L1::bytes(16 << 20);
    let store = Store::builder().l1(l1).jitter(0).lease(lease).l2(remote).build().unwrap();
    until("the node is in step", async || store.is_synced()).await;
    store
}

/// A busy machine is slow at times, and fills without a lease are not what most tests are about.
pub fn patient(url: &str) -> RedisBuilder {
    Redis::builder(url).deadline(Duration::from_secs(2))
}

pub async fn node(server: &RedisServer, lease: Duration) -> Store {
    node_with(lease, patient(&server.url()).connect().await.unwrap()).await
}

pub async fn nodes(server: &RedisServer, lease: Duration, many: usize) -> Vec<Store> {
    join_all((0..many).map(|_| node(server, lease))).await
}

/// What a caller gets who asks in a task of its own, and fills in `value`.
pub fn ask(store: &Store, value: u32) -> JoinHandle<u32> {
    let numbers = numbers(store);
    tokio::spawn(async move { fill(&numbers, 1, value).await })
}

/// Waits until `store` has `value` at the key, or nothing.
pub async fn has(store: &Store, value: Option<u32>) {
    until("it has what it should", async || {
        numbers(store).get(&1).await.as_deref().copied() == value
    })
    .await;
}

/// Waits until `store` waits for the fill of another.
pub async fn waits(store: &Store) {
    until("it waits", async || store.stats().lease_waits > 0).await;
}

/// Asks for `key` on behalf of all at once; `origin` is given the number of the call, from 1.
pub async fn all_ask<F, Fut, R>(
    handles: impl IntoIterator<Item = Typed<u64, u32>>,
    ttl: &Ttl,
    origin: F,
) -> Vec<Result<Arc<u32>, FillError>>
where
    F: Fn(u32) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = io::Result<R>> + Send + 'static,
    R: Into<Fill<u32>> + 'static,
{
    let calls = Arc::new(AtomicU32::new(0));
    join_all(handles.into_iter().map(|numbers| {
        let (calls, origin, ttl) = (Arc::clone(&calls), origin.clone(), ttl.clone());
        let ask = async move {
            let call = move || origin(calls.fetch_add(1, SeqCst) + 1);
            numbers.get_or_try_set(&1, ttl, call).await
        };
        async move { tokio::spawn(ask).await.unwrap() }
    }))
    .await
}

pub fn took(start: Instant, most: Duration) {
    assert!(start.elapsed() < most, "it took {:?}", start.elapsed());
}
