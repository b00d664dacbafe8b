//! By what requests belong together, as the configuration says.

use http::Request;
use tower_keep_balance::proxy::IpNet;
use tower_keep_balance::{Affinity, ByClient, ByCookie, ByHeader, ByUri};

use crate::config::HashOn;

/// By the first of these that a request has.
#[derive(Clone, Debug)]
pub(crate) struct Hashes(Vec<Hash>);

#[derive(Clone, Debug)]
enum Hash {
    Client(ByClient),
    Uri,
    Header(ByHeader),
    Cookie(ByCookie),
}

impl Hashes {
    pub(crate) fn new(parts: &[HashOn], trusted: &[IpNet]) -> Self {
        let of = |part: &HashOn| match part {
            HashOn::Client => Hash::Client(ByClient::new().trust(trusted.iter().copied())),
            HashOn::Uri => Hash::Uri,
            HashOn::Header(name) => Hash::Header(ByHeader::new(name.clone())),
            HashOn::Cookie(name) => Hash::Cookie(ByCookie::new(name.as_str())),
        };
        Self(parts.iter().map(of).collect())
    }
}

impl<B> Affinity<Request<B>> for Hashes {
    fn hash(&self, request: &Request<B>) -> Option<u64> {
        self.0.iter().find_map(|hash| match hash {
            Hash::Client(client) => client.hash(request),
            Hash::Uri => ByUri.hash(request),
            Hash::Header(header) => header.hash(request),
            Hash::Cookie(cookie) => cookie.hash(request),
        })
    }
}
