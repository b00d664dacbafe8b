//! Writes whose bytes arrive long after they were given up: they undo nothing.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/nodes.rs"]
mod nodes;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tower_keep_store::{Reach, Redis};
use tower_keep_testing::{RedisServer, Reply};

use nodes::{A_WHILE, Gate, Gated, Point, fill, node, node_on, numbers};

/// A way to Redis on which, while `held` is true, what is sent is kept; and passed on after that,
/// whether or not somebody still waits for the answer.
async fn slow_way(to: u16, held: watch::Receiver<bool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let mut held = held.clone();
            let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let mut bytes = vec![0; 65_536];
                while let Ok(len @ 1..) = from_client.read(&mut bytes).await {
                    held.wait_for(|held| !held).await.unwrap();
                    if to_server.write_all(&bytes[..len]).await.is_err() {
                        break;
                    }
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        }
    });
    port
}

#[tokio::test]
async fn a_fill_that_arrives_after_a_removal_has_been_forgotten_is_not_stored() {
    let server = RedisServer::start().await;
    let (hold, held) = watch::channel(false);
    let port = slow_way(server.port(), held).await;
    let redis = Redis::connect(&format!("redis://127.0.0.1:{port}")).await.unwrap();
    let gate = Gate::new(Point::BeforePut);
    let a = node_on(Gated { redis, gate: gate.clone() }).await;
    let b = node(&server).await;

    gate.shut();
    fill(&numbers(&a), 1, 1).await;
    gate.holds(1).await;
    hold.send_replace(true);
    gate.open();
    sleep(A_WHILE).await;
    assert_eq!(numbers(&b).remove(&1).await, Reach::Everywhere);
    // As when twice the time that a fill may take has passed.
    server.command(&[b"DEL", b"tk:2:number:1"]).await;
    hold.send_replace(false);
    sleep(A_WHILE).await;
    assert_eq!(server.command(&[b"GET", b"tk:2:number:1"]).await, Reply::Nil);
    assert_eq!(numbers(&b).get(&1).await, None);
}
