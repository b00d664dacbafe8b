//! Several connections of one node, to a real Redis that ends some of them.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use std::time::Duration;

use tokio::time::sleep;
use tower_keep_store::{Redis, Store};
use tower_keep_testing::{RedisServer, Reply, Traffic, Way};

use nodes::{disconnect, fill, node, node_on, numbers, until, written};

const CONNECTIONS: usize = 3;

/// A node whose beats don't meddle.
async fn pooled(server: &RedisServer) -> Store {
    let redis = Redis::builder(&server.url()).heartbeat(Duration::from_secs(60));
    node_on(redis.connections(CONNECTIONS).connect().await.unwrap()).await
}

/// The connections for operations: their ids, and what each was used for last.
async fn connections(server: &RedisServer) -> Vec<(String, String)> {
    let args: [&[u8]; 4] = [b"CLIENT", b"LIST", b"TYPE", b"NORMAL"];
    let Reply::Bytes(list) = server.command(&args).await else { panic!("no list") };
    let list = String::from_utf8(list).unwrap();
    let field = |line: &str, name| {
        line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap().to_owned()
    };
    let all = list.lines().map(|line| (field(line, "id="), field(line, "cmd=")));
    all.filter(|(_, command)| command != "client|list").collect()
}

#[tokio::test]
async fn operations_are_spread_over_all_connections() {
    let server = RedisServer::start().await;
    let store = pooled(&server).await;
    let found = connections(&server).await;
    assert_eq!(found.len(), CONNECTIONS);
    assert!(found.iter().any(|(_, last)| last != "getrange"));
    let keys: Vec<u64> = (0..100).collect();
    // The first beats may still be under way.
    until("each has been used for a lookup", async || {
        assert_eq!(numbers(&store).get_many(&keys).await.len(), 100);
        connections(&server).await.iter().all(|(_, last)| last == "getrange")
    })
    .await;
}

#[tokio::test]
async fn whichever_connection_is_lost_the_node_catches_up() {
    let server = RedisServer::start().await;
    let store = pooled(&server).await;
    fill(&numbers(&store), 1, 1).await;
    written(&server, "tk:2:number:1").await;
    for lost in 0..CONNECTIONS {
        assert_eq!(fill(&numbers(&store), 1, 2).await, 1);
        let (losses, found) = (store.stats().losses, connections(&server).await);
        assert_eq!((found.len(), store.l1_size().0), (CONNECTIONS, 1));
        disconnect(&server, &[found[lost].0.clone()]).await;
        until("the loss is noticed", async || store.stats().losses > losses).await;
        until("the node is in step again", async || store.is_synced()).await;
        assert_eq!(store.l1_size().0, 1, "nothing was removed meanwhile");
    }
    // By whatever connection it asks, and is told.
    node(&server).await.invalidate_tag("t").await.unwrap();
    until("it has heard", async || numbers(&store).get(&1).await.is_none()).await;
}

#[tokio::test]
async fn whichever_connection_falls_silent_is_noticed_while_the_others_answer() {
    let server = RedisServer::start().await;
    for silent in 0..=CONNECTIONS {
        let way = Way::open(server.port()).await;
        let redis = Redis::builder(&way.url()).heartbeat(Duration::from_millis(250));
        let store = node_on(redis.connections(CONNECTIONS).connect().await.unwrap()).await;
        way.set(Traffic::WaitsOn(silent));
        until("the loss is noticed", async || {
            // By whatever the client library may notice it: this goes on.
            numbers(&store).get(&1).await;
            store.stats().losses > 0
        })
        .await;
        until("other connections are used", async || store.is_synced()).await;
    }
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_noticed_while_others_announce_a_lot() {
    let server = RedisServer::start().await;
    let other = node(&server).await;
    let announcing = tokio::spawn(async move {
        loop {
            other.invalidate_tag("t").await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    });
    // Which of the two is made first is left to chance.
    for silent in [0, 1, 0, 1] {
        let way = Way::open(server.port()).await;
        let redis = Redis::builder(&way.url()).heartbeat(Duration::from_millis(250));
        let store = node_on(redis.connect().await.unwrap()).await;
        way.set(Traffic::WaitsOn(silent));
        until("the loss is noticed", async || store.stats().losses > 0).await;
        until("other connections are used", async || store.is_synced()).await;
    }
    announcing.abort();
}

#[tokio::test]
async fn numbers_of_connections_that_make_no_sense_are_refused() {
    for connections in [0, 65] {
        let refused = Redis::builder("redis://127.0.0.1:1").connections(connections).connect_lazy();
        assert!(refused.unwrap_err().to_string().contains("from 1 to 64"));
    }
}
