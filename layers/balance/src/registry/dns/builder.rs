//! Settings of [`Dns`], checked when it is built.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::super::error::RegistryError;
use super::{Dns, Records};

/// Settings of [`Dns`].
///
/// | setting | default |
/// | --- | --- |
/// | [`servers`](Self::servers) | the system's, by `/etc/resolv.conf` or its like |
/// | [`timeout`](Self::timeout) | 2 s |
/// | [`ttl`](Self::ttl) | 1 s to 60 s |
/// | [`ipv4_only`](Self::ipv4_only) | no |
#[derive(Clone, Debug)]
#[must_use]
pub struct DnsBuilder {
    records: Records,
    servers: Vec<SocketAddr>,
    timeout: Duration,
    shortest: Duration,
    longest: Duration,
    ipv4_only: bool,
}

impl DnsBuilder {
    pub(super) fn new(records: Records) -> Self {
        Self {
            records,
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            shortest: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            ipv4_only: false,
        }
    }

    /// Which name servers are asked, by UDP, and by TCP for long answers. Names are looked up as they
    /// are then, without search domains and the hosts file. Default: the system's settings.
    pub fn servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.servers = servers.into_iter().collect();
        self
    }

    /// How long a server may take to answer; it is asked twice. Default: 2 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long to wait at least and at most before looking up again, whatever the time to live of
    /// the records is. Default: 1 s and 60 s.
    pub fn ttl(mut self, shortest: Duration, longest: Duration) -> Self {
        (self.shortest, self.longest) = (shortest, longest);
        self
    }

    /// Looks up no AAAA records: for networks without IPv6, and name servers that don't answer such
    /// questions. Default: both.
    pub fn ipv4_only(mut self) -> Self {
        self.ipv4_only = true;
        self
    }

    /// Reads the system's settings if no servers are given.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], with what to change.
    pub fn build(self) -> Result<Dns, RegistryError> {
        let Self { records, servers, timeout, shortest, longest, ipv4_only } = self;
        if timeout.is_zero() || shortest.is_zero() || shortest > longest {
            let text = "looking up needs a timeout above zero, and a shortest time to live above \
                        zero that isn't above the longest";
            return Err(RegistryError::Setting(text));
        }
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(RegistryError::unavailable)?
        } else {
            let servers = servers.into_iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config, provider);
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        let options = builder.options_mut();
        (options.timeout, options.attempts, options.cache_size) = (timeout, 2, 0);
        let resolver = builder.build().map_err(RegistryError::unavailable)?;
        Ok(Dns { resolver, records, ipv4_only, shortest, longest })
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let connections = connections.map(|it| {
        let mut connection = it;
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}
