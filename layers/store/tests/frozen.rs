//! A node that stood still can't have noticed that it missed something. It serves nothing that it may
//! have missed the removal of, all the same.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::oneshot;
use tower_keep_store::{L1, Reach, Redis, Store, Ttl};
use tower_keep_testing::RedisServer;

use nodes::{node, numbers, until};

const BEAT: Duration = Duration::from_millis(100);
const MAX_UNSYNCED: Duration = Duration::from_millis(200);

/// A node whose store is seen to by a thread of its own, which stands still from the first message to
/// the second.
struct Node {
    store: Store,
    stands_still: Option<oneshot::Sender<mpsc::Sender<()>>>,
    goes_on: mpsc::Sender<()>,
}

impl Node {
    fn start(url: String) -> Self {
        let (built, store) = mpsc::channel();
        let (stands_still, told) = oneshot::channel::<mpsc::Sender<()>>();
        let (goes_on, woken) = mpsc::channel::<()>();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let redis = Redis::builder(&url).heartbeat(BEAT).connect().await.unwrap();
                let store = Store::builder().l1(L1::bytes(1 << 20)).l2(redis);
                built.send(store.max_unsynced(MAX_UNSYNCED).build().unwrap()).unwrap();
                let standing = told.await.unwrap();
                standing.send(()).unwrap();
                woken.recv().unwrap();
                std::future::pending::<()>().await;
            });
        });
        Self { store: store.recv().unwrap(), stands_still: Some(stands_still), goes_on }
    }

    fn stand_still(&mut self) {
        let (standing, stands) = mpsc::channel();
        self.stands_still.take().unwrap().send(standing).unwrap();
        stands.recv().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stood_still_serves_nothing_that_it_may_have_missed_the_removal_of() {
    let server = RedisServer::start().await;
    let mut frozen = Node::start(server.url());
    let other = node(&server).await;
    until("the node is in step", async || frozen.store.is_synced()).await;
    let values = numbers(&frozen.store);
    let fill = || async { Ok::<_, io::Error>(1) };
    values.get_or_try_set(&1, Ttl::secs(3600), fill).await.unwrap();
    until("it is stored", async || values.get(&1).await.is_some()).await;
    frozen.stand_still();
    assert_eq!(values.get(&1).await.as_deref(), Some(&1));
    assert_eq!(numbers(&other).remove(&1).await, Reach::Everywhere);
    until("it is served no more", async || values.get(&1).await.is_none()).await;
    let stats = frozen.store.stats();
    assert!(stats.in_step && stats.losses == 0, "it hasn't noticed anything: {stats:?}");
    frozen.goes_on.send(()).unwrap();
    numbers(&other).set(&1, 2, Ttl::secs(3600)).await.unwrap();
    until("it uses Redis again", async || values.get(&1).await.as_deref() == Some(&2)).await;
}
