//! The networks of proxies that tell the truth about whom they forward for.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks, none at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trusted(Vec<IpNet>);

impl Trusted {
    pub(crate) fn add(&mut self, networks: impl IntoIterator<Item = IpNet>) {
        self.0.extend(networks);
    }

    /// Whether `address` is in one of them.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}
