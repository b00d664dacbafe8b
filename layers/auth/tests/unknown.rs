//! Tokens whose key isn't known, on a clock that the tests move.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use http::Response;
use support::fake::{Fake, MINUTE, SECOND};
use support::{fresh, jwks, keys, trusting};
use tokio::time::{Instant, sleep};
use tower_keep_auth::{Refusal, RemoteKeys, Verifier};

/// The keys that `fake` publishes, fetched once, and a verifier that goes by them.
async fn verifying(fake: &Fake) -> (RemoteKeys, Verifier) {
    let source = fake.keys(|builder| builder);
    source.ready().await.unwrap();
    let verifier = trusting(source.clone());
    (source, verifier)
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_when_a_token_names_it() {
    let [old, new] = keys();
    let fake = Fake::with(&[&old]);
    let (source, verifier) = verifying(&fake).await;
    sleep(MINUTE).await;
    fake.publishes(&[&old, &new]);
    let before = Instant::now();
    assert!(verifier.verify(&fresh(&new)).await.is_ok());
    assert!(before.elapsed() < SECOND);
    assert_eq!((fake.asked(), source.stats().on_demand), (2, 1));
    // Those whose key is known wait for nothing.
    *fake.delay.lock().unwrap() = 60 * MINUTE;
    assert!(verifier.verify(&fresh(&new)).await.is_ok());
    assert!(before.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_new_just_after_a_refresh_is_waited_for() {
    let [old, new] = keys();
    let fake = Fake::with(&[&old]);
    let (_, verifier) = verifying(&fake).await;
    fake.publishes(&[&new]);
    let before = Instant::now();
    assert!(verifier.verify(&fresh(&new)).await.is_ok());
    assert!((4 * SECOND..=5 * SECOND).contains(&before.elapsed()), "{:?}", before.elapsed());
    assert_eq!(fake.asked(), 2);
    // Without a name, by its signature.
    let [newer] = keys();
    fake.publishes(&[&newer]);
    let nameless = support::with(support::header(&newer), "kid", serde_json::Value::Null);
    let nameless = support::sign(&newer, nameless.to_string(), support::claims().to_string());
    assert!(verifier.verify(&nameless).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_came_too_late_for_a_fetch_under_way_is_found_by_the_next() {
    let [old, new] = keys();
    let fake = Fake::with(&[&old]);
    let (_, verifier) = verifying(&fake).await;
    sleep(MINUTE).await;
    // The answer to the first one is that of before.
    *fake.delay.lock().unwrap() = SECOND;
    let set = jwks(&[&new]);
    let mut answers = vec![set, jwks(&[&old])];
    fake.answers(move |_| {
        let set = if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() };
        Ok(Response::new(set.into()))
    });
    let first = tokio::spawn({
        let (verifier, [other]) = (verifier.clone(), keys());
        async move { verifier.verify(&fresh(&other)).await }
    });
    sleep(SECOND / 2).await;
    let before = Instant::now();
    assert!(verifier.verify(&fresh(&new)).await.is_ok());
    assert!(before.elapsed() > 5 * SECOND, "{:?}", before.elapsed());
    assert_eq!(first.await.unwrap().unwrap_err(), Refusal::UnknownKey);
    assert_eq!(fake.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_names_costs_the_issuer_one_request_an_interval() {
    let [key, stranger] = keys();
    let fake = Fake::with(&[&key]);
    let source = fake.keys(|builder| builder.refresh(60 * MINUTE));
    source.ready().await.unwrap();
    let verifier = trusting(source.clone());
    let start = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..6_000 {
        let (verifier, token) =
            (verifier.clone(), fresh(&stranger.clone().with_kid(n.to_string())));
        tasks.push(tokio::spawn(async move { verifier.verify(&token).await.unwrap_err() }));
        sleep(SECOND / 100).await;
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), Refusal::UnknownKey);
    }
    let (asked, spent) = (fake.asked(), start.elapsed());
    assert!(spent >= MINUTE && asked <= 14, "{asked} in {spent:?}");
    let asked = fake.asked.lock().unwrap();
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 5 * SECOND), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_passes_in_a_flood_of_names() {
    let [old, new, stranger] = keys();
    let fake = Fake::with(&[&old]);
    let (source, verifier) = verifying(&fake).await;
    let flood = tokio::spawn({
        let verifier = verifier.clone();
        async move {
            for n in 0.. {
                let token = fresh(&stranger.clone().with_kid(format!("{n}")));
                let verifier = verifier.clone();
                tokio::spawn(async move { verifier.verify(&token).await });
                sleep(SECOND / 50).await;
            }
        }
    });
    sleep(7 * SECOND).await;
    // Also one whose name was guessed before.
    let guessed = trusting(source.clone()).verify(&fresh(&new)).await.unwrap_err();
    assert_eq!(guessed, Refusal::UnknownKey);
    fake.publishes(&[&new]);
    assert!(verifier.verify(&fresh(&new)).await.is_ok());
    flood.abort();
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_bounded_in_number_and_time() {
    let [key, other] = keys();
    let fake = Fake::with(&[&key]);
    *fake.delay.lock().unwrap() = 3 * SECOND;
    let source = fake.keys(|builder| builder.max_waiting(3).max_wait(2 * SECOND));
    let verifier = trusting(source.clone());
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), fresh(&key));
            tokio::spawn(async move { verifier.verify(&token).await.map(|_| ()) })
        })
        .collect();
    tokio::task::yield_now().await;
    let before = Instant::now();
    assert_eq!(verifier.verify(&fresh(&key)).await.unwrap_err(), Refusal::KeysUnavailable);
    assert!(before.elapsed() < SECOND);
    assert_eq!((source.stats().waited, source.stats().turned_away), (3, 1));
    for task in waiting {
        assert_eq!(task.await.unwrap().unwrap_err(), Refusal::KeysUnavailable);
    }
    assert!((2 * SECOND..3 * SECOND).contains(&before.elapsed()));
    // None of them is counted any more, and a cancelled one isn't, either.
    for _ in 0..10 {
        let _ = tokio::time::timeout(SECOND / 10, verifier.verify(&fresh(&other))).await;
    }
    sleep(2 * SECOND).await;
    assert!(verifier.verify(&fresh(&key)).await.is_ok());
    assert!(source.stats().turned_away <= 2);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_one_refresh_cause_no_other() {
    let [old, new] = keys();
    let fake = Fake::with(&[&old]);
    let source = fake.keys(|builder| builder.max_wait(MINUTE).timeout(MINUTE));
    source.ready().await.unwrap();
    let verifier = trusting(source.clone());
    fake.publishes(&[&new]);
    // Slower than a refresh may follow the one before.
    *fake.delay.lock().unwrap() = 20 * SECOND;
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), fresh(&new));
            tokio::spawn(async move { verifier.verify(&token).await.map(|_| ()) })
        })
        .collect();
    for task in waiting {
        assert_eq!(task.await.unwrap(), Ok(()));
    }
    sleep(MINUTE).await;
    assert_eq!((fake.asked(), source.stats().on_demand), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn who_has_gone_is_not_asked_for() {
    let [key, other] = keys();
    let fake = Fake::with(&[&key]);
    let (_, verifier) = verifying(&fake).await;
    let cancelled = tokio::time::timeout(SECOND, verifier.verify(&fresh(&other))).await;
    assert!(cancelled.is_err());
    sleep(MINUTE).await;
    assert_eq!(fake.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_away_is_not_waited_for_and_no_token_is_called_invalid() {
    let [key, new] = keys();
    let fake = Fake::with(&[&key]);
    let (_, verifier) = verifying(&fake).await;
    sleep(MINUTE).await;
    fake.is_away();
    let before = Instant::now();
    for _ in 0..100 {
        assert_eq!(verifier.verify(&fresh(&new)).await.unwrap_err(), Refusal::KeysUnavailable);
    }
    // Only the first one waited, for three attempts.
    assert!(before.elapsed() < SECOND, "{:?}", before.elapsed());
    assert_eq!(fake.asked(), 4);
    assert!(verifier.verify(&fresh(&key)).await.is_ok());
}
