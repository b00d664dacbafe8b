//! A caching reverse proxy in front of one origin.
//!
//! `cargo run -p edge -- http://127.0.0.1:8000 127.0.0.1:8080` answers on port 8080 from the cache,
//! and from the origin on port 8000. `REDIS_URL` adds a second tier.
//!
//! For origins that know HTTP caching, and mean what they say, there are settings in the
//! environment: `CACHE_HEURISTIC=10` makes what says nothing fresh for 10 % of the time since its
//! `Last-Modified`, at most a day (RFC 9111 §4.2.2); `CACHE_SET_COOKIE=store` stores responses that
//! set cookies, `strip` does so without the cookies; `CACHE_CREDENTIALS=rfc9111` shares responses to
//! requests with credentials as RFC 9111 §3.5 permits.
//!
//! On SIGTERM or Ctrl-C, responses that are under way are finished first.

#![allow(clippy::print_stdout, reason = "a program says on standard output what it serves")]

mod config;
mod expect;
mod forward;
mod front;
mod hop;
mod interim;
mod max_forwards;
mod server;

use std::collections::hash_map::RandomState;
use std::env;
use std::error::Error;
use std::hash::BuildHasher;
use std::process::ExitCode;
use std::sync::Arc;

use http::HeaderName;
use tokio::net::TcpListener;
use tokio::signal;
use tower::Layer;
use tower_keep::prelude::*;

use config::Config;
use forward::Forward;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let config = Config::read(env::args().skip(1), |name| env::var(name).ok())?;
    let Config { origin, listen, .. } = &config;
    let cache = CacheLayer::builder(store(config.redis.as_deref()).await?)
        .name("edge")
        .targets([HeaderName::from_static("cdn-cache-control")])
        .heuristic(config.heuristic)
        .set_cookie(config.set_cookie)
        .credentials(config.credentials)
        .build()?;
    let pseudonym: Arc<str> = pseudonym().into();
    let service = cache.layer(Forward::to(origin.clone(), Arc::clone(&pseudonym)));

    let listener = TcpListener::bind(listen).await.map_err(|error| format!("{listen}: {error}"))?;
    let stop = stopped()?;
    println!("http://{} is in front of http://{origin}", listener.local_addr()?);
    server::serve(listener, service, pseudonym, stop).await;
    Ok(())
}

/// The name in `Via`: another one for each process, so that an edge in front of another isn't taken
/// for a loop.
fn pseudonym() -> String {
    format!("edge-{:08x}", RandomState::new().hash_one("edge") >> 32)
}

/// Waits for a signal to stop. From the first poll on, none is lost.
#[cfg(unix)]
fn stopped() -> Result<impl Future<Output = ()>, Box<dyn Error>> {
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stopped() -> Result<impl Future<Output = ()>, Box<dyn Error>> {
    Ok(async { drop(signal::ctrl_c().await) })
}

async fn store(redis: Option<&str>) -> Result<Store, Box<dyn Error>> {
    let builder = Store::builder().l1(L1::bytes(256 * 1024 * 1024));
    let builder = match redis {
        Some(url) => {
            builder.l2(Redis::connect(url).await.map_err(|e| format!("REDIS_URL: {e}"))?)
        }
        None => builder,
    };
    Ok(builder.build()?)
}
