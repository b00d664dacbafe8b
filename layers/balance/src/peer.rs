//! Who a request comes from.

use std::net::{IpAddr, SocketAddr};

use http::Extensions;

/// The other end of the connection that a request came on. A server leaves it in the request's
/// extensions; with the feature `axum`, axum's `ConnectInfo<SocketAddr>` there does as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Peer {
    address: SocketAddr,
    is_tls: bool,
}

impl Peer {
    /// At `address`, without TLS.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, is_tls: false }
    }

    /// The connection has TLS.
    pub fn tls(mut self) -> Self {
        self.is_tls = true;
        self
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the connection has TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// An IPv4 address that came through a socket of IPv6 is one of IPv4.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }

    /// What is known of it.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        let peer = extensions.get::<Self>().copied();
        #[cfg(feature = "axum")]
        let peer = peer.or_else(|| {
            let info = extensions.get::<axum::extract::ConnectInfo<SocketAddr>>()?;
            Some(Self::new(info.0))
        });
        peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv4_is_one_whatever_the_socket() {
        let peer = Peer::new("[::ffff:192.0.2.1]:5".parse().unwrap());
        assert_eq!(peer.ip().to_string(), "192.0.2.1");
        assert!(!peer.is_tls() && peer.tls().is_tls());
    }

    #[cfg(feature = "axum")]
    #[test]
    fn axum_knows_the_peer_too_but_ours_comes_first() {
        let mut extensions = Extensions::new();
        assert_eq!(Peer::of(&extensions), None);
        let address = "192.0.2.1:5".parse().unwrap();
        extensions.insert(axum::extract::ConnectInfo::<SocketAddr>(address));
        assert_eq!(Peer::of(&extensions), Some(Peer::new(address)));
        extensions.insert(Peer::new(address).tls());
        assert_eq!(Peer::of(&extensions), Some(Peer::new(address).tls()));
    }
}
