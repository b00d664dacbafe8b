//! How a connection came in, and whether it could come in so now: a listener may ask for more since.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Listener;
use crate::proxied::is_announced;

/// From whom a connection came, and by which settings it was let in.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The other end of the socket, which may be a proxy.
    pub(crate) peer: IpAddr,
    pub(crate) by: Arc<Listener>,
}

impl Entry {
    pub(crate) fn is_tls(&self) -> bool {
        has_tls(&self.by)
    }

    /// Whether it could come in by these settings, which may be those by which it did.
    pub(crate) fn is_welcome(&self, now: &Arc<Listener>) -> bool {
        Arc::ptr_eq(now, &self.by) || self.would_do(now)
    }

    /// Whether it has all that `now` asks for: TLS, a certificate of those who are trusted, and the
    /// word of a proxy about whom it is from, if of anybody.
    fn would_do(&self, now: &Listener) -> bool {
        let is_certified = match (&now.client_authorities, &self.by.client_authorities) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(now), Some(before)) => now.include(before),
        };
        let [is_announced, was_announced] =
            [now, &self.by].map(|it| is_announced(self.peer, &it.proxy_protocol));
        (self.is_tls() || !has_tls(now)) && is_certified && is_announced == was_announced
    }
}

fn has_tls(listener: &Listener) -> bool {
    !listener.certificates.is_empty()
}
