//! Sessions: refresh tokens that are used once, and what comes of one that is used twice.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::{AUDIENCE, ISSUER, NOW, clock, key};
use tokio::sync::Notify;
use tower_keep_auth::{
    Algorithm, Clock, Grant, InMemorySessions, IssueError, JwtManager, NumericDate, RefreshError,
    RefreshFuture, RefreshRecord, RefreshStore, RefreshStoreError, Sessions,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn manager(clock: &Clock) -> JwtManager {
    let key = key(Algorithm::Hs256);
    JwtManager::builder(ISSUER).key(key).audience(AUDIENCE).clock(clock.clone()).build().unwrap()
}

fn in_memory(clock: &Clock) -> InMemorySessions {
    InMemorySessions::default().clock(clock.clone())
}

fn sessions(clock: &Clock) -> Sessions {
    manager(clock).sessions(in_memory(clock)).build().unwrap()
}

fn grant() -> Grant {
    Grant::new("user:1").scope("read").client("web").claims(&json!({"tenant": 7}))
}

async fn refused(sessions: &Sessions, token: &str) -> RefreshError {
    sessions.refresh(token, Some("web")).await.unwrap_err()
}

#[tokio::test]
async fn each_refresh_gives_the_next_pair_with_the_same_grant() {
    let clock = clock();
    let (manager, sessions) = (manager(&clock), sessions(&clock));
    let mut tokens = sessions.begin(grant()).await.unwrap();
    for _ in 0..5 {
        let verified = manager.verify(&tokens.access.token).unwrap();
        assert_eq!(verified.subject(), Some("user:1"));
        assert!(verified.claims().has_scope("read"));
        assert_eq!(verified.claims().client_id.as_deref(), Some("web"));
        assert_eq!(verified.claims().sid.as_deref(), Some(&*tokens.session));
        assert_eq!(verified.claim("tenant"), Some(&json!(7)));
        clock.advance(DAY);
        let next = sessions.refresh(&tokens.refresh, Some("web")).await.unwrap();
        assert_eq!(next.session, tokens.session);
        assert_ne!(next.refresh, tokens.refresh);
        assert_ne!(next.access.id, tokens.access.id);
        tokens = next;
    }
}

#[tokio::test]
async fn a_token_that_was_used_before_ends_the_session() {
    let clock = clock();
    let sessions = sessions(&clock);
    let first = sessions.begin(grant()).await.unwrap().refresh;
    let second = sessions.refresh(&first, Some("web")).await.unwrap().refresh;
    clock.advance(10 * SECOND);
    assert!(matches!(refused(&sessions, &first).await, RefreshError::Reused));
    for token in [&first, &second] {
        assert!(matches!(refused(&sessions, token).await, RefreshError::Ended));
    }
}

#[tokio::test]
async fn an_older_token_ends_the_session_also_within_the_grace() {
    let clock = clock();
    let sessions = sessions(&clock);
    let first = sessions.begin(grant()).await.unwrap().refresh;
    let second = sessions.refresh(&first, Some("web")).await.unwrap().refresh;
    let third = sessions.refresh(&second, Some("web")).await.unwrap().refresh;
    // Whoever has it, and as whatever client.
    let error = sessions.refresh(&first, None).await.unwrap_err();
    assert!(matches!(error, RefreshError::Reused));
    assert!(matches!(refused(&sessions, &third).await, RefreshError::Ended));
}

#[tokio::test]
async fn a_client_that_lost_the_answer_gets_it_again_for_a_while() {
    let clock = clock();
    let sessions = sessions(&clock);
    let first = sessions.begin(grant()).await.unwrap().refresh;
    let second = sessions.refresh(&first, Some("web")).await.unwrap();
    clock.advance(Duration::from_millis(9_999));
    let again = sessions.refresh(&first, Some("web")).await.unwrap();
    assert_eq!(again.refresh, second.refresh);
    assert_eq!(again.refresh_expires_at, second.refresh_expires_at);
    assert!(sessions.refresh(&second.refresh, Some("web")).await.is_ok());
}

#[tokio::test]
async fn without_grace_no_token_is_good_twice() {
    let clock = clock();
    let sessions =
        manager(&clock).sessions(in_memory(&clock)).grace(Duration::ZERO).build().unwrap();
    let first = sessions.begin(grant()).await.unwrap().refresh;
    assert!(sessions.refresh(&first, Some("web")).await.is_ok());
    assert!(matches!(refused(&sessions, &first).await, RefreshError::Reused));
}

#[tokio::test]
async fn what_was_never_issued_ends_nothing() {
    let clock = clock();
    let sessions = sessions(&clock);
    let tokens = sessions.begin(grant()).await.unwrap();
    let other = sessions.begin(grant()).await.unwrap();
    let (name, secret) = tokens.refresh.split_once('.').unwrap();
    // Who sees an access token knows the session's name.
    let made_up = format!("{name}.{}", support::encode([7; 48]));
    let of_other = format!("{name}.{}", other.refresh.split_once('.').unwrap().1);
    let nowhere = format!("AAAAAAAAAAAAAAAAAAAAAA.{secret}");
    for token in [&*made_up, &of_other, &nowhere, name, "", &tokens.access.token] {
        assert!(matches!(refused(&sessions, token).await, RefreshError::Unknown), "{token}");
        assert!(!sessions.end(token).await.unwrap(), "{token}");
    }
    assert!(sessions.refresh(&tokens.refresh, Some("web")).await.is_ok());
}

#[tokio::test]
async fn a_token_is_of_no_use_to_another_client() {
    let clock = clock();
    let sessions = sessions(&clock);
    let token = sessions.begin(grant()).await.unwrap().refresh;
    for client in [None, Some("app")] {
        let error = sessions.refresh(&token, client).await.unwrap_err();
        assert!(matches!(error, RefreshError::WrongClient));
    }
    assert!(sessions.refresh(&token, Some("web")).await.is_ok());
    let token = sessions.begin(Grant::new("user:2")).await.unwrap().refresh;
    assert!(matches!(refused(&sessions, &token).await, RefreshError::WrongClient));
    assert!(sessions.refresh(&token, None).await.is_ok());
}

#[tokio::test]
async fn sessions_end_when_they_lie_unused_and_after_their_life() {
    let clock = clock();
    let build = || {
        let builder = manager(&clock).sessions(in_memory(&clock));
        builder.idle(2 * DAY).life(5 * DAY).build().unwrap()
    };
    let sessions = build();
    let idle = sessions.begin(grant()).await.unwrap();
    assert_eq!(idle.refresh_expires_at, NumericDate::from_secs(NOW + 2 * 86_400));
    let mut tokens = sessions.begin(grant()).await.unwrap();
    clock.advance(2 * DAY);
    assert!(matches!(refused(&sessions, &idle.refresh).await, RefreshError::Unknown));
    assert!(matches!(refused(&sessions, &tokens.refresh).await, RefreshError::Unknown));

    tokens = sessions.begin(grant()).await.unwrap();
    let began = clock.now();
    for _ in 0..4 {
        clock.advance(DAY);
        tokens = sessions.refresh(&tokens.refresh, Some("web")).await.unwrap();
    }
    assert_eq!(tokens.refresh_expires_at, began.saturating_add(5 * DAY));
    clock.advance(DAY);
    assert!(refused(&sessions, &tokens.refresh).await.is_invalid_grant());
}

#[tokio::test]
async fn logging_out_ends_the_session_and_no_other() {
    let clock = clock();
    let sessions = sessions(&clock);
    let one = sessions.begin(grant()).await.unwrap();
    let two = sessions.begin(grant()).await.unwrap();
    let three = sessions.begin(grant()).await.unwrap();
    assert!(sessions.end(&one.refresh).await.unwrap());
    assert!(sessions.end_session(&two.session).await.unwrap());
    assert!(!sessions.end(&one.refresh).await.unwrap(), "a second time");
    assert!(!sessions.end_session("no-such-session").await.unwrap());
    for token in [&one.refresh, &two.refresh] {
        let error = refused(&sessions, token).await;
        assert!(matches!(error, RefreshError::Ended) && error.is_invalid_grant());
    }
    assert!(sessions.refresh(&three.refresh, Some("web")).await.is_ok());
}

#[tokio::test]
async fn what_is_kept_and_shown_holds_no_token() {
    let clock = clock();
    let store = Arc::new(in_memory(&clock));
    let sessions = manager(&clock).sessions(Shared(Arc::clone(&store))).build().unwrap();
    let first = sessions.begin(grant()).await.unwrap();
    let second = sessions.refresh(&first.refresh, Some("web")).await.unwrap();
    let kept = store.load(&first.session).await.unwrap().unwrap();
    let text = String::from_utf8(kept.bytes.clone()).unwrap();
    for tokens in [&first, &second] {
        let secret = support::decode(tokens.refresh.split_once('.').unwrap().1);
        let as_list = serde_json::to_string(&secret[..32]).unwrap();
        assert!(!text.contains(&tokens.refresh) && !text.contains(&as_list));
        assert!(!format!("{tokens:?}").contains(&tokens.refresh));
        assert!(!format!("{tokens:?}").contains(&tokens.access.token));
    }
    assert!(!format!("{kept:?}").contains("user:1"));
}

#[tokio::test]
async fn memory_is_bounded_and_what_has_expired_makes_room() {
    let clock = clock();
    let store = Arc::new(InMemorySessions::new(2).clock(clock.clone()));
    let sessions = manager(&clock).sessions(Shared(Arc::clone(&store))).idle(DAY).build().unwrap();
    let mut tokens = sessions.begin(grant()).await.unwrap();
    sessions.begin(grant()).await.unwrap();
    let error = sessions.begin(grant()).await.unwrap_err();
    assert!(matches!(error, RefreshError::Store(RefreshStoreError::Full)));
    assert!(!error.is_invalid_grant());
    clock.advance(Duration::from_secs(86_399));
    tokens = sessions.refresh(&tokens.refresh, Some("web")).await.unwrap();
    clock.advance(SECOND);
    assert_eq!(store.len(), 1);
    sessions.begin(grant()).await.unwrap();
    assert!(sessions.begin(grant()).await.is_err());
    assert!(sessions.refresh(&tokens.refresh, Some("web")).await.is_ok());

    let large = grant().claims(&json!({"text": "x".repeat(16 * 1024)}));
    let error = sessions.begin(large).await.unwrap_err();
    assert!(matches!(error, RefreshError::Issue(IssueError::TooLarge)));
}

/// A store in which the next swap waits, once, until it is let go on.
#[derive(Debug)]
struct Held {
    inner: Shared,
    arrived: Arc<Notify>,
    go: Arc<Notify>,
    hold: std::sync::atomic::AtomicBool,
}

#[derive(Clone, Debug)]
struct Shared(Arc<InMemorySessions>);

impl RefreshStore for Shared {
    fn load<'a>(&'a self, session: &'a str) -> RefreshFuture<'a, Option<RefreshRecord>> {
        self.0.load(session)
    }

    fn swap<'a>(
        &'a self,
        session: &'a str,
        expected: Option<&'a RefreshRecord>,
        record: RefreshRecord,
    ) -> RefreshFuture<'a, bool> {
        self.0.swap(session, expected, record)
    }
}

impl RefreshStore for Held {
    fn load<'a>(&'a self, session: &'a str) -> RefreshFuture<'a, Option<RefreshRecord>> {
        self.inner.load(session)
    }

    fn swap<'a>(
        &'a self,
        session: &'a str,
        expected: Option<&'a RefreshRecord>,
        record: RefreshRecord,
    ) -> RefreshFuture<'a, bool> {
        Box::pin(async move {
            if self.hold.swap(false, std::sync::atomic::Ordering::SeqCst) {
                self.arrived.notify_one();
                self.go.notified().await;
            }
            self.inner.swap(session, expected, record).await
        })
    }
}

/// Two nodes read the same record; the first one's swap comes second.
async fn race(grace: Duration) -> [Result<String, RefreshError>; 2] {
    let clock = clock();
    let inner = Shared(Arc::new(in_memory(&clock)));
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let held = Held { inner: inner.clone(), arrived, go, hold: true.into() };
    let (arrived, go) = (Arc::clone(&held.arrived), Arc::clone(&held.go));
    let a = manager(&clock).sessions(held).grace(grace).build().unwrap();
    let b = manager(&clock).sessions(inner).grace(grace).build().unwrap();
    let token = b.begin(grant()).await.unwrap().refresh;
    let slow = tokio::spawn({
        let token = token.clone();
        async move { a.refresh(&token, Some("web")).await }
    });
    arrived.notified().await;
    let quick = b.refresh(&token, Some("web")).await;
    go.notify_one();
    [slow.await.unwrap(), quick].map(|result| result.map(|tokens| tokens.refresh))
}

#[tokio::test]
async fn of_two_nodes_that_refresh_at_once_one_does_and_both_get_the_same() {
    let [slow, quick] = race(10 * SECOND).await;
    assert_eq!(slow.unwrap(), quick.unwrap());
}

#[tokio::test]
async fn of_two_nodes_that_refresh_at_once_without_grace_one_gets_something() {
    let [slow, quick] = race(Duration::ZERO).await;
    assert!(quick.is_ok());
    assert!(matches!(slow, Err(RefreshError::Reused)));
}

#[test]
fn settings_that_cannot_work_fail_with_the_fix() {
    let clock = clock();
    let builder = || manager(&clock).sessions(in_memory(&clock));
    let fix = |builder: tower_keep_auth::SessionsBuilder| builder.build().unwrap_err().to_string();
    assert!(fix(builder().idle(Duration::ZERO)).contains("`idle`"));
    assert!(fix(builder().life(DAY)).contains("`life`"));
    assert!(fix(builder().grace(301 * SECOND)).contains("`grace`"));
    assert!(fix(builder().idle(10 * SECOND)).contains("`grace`"));
}
