//! Writes whose bytes arrive long after they were given up: they undo nothing.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use tokio::time::sleep;
use tower_keep_store::{Reach, Redis};
use tower_keep_testing::{RedisServer, Reply, Traffic, Way};

use nodes::{A_WHILE, Gate, Gated, Point, fill, node, node_on, numbers};

#[tokio::test]
async fn a_fill_that_arrives_after_a_removal_has_been_forgotten_is_not_stored() {
    let server = RedisServer::start().await;
    let way = Way::open(server.port()).await;
    let redis = Redis::connect(&way.url()).await.unwrap();
    let gate = Gate::new(Point::BeforePut);
    let a = node_on(Gated { redis, gate: gate.clone() }).await;
    let b = node(&server).await;

    gate.shut();
    fill(&numbers(&a), 1, 1).await;
    gate.holds(1).await;
    way.set(Traffic::Waits);
    gate.open();
    sleep(A_WHILE).await;
    assert_eq!(numbers(&b).remove(&1).await, Reach::Everywhere);
    // As when twice the time that a fill may take has passed.
    server.command(&[b"DEL", b"tk:2:number:1"]).await;
    way.set(Traffic::Flows);
    sleep(A_WHILE).await;
    assert_eq!(server.command(&[b"GET", b"tk:2:number:1"]).await, Reply::Nil);
    assert_eq!(numbers(&b).get(&1).await, None);
}
