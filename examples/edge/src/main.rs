//! A reverse proxy that balances, caches, compresses and verifies tokens, configured by one TOML file.
//!
//! `edge --config edge.toml`, where the smallest file is
//!
//! ```toml
//! [[listener]]
//! address = "127.0.0.1:8080"
//!
//! [pool.app]
//! backends = ["http://127.0.0.1:3000"]
//! ```
//!
//! `edge.example.toml` has every setting, with its default and its unit. `edge --help` says what
//! signals do.

#![allow(clippy::print_stdout, reason = "a program says on standard output what it serves")]

mod activity;
mod admin;
mod affinity;
mod args;
mod body;
mod caches;
mod claims;
mod config;
mod connection;
mod departure;
mod edge;
mod entry;
mod exchange;
mod face;
mod front;
mod guards;
mod inside;
mod listening;
mod log;
mod outbound;
mod overrides;
mod pace;
mod path;
mod proxied;
mod revoke;
mod route;
mod router;
mod space;
mod state;
mod tls;
mod upstreams;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal;

use args::{Args, HELP};
use config::Config;
use edge::Edge;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let args = Args::parse(env::args_os().skip(1)).map_err(|error| format!("error: {error}"))?;
    match args {
        Args::Help => print!("{HELP}"),
        Args::Version => println!("edge {}", env!("CARGO_PKG_VERSION")),
        Args::Check(path) => {
            Config::load(&path)?;
            println!("{} is valid", path.display());
        }
        Args::Run(path) => serve(path).await?,
    }
    Ok(())
}

#[cfg(unix)]
async fn serve(path: PathBuf) -> Result<(), Error> {
    use signal::unix::{SignalKind, signal};

    // From here on, none is lost.
    let mut reloads = signal(SignalKind::hangup())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut edge = Edge::start(path).await?;
    say_where(&edge);
    loop {
        tokio::select! {
            _ = reloads.recv() => edge.reload().await,
            _ = terminations.recv() => break,
            _ = interrupts.recv() => break,
        }
    }
    edge.stop().await;
    Ok(())
}

/// Without signals, there is no reload.
#[cfg(not(unix))]
async fn serve(path: PathBuf) -> Result<(), Error> {
    let edge = Edge::start(path).await?;
    say_where(&edge);
    signal::ctrl_c().await?;
    edge.stop().await;
    Ok(())
}

fn say_where(edge: &Edge) {
    for address in edge.addresses() {
        println!("{address}");
    }
    println!("ready");
}
