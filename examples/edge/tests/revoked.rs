//! Tokens that were revoked, by operators and by applications, with a real Redis.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use support::tokens::{ISSUER, Issuer};
use support::{Client, Edge, Origin};
use tower_keep::auth::{Reach, RevocationList, Revocations, Target};
use tower_keep::store::{L1, Redis, Store};
use tower_keep_testing::RedisServer;

const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"0123456789abcdef\"\n";

fn config(issuer: &Issuer, origin: &Origin, revocation: &str, more: &str) -> String {
    format!(
        "{ADMIN}[[listener]]\naddress = \"127.0.0.1:0\"\n\
        [pool.app]\nbackends = [\"http://{}\"]\n[[route]]\npool = \"app\"\njwt = \"users\"\n\
        [jwt.users]\n{more}{}{revocation}",
        origin.address,
        issuer.section()
    )
}

fn status(edge: &Edge, token: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
    edge.ask(&request).status().to_owned()
}

/// A token that is accepted: those from before Redis was used first aren't, nor those from the second of
/// a revocation.
async fn accepted(edge: &Edge, issuer: &Issuer, subject: &str) -> String {
    loop {
        let token = issuer.token(subject);
        if status(edge, &token) == "200" {
            return token;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn revoke(edge: &Edge, target: &str) -> (String, String) {
    let mut client = Client::connect(edge.at_name("admin"));
    client.send(&format!(
        "POST /revoke/{target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer 0123456789abcdef\r\n\r\n"
    ));
    let response = client.response();
    (response.status().to_owned(), response.body)
}

async fn until_status(edge: &Edge, token: &str, wanted: &str) {
    while status(edge, token) != wanted {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_refused(edge: &Edge, token: &str) {
    until_status(edge, token, "401").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_at_one_edge_or_by_an_application_all_edges_refuse() {
    let redis = RedisServer::start().await;
    let origin = Origin::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let issuer = Issuer::new();
    let own = format!("[jwt.users.revocation]\nredis = \"{}\"\n", redis.url());
    // The one names Redis where it is needed, the other goes by that of the cache.
    let common = format!("[jwt.users.revocation]\n[cache]\nredis = \"{}\"\n", redis.url());
    let one = Edge::new(&config(&issuer, &origin, &own, ""));
    let two = Edge::new(&config(&issuer, &origin, &common, ""));
    let ada = accepted(&one, &issuer, "ada/1").await;
    let bob = accepted(&two, &issuer, "bob").await;
    for (edge, token) in [(&one, &bob), (&two, &ada)] {
        assert_eq!(status(edge, token), "200");
    }

    let done = ("200".to_owned(), "It is revoked everywhere.\n".to_owned());
    assert_eq!(revoke(&one, "users?subject=ada%2F1"), done);
    assert_eq!(status(&one, &ada), "401");
    until_refused(&two, &ada).await;
    // A reload forgets nothing, whatever else it changes of the tokens.
    one.reload(&config(&issuer, &origin, &own, "max_len = \"4KiB\"\n"));
    assert_eq!((status(&one, &ada), status(&one, &bob)), ("401".to_owned(), "200".to_owned()));
    // What is issued afterwards is good.
    accepted(&one, &issuer, "ada/1").await;

    let store = Redis::builder(&redis.url()).connect().await.unwrap();
    let store = Store::builder().l1(L1::bytes(64 << 10)).l2(store).build().unwrap();
    let list = RevocationList::builder().store(store).build().unwrap();
    // One that has just come isn't in step yet.
    while list.revoke(Target::subject(ISSUER, "bob")).await != Ok(Reach::Everywhere) {}
    for edge in [&one, &two] {
        until_refused(edge, &bob).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_during_an_outage_forgets_nothing_and_redis_hears_of_it_afterwards() {
    let redis = RedisServer::start().await;
    let origin = Origin::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let issuer = Issuer::new();
    let section = format!("[jwt.users.revocation]\nredis = \"{}\"\n", redis.url());
    let start = |more: &str| config(&issuer, &origin, &format!("{section}{more}"), "");
    let (one, two) = (Edge::new(&start("")), Edge::new(&start("")));
    let token = accepted(&one, &issuer, "ada").await;
    until_status(&two, &token, "200").await;
    redis.pause();
    // It may not have noticed yet, and then waits for Redis.
    let (reach, _) = revoke(&one, "users?subject=ada");
    assert_eq!((&*reach, status(&one, &token)), ("202", "401".to_owned()));
    one.reload(&start("patience = \"1h\"\n"));
    assert_eq!(status(&one, &token), "401");
    // One that knows nothing of what was revoked, and says so.
    let late = Edge::new(&start(""));
    assert_eq!(status(&late, &token), "503");
    late.reload(&start("unread = \"accept\"\n"));
    assert_eq!(status(&late, &token), "200");
    redis.resume();
    for edge in [&two, &late] {
        until_refused(edge, &token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_revokes_is_told_what_is_missing() {
    let redis = RedisServer::start().await;
    let origin = Origin::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let issuer = Issuer::new();
    let section = format!("[jwt.users.revocation]\nredis = \"{}\"\n", redis.url());
    let edge = Edge::new(&config(&issuer, &origin, &section, ""));
    assert_eq!(revoke(&edge, "nobody?subject=a").0, "404");
    for query in
        ["", "?", "?subject", "?subject=", "?subjekt=a", "?subject=a&token=b", "?subject=%ff"]
    {
        let (status, body) = revoke(&edge, &format!("users{query}"));
        assert_eq!(
            (&*status, body.starts_with("expected one of")),
            ("400", true),
            "{query} {body}"
        );
    }
    let (status, body) = revoke(&edge, "users?issuer=https://other.test&subject=a");
    assert_eq!((&*status, body.contains("https://other.test")), ("400", true), "{body}");
    // It may have lost Redis, or not found it yet.
    let (status, _) = revoke(&edge, &format!("users?issuer={ISSUER}&session=a"));
    assert!(["200", "202"].contains(&&*status), "{status}");
    // Where nothing is revoked, there is nothing to ask.
    edge.reload(&config(&issuer, &origin, "", ""));
    assert_eq!(revoke(&edge, "users?subject=a").0, "404");
}
