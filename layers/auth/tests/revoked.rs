//! What is revoked in one process: which tokens that covers, for how long, and what it costs the others.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::{AUDIENCE, ISSUER, NOW, claims, clock, issuer, key, token, with};
use tokio::time::timeout;
use tower_keep_auth::{
    Algorithm, Check, Clock, Grant, InMemorySessions, JwtManager, NumericDate, Reach, RefreshError,
    RefreshFuture, RefreshRecord, RefreshStore, Refusal, Revocable, RevocationList, Revocations,
    Revoking, Sessions, SigningKey, Target, Verifier,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn date(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn list(clock: &Clock) -> RevocationList {
    RevocationList::builder().clock(clock.clone()).by_claim("tenant").build().unwrap()
}

fn verifier(key: &SigningKey, clock: &Clock, list: &RevocationList) -> Verifier {
    let builder = Verifier::builder().issuer(issuer(key)).clock(clock.clone());
    builder.revocations(list.clone()).build().unwrap()
}

fn all() -> Value {
    let claims = with(with(claims(), "jti", "t1"), "sid", "s1");
    with(with(claims, "client_id", "web"), "tenant", 7)
}

#[tokio::test]
async fn a_token_is_revoked_by_whatever_it_is_of_and_no_other_is() {
    let key = key(Algorithm::EdDsa);
    let other = [("jti", json!("t2")), ("sid", json!("s2")), ("sub", json!("user:2"))]
        .into_iter()
        .chain([("client_id", json!("app")), ("tenant", json!("7"))])
        .fold(all(), |claims, (name, value)| with(claims, name, value));
    for (target, covers_other) in [
        (Target::token(ISSUER, "t1"), false),
        (Target::session(ISSUER, "s1"), false),
        (Target::subject(ISSUER, "user:1"), false),
        (Target::client(ISSUER, "web"), false),
        (Target::claim(ISSUER, "tenant", &json!(7)).unwrap(), false),
        (Target::issuer(ISSUER), true),
    ] {
        let clock = clock();
        let list = list(&clock);
        let verifier = verifier(&key, &clock, &list);
        let (token, other) = (token(&key, &all()), token(&key, &other));
        assert!(verifier.verify_now(&token).is_ok() && verifier.verify_now(&other).is_ok());
        assert_eq!(list.revoke(target.clone()).await, Ok(Reach::Everywhere));
        // Those that were accepted before, and those that come now.
        for verifier in [&verifier, &self::verifier(&key, &clock, &list)] {
            assert_eq!(verifier.verify_now(&token).unwrap_err(), Refusal::Revoked, "{target:?}");
            let result = verifier.verify(&other).await.map(|_| ());
            let expected = if covers_other { Err(Refusal::Revoked) } else { Ok(()) };
            assert_eq!(result, expected, "{target:?}");
        }
    }
}

#[tokio::test]
async fn what_belongs_to_another_issuer_or_has_another_name_is_not_revoked() {
    let key = key(Algorithm::EdDsa);
    let clock = clock();
    let list = list(&clock);
    let verifier = verifier(&key, &clock, &list);
    let token = token(&key, &all());
    for target in [
        Target::subject("https://other.example.com", "user:1"),
        Target::issuer("https://other.example.com"),
        Target::subject(ISSUER, "t1"),
        Target::token(ISSUER, "user:1"),
        Target::client(ISSUER, "user:1"),
        Target::claim(ISSUER, "tenant", &json!("7")).unwrap(),
        // A claim that nobody looks at.
        Target::claim(ISSUER, "sub", &json!("user:1")).unwrap(),
    ] {
        list.revoke(target).await.unwrap();
        assert!(verifier.verify_now(&token).is_ok());
    }
}

#[tokio::test]
async fn what_is_issued_later_is_good_and_a_single_token_never_again() {
    let key = key(Algorithm::EdDsa);
    let clock = clock();
    let list = list(&clock);
    let verifier = verifier(&key, &clock, &list);
    clock.advance(Duration::from_millis(500));
    list.revoke(Target::subject(ISSUER, "user:1")).await.unwrap();
    let at = |iat: Value| token(&key, &with(all(), "iat", iat));
    for iat in [json!(NOW - 1), json!(NOW), date("1800000000.5")] {
        assert_eq!(verifier.verify_now(&at(iat)).unwrap_err(), Refusal::Revoked);
    }
    for iat in [json!(NOW + 1), date("1800000000.6")] {
        assert!(verifier.verify_now(&at(iat)).is_ok());
    }
    list.revoke(Target::token(ISSUER, "t1")).await.unwrap();
    assert_eq!(verifier.verify_now(&at(json!(NOW + 1))).unwrap_err(), Refusal::Revoked);
}

#[tokio::test]
async fn clocks_that_are_ahead_are_allowed_for() {
    let key = key(Algorithm::EdDsa);
    let clock = clock();
    let list = RevocationList::builder().clock(clock.clone()).skew(2 * SECOND).build().unwrap();
    let verifier = verifier(&key, &clock, &list);
    list.revoke(Target::subject(ISSUER, "user:1")).await.unwrap();
    let at = |iat| token(&key, &with(all(), "iat", iat));
    assert_eq!(verifier.verify_now(&at(NOW + 2)).unwrap_err(), Refusal::Revoked);
    assert!(verifier.verify_now(&at(NOW + 3)).is_ok());
}

#[tokio::test]
async fn no_token_outlives_what_is_remembered_of_it() {
    let key = key(Algorithm::EdDsa);
    let clock = clock();
    let list = RevocationList::builder().clock(clock.clone()).token_life(HOUR).build().unwrap();
    let builder = Verifier::builder().issuer(issuer(&key)).clock(clock.clone());
    let verifier = builder.revocations(list.clone()).build().unwrap();
    let long = |jti: &str| token(&key, &with(with(all(), "exp", NOW + 86_400), "jti", jti));
    list.revoke(Target::token(ISSUER, "t1")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(verifier.verify_now(&long("t1")).unwrap_err(), Refusal::Revoked);
        assert!(verifier.verify_now(&long("t2")).is_ok());
        clock.advance(Duration::from_secs(1199));
    }
    clock.advance(3 * SECOND);
    for jti in ["t1", "t2"] {
        assert_eq!(verifier.verify_now(&long(jti)).unwrap_err(), Refusal::TooOld);
    }
    let undated = token(&key, &with(with(all(), "exp", NOW + 86_400), "iat", Value::Null));
    let refusal = verifier.verify_now(&undated).unwrap_err();
    assert_eq!(refusal, Refusal::MissingClaim("iat".into()));
}

/// Counts how often it is asked.
#[derive(Clone, Debug)]
struct Counting(RevocationList, Arc<AtomicUsize>);

impl Revocations for Counting {
    fn check(&self, token: &Revocable<'_>) -> Check {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.check(token)
    }

    fn revoke(&self, target: Target) -> Revoking {
        self.0.revoke(target)
    }

    fn memory(&self) -> Duration {
        self.0.memory()
    }
}

#[tokio::test]
async fn a_token_is_looked_up_once_until_its_own_part_of_the_list_changes() {
    let key = key(Algorithm::EdDsa);
    let clock = clock();
    let counting = Counting(list(&clock), Arc::default());
    let builder = Verifier::builder().issuer(issuer(&key)).clock(clock.clone());
    let verifier = builder.revocations(counting.clone()).build().unwrap();
    let token = token(&key, &all());
    let asked = || counting.1.load(Ordering::Relaxed);
    for _ in 0..10 {
        assert!(verifier.verify_now(&token).is_ok());
    }
    assert_eq!(asked(), 1);
    // It is of six things out of 1,024 parts: few of a hundred revocations fall into them.
    for n in 0..100 {
        counting.revoke(Target::token(ISSUER, &format!("other-{n}"))).await.unwrap();
        assert!(verifier.verify_now(&token).is_ok());
    }
    assert!(asked() < 20, "{}", asked());
    counting.revoke(Target::token(ISSUER, "t1")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(verifier.verify_now(&token).unwrap_err(), Refusal::Revoked);
    }
}

fn manager(clock: &Clock, list: &RevocationList) -> JwtManager {
    let builder = JwtManager::builder(ISSUER).key(key(Algorithm::Hs256)).audience(AUDIENCE);
    builder.clock(clock.clone()).revocations(list.clone()).precise().build().unwrap()
}

fn sessions(clock: &Clock, list: &RevocationList) -> Sessions {
    let store = InMemorySessions::default().clock(clock.clone());
    manager(clock, list).sessions(store).build().unwrap()
}

#[tokio::test]
async fn a_session_that_ends_takes_its_access_tokens_with_it() {
    let clock = clock();
    let list = list(&clock);
    let (manager, sessions) = (manager(&clock, &list), sessions(&clock, &list));
    let ended = sessions.begin(Grant::new("user:1")).await.unwrap();
    let reused = sessions.begin(Grant::new("user:1")).await.unwrap();
    let other = sessions.begin(Grant::new("user:1")).await.unwrap();
    sessions.end(&ended.refresh).await.unwrap();
    let next = sessions.refresh(&reused.refresh, None).await.unwrap();
    assert!(manager.verify(&next.access.token).is_ok());
    clock.advance(10 * SECOND);
    let error = sessions.refresh(&reused.refresh, None).await.unwrap_err();
    assert!(matches!(error, RefreshError::Reused));
    for tokens in [&ended, &reused, &next] {
        assert_eq!(manager.verify(&tokens.access.token).unwrap_err(), Refusal::Revoked);
    }
    assert!(manager.verify(&other.access.token).is_ok());
}

/// Who can log in can do so often: what is revoked by logging out must not fill the list for a day.
#[tokio::test]
async fn a_session_that_ended_is_on_the_list_for_as_long_as_its_tokens_live() {
    let clock = clock();
    let list = list(&clock);
    let (manager, sessions) = (manager(&clock, &list), sessions(&clock, &list));
    let ended = sessions.begin(Grant::new("user:1")).await.unwrap();
    sessions.end(&ended.refresh).await.unwrap();
    // No manager issues one like this.
    let claims = with(with(all(), "sid", &*ended.session), "exp", NOW + 86_400);
    let long = token(&key(Algorithm::Hs256), &claims);
    // 15 minutes, and what clocks may differ by.
    for _ in 0..25 {
        assert_eq!(manager.verify(&long).unwrap_err(), Refusal::Revoked);
        clock.advance(60 * SECOND);
    }
    assert!(manager.verify(&long).is_ok());
    let error = sessions.refresh(&ended.refresh, None).await.unwrap_err();
    assert!(matches!(error, RefreshError::Ended));
}

/// A store whose answers get lost: what was asked of it is done, and nobody hears of it.
#[derive(Clone, Debug)]
struct Mute(Arc<InMemorySessions>, Arc<AtomicBool>);

impl RefreshStore for Mute {
    fn load<'a>(&'a self, session: &'a str) -> RefreshFuture<'a, Option<RefreshRecord>> {
        self.0.load(session)
    }

    fn swap<'a>(
        &'a self,
        session: &'a str,
        expected: Option<&'a RefreshRecord>,
        record: RefreshRecord,
    ) -> RefreshFuture<'a, bool> {
        Box::pin(async move {
            let swapped = self.0.swap(session, expected, record).await;
            if self.1.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            swapped
        })
    }
}

/// Whoever asks may hang up at any time, and a process may end.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_ended_by_who_goes_away_takes_its_access_tokens_with_it() {
    let clock = clock();
    let list = list(&clock);
    let manager = manager(&clock, &list);
    let is_mute = Arc::<AtomicBool>::default();
    let store = Mute(InMemorySessions::default().clock(clock.clone()).into(), is_mute.clone());
    let sessions = manager.sessions(store).build().unwrap();
    let ended = sessions.begin(Grant::new("user:1")).await.unwrap();
    let reused = sessions.begin(Grant::new("user:1")).await.unwrap();
    let next = sessions.refresh(&reused.refresh, None).await.unwrap();
    clock.advance(10 * SECOND);
    is_mute.store(true, Ordering::Relaxed);
    assert!(timeout(SECOND, sessions.end(&ended.refresh)).await.is_err());
    assert!(timeout(SECOND, sessions.refresh(&reused.refresh, None)).await.is_err());
    is_mute.store(false, Ordering::Relaxed);
    for token in [&ended.refresh, &next.refresh] {
        let error = sessions.refresh(token, None).await.unwrap_err();
        assert!(matches!(error, RefreshError::Ended));
    }
    for tokens in [&ended, &next] {
        assert_eq!(manager.verify(&tokens.access.token).unwrap_err(), Refusal::Revoked);
    }
}

#[tokio::test]
async fn a_subject_that_is_logged_out_everywhere_cannot_refresh_and_can_log_in() {
    let clock = clock();
    let list = list(&clock);
    let (manager, sessions) = (manager(&clock, &list), sessions(&clock, &list));
    let before = sessions.begin(Grant::new("user:1")).await.unwrap();
    let other = sessions.begin(Grant::new("user:2")).await.unwrap();
    clock.advance(Duration::from_millis(1));
    list.revoke(Target::subject(ISSUER, "user:1")).await.unwrap();
    clock.advance(Duration::from_millis(2));
    // Within the same second: the manager is precise.
    let after = sessions.begin(Grant::new("user:1")).await.unwrap();
    assert_eq!(manager.verify(&before.access.token).unwrap_err(), Refusal::Revoked);
    assert!(manager.verify(&after.access.token).is_ok());
    // Long after the access tokens have expired, too.
    for days in [0, 1, 10] {
        clock.advance(days * DAY);
        let error = sessions.refresh(&before.refresh, None).await.unwrap_err();
        assert!(matches!(error, RefreshError::Revoked) && error.is_invalid_grant());
    }
    assert!(sessions.refresh(&after.refresh, None).await.is_ok());
    assert!(sessions.refresh(&other.refresh, None).await.is_ok());
}

#[test]
fn settings_that_cannot_work_fail_with_the_fix() {
    let fix =
        |builder: tower_keep_auth::RevocationListBuilder| builder.build().unwrap_err().to_string();
    let builder = RevocationList::builder;
    assert!(fix(builder().token_life(Duration::ZERO)).contains("`token_life`"));
    assert!(fix(builder().session_life(HOUR)).contains("`session_life`"));
    assert!(fix(builder().skew(HOUR)).contains("`skew`"));
    assert!(fix(builder().by_claim("")).contains("`by_claim`"));
    let clock = Clock::manual(NumericDate::from_secs(NOW));
    let short = builder().session_life(DAY).build().unwrap();
    let store = InMemorySessions::default();
    let error = manager(&clock, &short).sessions(store).build().unwrap_err().to_string();
    assert!(error.contains("`RevocationListBuilder::session_life`"));
}
