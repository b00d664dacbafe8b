//! What a response costs from the call to the last frame of its body, within the process.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use harness::BoxError;
use harness::page::{PAGE, Pages, cache, compress};
use harness::report::{Figure, Table};
use harness::samples::Samples;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_http::compression::CompressionLayer;

pub(super) const ROUNDS: usize = 200;

/// How many responses are timed together: about as many as take 100 µs, and one that takes longer.
const CHEAP: u32 = 200;
const DEAR: u32 = 1;

struct Way<'a> {
    what: &'static str,
    batch: u32,
    /// Sends so many, and says how long that took.
    time: Box<dyn FnMut(u32) -> Duration + 'a>,
    nanos: Samples,
}

pub(super) fn table(rounds: usize) -> Result<Table, BoxError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handler = Pages::new()?.handler();
    let plain = cache(false)?.layer(handler.clone());
    let forms = cache(true)?.layer(handler.clone());
    let each = compress()?.layer(handler.clone());
    let tower_http = CompressionLayer::new().layer(handler.clone());
    // Until both forms are there, and as dense as they get.
    for coding in ["br", "gzip"] {
        for _ in 0..400 {
            runtime.block_on(async {
                send(&forms, Some(coding)).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            });
        }
    }
    let mut ways = [
        way(&runtime, "the bare handler, plain", CHEAP, &handler, None),
        way(&runtime, "`CacheLayer`, a hit, plain", CHEAP, &plain, None),
        way(&runtime, "`CacheLayer` with forms, a hit, plain", CHEAP, &forms, None),
        way(&runtime, "the same, its form in br", CHEAP, &forms, Some("br")),
        way(&runtime, "the same, its form in gzip", CHEAP, &forms, Some("gzip")),
        way(&runtime, "the same, its form in br, as browsers ask", CHEAP, &forms, Some(BROWSER)),
        way(&runtime, "`CompressLayer` around the handler, br", DEAR, &each, Some("br")),
        way(&runtime, "tower-http's `CompressionLayer`, br", DEAR, &tower_http, Some("br")),
    ];
    for _ in 0..rounds {
        for Way { batch, time, nanos, .. } in &mut ways {
            nanos.push(time(*batch).as_secs_f64() * 1e9 / f64::from(*batch));
        }
    }
    let base = ways[1].nanos.clone();
    let columns = [("ns a response", 0), ("× a plain hit", 2)];
    let title = "A page of 100 KiB within the process";
    let mut table = Table::new("compressed-within", title, &columns)
        .note(format!("{rounds} rounds in turn; medians (quartiles)."));
    for Way { what, nanos, .. } in &ways {
        let times = Figure::of(nanos.relative_to(&base).median());
        table.row(what, [Figure::median(nanos), times]);
    }
    Ok(table)
}

const BROWSER: &str = "gzip, deflate, br, zstd";

fn way<'a, S, B>(
    runtime: &'a Runtime,
    what: &'static str,
    batch: u32,
    service: &'a S,
    coding: Option<&'static str>,
) -> Way<'a>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes> + 'a,
{
    let time = move |times| {
        let requests: Vec<_> = (0..times).map(|_| request(coding)).collect();
        runtime.block_on(async {
            let start = Instant::now();
            for request in requests {
                black_box(drain(service.clone().oneshot(request).await).await);
            }
            start.elapsed()
        })
    };
    Way { what, batch, time: Box::new(time), nanos: Samples::default() }
}

fn request(coding: Option<&'static str>) -> Request<Empty<Bytes>> {
    let mut request = Request::get(PAGE).header("host", "shop.example").header("accept", "*/*");
    if let Some(coding) = coding {
        request = request.header("accept-encoding", coding);
    }
    request.body(Empty::new()).unwrap_or_default()
}

async fn send<S, B>(service: &S, coding: Option<&'static str>)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes>,
{
    drain(service.clone().oneshot(request(coding)).await).await;
}

/// How many bytes come.
async fn drain<B: Body<Data = Bytes>>(answer: Result<Response<B>, Infallible>) -> usize {
    let Ok(answer) = answer;
    let mut body = std::pin::pin!(answer.into_body());
    let mut len = 0;
    while let Some(Ok(frame)) = body.frame().await {
        len += frame.data_ref().map_or(0, Bytes::len);
    }
    len
}
