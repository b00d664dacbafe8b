//! What a hit costs in the process, without any socket: caches around the same handler.

use std::fmt::Debug;
use std::hint::black_box;

use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::FutureExt;
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt};
use tower_keep_benches::{Way, With, compare_in};

use crate::BoxError;
use crate::contenders::{self, Page};
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};

/// How often each is measured, a thousand requests at a time.
const ROUNDS: usize = 300;

/// One who takes part.
struct Entrant {
    kind: Kind,
    way: Box<dyn Way>,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The handler alone.
    Bare,
    /// tower-keep around the handler.
    KeepBare,
    /// The handler behind a router.
    Router,
    /// tower-keep around the router.
    KeepRouter,
    /// axum-response-cache, which has to be inside of the router.
    ResponseCache,
    /// hitbox around the router.
    Hitbox,
    /// http-cache-tower-server around the router.
    HttpCache,
}

impl Kind {
    /// All of them, those first that the others are compared with.
    pub const ALL: [Self; 7] = [
        Self::Bare,
        Self::KeepBare,
        Self::Router,
        Self::KeepRouter,
        Self::ResponseCache,
        Self::Hitbox,
        Self::HttpCache,
    ];

    /// A word for arguments.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::KeepBare => "keep-bare",
            Self::Router => "router",
            Self::KeepRouter => "keep",
            Self::ResponseCache => "response-cache",
            Self::Hitbox => "hitbox",
            Self::HttpCache => "http-cache",
        }
    }

    /// What it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare `service_fn`",
            Self::KeepBare => "tower-keep around the `service_fn`",
            Self::Router => "bare axum `Router`",
            Self::KeepRouter => "tower-keep around the `Router`",
            Self::ResponseCache => "axum-response-cache in the `Router`",
            Self::Hitbox => "hitbox around the `Router`",
            Self::HttpCache => "http-cache-tower-server around the `Router`",
        }
    }

    /// Set up, filled with `entries` responses, and asked for each in turn.
    ///
    /// # Errors
    ///
    /// If it can't be made, or doesn't answer.
    pub fn way(
        self,
        runtime: &Runtime,
        entries: u64,
        page: Page,
    ) -> Result<Box<dyn Way>, BoxError> {
        self.way_to(runtime, entries, entries, page)
    }

    /// The same, asked for the first `asked` of them.
    ///
    /// # Errors
    ///
    /// If it can't be made, or doesn't answer.
    pub fn way_to(
        self,
        runtime: &Runtime,
        entries: u64,
        asked: u64,
        page: Page,
    ) -> Result<Box<dyn Way>, BoxError> {
        let _entered = runtime.enter();
        let sizes = (entries, asked);
        let router = |page| contenders::router(page);
        match self {
            Self::Bare => way(runtime, sizes, contenders::bare(page)),
            Self::KeepBare => {
                way(runtime, sizes, contenders::keep()?.layer(contenders::bare(page)))
            }
            Self::Router => way(runtime, sizes, router(page)),
            Self::KeepRouter => way(runtime, sizes, contenders::keep()?.layer(router(page))),
            Self::ResponseCache => way(runtime, sizes, contenders::response_cache(page)),
            Self::Hitbox => way(runtime, sizes, contenders::hitbox(router(page))),
            Self::HttpCache => way(runtime, sizes, contenders::http_cache().layer(router(page))),
        }
    }
}

/// Hits on few responses, which lie in the processor's caches, and on many, which don't.
///
/// # Errors
///
/// If the report can't be written, or the bare handler not be measured.
pub fn run(report: &mut Report, runtime: &Runtime, pace: Pace) -> Result<(), BoxError> {
    for entries in pace.of(&[100, 10_000]) {
        report.add(hits(runtime, *entries, 1024, pace.rounds(ROUNDS))?)?;
    }
    Ok(())
}

/// A hit on one of `entries` responses of `size` bytes. Any who fails is named in the table.
fn hits(runtime: &Runtime, entries: u64, size: usize, rounds: usize) -> Result<Table, BoxError> {
    let title = format!("A hit in the process: {size} bytes, {entries} entries");
    let columns = [("ns", 0), ("more than bare, ns", 0), ("× bare", 2), ("allocations", 1)];
    let mut table = Table::new(&format!("in-process-{entries}-{size}"), &title, &columns)
        .note(format!("{rounds} rounds of 1,000 requests, which are made before and not timed."))
        .plot(Plot::Bars(0));
    let mut entrants = Vec::new();
    for kind in Kind::ALL {
        match kind.way(runtime, entries, Page::of(size)) {
            Ok(way) => entrants.push(Entrant { kind, way }),
            Err(error) => table.missing(kind.name(), &error),
        }
    }
    let _entered = runtime.enter();
    let bar = progress::bar(&table.id, rounds);
    let mut ways: Vec<&mut dyn Way> = entrants.iter_mut().map(|it| &mut *it.way as _).collect();
    let costs = compare_in(rounds, &mut ways, |round| bar.set_position(round as u64));
    bar.finish_and_clear();
    let bare = costs.first().ok_or("nothing was measured")?.nanos;
    for (entrant, cost) in entrants.iter().zip(&costs) {
        let (low, high) = cost.quartiles;
        let nanos = Figure { median: cost.nanos, quartiles: Some([low, high]) };
        let more = Figure::of(cost.nanos - bare);
        let cells =
            [Some(nanos), more, Figure::of(cost.nanos / bare), Figure::of(cost.allocations)];
        table.row(entrant.kind.name(), cells);
    }
    Ok(table)
}

/// Fills `service`, and sees to it that it answers all it is asked.
fn way<S, B>(
    runtime: &Runtime,
    (entries, asked): (u64, u64),
    service: S,
) -> Result<Box<dyn Way>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Debug> + Clone + 'static,
    B: axum::body::HttpBody,
{
    let fill = async {
        for id in 0..entries {
            let response = service.clone().oneshot(request(id)).await;
            let response = response.map_err(|error| format!("it fails: {error:?}"))?;
            if !response.status().is_success() {
                return Err(BoxError::from(format!("it answers {}", response.status())));
            }
            // Read, since some store what was read to its end.
            let body = std::pin::pin!(response.into_body());
            drop(http_body_util::BodyExt::collect(body).await);
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    runtime.block_on(fill)?;
    let mut ids = (0..asked).cycle();
    let prepare = move || request(ids.next().unwrap_or_default());
    let run = move |request| {
        let answer = service.clone().oneshot(request).now_or_never();
        assert!(black_box(answer).is_some_and(|it| it.is_ok()), "a hit must be there at once");
    };
    Ok(Box::new(With { prepare, run }))
}

/// As a client sends it.
fn request(id: u64) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = format!("/products/{id}").try_into().unwrap_or_default();
    let fields = [("host", "api.example.com"), ("user-agent", "bench/1.0"), ("accept", "*/*")];
    for (name, value) in fields {
        request.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    request
}
