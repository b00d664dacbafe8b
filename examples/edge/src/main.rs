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
mod front;
mod report;
mod server;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use http::HeaderName;
use tokio::net::TcpListener;
use tokio::signal;
use tower::{Layer, ServiceBuilder};
use tower_keep::prelude::*;
use tower_keep_balance::proxy::{Proxy, Pseudonym};
use tower_keep_balance::{Backend, Pool, RetryLayer};

use config::Config;
use report::report;

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
    let pool = Pool::builder().backend(Backend::http(&format!("http://{origin}"))?).build()?;
    // Another name for each process, so that an edge in front of another isn't taken for a loop.
    let pseudonym = Pseudonym::random("edge").ok_or("edge is no name")?;
    // There is no other origin to ask when this one says that it can't.
    let retry = RetryLayer::builder().statuses([]);
    let proxy = Proxy::builder(pool).pseudonym(pseudonym.clone()).retry(retry).build()?;
    let proxy = ServiceBuilder::new().map_response(report).service(proxy);
    let service = cache.layer(proxy.clone());

    let listener = TcpListener::bind(listen).await.map_err(|error| format!("{listen}: {error}"))?;
    let stop = stopped()?;
    println!("http://{} is in front of http://{origin}", listener.local_addr()?);
    server::serve(listener, service, proxy, pseudonym, stop).await;
    Ok(())
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
