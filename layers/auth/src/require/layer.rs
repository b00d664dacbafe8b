//! The layer of single routes.

use std::collections::HashMap;
use std::sync::Arc;

use tower_layer::Layer;

use super::{Require, Required};
use crate::error::BuildError;

/// Requires something of the tokens of single routes, inside of a [`JwtLayer`](crate::JwtLayer).
///
/// Where none is outside, nothing is let through: that is a mistake in the server, and answered 500
/// (gRPC: `INTERNAL`), with an error in the log, at each request.
///
/// ```
/// use tower_keep_auth::{Require, RequireLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # #[cfg(feature = "axum")] {
/// use axum::Router;
/// use axum::routing::{get, post};
///
/// let router: Router = Router::new()
///     .route("/orders", post(async || "taken"))
///     .route_layer(RequireLayer::new(Require::scope("orders:write"))?)
///     .route("/", get(async || "for all whom the JwtLayer lets through"));
/// # let _ = router;
/// # }
///
/// // Around a service of tonic: what each method asks for.
/// let orders = RequireLayer::new(Require::token())?
///     .method("/shop.Orders/Place", Require::scope("orders:write"))?
///     .method("/shop.Orders/Delete", Require::role("admin"))?;
/// # let _ = orders;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RequireLayer {
    rules: Arc<Rules>,
}

#[derive(Clone, Debug)]
pub(super) struct Rules {
    all: Require,
    methods: HashMap<Box<str>, Require>,
}

impl Rules {
    pub(super) fn of(&self, path: &str) -> &Require {
        self.methods.get(path).unwrap_or(&self.all)
    }
}

impl RequireLayer {
    /// Of each request.
    ///
    /// # Errors
    ///
    /// [`BuildError`], if no token could say it.
    pub fn new(require: Require) -> Result<Self, BuildError> {
        require.check()?;
        Ok(Self { rules: Arc::new(Rules { all: require, methods: HashMap::new() }) })
    }

    /// Of the requests for one method of gRPC, by its whole path: `/package.Service/Method`. It takes
    /// the place of what is required of all others.
    ///
    /// Paths are compared byte by byte, as tonic does. Routers of HTTP that decode them or pass over
    /// slashes need the layer on the route.
    ///
    /// # Errors
    ///
    /// [`BuildError`], if no token could say it, or no method has that path.
    pub fn method(mut self, path: &str, require: Require) -> Result<Self, BuildError> {
        require.check()?;
        let is_path = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        if !is_path.is_some_and(|(service, method)| {
            !service.is_empty() && !method.is_empty() && !method.contains('/')
        }) {
            return Err(BuildError::Setting("a method must be given as /package.Service/Method"));
        }
        Arc::make_mut(&mut self.rules).methods.insert(path.into(), require);
        Ok(self)
    }
}

impl<S> Layer<S> for RequireLayer {
    type Service = Required<S>;

    fn layer(&self, inner: S) -> Required<S> {
        Required { inner, rules: Arc::clone(&self.rules) }
    }
}
