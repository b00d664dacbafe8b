//! The published keys as a route of axum.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

use super::JwtManager;

impl<C: Send + Sync + 'static> JwtManager<C> {
    /// Answers with [`jwks`](Self::jwks), which others may keep for
    /// [`jwks_max_age`](Self::jwks_max_age).
    ///
    /// ```
    /// use axum::Router;
    /// use tower_keep_auth::{Algorithm, JwtManager, SigningKey};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let manager = JwtManager::builder("https://id.example.com")
    ///     .key(SigningKey::generate(Algorithm::Es256)?)
    ///     .audience("orders")
    ///     .build()?;
    /// let app: Router = Router::new().route("/.well-known/jwks.json", manager.jwks_route());
    /// # let _ = app;
    /// # Ok(())
    /// # }
    /// ```
    pub fn jwks_route<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        let manager = self.clone();
        get(move || async move {
            let cache = format!("public, max-age={}", manager.jwks_max_age().as_secs());
            let fields =
                [(CONTENT_TYPE, "application/jwk-set+json".to_owned()), (CACHE_CONTROL, cache)];
            (fields, manager.jwks()).into_response()
        })
    }
}
