//! The harness does what the tests that lean on it assume.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_keep_testing::{RedisServer, Reply};

fn bytes(value: &str) -> Reply {
    Reply::Bytes(value.into())
}

async fn dir(server: &RedisServer) -> PathBuf {
    match server.command(&[b"CONFIG", b"GET", b"dir"]).await {
        Reply::Array(replies) => match &replies[..] {
            [_, Reply::Bytes(path)] => String::from_utf8_lossy(path).into_owned().into(),
            other => unreachable!("{other:?}"),
        },
        other => unreachable!("{other:?}"),
    }
}

async fn refuses(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_err()
}

#[tokio::test]
async fn every_kind_of_reply() {
    let server = RedisServer::start().await;
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));

    assert_eq!(server.command(&[b"GET", b"k"]).await, Reply::Nil);
    assert_eq!(server.command(&[b"SET", b"k", b"a\r\n\0b"]).await, bytes("OK"));
    assert_eq!(server.command(&[b"GET", b"k"]).await, bytes("a\r\n\0b"));
    assert_eq!(server.command(&[b"KEYS", b"*"]).await, Reply::Array(vec![bytes("k")]));
    assert_eq!(server.command(&[b"DEL", b"k", b"other"]).await, Reply::Int(1));
    assert_eq!(server.command(&[b"CONFIG", b"SET", b"maxmemory", b"100mb"]).await, bytes("OK"));
    assert_eq!(server.command(&[b"FLUSHALL"]).await, bytes("OK"));

    let nested = server.command(&[b"EVAL", b"return {1, {'x', false}}", b"0"]).await;
    let inner = Reply::Array(vec![bytes("x"), Reply::Nil]);
    assert_eq!(nested, Reply::Array(vec![Reply::Int(1), inner]));

    let refused = server.command(&[b"NO-SUCH-COMMAND"]).await;
    assert!(matches!(refused, Reply::Error(message) if message.starts_with("ERR unknown")));
}

#[tokio::test]
async fn servers_share_nothing() {
    let (one, other) = (RedisServer::start().await, RedisServer::start().await);
    assert_ne!(one.port(), other.port());
    assert_ne!(dir(&one).await, dir(&other).await);

    one.command(&[b"SET", b"k", b"v"]).await;
    assert_eq!(other.command(&[b"GET", b"k"]).await, Reply::Nil);
}

#[tokio::test]
async fn a_killed_server_restarts_empty_on_its_port() {
    let mut server = RedisServer::start().await;
    let port = server.port();
    server.command(&[b"SET", b"k", b"v"]).await;

    server.kill();
    assert!(refuses(port).await);
    server.kill();

    server.restart().await;
    assert_eq!(server.port(), port);
    assert_eq!(server.command(&[b"GET", b"k"]).await, Reply::Nil);
}

#[tokio::test]
async fn a_running_server_restarts() {
    let mut server = RedisServer::start().await;
    server.command(&[b"SET", b"k", b"v"]).await;
    server.restart().await;
    assert_eq!(server.command(&[b"GET", b"k"]).await, Reply::Nil);
}

#[tokio::test]
async fn a_paused_server_answers_once_resumed() {
    let server = RedisServer::start().await;
    server.command(&[b"SET", b"k", b"v"]).await;

    for _ in 0..2 {
        server.pause();
        server.pause();
        let mut answer = Box::pin(server.command(&[b"GET", b"k"]));
        assert!(timeout(Duration::from_millis(100), &mut answer).await.is_err());
        server.resume();
        assert_eq!(answer.await, bytes("v"));
    }
}

#[tokio::test]
async fn nothing_outlives_the_value() {
    for paused in [false, true] {
        let server = RedisServer::start().await;
        let (port, dir) = (server.port(), dir(&server).await);
        assert!(dir.is_dir());

        if paused {
            server.pause();
        }
        drop(server);
        assert!(!dir.exists());
        assert!(refuses(port).await);
    }
}
