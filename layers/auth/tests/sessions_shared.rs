//! Sessions on a real Redis: several nodes, races and failures.
#![cfg(feature = "store")]
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::time::Duration;

use support::{AUDIENCE, ISSUER, key};
use tokio::time::{Instant, sleep};
use tower_keep_auth::{
    Algorithm, Grant, JwtManager, RefreshError, Refusal, RevocationList, Sessions, SharedSessions,
};
use tower_keep_store::{L1, Redis, Store};
use tower_keep_testing::{RedisServer, Reply};

struct Node {
    store: Store,
    manager: JwtManager,
    sessions: Sessions,
}

impl Node {
    async fn new(server: &RedisServer, grace: Duration) -> Self {
        // Patient, for the machine may be busy with other tests.
        let redis = Redis::builder(&server.url()).deadline(Duration::from_secs(5));
        let redis = redis.heartbeat(Duration::from_millis(500));
        let store = Store::builder().l2(redis.connect().await.unwrap()).build().unwrap();
        until("the node is in step", async || store.is_synced()).await;
        let list = RevocationList::builder().store(store.clone()).build().unwrap();
        let manager = JwtManager::builder(ISSUER).key(key(Algorithm::Hs256)).audience(AUDIENCE);
        let manager = manager.revocations(list).precise().build().unwrap();
        let sessions = manager.sessions(SharedSessions::new(&store).unwrap());
        Self { store, manager, sessions: sessions.grace(grace).build().unwrap() }
    }

    async fn refresh(&self, token: &str) -> Result<String, RefreshError> {
        self.sessions.refresh(token, None).await.map(|tokens| tokens.refresh)
    }
}

const GRACE: Duration = Duration::from_secs(10);

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < Duration::from_secs(40), "not within 40 s: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_session_goes_on_at_any_node_and_ends_at_all() {
    let server = RedisServer::start().await;
    let (a, b) = (Node::new(&server, GRACE).await, Node::new(&server, GRACE).await);
    sleep(Duration::from_millis(20)).await;
    let first = a.sessions.begin(Grant::new("user:1")).await.unwrap();
    let second = b.sessions.refresh(&first.refresh, None).await.unwrap();
    assert_eq!(a.refresh(&first.refresh).await.unwrap(), second.refresh, "within the grace");
    let third = a.sessions.refresh(&second.refresh, None).await.unwrap();
    for node in [&a, &b] {
        assert!(node.manager.verifier().verify(&third.access.token).await.is_ok());
    }
    // The first one comes again: somebody has a copy.
    assert!(matches!(b.refresh(&first.refresh).await, Err(RefreshError::Reused)));
    assert!(matches!(a.refresh(&third.refresh).await, Err(RefreshError::Ended)));
    for tokens in [&first, &second, &third] {
        let verifier = a.manager.verifier();
        let token = &tokens.access.token;
        let revoked = async || verifier.verify(token).await.map(|_| ()) == Err(Refusal::Revoked);
        until("its access tokens are refused", revoked).await;
    }
}

/// Many refreshes of one token at once, on two nodes.
async fn race(server: &RedisServer, grace: Duration) -> Vec<Result<String, RefreshError>> {
    let (a, b) = (Node::new(server, grace).await, Node::new(server, grace).await);
    sleep(Duration::from_millis(20)).await;
    let token = a.sessions.begin(Grant::new("user:1")).await.unwrap().refresh;
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            let sessions = if n % 2 == 0 { a.sessions.clone() } else { b.sessions.clone() };
            let token = token.clone();
            tokio::spawn(async move { sessions.refresh(&token, None).await })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap().map(|tokens| tokens.refresh));
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_refresh_at_once_all_get_the_same_next_token() {
    let server = RedisServer::start().await;
    for _ in 0..5 {
        let results = race(&server, GRACE).await;
        let next: Vec<_> = results.into_iter().map(|result| result.unwrap()).collect();
        assert!(next.iter().all(|token| *token == next[0]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_refresh_at_once_without_grace_one_does() {
    let server = RedisServer::start().await;
    for _ in 0..5 {
        let results = race(&server, Duration::ZERO).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        let refused = results.iter().filter_map(|result| result.as_ref().err());
        assert!(refused.clone().all(RefreshError::is_invalid_grant));
        assert!(refused.clone().any(|error| matches!(error, RefreshError::Reused)));
    }
}

#[tokio::test]
async fn an_outage_uses_no_token_up() {
    let server = RedisServer::start().await;
    let a = Node::new(&server, GRACE).await;
    sleep(Duration::from_millis(20)).await;
    let token = a.sessions.begin(Grant::new("user:1")).await.unwrap().refresh;
    server.pause();
    for _ in 0..3 {
        let error = a.refresh(&token).await.unwrap_err();
        assert!(!error.is_invalid_grant(), "{error}");
    }
    let error = a.sessions.begin(Grant::new("user:2")).await.unwrap_err();
    assert!(matches!(error, RefreshError::Store(_)) && !error.is_invalid_grant());
    server.resume();
    until("it is back", async || a.store.is_synced()).await;
    let mut next = None;
    until("it refreshes", async || a.refresh(&token).await.is_ok()).await;
    for _ in 0..2 {
        let got = a.refresh(&token).await.unwrap();
        assert_eq!(*next.get_or_insert(got.clone()), got);
    }
}

#[tokio::test]
async fn a_redis_that_has_lost_everything_asks_all_to_log_in_again() {
    let mut server = RedisServer::start().await;
    let a = Node::new(&server, GRACE).await;
    sleep(Duration::from_millis(20)).await;
    let token = a.sessions.begin(Grant::new("user:1")).await.unwrap().refresh;
    server.restart().await;
    until("it is back", async || a.store.is_synced()).await;
    assert!(matches!(a.refresh(&token).await, Err(RefreshError::Unknown)));
    sleep(Duration::from_millis(20)).await;
    let token = a.sessions.begin(Grant::new("user:1")).await.unwrap().refresh;
    assert!(a.refresh(&token).await.is_ok());
}

#[tokio::test]
async fn what_redis_holds_is_no_token_and_ends_with_the_session() {
    let server = RedisServer::start().await;
    let a = Node::new(&server, GRACE).await;
    sleep(Duration::from_millis(20)).await;
    let tokens = a.sessions.begin(Grant::new("user:1")).await.unwrap();
    let name = format!("tk:2:session:{}", tokens.session);
    let Reply::Bytes(found) = server.command(&[b"GET", name.as_bytes()]).await else { panic!() };
    let secret = support::decode(tokens.refresh.split_once('.').unwrap().1);
    let list = serde_json::to_string(&secret[..32]).unwrap();
    for secret in [tokens.refresh.as_bytes(), &secret[..32], list.as_bytes()] {
        assert!(!found.windows(secret.len()).any(|part| part == secret));
    }
    let Reply::Int(left) = server.command(&[b"PTTL", name.as_bytes()]).await else { panic!() };
    assert!((13 * 86_400_000..=14 * 86_400_000).contains(&left), "{left}");
}

#[test]
fn a_store_for_one_process_cannot_share_sessions() {
    let alone = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
    assert!(SharedSessions::new(&alone).unwrap_err().to_string().contains("`l2`"));
}
