//! The whole pipeline, a token that was seen before, a hit, its compressed form, beside a bare service
//! that sends as many bytes plain: over loopback, and within the process.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_keep::cache::CacheLayer;
use tower_keep::store::{L1, Store};

use super::closed_loop::{CONNECTIONS, measure, table};
use crate::BoxError;
use crate::ask::ask;
use crate::fleet::Fleet;
use crate::pace::Pace;
use crate::pipeline;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};
use crate::samples::Samples;
use crate::site::{Handler, PATH, Site};
use crate::wrk::load;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(3);

/// Within the process, and how many requests at a time.
const WITHIN_ROUNDS: usize = 300;
const BATCH: u32 = 200;

/// Bytes of the page.
const PAGE: usize = 4 << 10;

/// So often the same form has to come, so that it is taken for the densest.
const STEADY: usize = 20;

/// Both tables.
///
/// # Errors
///
/// If the report can't be written, or the pipeline doesn't work.
pub fn run(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let length = over_loopback(report, pace)?;
    report.add(within(length, pace)?)?;
    Ok(())
}

/// Says how long the form is.
fn over_loopback(report: &mut Report, pace: Pace) -> Result<usize, BoxError> {
    let fields = pipeline::fields()?;
    let fields = fields.each_ref().map(String::as_str);
    let page = Site { size: PAGE, ..Site::default() };
    let alone = Fleet::launch(&["pipeline"], page)?;
    let length = form(&alone, &fields)?;
    drop(alone);
    let mut fleet = Fleet::launch(&["router", "keep"], Site { size: length, ..Site::default() })?;
    fleet.add(
        "pipeline",
        "`JwtLayer`, tower-keep with forms, `Router`",
        &format!("size={PAGE}"),
    )?;
    form(&fleet, &fields)?;
    let (rounds, round) = (pace.rounds(ROUNDS), pace.duration(ROUND));
    let all = measure("pipeline", &fleet, rounds, |contender| {
        load(&contender.url(1), &fields, round, CONNECTIONS)
    });
    let title = format!("The whole pipeline over loopback: {length} bytes of content");
    let note = format!(
        "{rounds} rounds of {} s by wrk, {CONNECTIONS} connections; medians (quartiles). The pipeline sends a page of {PAGE} \
         bytes of JSON in its form in Brotli to a client whose token (HS256) it has seen before; the others send as \
         many bytes plain, and look at no token, though one is sent to all. By `axum::serve`.",
        round.as_secs()
    );
    report.add(table("pipeline", &title, &fleet, &all).note(note))?;
    Ok(length)
}

/// Asks the last of `fleet` until its form is as dense as it gets. Says how long that is.
fn form(fleet: &Fleet, fields: &[&str]) -> Result<usize, BoxError> {
    let missing = || fleet.missing.first().map_or("it is not there", |(_, why)| why.as_str());
    let pipeline = fleet.contenders.iter().find(|it| it.word == "pipeline").ok_or_else(missing)?;
    let (mut steady, mut length) = (0, 0);
    for _ in 0..1_000 {
        let answer = ask(&pipeline.member.address, &format!("{PATH}1"), fields)?;
        let is_form = answer.field("content-encoding") == Some("br");
        let is_same = is_form && answer.body.len() == length;
        steady = if is_same { steady + 1 } else { 0 };
        length = answer.body.len();
        if steady == STEADY {
            return Ok(length);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    Err("its compressed form never comes".into())
}

struct Way<'a> {
    what: &'static str,
    /// Sends so many, and says how long that took.
    time: Box<dyn FnMut(u32) -> Duration + 'a>,
    nanos: Samples,
}

fn within(length: usize, pace: Pace) -> Result<Table, BoxError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let short = Handler::new(Site { size: length, ..Site::default() });
    let page = pipeline::handler(Site { size: PAGE, ..Site::default() });
    let store = || Store::builder().l1(L1::bytes(64 << 20)).build();
    let cache = CacheLayer::builder(store()?).build()?;
    let token = pipeline::token()?;
    let mut ways = [
        way(&runtime, "bare `Router`", short.router(), &token),
        way(&runtime, "`JwtLayer` around it", pipeline::auth()?.layer(short.router()), &token),
        way(&runtime, "tower-keep around it", cache.layer(short.router()), &token),
        way(
            &runtime,
            "tower-keep around it, the compressed form of a longer page",
            pipeline::forms(store()?)?.layer(page.router()),
            &token,
        ),
        way(
            &runtime,
            "`JwtLayer` around that: the whole pipeline",
            pipeline::layers(store()?)?.layer(page.router()),
            &token,
        ),
    ];
    let rounds = pace.rounds(WITHIN_ROUNDS);
    let bar = progress::bar("pipeline, within", rounds);
    for Way { time, .. } in &mut ways {
        // Until forms are there, and as dense as they get.
        for _ in 0..100 {
            time(BATCH);
            runtime.block_on(tokio::time::sleep(Duration::from_millis(1)));
        }
    }
    for _ in 0..rounds {
        for Way { time, nanos, .. } in &mut ways {
            nanos.push(time(BATCH).as_secs_f64() * 1e9 / f64::from(BATCH));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let title = format!("The whole pipeline within the process: {length} bytes of content");
    let columns = [("ns", 0), ("more than bare, ns", 0), ("× bare", 2)];
    let mut table = Table::new("pipeline-within", &title, &columns)
        .note(format!(
            "{rounds} rounds of {BATCH} requests, which are made before and not timed; to the last frame of the body. \
             All are sent the same token, and `Accept-Encoding: br`."
        ))
        .plot(Plot::Bars(0));
    let bare = ways[0].nanos.clone();
    for Way { what, nanos, .. } in &ways {
        let more = Figure::median(&nanos.minus(&bare));
        let times = Figure::median(&nanos.relative_to(&bare));
        table.row(what, [Figure::median(nanos), more, times]);
    }
    Ok(table)
}

fn way<'a, S, B>(runtime: &'a Runtime, what: &'static str, service: S, token: &'a str) -> Way<'a>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + 'a,
    B: axum::body::HttpBody + 'a,
{
    let time = move |times| {
        let requests: Vec<_> = (0..times).map(|_| pipeline::request(token).ok()).collect();
        runtime.block_on(async {
            let start = Instant::now();
            for request in requests.into_iter().flatten() {
                let Ok(response) = service.clone().oneshot(request).await;
                assert!(response.status().is_success(), "it is refused");
                let body = std::pin::pin!(response.into_body());
                black_box(body.collect().await.is_ok());
            }
            start.elapsed()
        })
    };
    Way { what, time: Box::new(time), nanos: Samples::default() }
}
