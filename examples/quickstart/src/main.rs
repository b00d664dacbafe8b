//! An axum service with a slow origin, answered from a tower-keep cache.
//!
//! `cargo run -p quickstart`, then try what it prints. `REDIS_URL` adds a second tier that several
//! instances share; `PORT` moves it from port 3000.

#![allow(clippy::print_stdout, reason = "a program says on standard output what it serves")]

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::{signal, time};
use tower::ServiceBuilder;
use tower_keep::prelude::*;

#[derive(Clone)]
struct App {
    keep: Store,
    users: Typed<u64, User>,
}

#[derive(Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let keep = store().await?;
    let cache = CacheLayer::builder(keep.clone()).build()?;
    let router = Router::new()
        .route("/products/{id}", get(product))
        .route("/users/{id}", get(user))
        .route("/invalidate/{tag}", post(invalidate))
        .route("/stats", get(stats))
        .with_state(App { users: keep.typed("user"), keep });

    // The cache goes around the whole router, so a hit isn't even routed (`Router::layer` would put
    // it behind the routing). As the fallback of an empty router it is an axum app again.
    let app = Router::new().fallback_service(ServiceBuilder::new().layer(cache).service(router));

    let listener = listen().await?;
    println!("{}", what_to_try(&format!("http://{}", listener.local_addr()?)));
    axum::serve(listener, app).with_graceful_shutdown(interrupted()).await?;
    Ok(())
}

/// One tier in this process; with `REDIS_URL`, a second one behind it. Nothing else differs.
async fn store() -> Result<Store, Box<dyn Error>> {
    let builder = Store::builder().l1(L1::bytes(64 * 1024 * 1024));
    let builder = match env::var("REDIS_URL") {
        // Without the address in the error: it may hold a password.
        Ok(url) => builder.l2(Redis::connect(&url).await.map_err(|e| format!("REDIS_URL: {e}"))?),
        Err(_) => builder,
    };
    Ok(builder.build()?)
}

/// An HTTP response that says how long it is good for, and which tags drop it sooner.
async fn product(Path(id): Path<u64>) -> impl IntoResponse {
    slow_database().await;
    let policy = CacheControl::public()
        .max_age(Duration::from_secs(60))
        .stale_while_revalidate(Duration::from_secs(30));
    let tags = CacheTags::from(["products".to_owned(), format!("product:{id}")]);
    (policy, tags, format!("product {id}\n"))
}

/// A cached value instead of a cached response: any number of handlers may share it.
async fn user(State(app): State<App>, Path(id): Path<u64>) -> impl IntoResponse {
    let ttl = Ttl::secs(60).tags(["users".to_owned(), format!("user:{id}")]);
    let load = move || async move {
        slow_database().await;
        Ok::<_, io::Error>(User { id, name: format!("User no. {id}") })
    };
    match app.users.get_or_try_set(&id, ttl, load).await {
        Ok(user) => Json(&*user).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
    }
}

/// Drops everything with a tag, on every instance. A real service protects this: whoever can call
/// it can send all its traffic to the origin.
async fn invalidate(State(app): State<App>, Path(tag): Path<String>) -> impl IntoResponse {
    match app.keep.invalidate_tag(&tag).await {
        // `reach` tells whether the other instances know already, or will once Redis is back.
        Ok(reach) => (StatusCode::OK, format!("invalidated {tag}: {reach:?}\n")),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

async fn stats(State(app): State<App>) -> impl IntoResponse {
    (CacheControl::no_store(), format!("{:#?}\n", app.keep.stats()))
}

/// Stands for a database that takes its time.
async fn slow_database() {
    time::sleep(Duration::from_secs(1)).await;
}

/// Only this machine can connect, as `/invalidate` is open to whoever does.
async fn listen() -> Result<TcpListener, Box<dyn Error>> {
    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let number = port.parse::<u16>().map_err(|error| format!("PORT={port}: {error}"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).await;
    Ok(listener.map_err(|error| format!("port {port}: {error}; set PORT to another"))?)
}

async fn interrupted() {
    if let Err(error) = signal::ctrl_c().await {
        eprintln!("quickstart: Ctrl-C will not end it in order: {error}");
        std::future::pending::<()>().await;
    }
}

fn what_to_try(url: &str) -> String {
    format!(
        "Listening on {url}. Try, in this order:

  curl -i {url}/products/42                  # takes 1 s, and is stored
  curl -i {url}/products/42                  # at once: Cache-Status: tower-keep; hit
  curl -X POST {url}/invalidate/product:42   # drops it; `products` drops all of them
  curl -i {url}/products/42                  # takes 1 s again
  curl -i {url}/users/7                      # takes 1 s, then at once: a typed value
  curl {url}/stats

To see an invalidation reach another instance, start two with one REDIS_URL (such as
redis://127.0.0.1) and different PORTs. Ctrl-C ends this one."
    )
}
