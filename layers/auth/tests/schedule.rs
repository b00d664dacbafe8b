//! When keys are fetched, on a clock that the tests move.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use support::fake::{Answer, Fake, MINUTE, SECOND, URL, saying};
use support::{fresh, jwks, keys, trusting};
use tokio::task::yield_now;
use tokio::time::{Instant, advance, sleep};
use tower::{Service, service_fn};
use tower_keep_auth::{
    Algorithm, BuildError, FetchError, KeySource, Refusal, RemoteKeys, RemoteKeysBuilder,
    SigningKey,
};

/// How long after the first fetch the second one comes.
async fn lifetime(fake: Fake) -> Duration {
    let keys = fake.keys(|builder| builder);
    keys.ready().await.unwrap();
    while fake.asked() < 2 {
        sleep(SECOND).await;
    }
    fake.last_gap()
}

fn about(span: Duration) -> std::ops::RangeInclusive<Duration> {
    span.mul_f64(0.9)..=span + SECOND
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_again_before_they_are_stale_within_bounds() {
    let [key] = keys();
    for (said, lasts) in [
        ("public", 10 * MINUTE),
        ("max-age=1200", 20 * MINUTE),
        ("max-age=5", MINUTE),
        ("no-store", MINUTE),
        ("max-age=86400", 60 * MINUTE),
    ] {
        let span = lifetime(saying(said, &[&key])).await;
        assert!(about(lasts).contains(&span), "{said}: {span:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_times_of_refreshes_are_spread() {
    let [key] = keys();
    let mut spans = Vec::new();
    for _ in 0..20 {
        spans.push(lifetime(Fake::with(&[&key])).await);
    }
    spans.sort();
    assert!(spans[19] > spans[0] + 10 * SECOND, "{spans:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_confirmed_by_its_etag_and_stays_for_as_long_as_before() {
    let [key] = keys();
    let set = jwks(&[&key]);
    let fake = Fake::new(move |request| {
        if request.headers().get(IF_NONE_MATCH).is_some_and(|etag| etag == "\"1\"") {
            let response = Response::builder().status(StatusCode::NOT_MODIFIED);
            return Ok(response.body(Full::default()).unwrap());
        }
        let response =
            Response::builder().header(ETAG, "\"1\"").header(CACHE_CONTROL, "max-age=120");
        Ok(response.body(set.clone().into()).unwrap())
    });
    let keys = fake.keys(|builder| builder);
    keys.ready().await.unwrap();
    let verifier = trusting(keys.clone());
    let token = fresh(&key);
    for _ in 0..600 {
        assert!(verifier.verify_now(&token).is_ok());
        sleep(SECOND).await;
    }
    let stats = keys.stats();
    assert_eq!((stats.changes, stats.refreshes), (1, stats.not_modified + 1));
    assert!((5..=6).contains(&stats.not_modified), "{stats:?}");
    assert!(about(2 * MINUTE).contains(&fake.last_gap()));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_leaves_is_refused_once_the_set_is_due_also_where_it_was_remembered() {
    let [old, new] = keys();
    let fake = saying("max-age=300", &[&old, &new]);
    let source = fake.keys(|builder| builder);
    source.ready().await.unwrap();
    let verifier = trusting(source.clone());
    let (seen, unseen) = (fresh(&old), fresh(&old));
    assert!(verifier.verify_now(&seen).is_ok());
    fake.publishes(&[&new]);
    // The fetch itself takes no time here.
    sleep(5 * MINUTE).await;
    assert_eq!(verifier.verify_now(&seen).unwrap_err(), Refusal::UnknownKey);
    assert_eq!(verifier.verify_now(&unseen).unwrap_err(), Refusal::UnknownKey);
    assert!(verifier.verify_now(&fresh(&new)).is_ok());
    // Its tokens don't wait, as the issuer has said that it is gone.
    let before = Instant::now();
    let waited = source.stats().waited;
    assert!(verifier.verify(&fresh(&old)).await.is_err());
    assert!(verifier.verify(&fresh(&old)).await.is_err());
    assert!(source.stats().waited <= waited + 1 && before.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_any_length_changes_nothing_for_keys_that_are_known() {
    let [key] = keys();
    let fake = Fake::with(&[&key]);
    let source = fake.keys(|builder| builder);
    source.ready().await.unwrap();
    fake.is_away();
    let verifier = trusting(source.clone());
    let day = 24 * 60 * MINUTE;
    let start = Instant::now();
    while start.elapsed() < 3 * day {
        assert!(verifier.verify_now(&fresh(&key)).is_ok());
        sleep(day / 4).await;
    }
    let health = source.health();
    assert!(health.is_usable() && health.stale && health.failure == Some("client"), "{health:?}");
    assert!(health.age.unwrap() > 2 * day);
    // Three attempts each minute, at the most.
    let asked = fake.asked();
    sleep(60 * MINUTE).await;
    assert!(fake.asked() - asked <= 3 * 121 && fake.asked() - asked >= 3 * 59, "{asked}");
    fake.publishes(&[&key]);
    sleep(2 * MINUTE).await;
    let health = source.health();
    assert!(!health.stale && health.failure.is_none() && source.error().is_none(), "{health:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_a_bound_that_was_set_ends_the_use_of_keys_on_time() {
    let [key] = keys();
    for (slow, validates) in [(false, false), (true, false), (false, true)] {
        let fake = saying("max-age=600", &[&key]);
        let source = fake.keys(|builder| builder.max_stale(30 * MINUTE));
        source.ready().await.unwrap();
        let start = Instant::now();
        if slow {
            *fake.delay.lock().unwrap() = 60 * MINUTE;
        } else {
            fake.is_away();
        }
        let verifier = trusting(source.clone());
        let token = fresh(&key);
        while start.elapsed() + SECOND < 40 * MINUTE {
            assert!(verifier.verify_now(&token).is_ok(), "{:?}", start.elapsed());
            sleep(SECOND / 2).await;
        }
        sleep(2 * SECOND).await;
        assert_eq!(verifier.verify_now(&token).unwrap_err(), Refusal::KeysUnavailable);
        assert_eq!(source.health().keys, None);
        // It comes back, and doesn't say that nothing has changed since.
        *fake.delay.lock().unwrap() = Duration::ZERO;
        let set = jwks(&[&key]);
        fake.answers(move |request| {
            assert!(!validates || request.headers().get(IF_NONE_MATCH).is_none());
            Ok(Response::new(set.clone().into()))
        });
        sleep(2 * MINUTE).await;
        assert!(verifier.verify_now(&token).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_after_failures_grow_and_the_issuer_is_left_alone_as_it_asks() {
    let fake = Fake::new(|_| {
        Ok(Response::builder().status(StatusCode::NOT_FOUND).body(Full::default()).unwrap())
    });
    let source = fake.keys(|builder| builder);
    let error = source.ready().await.unwrap_err();
    assert!(matches!(error, FetchError::Status(StatusCode::NOT_FOUND)), "{error}");
    for most in [1, 2, 4, 8, 16, 32, 60, 60] {
        let asked = fake.asked();
        while fake.asked() == asked {
            sleep(SECOND / 100).await;
        }
        let (gap, most) = (fake.last_gap(), SECOND * most);
        assert!((most / 2..=most + SECOND / 10).contains(&gap), "{gap:?} of {most:?}");
    }
    fake.answers(|_| {
        let response = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
        Ok(response.header(RETRY_AFTER, "300").body(Full::default()).unwrap())
    });
    sleep(2 * MINUTE).await;
    let asked = fake.asked();
    sleep(7 * MINUTE).await;
    assert!(fake.asked() - asked <= 2);
    assert!((5 * MINUTE..6 * MINUTE).contains(&fake.last_gap()));
}

#[tokio::test(start_paused = true)]
async fn what_fails_once_is_tried_again_at_once() {
    let [key] = keys();
    let set = jwks(&[&key]);
    let mut failures = 2;
    let fake = Fake::new(move |_| {
        if failures > 0 {
            failures -= 1;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(Response::new(set.clone().into()))
    });
    let start = Instant::now();
    let source = fake.keys(|builder| builder);
    source.ready().await.unwrap();
    assert!(start.elapsed() < SECOND);
    assert_eq!((fake.asked(), source.stats().failures), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_clone() {
    let [key] = keys();
    let fake = Fake::with(&[&key]);
    let source = fake.keys(|builder| builder);
    source.ready().await.unwrap();
    let verifier = trusting(source.clone());
    drop(source);
    sleep(20 * MINUTE).await;
    let asked = fake.asked();
    assert!(asked > 1);
    // Somebody still waits when all else is gone.
    let [other] = keys();
    let waiting = verifier.verify(&fresh(&other));
    drop(verifier);
    let _ = tokio::time::timeout(20 * SECOND, waiting).await.unwrap();
    sleep(60 * MINUTE).await;
    assert!(fake.asked() <= asked + 1);
    assert_eq!(Arc::strong_count(&fake.asked), 1);
}

/// A client that must be made ready each time, and panics if it isn't.
#[derive(Default)]
struct Strict {
    is_ready: bool,
    calls: usize,
    set: String,
}

impl Service<Request<Empty<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.is_ready {
            return Poll::Ready(Ok(()));
        }
        self.is_ready = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called unready");
        self.calls += 1;
        // It panics by itself, too.
        assert_ne!(self.calls, 2);
        std::future::ready(Ok(Response::new(self.set.clone().into())))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_made_ready_and_may_panic() {
    let [key] = keys();
    let client = Strict { set: jwks(&[&key]), ..Strict::default() };
    let source = RemoteKeys::jwks(URL).client(client).build().unwrap();
    source.ready().await.unwrap();
    let verifier = trusting(source.clone());
    while source.stats().failures == 0 {
        sleep(SECOND / 10).await;
    }
    assert_eq!(source.health().failure, Some("panic"));
    assert!(verifier.verify_now(&fresh(&key)).is_ok());
    advance(2 * SECOND).await;
    sleep(SECOND).await;
    assert_eq!((source.stats().failures, source.error().is_none()), (1, true));
}

/// To check 256 keys takes long enough for others to be held up.
#[tokio::test(start_paused = true)]
async fn a_set_of_many_keys_is_read_while_others_run() {
    let keys: Vec<_> = (0..256).map(|_| SigningKey::generate(Algorithm::Es256).unwrap()).collect();
    let fake = Fake::with(&keys.iter().collect::<Vec<_>>());
    let (ran, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let other = tokio::spawn({
        let (ran, over) = (Arc::clone(&ran), Arc::clone(&over));
        async move {
            while !over.load(Relaxed) {
                ran.fetch_add(1, Relaxed);
                yield_now().await;
            }
        }
    });
    let source = fake.keys(|builder| builder);
    source.ready().await.unwrap();
    over.store(true, Relaxed);
    other.await.unwrap();
    assert_eq!(source.keys().len(), Some(256));
    assert!(ran.load(Relaxed) >= 256, "{ran:?}");
}

/// Who wants no bound says the longest there is.
#[tokio::test(start_paused = true)]
async fn the_longest_times_that_can_be_said_are_no_reason_to_fail() {
    let [key, new] = keys();
    let fake = saying("max-age=18446744073709551615", &[&key]);
    let source = fake.keys(|builder| {
        builder
            .refresh_between(SECOND, Duration::MAX)
            .retry(SECOND, Duration::MAX)
            .max_stale(Duration::MAX)
            .timeout(Duration::MAX)
            .max_wait(Duration::MAX)
    });
    source.ready().await.unwrap();
    let verifier = trusting(source.clone());
    sleep(MINUTE).await;
    fake.publishes(&[&new]);
    assert!(verifier.verify(&fresh(&new)).await.is_ok(), "keys are still fetched");
    let source = fake.keys(|builder| builder.look_interval(Duration::MAX));
    assert!(source.ready().await.is_ok());
    sleep(60 * MINUTE).await;
    assert!(fake.asked() > 3, "keys are still fetched: {}", fake.asked());
}

type Set = fn(RemoteKeysBuilder) -> RemoteKeysBuilder;

#[tokio::test]
async fn settings_that_cannot_work_are_refused_with_the_fix() {
    let build = |set: Set| {
        let client = service_fn(|_: Request<Empty<Bytes>>| async {
            Answer::Err(io::ErrorKind::Other.into())
        });
        set(RemoteKeys::jwks(URL)).client(client).build().map(|_| ())
    };
    assert_eq!(build(|builder| builder), Ok(()));
    let wrong: [(Set, &str); 9] = [
        (|builder| builder.refresh_between(Duration::ZERO, MINUTE), "least"),
        (|builder| builder.refresh_between(2 * MINUTE, MINUTE), "least"),
        (|builder| builder.refresh(SECOND), "`refresh_between`"),
        (|builder| builder.retry(Duration::ZERO, MINUTE), "`retry`"),
        (|builder| builder.timeout(Duration::ZERO), "`timeout`"),
        (|builder| builder.max_wait(Duration::ZERO), "`max_wait`"),
        (|builder| builder.look_interval(Duration::ZERO), "raise it"),
        (|builder| builder.max_waiting(0), "raise it"),
        (|builder| builder.max_size(1024 * 1024), "256 KiB"),
    ];
    for (set, fix) in wrong {
        let error = build(set).unwrap_err().to_string();
        assert!(error.contains(fix), "{error}");
    }
    for (url, fix) in [
        ("http://id.example.com/jwks", "allow_http"),
        ("/jwks", "absolute"),
        ("no url", "no URL"),
        ("https://me:secret@id.example.com/jwks", "leave it out"),
    ] {
        for builder in [RemoteKeys::jwks(url), RemoteKeys::openid(url), RemoteKeys::oauth(url)] {
            let error = builder.build().unwrap_err();
            assert!(matches!(error, BuildError::Url { .. }), "{url}: {error}");
        }
        let error = RemoteKeys::jwks(url).build().unwrap_err().to_string();
        assert!(error.contains(fix), "{error}");
    }
    let outside = std::thread::spawn(|| RemoteKeys::jwks(URL).build().unwrap_err().to_string());
    assert!(outside.join().unwrap().contains("runtime"));
}
