//! Logs, on standard error.

use std::io;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Format, Log};

/// Changes what is logged.
pub(crate) struct Level(reload::Handle<EnvFilter, Registry>);

/// Begins to log. The format stays for as long as the process lives.
pub(crate) fn begin(log: &Log) -> Level {
    let (filter, handle) = reload::Layer::new(filter(log));
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match log.format {
        Format::Text => lines.with_ansi(false).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    // There is no other one in this process that it could fail for.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Level(handle)
}

impl Level {
    pub(crate) fn set(&self, log: &Log) {
        // It fails only if there is nothing that logs.
        let _ = self.0.reload(filter(log));
    }
}

/// Checked when the configuration was read.
fn filter(log: &Log) -> EnvFilter {
    EnvFilter::new(&log.level)
}
