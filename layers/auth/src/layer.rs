//! The layer.

mod builder;

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use crate::gate::Gate;
use crate::service::Jwt;
use crate::stats::Stats;
use crate::verified::Untyped;
use crate::verifier::Verifier;

pub use builder::JwtLayerBuilder;

/// Lets requests through whose token is right, with its claims in their extensions: see
/// [`Verified::of`](crate::Verified::of) and [`Identity::of`](crate::Identity::of).
///
/// ```
/// use tower_keep_auth::{Algorithm, Issuer, JwtLayer, SigningKey, Verifier};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = SigningKey::generate(Algorithm::Es256)?;
/// let verifier = Verifier::builder()
///     .issuer(Issuer::new("https://id.example.com").keys(key.verifying_key().clone()).audience("orders"))
///     .build()?;
/// let auth = JwtLayer::builder(verifier).realm("orders").build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct JwtLayer<C = Untyped> {
    gate: Arc<Gate<C>>,
}

impl<C> JwtLayer<C> {
    /// Settings of a layer that verifies tokens by `verifier`.
    pub fn builder(verifier: Verifier<C>) -> JwtLayerBuilder<C> {
        JwtLayerBuilder::new(verifier)
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        self.gate.answers.counters.stats()
    }
}

impl<S, C> Layer<S> for JwtLayer<C> {
    type Service = Jwt<S, C>;

    fn layer(&self, inner: S) -> Jwt<S, C> {
        Jwt::new(inner, Arc::clone(&self.gate))
    }
}

impl<C> Clone for JwtLayer<C> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate) }
    }
}

impl<C> fmt::Debug for JwtLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JwtLayer").field(&self.gate).finish()
    }
}
