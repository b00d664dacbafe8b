//! What is revoked on one node is refused on all, through a real Redis and its failures.
#![cfg(feature = "store")]
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{ISSUER, claims, issuer, key, token, with};
use tokio::time::{Instant, sleep};
use tower_keep_auth::{
    Algorithm, Clock, Lost, Reach, Refusal, RevocationList, RevocationListBuilder, Revocations,
    SigningKey, Target, Verifier,
};
use tower_keep_store::{L1, Redis, Store};
use tower_keep_testing::{RedisServer, Reply};

/// One process among several.
struct Node {
    store: Store,
    list: RevocationList,
    verifier: Verifier,
}

impl Node {
    async fn new(server: &RedisServer) -> Self {
        Self::with(server, |builder| builder).await
    }

    async fn with(
        server: &RedisServer,
        set: impl FnOnce(RevocationListBuilder) -> RevocationListBuilder,
    ) -> Self {
        let node = Self::lazy(server, set);
        until("the node is in step", async || node.store.is_synced()).await;
        node
    }

    /// One that starts also if Redis isn't there.
    fn lazy(
        server: &RedisServer,
        set: impl FnOnce(RevocationListBuilder) -> RevocationListBuilder,
    ) -> Self {
        // Patient, for the machine may be busy with other tests.
        let redis = Redis::builder(&server.url()).deadline(Duration::from_secs(5));
        let redis = redis.heartbeat(Duration::from_millis(500));
        let redis = redis.connect_lazy().unwrap();
        let store = Store::builder().l1(L1::bytes(1 << 20)).l2(redis).build().unwrap();
        let list = set(RevocationList::builder()).store(store.clone()).build().unwrap();
        let builder = Verifier::builder().issuer(issuer(&signer()));
        let verifier = builder.revocations(list.clone()).build().unwrap();
        Self { store, list, verifier }
    }

    async fn verdict(&self, token: &str) -> Result<(), Refusal> {
        self.verifier.verify(token).await.map(|_| ())
    }

    async fn revoke_subject(&self, subject: &str) -> Reach {
        self.list.revoke(Target::subject(ISSUER, subject)).await.unwrap()
    }
}

fn signer() -> SigningKey {
    key(Algorithm::EdDsa)
}

/// A token that was issued so many milliseconds ago, or is to be.
fn aged(subject: &str, age: i64) -> String {
    let now = Clock::system().now();
    let iat = Duration::from_millis(u64::try_from(now.as_millis() - age).unwrap());
    let claims = with(claims(), "sub", subject);
    let claims = with(with(claims, "iat", json!(iat.as_secs_f64())), "exp", now.as_secs() + 600);
    token(&signer(), &with(claims, "jti", Value::Null))
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < Duration::from_secs(40), "not within 40 s: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Redis has begun to remember some while before this.
async fn server() -> RedisServer {
    let server = RedisServer::start().await;
    let node = Node::new(&server).await;
    let began = node.store.now();
    until("the clock goes on", async || node.store.now() > began).await;
    sleep(Duration::from_millis(20)).await;
    server
}

#[tokio::test]
async fn what_one_node_revokes_all_refuse() {
    let server = server().await;
    let (a, b) = (Node::new(&server).await, Node::new(&server).await);
    let (token, other) = (aged("user:1", 1), aged("user:2", 1));
    for node in [&a, &b] {
        assert_eq!(node.verdict(&token).await, Ok(()));
        assert_eq!(node.verdict(&other).await, Ok(()));
        assert!(node.verifier.verify_now(&token).is_ok(), "nobody is asked any more");
    }
    assert_eq!(a.revoke_subject("user:1").await, Reach::Everywhere);
    assert_eq!(a.verdict(&token).await, Err(Refusal::Revoked));
    until("b refuses it", async || b.verdict(&token).await == Err(Refusal::Revoked)).await;
    // A node that starts afterwards, and tokens that are issued then.
    let c = Node::new(&server).await;
    assert_eq!(c.verdict(&token).await, Err(Refusal::Revoked));
    for node in [&a, &b, &c] {
        assert_eq!(node.verdict(&other).await, Ok(()));
        assert_eq!(node.verdict(&aged("user:1", -5)).await, Ok(()));
    }
}

#[tokio::test]
async fn nodes_that_revoke_at_once_lose_none_of_it() {
    let server = server().await;
    let (a, b) = (Node::new(&server).await, Node::new(&server).await);
    let tokens: Vec<_> = (0..200).map(|n| (n, aged(&format!("user:{n}"), 1))).collect();
    // More than there are buckets for, so that some get several at the same time.
    let revoke = async |node: &Node, odd: usize| {
        let mine = tokens.iter().filter(|(n, _)| n % 2 == odd);
        for (n, _) in mine {
            let target = Target::subject(ISSUER, &format!("user:{n}"));
            assert_eq!(node.list.revoke(target).await, Ok(Reach::Everywhere));
            assert_eq!(node.list.revoke(Target::issuer("x")).await, Ok(Reach::Everywhere));
        }
    };
    tokio::join!(revoke(&a, 0), revoke(&b, 1));
    let c = Node::new(&server).await;
    for (n, token) in &tokens {
        assert_eq!(c.verdict(token).await, Err(Refusal::Revoked), "{n}");
    }
}

#[tokio::test]
async fn a_revocation_during_an_outage_holds_at_once_and_everywhere_afterwards() {
    let server = server().await;
    let (a, b) = (Node::new(&server).await, Node::new(&server).await);
    let (token, other, unseen) = (aged("user:1", 1), aged("user:2", 1), aged("user:3", 1));
    for node in [&a, &b] {
        assert!(node.verdict(&token).await.is_ok() && node.verdict(&other).await.is_ok());
    }
    server.pause();
    until("a notices", async || !a.store.is_synced()).await;
    assert_eq!(a.revoke_subject("user:1").await, Reach::ThisNode);
    assert_eq!(a.verdict(&token).await, Err(Refusal::Revoked));
    // The other node can't know, and goes on.
    until("b notices", async || !b.store.is_synced()).await;
    for token in [&token, &other, &unseen] {
        assert_eq!(b.verdict(token).await, Ok(()));
    }
    server.resume();
    until("b refuses it", async || b.verdict(&token).await == Err(Refusal::Revoked)).await;
    assert_eq!(b.verdict(&other).await, Ok(()));
    let c = Node::new(&server).await;
    assert_eq!(c.verdict(&token).await, Err(Refusal::Revoked));
}

#[tokio::test]
async fn a_node_goes_by_what_it_knew_for_as_long_as_it_was_told_and_no_longer() {
    let mut server = server().await;
    let brief = Node::with(&server, |it| it.patience(Duration::ZERO)).await;
    let patient = Node::with(&server, |it| it.patience(Duration::from_secs(8))).await;
    let endless = Node::with(&server, |it| it.patience(Duration::MAX)).await;
    let token = aged("user:1", 1);
    for node in [&brief, &patient, &endless] {
        assert_eq!(node.verdict(&token).await, Ok(()));
    }
    server.kill();
    let unknown = Err(Refusal::RevocationUnknown);
    until("it refuses", async || brief.verdict(&token).await == unknown).await;
    assert_eq!(patient.verdict(&token).await, Ok(()));
    // What it has never seen before, as well.
    assert_eq!(patient.verdict(&aged("user:9", 1)).await, Ok(()));
    until("it refuses", async || patient.verdict(&token).await == unknown).await;
    assert_eq!(endless.verdict(&token).await, Ok(()));
    // One that starts now knows nothing, and counts from then.
    let fresh = Node::lazy(&server, |it| it.patience(Duration::from_secs(4)));
    assert_eq!(fresh.verdict(&token).await, Ok(()));
    until("it refuses", async || fresh.verdict(&token).await == unknown).await;
    // Unless it is to refuse what it knows nothing of.
    let strict = Node::lazy(&server, |it| it.refuse_unread(true));
    assert_eq!(strict.verdict(&token).await, unknown);

    server.restart().await;
    let later = aged("user:1", -5000);
    for node in [&brief, &patient, &endless, &fresh, &strict] {
        until("it is back", async || node.verdict(&later).await.is_ok()).await;
    }
    // It has read everything meanwhile, and is as patient as others.
    let unseen = |n: usize| aged(&format!("unseen:{n}"), -5000);
    sleep(Duration::from_secs(2)).await;
    server.kill();
    until("it notices", async || !strict.store.is_synced()).await;
    for n in 0..20 {
        assert_eq!(strict.verdict(&unseen(n)).await, Ok(()), "{n}");
    }
}

#[tokio::test]
async fn a_redis_that_has_lost_everything_brings_no_token_back() {
    let mut server = server().await;
    let (a, b) = (Node::new(&server).await, Node::new(&server).await);
    let (revoked, good) = (aged("user:1", 1), aged("user:2", 1));
    assert_eq!(a.revoke_subject("user:1").await, Reach::Everywhere);
    until("b refuses it", async || b.verdict(&revoked).await.is_err()).await;
    assert_eq!(b.verdict(&good).await, Ok(()));
    server.restart().await;
    for node in [&a, &b] {
        until("it is back", async || node.store.is_synced()).await;
        assert_eq!(node.verdict(&revoked).await, Err(Refusal::Revoked));
        // Nobody can tell who else was revoked.
        assert_eq!(node.verdict(&good).await, Err(Refusal::RevocationLost));
        assert_eq!(node.verdict(&aged("user:1", -60_000)).await, Ok(()));
    }
    // Nodes that start then are told again what the others knew.
    let accepting = async || Node::with(&server, |it| it.lost(Lost::Accept)).await;
    until("it is told", async || {
        accepting().await.verdict(&revoked).await == Err(Refusal::Revoked)
    })
    .await;
    assert_eq!(accepting().await.verdict(&good).await, Ok(()));
    let fresh = Node::new(&server).await;
    assert_eq!(fresh.verdict(&good).await, Err(Refusal::RevocationLost));
}

#[tokio::test]
async fn what_redis_holds_names_nobody_and_goes_in_time() {
    let server = server().await;
    let life = Duration::from_secs(2);
    let a = Node::with(&server, |it| it.token_life(life).session_life(life)).await;
    let records = async || match server.command(&[b"KEYS", b"tk:2:revoked:*"]).await {
        Reply::Array(keys) => keys,
        reply => panic!("{reply:?}"),
    };
    a.revoke_subject("user:secret").await;
    let keys = records().await;
    let [Reply::Bytes(name)] = &keys[..] else { panic!("{keys:?}") };
    let Reply::Bytes(found) = server.command(&[b"GET", name.as_slice()]).await else { panic!() };
    for text in ["user:secret", ISSUER] {
        assert!(!found.windows(text.len()).any(|part| part == text.as_bytes()));
    }
    until("it is gone", async || records().await.is_empty()).await;
}

#[tokio::test]
async fn damage_in_redis_is_no_reason_to_fail() {
    let server = server().await;
    let a = Node::new(&server).await;
    let token = aged("user:1", 1);
    a.revoke_subject("user:1").await;
    let Reply::Array(keys) = server.command(&[b"KEYS", b"tk:2:revoked:*"]).await else { panic!() };
    let [Reply::Bytes(name)] = &keys[..] else { panic!("{keys:?}") };
    server.command(&[b"SET", name.as_slice(), b"nonsense"]).await;
    let b = Node::new(&server).await;
    assert_eq!(b.verdict(&aged("user:1", -5000)).await, Ok(()));
    assert_eq!(a.verdict(&token).await, Err(Refusal::Revoked));
    a.revoke_subject("user:1").await;
    until("b refuses it", async || b.verdict(&token).await == Err(Refusal::Revoked)).await;
}

#[tokio::test]
async fn a_store_for_one_process_cannot_share_a_list() {
    let alone = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
    let error = RevocationList::builder().store(alone).build().unwrap_err();
    assert!(error.to_string().contains("`l2`"));
}

/// How long after `revoke` has returned, and after it was called, another node refuses the token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_propagation() {
    let server = server().await;
    let (a, b) = (Node::new(&server).await, Node::new(&server).await);
    let (mut calls, mut after) = (Vec::new(), Vec::new());
    for n in 0..2000 {
        let subject = format!("user:{n}");
        let token = aged(&subject, 1);
        assert!(b.verdict(&token).await.is_ok());
        let watching = tokio::spawn({
            let verifier = b.verifier.clone();
            async move {
                while verifier.verify(&token).await.is_ok() {
                    tokio::task::yield_now().await;
                }
                Instant::now()
            }
        });
        let begin = Instant::now();
        a.revoke_subject(&subject).await;
        let returned = Instant::now();
        let refused = watching.await.unwrap();
        calls.push(returned - begin);
        after.push(refused - begin);
    }
    calls.sort();
    after.sort();
    for (what, times) in [("revoke returned", calls), ("refused elsewhere", after)] {
        println!("{what}: p50 {:?}, p99 {:?}, max {:?}", times[1000], times[1980], times[1999]);
    }
}

/// What it costs that a token could be revoked, once it was seen.
#[tokio::test]
#[ignore = "a measurement"]
async fn measure_a_token_that_was_seen() {
    let server = server().await;
    let shared = Node::new(&server).await;
    let alone = RevocationList::builder().build().unwrap();
    let builder = || Verifier::builder().issuer(issuer(&signer()));
    let claims = with(with(claims(), "jti", "t1"), "sid", "s1");
    let now = Clock::system().now().as_secs();
    let claims = with(with(with(claims, "client_id", "web"), "iat", now), "exp", now + 600);
    let token = token(&signer(), &claims);
    for (what, verifier) in [
        ("without revocations", builder().build().unwrap()),
        ("with those of this process", builder().revocations(alone).build().unwrap()),
        ("with those of all nodes", shared.verifier.clone()),
    ] {
        assert!(verifier.verify(&token).await.is_ok());
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let begin = Instant::now();
            for _ in 0..50_000 {
                assert!(std::hint::black_box(verifier.verify(&token).await).is_ok());
            }
            best = best.min(begin.elapsed() / 50_000);
        }
        println!("{what}: {best:?} for a token of {} bytes", token.len());
    }
}
