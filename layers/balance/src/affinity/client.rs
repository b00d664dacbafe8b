//! Affinity by the address of the client, which proxies stand in front of: some that are trusted to
//! say for whom they forward, and others.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{FORWARDED, HeaderMap};
use http::{Extensions, Request};
use ipnet::IpNet;

use super::{Affinity, hash_bytes};
use crate::arrived::{Arrived, X_FORWARDED_FOR};
use crate::peer::Peer;
use crate::trusted::Trusted;

/// By the address of the client.
///
/// That is the [peer](Peer)'s, unless the peer is a trusted proxy. Then the field that proxies write is read
/// from its end, where the last of them has written: what a trusted proxy says of its own peer is
/// believed, and the first address that isn't a trusted proxy's is the client's. What stands before
/// it was written by somebody unknown, and is ignored. So nobody can choose their address, and with
/// it their backend, by a field of their own.
///
/// Where the field ends in the middle (one that says `unknown`, or nothing that can be read), the
/// last trusted proxy stands for all its clients.
///
/// Behind a `Proxy`, which rewrites these fields for its upstreams, it goes by them as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ByClient {
    trusted: Trusted,
    field: Field,
    /// How much of an IPv6 address counts.
    prefix: Prefix,
}

/// How many bits of an IPv6 address tell clients apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix(u8);

impl Default for Prefix {
    /// One network, which mostly has one owner, whose hosts change the rest at will (RFC 8981).
    fn default() -> Self {
        Self(64)
    }
}

/// The field in which proxies say for whom they forward. Only one is read: a client could write the
/// other one, which its proxy doesn't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ByClient {
    /// Without any trusted proxy: by the address of the peer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Proxies in these networks are trusted.
    pub fn trust(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.trusted.add(networks);
        self
    }

    /// The field that the trusted proxies write. Default: `X-Forwarded-For`.
    pub fn field(mut self, field: Field) -> Self {
        self.field = field;
        self
    }

    /// How many bits of an IPv6 address tell clients apart, up to 128. Default: 64.
    pub fn ipv6_prefix(mut self, bits: u8) -> Self {
        self.prefix = Prefix(bits.min(128));
        self
    }

    /// The client's address, if the peer's is known.
    pub fn address(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let mut client = Peer::of(extensions)?.ip();
        let headers = Arrived::of(headers, extensions);
        match self.field {
            Field::XForwardedFor => {
                let fields = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
                let mut said = fields
                    .flat_map(|field| field.as_bytes().rsplit(|&byte| byte == b','))
                    .map(|text| node(text.trim_ascii()));
                self.follow(&mut client, &mut said);
            }
            Field::Forwarded => {
                let fields = headers.get_all(FORWARDED).into_iter().rev();
                let mut said = fields
                    .flat_map(|field| field.as_bytes().rsplit(|&byte| byte == b','))
                    .map(forwarded_for);
                self.follow(&mut client, &mut said);
            }
        }
        Some(client)
    }

    /// From the peer to the first who isn't trusted.
    fn follow(&self, client: &mut IpAddr, said: &mut dyn Iterator<Item = Option<IpAddr>>) {
        while self.trusted.has(*client) {
            let Some(Some(before)) = said.next() else { return };
            *client = before;
        }
    }
}

impl<B> Affinity<Request<B>> for ByClient {
    fn hash(&self, request: &Request<B>) -> Option<u64> {
        match self.address(request.headers(), request.extensions())? {
            IpAddr::V4(address) => Some(hash_bytes(&address.octets())),
            IpAddr::V6(address) => {
                let kept = u128::MAX.checked_shl(128 - u32::from(self.prefix.0)).unwrap_or(0);
                let network = Ipv6Addr::from_bits(address.to_bits() & kept);
                Some(hash_bytes(&network.octets()))
            }
        }
    }
}

/// An address, with or without a port, an IPv6 address in brackets or not.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    address.or_else(bracketed).map(|address| address.to_canonical())
}

/// The address in the `for` of an element of `Forwarded` (RFC 7239, section 5.2); it may be quoted.
///
/// Elements are told apart by every comma, from the end on: what stands to the left was written by
/// somebody unknown, who might have opened a quoted string there so as to swallow what a proxy
/// appends. A comma that is truly in a quoted string leaves a part whose quotes don't match, which
/// isn't read; nor is one with an escape, which no address needs.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let is_open = element.iter().fold(false, |is_open, &byte| is_open ^ (byte == b'"'));
    if is_open || element.contains(&b'\\') {
        return None;
    }
    let mut is_quoted = false;
    let mut pairs = element.split(|&byte| {
        is_quoted ^= byte == b'"';
        byte == b';' && !is_quoted
    });
    let value = pairs.find_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (pair.get(..at)?, pair.get(at + 1..)?);
        name.trim_ascii().eq_ignore_ascii_case(b"for").then(|| value.trim_ascii())
    })?;
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    node(unquoted.unwrap_or(value))
}
