//! A probe: one question to a backend, whether it could serve.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BuildError;

/// Asks a target whether it could serve. A closure that returns a future is one, too:
///
/// ```
/// use tower_keep_balance::HealthCheck;
/// use tower_keep_balance::health::ProbeError;
///
/// # #[derive(Clone)] struct Database;
/// # impl Database { async fn ping(&self) -> Result<(), std::io::Error> { Ok(()) } }
/// let check = HealthCheck::new(|database: &Database| {
///     let database = database.clone();
///     async move { database.ping().await.map_err(ProbeError::other) }
/// });
/// # let _ = check;
/// ```
pub trait Probe<T>: Send + Sync {
    /// Asks `target` once. It is dropped when its time is up ([`HealthCheck::timeout`]) or the
    /// backend is removed.
    ///
    /// [`HealthCheck::timeout`]: crate::HealthCheck::timeout
    fn probe(&self, target: &T) -> impl Future<Output = Result<(), ProbeError>> + Send;

    /// Whether the probe is set up well; asked once, when the pool is built.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change.
    fn validate(&self) -> Result<(), BuildError> {
        Ok(())
    }
}

impl<T, F, Fut> Probe<T> for F
where
    F: Fn(&T) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), ProbeError>> + Send,
{
    fn probe(&self, target: &T) -> impl Future<Output = Result<(), ProbeError>> + Send {
        self(target)
    }
}

/// Why a check failed. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// No answer came in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The target names no address that can be connected to.
    #[error("{0}")]
    Address(String),
    /// It can't be connected to.
    #[error("can't connect: {0}")]
    Connect(#[source] Arc<std::io::Error>),
    /// The connection broke, or what came isn't the protocol.
    #[error("the exchange failed: {0}")]
    Exchange(#[source] Arc<dyn Error + Send + Sync>),
    /// The answer has an HTTP status that wasn't asked for.
    #[error("the status is {0}")]
    Status(u16),
    /// The answer's content isn't what was asked for.
    #[error("the body is not the expected one")]
    Body,
    /// The call ended with this gRPC status: 12 (`UNIMPLEMENTED`) means that the server has no
    /// health service, 5 (`NOT_FOUND`) that it doesn't know the service that was asked for.
    #[error("the gRPC status is {0}")]
    GrpcStatus(u32),
    /// The health service answered something else than `SERVING` (1): a
    /// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
    #[error("the serving status is {0}, not 1 (SERVING)")]
    NotServing(u64),
    /// The probe panicked.
    #[error("the probe panicked")]
    Panicked,
    /// Another reason, of a probe of one's own.
    #[error(transparent)]
    Other(Arc<dyn Error + Send + Sync>),
}

impl ProbeError {
    /// Another reason: an error, or a text.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into().into())
    }
}

/// A probe whose type is forgotten, as the pool's type doesn't name it.
pub(crate) trait ErasedProbe<T>: Send + Sync {
    fn ask<'a>(&'a self, target: &'a T) -> Asking<'a>;
}

pub(crate) type Asking<'a> = Pin<Box<dyn Future<Output = Result<(), ProbeError>> + Send + 'a>>;

impl<T: Sync, P: Probe<T>> ErasedProbe<T> for P {
    fn ask<'a>(&'a self, target: &'a T) -> Asking<'a> {
        // In here, so that a panic before the first await is caught as well.
        Box::pin(async move { self.probe(target).await })
    }
}

impl<T> fmt::Debug for dyn ErasedProbe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}
