//! What a listener shows: it is exchanged as a whole when the configuration is loaded again.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use crate::config::Listener;
use crate::state::State;
use crate::tls;

/// For connections that come now, and requests on those that are open.
pub(crate) struct Face {
    pub(crate) settings: Arc<Listener>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) role: Role,
    pub(crate) state: Arc<State>,
}

/// Whom it is for.
pub(crate) enum Role {
    Edge,
    /// For operators, who know this token.
    Admin(String),
}

impl Face {
    pub(crate) fn new(
        settings: Listener,
        role: Role,
        state: &Arc<State>,
    ) -> Result<Self, tokio_rustls::rustls::Error> {
        let tls = tls::acceptor(&settings)?;
        Ok(Self { settings: Arc::new(settings), tls, role, state: Arc::clone(state) })
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}
