//! What a hit costs: of the store, and of `CacheLayer` around a service, beside the bare service that
//! answers with the same bytes.
//!
//! `cargo bench -p tower-keep-benches --bench hit` prints criterion's figures, and then tables whose
//! lines were measured in turn in one run: read the ratios rather than the nanoseconds.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may panic")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion};
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use tokio::runtime::{Builder, Runtime};
use tower::util::service_fn;
use tower::{Layer, Service, ServiceExt};
use tower_keep::cache::{Cache, CacheLayer};
use tower_keep::store::{L1, Store, Ttl, Typed};
use tower_keep_benches::{With, compare, print_table};

/// How many entries there are: a hit is of one among many.
const ENTRIES: u64 = 10_000;

/// So few that they lie in the processor's own caches, as what is asked for most does.
const HOT: u64 = 100;

fn store() -> Store {
    Store::builder().l1(L1::bytes(256 << 20)).build().unwrap()
}

fn users(runtime: &Runtime) -> Typed<u64, String> {
    let users = store().typed("user");
    runtime.block_on(async {
        for id in 0..ENTRIES {
            users.set(&id, "Ada".into(), Ttl::secs(3600).tags(["users"])).await.unwrap();
        }
    });
    users
}

fn request(id: u64) -> Request<Empty<Bytes>> {
    Request::get(format!("/products/{id}"))
        .header("host", "api.example.com")
        .header("user-agent", "bench/1.0")
        .header("accept", "*/*")
        .body(Empty::new())
        .unwrap()
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// Answers with 1 KiB and two fields.
fn bare() -> impl Service<
    Request<Empty<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = Ready<Answer>,
> + Clone
+ Send
+ 'static {
    let body = Bytes::from(vec![b'x'; 1024]);
    service_fn(move |_| {
        let mut response = Response::new(Full::new(body.clone()));
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("cache-control", HeaderValue::from_static("max-age=3600"));
        ready(Ok(response))
    })
}

fn send<S, B>(service: &S, request: Request<Empty<Bytes>>)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
{
    black_box(service.clone().oneshot(request).now_or_never().unwrap().unwrap());
}

/// A cache in front of `bare` that holds `entries` responses.
fn cached<S>(runtime: &Runtime, bare: &S, entries: u64) -> Cache<S>
where
    S: Service<
            Request<Empty<Bytes>>,
            Response = Response<Full<Bytes>>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static,
{
    let cached = CacheLayer::builder(store()).build().unwrap().layer(bare.clone());
    runtime.block_on(async {
        for id in 0..entries {
            drop(cached.clone().oneshot(request(id)).await.unwrap());
            tokio::task::yield_now().await;
        }
    });
    for id in 0..entries {
        let hit = cached.clone().oneshot(request(id)).now_or_never().unwrap().unwrap();
        assert!(hit.headers()["cache-status"].to_str().unwrap().contains("hit"), "{hit:?}");
    }
    cached
}

/// The numbers below `end`, again and again.
fn below(end: u64) -> impl FnMut() -> u64 {
    let mut ids = (0..end).cycle();
    move || ids.next().unwrap()
}

fn main() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let users = users(&runtime);
    let bare = bare();
    let hot = cached(&runtime, &bare, HOT);
    let many = cached(&runtime, &bare, ENTRIES);
    let _entered = runtime.enter();

    let get = |id| black_box(users.get(&id).now_or_never().unwrap());
    let fill = || async { Ok::<_, Infallible>("Ada".to_owned()) };
    let get_or_set =
        |id| black_box(users.get_or_try_set(&id, Ttl::secs(3600), fill).now_or_never().unwrap());

    let mut criterion = Criterion::default().without_plots().configure_from_args();
    let mut next = below(ENTRIES);
    criterion.bench_function("store: L1 hit", |b| b.iter(|| get(next())));
    criterion.bench_function("store: L1 miss", |b| b.iter(|| get(next() + ENTRIES)));
    criterion.bench_function("store: get_or_try_set, L1 hit", |b| b.iter(|| get_or_set(next())));
    let mut next = below(HOT);
    criterion.bench_function("service: bare", |b| {
        b.iter_batched(|| request(next()), |request| send(&bare, request), BatchSize::SmallInput);
    });
    criterion.bench_function("service: CacheLayer, hit", |b| {
        b.iter_batched(|| request(next()), |request| send(&hot, request), BatchSize::SmallInput);
    });
    criterion.final_summary();

    let costs = compare(&mut [
        &mut With { prepare: below(ENTRIES), run: |id| drop(get(id)) },
        &mut With { prepare: below(ENTRIES), run: |id| drop(get_or_set(id)) },
        &mut With { prepare: below(ENTRIES), run: |id| drop(get(id + ENTRIES)) },
    ]);
    print_table(
        "A value, of 10,000 in the store",
        &["get, L1 hit", "get_or_try_set, L1 hit", "get, L1 miss"],
        &costs,
    );
    for (title, entries, cached) in [
        ("A response of 1 KiB, of 100 that are hot; `oneshot`", HOT, &hot),
        (
            "A response of 1 KiB, of 10,000 asked for in turn, so that each is out of the processor's \
          caches; `oneshot`",
            ENTRIES,
            &many,
        ),
    ] {
        let (mut a, mut b) = (below(entries), below(entries));
        let costs = compare(&mut [
            &mut With { prepare: || request(a()), run: |request| send(&bare, request) },
            &mut With { prepare: || request(b()), run: |request| send(cached, request) },
        ]);
        print_table(title, &["bare service", "CacheLayer, hit"], &costs);
    }
}
