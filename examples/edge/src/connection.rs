//! Serves one connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tower_keep_balance::proxy::interim::{InterimIo, Interims};

use crate::activity::{Activity, Patience, Verdict, Watched};
use crate::config::{Listener, Protocols};
use crate::departure::{Departure, Order, Phase};
use crate::entry::Entry;
use crate::face::Face;
use crate::front::{Connection, answer};
use crate::listening::Place;
use crate::proxied;

/// What a connection is part of for as long as its socket is open, also when it has changed its
/// protocol and is hyper's no more.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) phase: watch::Receiver<Phase>,
    /// For others when this is dropped.
    pub(crate) place: Place,
}

/// Serves `stream` until it ends, or is to.
pub(crate) async fn serve(
    mut stream: TcpStream,
    mut client: SocketAddr,
    face: Arc<ArcSwap<Face>>,
    mut life: Life,
) {
    // An interim response and the final one are two small writes: neither is to wait for the
    // acknowledgement of the other. If this can't be set, they do.
    let _ = stream.set_nodelay(true);
    // Not the face itself: a connection is not to keep all of an old configuration alive.
    let (tls, settings) = {
        let now = face.load();
        (now.tls.clone(), Arc::clone(&now.settings))
    };
    let peer = client.ip();
    if proxied::is_announced(peer, &settings.proxy_protocol) {
        let read = tokio::select! {
            read = timeout(settings.header_timeout, proxied::read(&mut stream)) => read,
            _ = life.phase.wait_for(|phase| *phase == Phase::Over) => return,
        };
        match read {
            Ok(Ok(address)) => client = address.unwrap_or(client),
            Ok(Err(error)) => {
                return tracing::debug!(%client, %error, "a proxy doesn't say who is behind it");
            }
            Err(_) => {
                return tracing::debug!(%client, "a proxy took too long to say who is behind it");
            }
        }
    }
    let entry = Entry { peer, by: Arc::clone(&settings) };
    let Some(tls) = tls else { return http(stream, client, entry, face, life).await };
    let handshake = timeout(settings.header_timeout, tls.accept(stream));
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        _ = life.phase.wait_for(|phase| *phase == Phase::Over) => return,
    };
    match accepted {
        Ok(Ok(stream)) => http(stream, client, entry, face, life).await,
        // Scanners and clients that trust another authority: nothing for the log of every day.
        Ok(Err(error)) => tracing::debug!(%client, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%client, "a TLS handshake took too long"),
    }
}

/// Until its socket is closed, whichever protocol is spoken by then.
async fn http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    client: SocketAddr,
    entry: Entry,
    face: Arc<ArcSwap<Face>>,
    life: Life,
) {
    let Life { phase, place: _place } = life;
    let (mut hold, held) = oneshot::channel();
    let activity = Activity::new();
    let io = Watched::new(stream, activity.clone(), held);
    let mut departure = Departure::new(phase, Arc::clone(&face), entry.clone());
    converse(io, activity, client, entry, face, &mut departure).await;
    // What follows a change of protocol is hyper's no more, and ends when it is held no longer.
    loop {
        tokio::select! {
            () = hold.closed() => return,
            order = departure.order() => if order == Order::End { return },
        }
    }
}

async fn converse(
    io: Watched<impl AsyncRead + AsyncWrite + Send + Unpin + 'static>,
    activity: Activity,
    client: SocketAddr,
    entry: Entry,
    face: Arc<ArcSwap<Face>>,
    departure: &mut Departure,
) {
    let interims = Interims::default();
    let settings = Arc::clone(&entry.by);
    let patience = Patience { head: settings.header_timeout, idle: settings.idle_timeout };
    let io = InterimIo::new(io, interims.clone());
    let connection = Connection { client, entry, interims, activity: activity.clone() };
    let service = service_fn(move |request: Request<Incoming>| {
        let (face, connection) = (face.load_full(), connection.clone());
        async move { Ok::<_, Infallible>(answer(&face, &connection, request).await) }
    });
    let server = server(&settings);
    let mut serving = pin!(server.serve_connection_with_upgrades(TokioIo::new(io), service));
    let mut alarm = pin!(sleep_until(Instant::now() + patience.shortest()));
    let mut is_draining = false;
    match departure.at_first() {
        None => {}
        Some(Order::Finish) => serving.as_mut().graceful_shutdown(),
        Some(Order::End) => return,
    }
    loop {
        tokio::select! {
            // Before another request is taken.
            biased;
            order = departure.order() => match order {
                Order::Finish => serving.as_mut().graceful_shutdown(),
                Order::End => return,
            },
            // What a client does to its connection is no news.
            _ = serving.as_mut() => return,
            () = alarm.as_mut() => match activity.verdict(patience) {
                Verdict::Wait(until) => alarm.as_mut().reset(until),
                Verdict::Slow => return,
                Verdict::Idle if is_draining => return,
                Verdict::Idle => {
                    is_draining = true;
                    serving.as_mut().graceful_shutdown();
                    // HTTP/2 lets the other side answer.
                    alarm.as_mut().reset(Instant::now() + patience.head);
                }
            },
        }
    }
}

/// How much of a request's content is taken of which nobody reads what came before; and of all of those
/// of a connection. An upload whose backend stalls leaves room for the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 8 << 20;

fn server(settings: &Listener) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        // `Activity` sees to it, and tells it from having nothing to ask.
        .header_read_timeout(None)
        .max_headers(settings.max_headers)
        .max_buf_size(settings.max_header_size.max(8 << 10))
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.max_header_size).unwrap_or(u32::MAX))
        .max_concurrent_streams(settings.max_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_connect_protocol();
    match settings.protocols {
        Protocols { http1: true, http2: false } => server.http1_only(),
        Protocols { http1: false, http2: true } => server.http2_only(),
        _ => server,
    }
}
