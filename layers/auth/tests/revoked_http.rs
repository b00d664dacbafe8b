//! What one process revokes, others answer with 401: servers in processes of their own on a real Redis,
//! through its failures and theirs.
#![cfg(all(feature = "axum", feature = "store"))]
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use support::{AUDIENCE, ISSUER, key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tower_keep_auth::{
    Algorithm, Grant, JwtLayer, JwtManager, RevocationList, Revocations, Target, Verified,
};
use tower_keep_store::{L1, Redis, Store};
use tower_keep_testing::{Employer, RedisServer, Worker};

/// How soon a node that is in step refuses what another one has revoked: more than it takes, as the
/// machine may be busy.
const SOON: Duration = Duration::from_secs(2);

/// How long one goes by what it knew, in these tests.
const PATIENCE: Duration = Duration::from_secs(8);

fn manager() -> JwtManager {
    let builder = JwtManager::builder(ISSUER).key(key(Algorithm::Hs256)).audience(AUDIENCE);
    builder.precise().build().unwrap()
}

/// A token that is older than whatever is revoked from now on.
async fn token(subject: &str) -> String {
    let token = manager().issue(Grant::new(subject)).unwrap().token;
    sleep(Duration::from_millis(5)).await;
    token
}

/// A server that a test has started. It does what it is told until that test is gone.
#[tokio::test]
async fn server() {
    let Some(mut employer) = Employer::find().await else { return };
    // Patient, for the machine may be busy with other tests.
    let redis = Redis::builder(employer.job()).deadline(Duration::from_secs(5));
    let redis = redis.heartbeat(Duration::from_millis(500)).connect_lazy().unwrap();
    let store = Store::builder().l1(L1::bytes(1 << 20)).l2(redis).build().unwrap();
    let list = RevocationList::builder().patience(PATIENCE).store(store.clone()).build().unwrap();
    let manager = JwtManager::builder(ISSUER).key(key(Algorithm::Hs256)).audience(AUDIENCE);
    let manager = manager.revocations(list.clone()).build().unwrap();
    let layer = JwtLayer::builder(manager.verifier().clone()).build().unwrap();
    let who = get(async |who: Verified| who.subject().unwrap().to_owned());
    let app = Router::new().route("/", who).layer(layer);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    employer.tell(&listener.local_addr().unwrap().port().to_string()).await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    while let Some(told) = employer.hear().await {
        let answer = match told.split_once(' ') {
            Some(("revoke", subject)) => {
                let reach = list.revoke(Target::subject(ISSUER, subject)).await;
                format!("{:?}", reach.unwrap())
            }
            _ => store.is_synced().to_string(),
        };
        employer.tell(&answer).await;
    }
}

struct Node {
    worker: Worker,
    address: SocketAddr,
}

impl Node {
    async fn start(redis: &RedisServer) -> Self {
        let mut worker = Worker::start("server", &redis.url()).await;
        let port = worker.hear().await.parse().unwrap();
        let mut node = Self { worker, address: (Ipv4Addr::LOCALHOST, port).into() };
        node.comes_in_step(true).await;
        node
    }

    async fn comes_in_step(&mut self, yes: bool) {
        let start = Instant::now();
        while self.worker.ask("in step?").await != yes.to_string() {
            assert!(start.elapsed() < Duration::from_secs(40), "in step: {yes}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn revoke(&mut self, subject: &str) -> String {
        self.worker.ask(&format!("revoke {subject}")).await
    }

    /// The status and the whole answer.
    async fn ask(&self, token: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    async fn status(&self, token: &str) -> u16 {
        self.ask(token).await.0
    }

    /// How long it takes until the answer is another one, which must be `status`.
    async fn changes_to(&self, status: u16, token: &str) -> Duration {
        let (start, before) = (Instant::now(), self.status(token).await);
        if before == status {
            return start.elapsed();
        }
        loop {
            let now = self.status(token).await;
            if now != before {
                assert_eq!(now, status);
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(40), "it stays {before}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn nodes(redis: &RedisServer) -> [Node; 2] {
    // What is as old as the memory of Redis would be refused.
    let nodes = [Node::start(redis).await, Node::start(redis).await];
    sleep(Duration::from_millis(20)).await;
    nodes
}

#[tokio::test]
async fn what_one_process_revokes_another_answers_with_401() {
    let redis = RedisServer::start().await;
    let [mut a, b] = nodes(&redis).await;
    let (revoked, other) = (token("user:1").await, token("user:2").await);
    for node in [&a, &b] {
        assert_eq!((node.status(&revoked).await, node.status(&other).await), (200, 200));
    }
    assert_eq!(a.revoke("user:1").await, "Everywhere");
    assert_eq!(a.status(&revoked).await, 401);
    let took = b.changes_to(401, &revoked).await;
    assert!(took < SOON, "only after {took:?}");
    let (_, answer) = b.ask(&revoked).await;
    assert!(answer.contains("error=\"invalid_token\"") && answer.contains("no-store"), "{answer}");
    assert!(!answer.contains("revoked"), "{answer}");
    let later = token("user:1").await;
    for node in [&a, &b, &Node::start(&redis).await] {
        assert_eq!(node.status(&revoked).await, 401);
        assert_eq!((node.status(&later).await, node.status(&other).await), (200, 200));
    }
}

#[tokio::test]
async fn a_redis_that_hangs_keeps_a_revocation_from_the_other_process_until_it_goes_on() {
    let redis = RedisServer::start().await;
    let [mut a, mut b] = nodes(&redis).await;
    let (revoked, other) = (token("user:1").await, token("user:2").await);
    for node in [&a, &b] {
        assert_eq!((node.status(&revoked).await, node.status(&other).await), (200, 200));
    }
    redis.pause();
    a.comes_in_step(false).await;
    b.comes_in_step(false).await;
    assert_eq!(a.revoke("user:1").await, "ThisNode");
    assert_eq!(a.status(&revoked).await, 401);
    // The other one can't know. Neither of them lets anybody wait.
    for (node, token) in [(&b, &revoked), (&a, &other), (&b, &other)] {
        let start = Instant::now();
        assert_eq!(node.status(token).await, 200);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
    redis.resume();
    b.comes_in_step(true).await;
    a.comes_in_step(true).await;
    let took = b.changes_to(401, &revoked).await;
    assert!(took < SOON, "only {took:?} after both are back");
    assert_eq!((a.status(&revoked).await, b.status(&other).await), (401, 200));
}

#[tokio::test]
async fn a_redis_that_is_gone_ends_what_was_issued_before_and_not_what_comes_after() {
    let mut redis = RedisServer::start().await;
    let [mut a, mut b] = nodes(&redis).await;
    let (revoked, other) = (token("user:1").await, token("user:2").await);
    assert_eq!((b.status(&revoked).await, b.status(&other).await), (200, 200));
    redis.kill();
    b.comes_in_step(false).await;
    assert_eq!(a.revoke("user:1").await, "ThisNode");
    assert_eq!((a.status(&revoked).await, b.status(&revoked).await), (401, 200));
    // Its patience has an end: nothing is wrong with the token, and nobody can say so.
    let took = b.changes_to(503, &other).await;
    assert!(took < 2 * PATIENCE, "only after {took:?}");
    assert!(b.ask(&other).await.1.contains("retry-after: 5"));
    assert_eq!(a.status(&revoked).await, 401, "what it knows it says all the same");

    redis.restart().await;
    b.comes_in_step(true).await;
    a.comes_in_step(true).await;
    let later = token("user:2").await;
    b.changes_to(200, &later).await;
    // Redis has forgotten who else was revoked.
    for token in [&revoked, &other] {
        assert_eq!((a.status(token).await, b.status(token).await), (401, 401));
    }
}

#[tokio::test]
async fn a_process_that_stood_still_refuses_once_it_goes_on() {
    let redis = RedisServer::start().await;
    let [mut a, b] = nodes(&redis).await;
    let revoked = token("user:1").await;
    assert_eq!((a.status(&revoked).await, b.status(&revoked).await), (200, 200));
    b.worker.pause();
    assert_eq!(a.revoke("user:1").await, "Everywhere");
    sleep(Duration::from_secs(3)).await;
    b.worker.resume();
    let took = b.changes_to(401, &revoked).await;
    assert!(took < 2 * SOON, "only after {took:?}");
}
