//! Targets that have an address.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Uri;

use super::connect::{Connection, Versions, to_address};
use super::probe::ProbeError;

/// A target that has an address, so that [`Tcp`](super::Tcp) and its like can connect to it.
///
/// ```
/// use http::Uri;
/// use tower_keep_balance::health::Address;
///
/// struct Shard { number: u32, origin: Uri }
///
/// impl Address for Shard {
///     fn uri(&self) -> Result<Uri, http::Error> {
///         Ok(self.origin.clone())
///     }
/// }
/// assert_eq!("10.0.0.1:3000".uri()?.port_u16(), Some(3000));
/// # Ok::<_, http::Error>(())
/// ```
pub trait Address: Sync {
    /// The scheme, the host and the port by which it is reached. Without a scheme it is `http`;
    /// without a port, that of the scheme: 80, or 443 for `https`.
    ///
    /// # Errors
    ///
    /// If it has none that is well-formed: its checks fail.
    fn uri(&self) -> Result<Uri, http::Error>;

    /// Connects to `place` for a check: as for requests, so that the check finds out what they would,
    /// a certificate that has expired, for instance. `place` has the scheme and the host of
    /// [`uri`](Self::uri), and the port that is to be checked.
    ///
    /// By default over TCP; an address whose scheme is `https` can't be connected to.
    ///
    /// # Errors
    ///
    /// If no connection can be made: the check has failed.
    fn connect(
        &self,
        place: &Uri,
        versions: Versions,
    ) -> impl Future<Output = io::Result<Connection>> + Send {
        to_address(place, versions)
    }
}

impl Address for Uri {
    fn uri(&self) -> Result<Uri, http::Error> {
        Ok(self.clone())
    }
}

impl Address for str {
    fn uri(&self) -> Result<Uri, http::Error> {
        Ok(self.parse::<Uri>()?)
    }
}

impl Address for String {
    fn uri(&self) -> Result<Uri, http::Error> {
        self.as_str().uri()
    }
}

impl Address for SocketAddr {
    fn uri(&self) -> Result<Uri, http::Error> {
        Uri::builder().scheme("http").authority(self.to_string()).path_and_query("/").build()
    }
}

impl<T: Address + ?Sized> Address for &T {
    fn uri(&self) -> Result<Uri, http::Error> {
        (**self).uri()
    }

    fn connect(
        &self,
        place: &Uri,
        versions: Versions,
    ) -> impl Future<Output = io::Result<Connection>> + Send {
        (**self).connect(place, versions)
    }
}

impl<T: Address + Send + ?Sized> Address for Arc<T> {
    fn uri(&self) -> Result<Uri, http::Error> {
        (**self).uri()
    }

    fn connect(
        &self,
        place: &Uri,
        versions: Versions,
    ) -> impl Future<Output = io::Result<Connection>> + Send {
        (**self).connect(place, versions)
    }
}

/// Where `target` is, but for its port if that is given: an absolute URI that names its port.
pub(super) fn locate(
    target: &(impl Address + ?Sized),
    port: Option<u16>,
) -> Result<Uri, ProbeError> {
    let uri = target.uri().map_err(|error| ProbeError::Address(error.to_string()))?;
    let Some(host) = uri.host() else {
        return Err(ProbeError::Address(format!("{uri} names no host")));
    };
    let is_tls = uri.scheme_str() == Some("https");
    let port = port.or(uri.port_u16()).unwrap_or(if is_tls { 443 } else { 80 });
    Uri::builder()
        .scheme(if is_tls { "https" } else { "http" })
        .authority(format!("{host}:{port}"))
        .path_and_query("/")
        .build()
        .map_err(|error| ProbeError::Address(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_scheme_a_host_and_a_port() {
        let locate = |target: &str, port| locate(target, port).unwrap().to_string();
        assert_eq!(locate("10.0.0.1:3000", None), "http://10.0.0.1:3000/");
        assert_eq!(locate("http://a.example/base?x", None), "http://a.example:80/");
        assert_eq!(locate("https://user@a.example", None), "https://a.example:443/");
        assert_eq!(locate("http://[::1]:3000", Some(9)), "http://[::1]:9/");
    }

    #[test]
    fn a_target_without_an_address_says_so() {
        for target in ["", "/path", "http://", "a b"] {
            assert!(matches!(locate(target, None), Err(ProbeError::Address(_))), "{target:?}");
        }
        let address: SocketAddr = "[::1]:80".parse().unwrap();
        assert_eq!(address.uri().unwrap().to_string(), "http://[::1]:80/");
    }
}
