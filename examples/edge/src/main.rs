//! A caching reverse proxy in front of one origin.
//!
//! `cargo run -p edge -- http://127.0.0.1:8000 127.0.0.1:8080` answers on port 8080 from the cache,
//! and from the origin on port 8000. `REDIS_URL` adds a second tier.
//!
//! For origins that know HTTP caching, and mean what they say, there are two settings in the
//! environment: `CACHE_HEURISTIC=10` makes what says nothing fresh for 10 % of the time since its
//! `Last-Modified`, at most a day (RFC 9111 §4.2.2); `CACHE_SET_COOKIE=store` stores responses that
//! set cookies, `strip` does so without the cookies.

#![allow(clippy::print_stdout, reason = "a program says on standard output what it serves")]

mod forward;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io};

use http::uri::{Authority, Uri};
use http::{HeaderName, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::signal;
use tower::{Layer, ServiceExt};
use tower_keep::cache::{Heuristic, SetCookie};
use tower_keep::prelude::*;

use forward::Forward;

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let usage = "usage: edge ORIGIN_URL [LISTEN_ADDRESS]";
    let origin = origin(&arguments.next().ok_or(usage)?)?;
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listen: SocketAddr = listen.parse().map_err(|error| format!("{listen}: {error}"))?;

    let cache = CacheLayer::builder(store().await?)
        .name("edge")
        .targets([HeaderName::from_static("cdn-cache-control")])
        .heuristic(heuristic()?)
        .set_cookie(set_cookie()?)
        .build()?;
    let cached = cache.layer(Forward::to(origin.clone()));

    let listener = TcpListener::bind(listen).await.map_err(|error| format!("{listen}: {error}"))?;
    println!("http://{} is in front of http://{origin}", listener.local_addr()?);
    let server = auto::Builder::new(TokioExecutor::new());
    let connections = GracefulShutdown::new();
    loop {
        let (stream, client) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Such as too many open files: others may close theirs.
                Err(error) => {
                    eprintln!("edge: accept: {error}");
                    continue;
                }
            },
            _ = signal::ctrl_c() => break,
        };
        let service = cached.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(client);
            request
        });
        let connection = server.serve_connection_with_upgrades(
            TokioIo::new(stream),
            TowerToHyperService::new(service),
        );
        let connection = connections.watch(connection.into_owned());
        // What a client does to its connection is no news.
        tokio::spawn(async move { drop(connection.await) });
    }
    drop(listener);
    connections.shutdown().await;
    Ok(())
}

/// The host and port of an origin's URL.
fn origin(url: &str) -> Result<Authority, Box<dyn Error>> {
    let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url}: an origin is given as http://host:port").into());
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(format!("{url}: an origin has no path; requests bring their own").into());
    }
    let authority = uri.into_parts().authority;
    Ok(authority.ok_or_else(|| io::Error::other(format!("{url}: there is no host in it")))?)
}

fn heuristic() -> Result<Heuristic, Box<dyn Error>> {
    let Ok(percent) = env::var("CACHE_HEURISTIC") else { return Ok(Heuristic::Off) };
    let percent = percent.parse().map_err(|error| format!("CACHE_HEURISTIC: {error}"))?;
    Ok(Heuristic::Fraction { percent, cap: Duration::from_secs(24 * 3600) })
}

fn set_cookie() -> Result<SetCookie, Box<dyn Error>> {
    match env::var("CACHE_SET_COOKIE").as_deref() {
        Err(_) | Ok("refuse") => Ok(SetCookie::Refuse),
        Ok("strip") => Ok(SetCookie::Strip),
        Ok("store") => Ok(SetCookie::Store),
        Ok(other) => {
            Err(format!("CACHE_SET_COOKIE: {other:?} is not refuse, strip or store").into())
        }
    }
}

async fn store() -> Result<Store, Box<dyn Error>> {
    let builder = Store::builder().l1(L1::bytes(256 * 1024 * 1024));
    let builder = match env::var("REDIS_URL") {
        Ok(url) => builder.l2(Redis::connect(&url).await.map_err(|e| format!("REDIS_URL: {e}"))?),
        Err(_) => builder,
    };
    Ok(builder.build()?)
}
