//! A probe that connects.

use std::future::Future;

use super::HealthCheck;
use super::address::{Address, locate};
use super::connect::{failed, tcp};
use super::probe::{Probe, ProbeError};

/// Passes if the target accepts a TCP connection, which is closed at once. HAProxy's plain `check`.
///
/// The kernel accepts for a process that hangs, as long as its backlog has room: where the target
/// speaks HTTP or gRPC, ask it by [`Http`](super::Http) or [`Grpc`](super::Grpc).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Tcp {
    port: Option<u16>,
}

impl Tcp {
    /// Connects to the target's own port.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects to this port instead of the target's.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }
}

impl<T: Address> Probe<T> for Tcp {
    fn probe(&self, target: &T) -> impl Future<Output = Result<(), ProbeError>> + Send {
        let place = locate(target, self.port);
        async { tcp(&place?).await.map(drop).map_err(failed) }
    }
}

impl HealthCheck<Tcp> {
    /// Checks by connecting: see [`Tcp`].
    pub fn tcp() -> Self {
        Self::new(Tcp::new())
    }
}
