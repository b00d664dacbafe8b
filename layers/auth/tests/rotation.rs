//! Keys that an issuer rotates at a real server, under load.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/tokens.rs"]
mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::site::{Server, Site};
use support::{fresh, keys, trusting};
use tokio::time::{Instant, sleep};
use tower_keep_auth::{RemoteKeys, SigningKey, Verifier};

/// How often the issuer brings a new key, by which it signs from then on.
const ROTATES: Duration = Duration::from_millis(100);
/// How long keys are good at the most.
const MOST: Duration = Duration::from_millis(250);
/// What a busy machine may add to that.
const SLACK: Duration = Duration::from_secs(2);
/// After which it has not worked.
const PATIENCE: Duration = Duration::from_secs(60);

/// A key, and when the issuer took it out.
struct Published {
    key: SigningKey,
    left: Mutex<Option<Instant>>,
}

impl Published {
    fn new() -> Arc<Self> {
        let [key] = keys();
        Arc::new(Self { key, left: Mutex::new(None) })
    }

    fn left(&self) -> Option<Instant> {
        *self.left.lock().unwrap()
    }
}

#[derive(Default)]
struct Seen {
    good: AtomicUsize,
    refused: AtomicUsize,
    accepted_late: AtomicUsize,
    late: AtomicUsize,
}

/// Signs by the current key, and verifies; then verifies what was signed long ago.
async fn load(
    verifier: Verifier,
    current: Arc<Mutex<Arc<Published>>>,
    seen: Arc<Seen>,
    over: Arc<AtomicBool>,
) {
    let mut signed: Vec<(String, Arc<Published>)> = Vec::new();
    while !over.load(SeqCst) {
        let key = Arc::clone(&current.lock().unwrap());
        let token = fresh(&key.key);
        let verified = verifier.verify(&token).await;
        // One whose key is taken out while it is verified may be refused.
        if key.left().is_none() {
            seen.good.fetch_add(1, SeqCst);
            if let Err(refusal) = verified {
                seen.refused.fetch_add(1, SeqCst);
                eprintln!("refused: {refusal}");
            }
        }
        signed.push((token, key));
        let started = Instant::now();
        let is_late = |key: &Published| {
            key.left().is_some_and(|left| started.duration_since(left) > MOST + SLACK)
        };
        if let Some(at) = signed.iter().position(|(_, key)| is_late(key)) {
            // Both what was remembered and what is new.
            let (token, key) = signed.swap_remove(at);
            for token in [token, fresh(&key.key)] {
                seen.late.fetch_add(1, SeqCst);
                if verifier.verify_now(&token).is_ok() {
                    seen.accepted_late.fetch_add(1, SeqCst);
                }
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// No token names a new key any more, so nothing but its time has the set fetched again.
async fn leaves_on_schedule(verifier: &Verifier, site: &Site, published: &[Arc<Published>]) {
    let [.., leaving, stays] = published else { panic!("{}", published.len()) };
    let remembered = fresh(&leaving.key);
    assert!(verifier.verify(&remembered).await.is_ok());
    assert!(verifier.verify(&fresh(&stays.key)).await.is_ok());
    let left = Instant::now();
    for key in published.iter().filter(|key| !Arc::ptr_eq(key, stays)) {
        *key.left.lock().unwrap() = Some(left);
    }
    site.publish(&[&stays.key]);
    let is_accepted = |token: &str| verifier.verify_now(token).is_ok();
    while is_accepted(&remembered) || is_accepted(&fresh(&leaving.key)) {
        assert!(left.elapsed() < MOST + 5 * SLACK, "still accepted after {:?}", left.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_valid_token_is_refused_and_none_of_a_removed_key_accepted_after_the_bound() {
    let first = Published::new();
    let site = Site::of(&[&first.key]);
    let server = Server::start(site.router()).await;
    let source = RemoteKeys::jwks(server.url("/jwks"))
        .allow_http()
        .refresh(MOST)
        .refresh_between(Duration::from_millis(10), MOST)
        .look_interval(Duration::from_millis(10))
        .build()
        .unwrap();
    // No waiting for the first keys: tokens do.
    let verifier = trusting(source.clone());
    let current = Arc::new(Mutex::new(Arc::clone(&first)));
    let (seen, over) = (Arc::<Seen>::default(), Arc::<AtomicBool>::default());
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (verifier, current) = (verifier.clone(), Arc::clone(&current));
            tokio::spawn(load(verifier, current, Arc::clone(&seen), Arc::clone(&over)))
        })
        .collect();
    let start = Instant::now();
    let mut published = vec![first];
    let mut rotations = 0;
    let load_of = |counter: &AtomicUsize| counter.load(SeqCst);
    // For as long as it takes to see enough of either kind.
    while rotations < 30 || load_of(&seen.good) < 200 || load_of(&seen.late) < 20 {
        assert!(start.elapsed() < PATIENCE, "too little in {PATIENCE:?}");
        sleep(ROTATES).await;
        // The new one signs as soon as it is published, and the one before stays for a while.
        let new = Published::new();
        published.push(Arc::clone(&new));
        let removed = (published.len() > 3).then(|| published.remove(0));
        if let Some(removed) = &removed {
            *removed.left.lock().unwrap() = Some(Instant::now());
        }
        let keys: Vec<_> = published.iter().map(|it| &it.key).collect();
        site.publish(&keys);
        if let Some(removed) = &removed {
            // It is gone from now on, and not before.
            *removed.left.lock().unwrap() = Some(Instant::now());
        }
        *current.lock().unwrap() = new;
        rotations += 1;
    }
    leaves_on_schedule(&verifier, &site, &published).await;
    over.store(true, SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    let (good, late) = (load_of(&seen.good), load_of(&seen.late));
    println!(
        "{rotations} rotations, {good} valid tokens, {late} of removed keys; {:?}",
        source.stats()
    );
    assert_eq!(load_of(&seen.refused), 0);
    assert_eq!(load_of(&seen.accepted_late), 0);
    assert!(source.stats().waited > 0);
}
