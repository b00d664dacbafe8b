//! Typed values on the first tier alone: one fill for all, staleness, tags.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/calls.rs"]
mod calls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep, timeout};
use tower_keep_store::{Fill, FillError, L1, Reach, Store, Ttl, Typed};

use calls::{Origin, SECOND, fail, numbers, store};

#[tokio::test]
async fn a_thousand_concurrent_misses_make_one_call() {
    let (numbers, origin) = (numbers(&store()), Origin::default());
    let mut tasks = JoinSet::new();
    for _ in 0..1000 {
        let (numbers, origin) = (numbers.clone(), origin.clone());
        tasks.spawn(async move {
            let fill = move || origin.slow_answer(Duration::from_millis(20));
            *numbers.get_or_try_set(&7, Ttl::secs(60), fill).await.unwrap()
        });
    }
    assert!(tasks.join_all().await.iter().all(|n| *n == 1));
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn fresh_then_gone() {
    let (numbers, origin) = (numbers(&store()), Origin::default());
    for (wait, expected) in [(0, 1), (59, 1), (1, 2)] {
        advance(SECOND * wait).await;
        let origin = origin.clone();
        let got = numbers.get_or_try_set(&1, Ttl::secs(60), move || origin.answer()).await.unwrap();
        assert_eq!(*got, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_answers_at_once_and_refreshes() {
    let (numbers, origin) = (numbers(&store()), Origin::default());
    let ttl = Ttl::secs(10).stale_while_revalidate(SECOND * 10);
    let get = async || {
        let origin = origin.clone();
        let fill = move || origin.slow_answer(SECOND);
        *numbers.get_or_try_set(&1, ttl.clone(), fill).await.unwrap()
    };
    assert_eq!(get().await, 1);
    advance(SECOND * 11).await;
    assert_eq!(timeout(Duration::from_millis(1), get()).await, Ok(1), "stale, at once");
    sleep(SECOND * 2).await;
    assert_eq!(get().await, 2, "refreshed meanwhile");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn stale_if_error_outlives_a_broken_origin() {
    let numbers = numbers(&store());
    let ttl = Ttl::secs(10).stale_if_error(SECOND * 60);
    numbers.get_or_try_set(&1, ttl.clone(), || async { Ok::<_, io::Error>(1) }).await.unwrap();
    advance(SECOND * 30).await;
    assert!(numbers.get(&1).await.is_none(), "a plain read serves only what needs no excuse");
    assert_eq!(*numbers.get_or_try_set(&1, ttl.clone(), fail).await.unwrap(), 1);
    assert_eq!(numbers.get(&1).await.as_deref(), Some(&1), "and there is one now");
    advance(SECOND * 41).await;
    let error = numbers.get_or_try_set(&1, ttl, fail).await.unwrap_err();
    assert!(error.downcast_ref::<io::Error>().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_tag_drops_what_carries_it_and_nothing_else() {
    let store = store();
    let numbers = numbers(&store);
    numbers.set(&1, 10, Ttl::secs(60).tags(["even", "all"])).await.unwrap();
    numbers.set(&2, 20, Ttl::secs(60).tags(["odd", "all"])).await.unwrap();
    numbers.set(&3, 30, Ttl::secs(60)).await.unwrap();
    assert_eq!(store.invalidate_tag("even").await.unwrap(), Reach::Everywhere);
    let shown = |found: Vec<Option<Arc<u32>>>| {
        found.iter().map(|n| n.as_deref().copied()).collect::<Vec<_>>()
    };
    assert_eq!(shown(numbers.get_many([&1, &2, &3]).await), [None, Some(20), Some(30)]);
    store.invalidate_tag("all").await.unwrap();
    assert_eq!(shown(numbers.get_many([&1, &2, &3]).await), [None, None, Some(30)]);
    assert!(store.invalidate_tag("").await.is_err());
}

#[tokio::test]
async fn spaces_are_apart_and_clear_covers_one_or_all() {
    let store = store();
    let (a, b) = (store.typed::<str, u8>("a"), store.typed::<str, u8>("b"));
    for handle in [&a, &b] {
        handle.set("k", 1, Ttl::secs(60)).await.unwrap();
    }
    a.clear().await;
    assert!(!a.contains("k").await && b.contains("k").await);
    store.clear().await;
    assert!(!b.contains("k").await);
}

#[tokio::test(start_paused = true)]
async fn soft_invalidation_serves_stale_while_it_refreshes() {
    let store = store();
    let (numbers, origin) = (numbers(&store), Origin::default());
    let get = async || {
        let origin = origin.clone();
        *numbers
            .get_or_try_set(&1, Ttl::secs(60).tags(["t"]), move || origin.slow_answer(SECOND))
            .await
            .unwrap()
    };
    assert_eq!(get().await, 1);
    store.expire_tag("t").await.unwrap();
    assert_eq!(get().await, 1);
    sleep(SECOND * 2).await;
    assert_eq!(get().await, 2);
    numbers.expire(&1).await;
    assert_eq!(get().await, 2);
    sleep(SECOND * 2).await;
    assert_eq!(get().await, 3);
}

/// Runs `invalidate` while a fill is under way, and returns what later reads see.
async fn overtaken<Fut: Future>(
    invalidate: impl FnOnce(Store, Typed<u64, u32>) -> Fut,
) -> (u32, u32) {
    let store = store();
    let numbers = numbers(&store);
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ttl = Ttl::secs(60).tags(["t"]);
    let first = tokio::spawn({
        let (numbers, ttl, started, go) =
            (numbers.clone(), ttl.clone(), Arc::clone(&started), Arc::clone(&go));
        async move {
            let fill = move || async move {
                started.notify_one();
                go.notified().await;
                Ok::<_, io::Error>(1)
            };
            *numbers.get_or_try_set(&1, ttl, fill).await.unwrap()
        }
    });
    started.notified().await;
    invalidate(store, numbers.clone()).await;
    // It asks after the invalidation, while the old fill is still under way.
    let second = tokio::spawn({
        let (numbers, ttl) = (numbers.clone(), ttl.clone());
        async move {
            *numbers.get_or_try_set(&1, ttl, || async { Ok::<_, io::Error>(2) }).await.unwrap()
        }
    });
    tokio::task::yield_now().await;
    go.notify_one();
    first.await.unwrap();
    let third = numbers.get_or_try_set(&1, ttl, || async { Ok::<_, io::Error>(3) }).await.unwrap();
    (second.await.unwrap(), *third)
}

#[tokio::test]
async fn who_asks_after_an_invalidation_never_gets_what_was_being_fetched_before_it() {
    let by_tag = overtaken(async |store: Store, _| store.invalidate_tag("t").await.unwrap()).await;
    assert!(by_tag.0 == 2 && by_tag.1 == 2, "{by_tag:?}");
    let by_key = overtaken(async |_, numbers: Typed<u64, u32>| numbers.remove(&1).await).await;
    assert!(by_key.0 == 2 && by_key.1 == 2, "{by_key:?}");
    let by_clear = overtaken(async |store: Store, _| store.clear().await).await;
    assert!(by_clear.0 != 1 && by_clear.1 != 1, "{by_clear:?}");
}

#[tokio::test]
async fn a_set_beats_a_fill_that_began_before_it() {
    let later = overtaken(async |_, numbers: Typed<u64, u32>| {
        numbers.set(&1, 9, Ttl::secs(60)).await.unwrap()
    })
    .await;
    assert_eq!(later, (9, 9));
}

#[tokio::test]
async fn a_fill_decides_what_becomes_of_its_value() {
    let numbers = numbers(&store());
    let pass = || async { Ok::<_, io::Error>(Fill::pass(1)) };
    assert_eq!(*numbers.get_or_try_set(&1, Ttl::secs(60), pass).await.unwrap(), 1);
    assert!(numbers.get(&1).await.is_none());

    let keep = || async { Ok::<_, io::Error>(Fill::value(2).ttl(Ttl::secs(60).tags(["own"]))) };
    numbers.get_or_try_set(&1, Ttl::secs(0), keep).await.unwrap();
    assert_eq!(numbers.get(&1).await.as_deref(), Some(&2));

    numbers.expire(&1).await;
    let revalidate = |earlier: Option<Arc<u32>>| async move {
        assert_eq!(earlier.as_deref(), Some(&2));
        Ok::<_, io::Error>(Fill::not_modified())
    };
    numbers.get_or_try_refresh(&1, Ttl::secs(60), revalidate).await.unwrap();
    let nothing = |_| async { Ok::<Fill<u32>, io::Error>(Fill::not_modified()) };
    let error = numbers.get_or_try_refresh(&99, Ttl::secs(60), nothing).await.unwrap_err();
    assert!(matches!(error, FillError::NothingToKeep));
}

#[tokio::test]
async fn unusable_tags_are_an_error_and_nothing_is_stored() {
    let numbers = numbers(&store());
    assert!(numbers.set(&1, 1, Ttl::secs(60).tags(["*"])).await.is_err());
    let fill = || async { Ok::<_, io::Error>(1) };
    assert!(numbers.get_or_try_set(&1, Ttl::secs(60).tags(["\n"]), fill).await.is_err());
    assert!(numbers.get(&1).await.is_none());
}

#[tokio::test]
async fn what_is_too_large_is_served_and_not_kept() {
    let store = Store::builder().l1(L1::bytes(1 << 20).max_entry(4096)).build().unwrap();
    let blobs = store.typed::<u8, Vec<u8>>("blob");
    let fill = || async { Ok::<_, io::Error>(vec![1u8; 8192]) };
    assert_eq!(blobs.get_or_try_set(&1, Ttl::secs(60), fill).await.unwrap().len(), 8192);
    assert!(blobs.get(&1).await.is_none());
    assert_eq!(store.stats().too_large, 1);
}

#[tokio::test]
async fn memory_stays_within_its_bound() {
    let store = Store::builder().l1(L1::bytes(1 << 20)).build().unwrap();
    let blobs = store.typed::<u32, Vec<u8>>("blob");
    for i in 0..10_000 {
        blobs.set(&i, vec![0u8; 1024], Ttl::secs(60).tags([format!("blob-{i}")])).await.unwrap();
    }
    let (entries, bytes) = store.l1_size();
    assert!(bytes <= 1 << 20, "{entries} entries, {bytes} bytes");
    assert!(entries > 100, "and it isn't empty: {entries}");
}

#[test]
fn configurations_that_cannot_work_say_what_to_change() {
    let text = |built: Result<Store, tower_keep_store::Error>| built.unwrap_err().to_string();
    assert!(text(Store::builder().build()).contains(".l1("));
    assert!(text(Store::builder().l1(L1::bytes(0)).build()).contains("leave `l1` out"));
    assert!(text(Store::builder().l1(L1::bytes(10).max_entry(11)).build()).contains("max_entry"));
    assert!(
        text(Store::builder().l1(L1::bytes(10)).max_fill(Duration::ZERO).build())
            .contains("max_fill")
    );
}

#[tokio::test]
async fn a_key_that_is_too_long_is_refused_or_filled_without_being_stored() {
    let store = store();
    let texts: Typed<str, u32> = store.typed("text");
    let (long, origin) = ("k".repeat(tower_keep_store::MAX_KEY_LEN), Origin::default());
    let error = texts.set(&long, 1, Ttl::secs(60)).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    for call in 1..=2 {
        let asked = origin.clone();
        let got = texts.get_or_try_set(&long, Ttl::secs(60), move || asked.answer()).await;
        assert_eq!(*got.unwrap(), call);
    }
    assert_eq!((texts.get(&long).await, texts.remove(&long).await), (None, Reach::Everywhere));
}

#[tokio::test]
async fn what_is_fetched_while_its_tag_expires_is_not_fresh() {
    let store = store();
    let numbers = numbers(&store);
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ttl = || Ttl::secs(600).tags(["t"]);
    let first = tokio::spawn({
        let (numbers, started, go) = (numbers.clone(), Arc::clone(&started), Arc::clone(&go));
        let fill = move || async move {
            started.notify_one();
            go.notified().await;
            Ok::<_, io::Error>(1)
        };
        async move { numbers.get_or_try_set(&1, ttl(), fill).await.unwrap() }
    });
    started.notified().await;
    store.expire_tag("t").await.unwrap();
    go.notify_one();
    assert_eq!(*first.await.unwrap(), 1);
    let second = numbers.get_or_try_set(&1, ttl(), || async { Ok::<_, io::Error>(2) }).await;
    assert_eq!(*second.unwrap(), 2);
}

#[tokio::test]
async fn a_space_without_a_name_is_a_space_like_others() {
    let store = store();
    let (nameless, other) = (store.typed::<u64, u32>(""), numbers(&store));
    nameless.set(&1, 1, Ttl::secs(60)).await.unwrap();
    other.set(&1, 1, Ttl::secs(60)).await.unwrap();
    nameless.clear().await;
    assert!(!nameless.contains(&1).await);
    assert!(other.contains(&1).await);
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_is_returned_and_not_kept() {
    // Its length is not known before it is written, which bincode has no form for.
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Open {
        #[serde(flatten)]
        fields: std::collections::BTreeMap<String, String>,
    }
    let store = store();
    let values = store.typed::<u32, Open>("open");
    let fields = || [("name".to_owned(), "x".repeat(100_000))].into();
    let fill = move || async move { Ok::<_, io::Error>(Open { fields: fields() }) };
    let value = values.get_or_try_set(&1, Ttl::secs(60), fill).await.unwrap();
    assert_eq!(value.fields["name"].len(), 100_000);
    values.set(&2, Open { fields: fields() }, Ttl::secs(60)).await.unwrap();
    assert!(!values.contains(&1).await && !values.contains(&2).await);
    assert_eq!((store.stats().encode_errors, store.l1_size().0), (2, 0));
}
