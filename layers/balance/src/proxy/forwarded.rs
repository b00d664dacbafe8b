//! What upstreams are told of the client: `Forwarded` (RFC 7239) and `X-Forwarded-*`.

use std::io::Write as _;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::{Entry, FORWARDED, HeaderName, HeaderValue};
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::arrived::X_FORWARDED_FOR as FOR;
use crate::peer::Peer;
use crate::trusted::Trusted;

const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields of the kind `X-Forwarded-*`: ours, and those that upstreams believe as well, and this proxy
/// doesn't set.
const KIND: [&str; 11] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-real-ip",
];

/// Whether a field is of the kind `X-Forwarded-*` to somebody.
fn is_x_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with('x') && KIND.iter().any(|known| is_alike(name, known))
}

/// Whether it is only to those who read fields as CGI does (RFC 3875 §4.1.18), to whom `X_Forwarded_For`
/// is `X-Forwarded-For`.
fn is_in_disguise(name: &HeaderName) -> bool {
    is_x_forwarded(name) && !KIND.contains(&name.as_str())
}

/// Whether two names, in lower case, are the same but for what stands in place of dashes.
fn is_alike(name: &str, known: &str) -> bool {
    let mut bytes = name.bytes().zip(known.bytes());
    name.len() == known.len()
        && bytes.all(|(a, b)| a == b || b == b'-' && !a.is_ascii_alphanumeric())
}

/// Removes those fields that `is_one` says.
fn remove(headers: &mut HeaderMap, is_one: fn(&HeaderName) -> bool) {
    // Mostly there is none.
    while let Some(name) = headers.keys().find(|name| is_one(name)).cloned() {
        headers.remove(name);
    }
}

/// Removes all that tells of the client from trailers of its request: what this proxy says comes before
/// them, and no other one has ever said it there.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| is_x_forwarded(name) || *name == FORWARDED);
}

/// What becomes of fields that tell of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fields {
    /// The peer is added to what a [trusted](Forwarding::trust) one says; what another says is
    /// replaced.
    #[default]
    Append,
    /// They tell of the peer alone.
    Replace,
    /// They are removed.
    Remove,
    /// They stay as the peer sent them, whoever it is. It's for a proxy behind another that has set
    /// them, and can't be gone round.
    Leave,
}

/// How upstreams are told of the client.
///
/// By default in both ways, and nothing that a client says about itself is believed.
///
/// ```
/// use tower_keep_balance::proxy::{Fields, Forwarding};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let forwarding = Forwarding::new()
///     .forwarded(Fields::Remove)
///     .x_forwarded(Fields::Append)
///     .trust(["10.0.0.0/8".parse()?, "fd00::/8".parse()?]);
/// # let _ = forwarding;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Forwarding {
    forwarded: Fields,
    x_forwarded: Fields,
    trusted: Trusted,
}

/// What there is to tell.
pub(super) struct Told<'a> {
    pub(super) peer: Option<Peer>,
    pub(super) proto: &'static str,
    /// Which host was asked for.
    pub(super) host: Option<&'a HeaderValue>,
    /// Whether upstreams don't see it anyway.
    pub(super) is_host_hidden: bool,
}

impl Forwarding {
    /// The default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of `Forwarded`. Default: [`Fields::Append`].
    pub fn forwarded(mut self, fields: Fields) -> Self {
        self.forwarded = fields;
        self
    }

    /// What becomes of `X-Forwarded-For`, `-Host` and `-Proto`. Those that are set by other proxies
    /// only (`X-Forwarded-Path`, `-Port`, `-Prefix`, `-Scheme`, `-Server`, `-Ssl`, `-Uri`, `X-Real-IP`) go
    /// or stay with them. What
    /// upstreams may take for one of these (`X_Forwarded_For`: CGI, WSGI and the like read both as one)
    /// is removed, whoever sends it, unless all are [left](Fields::Leave). Default:
    /// [`Fields::Append`].
    pub fn x_forwarded(mut self, fields: Fields) -> Self {
        self.x_forwarded = fields;
        self
    }

    /// Adds networks whose peers are proxies, and tell the truth. Default: none.
    pub fn trust(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.trusted.add(networks);
        self
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap, told: &Told<'_>) {
        let is_trusted = told.peer.is_some_and(|peer| self.trusted.has(peer.ip()));
        let keeps = |fields| match fields {
            Fields::Append => Some(is_trusted),
            Fields::Replace => Some(false),
            Fields::Remove | Fields::Leave => None,
        };
        if self.x_forwarded != Fields::Leave {
            // No proxy writes them otherwise, so those are a client's, whoever has passed them on.
            let is_kept = keeps(self.x_forwarded) == Some(true);
            remove(headers, if is_kept { is_in_disguise } else { is_x_forwarded });
        }
        let mut address = Text::new();
        if let Some(peer) = told.peer {
            write_ip(&mut address, peer.ip());
        }
        if keeps(self.x_forwarded).is_some() {
            x_forwarded(headers, told, &address);
        }
        if self.forwarded != Fields::Leave && keeps(self.forwarded) != Some(true) {
            headers.remove(FORWARDED);
        }
        if keeps(self.forwarded).is_some() {
            forwarded(headers, told, &address);
        }
    }
}

fn x_forwarded(headers: &mut HeaderMap, told: &Told<'_>, address: &[u8]) {
    if told.peer.is_some() {
        append(headers, FOR, address);
    }
    // What a trusted proxy says is what the client asked of it.
    headers.entry(PROTO).or_insert(HeaderValue::from_static(told.proto));
    if let Some(host) = told.host {
        headers.entry(HOST).or_insert_with(|| host.clone());
    }
}

fn forwarded(headers: &mut HeaderMap, told: &Told<'_>, address: &[u8]) {
    let Some(peer) = told.peer else { return };
    // RFC 7239 §6: an IPv6 address is quoted and bracketed.
    let (before, behind): (&[u8], &[u8]) =
        if peer.ip().is_ipv6() { (b"for=\"[", b"]\"") } else { (b"for=", b"") };
    let mut element = Text::new();
    for part in [before, address, behind] {
        element.extend_from_slice(part);
    }
    if let Some(host) = told.host.filter(|_| told.is_host_hidden)
        && let Ok(host) = host.to_str()
    {
        // It has been checked to be a host and a port, so there is nothing to escape.
        for part in [";host=\"", host, "\""] {
            element.extend_from_slice(part.as_bytes());
        }
    }
    element.extend_from_slice(b";proto=");
    element.extend_from_slice(told.proto.as_bytes());
    append(headers, FORWARDED, &element);
}

/// What becomes a value; mostly short.
type Text = SmallVec<[u8; 64]>;

/// As `Display` does, which takes as long as all the rest of this for an address of IPv4.
fn write_ip(text: &mut Text, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push(b'.');
                }
                if octet >= 100 {
                    text.push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    text.push(b'0' + octet / 10 % 10);
                }
                text.push(b'0' + octet % 10);
            }
        }
        // Writing to memory doesn't fail.
        IpAddr::V6(ip) => drop(write!(text, "{ip}")),
    }
}

/// Adds a member at the end of a list. It is left on one line: not every upstream joins them.
fn append(headers: &mut HeaderMap, name: HeaderName, member: &[u8]) {
    match headers.entry(name) {
        Entry::Vacant(vacant) => {
            if let Ok(value) = HeaderValue::from_bytes(member) {
                vacant.insert(value);
            }
        }
        Entry::Occupied(mut occupied) => {
            let mut list = Vec::new();
            for line in occupied.iter().map(HeaderValue::as_bytes).filter(|line| !line.is_empty()) {
                list.extend_from_slice(line);
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(member);
            if let Ok(value) = HeaderValue::from_maybe_shared(list) {
                occupied.insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(
        forwarding: &Forwarding,
        peer: &str,
        fields: &[(&'static str, &'static str)],
    ) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let peer = (!peer.is_empty()).then(|| Peer::new(peer.parse().unwrap()));
        let host = HeaderValue::from_static("a.example:81");
        let told = Told { peer, proto: "http", host: Some(&host), is_host_hidden: false };
        forwarding.apply(&mut headers, &told);
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    const SPOOFED: &[(&str, &str)] = &[
        ("forwarded", "for=1.1.1.1"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-path", "/admin"),
        ("x-forwarded-scheme", "https"),
        ("x-forwarded-uri", "/admin"),
        ("x-real-ip", "1.1.1.1"),
        ("x_forwarded_for", "1.1.1.1"),
        ("x-forwarded_host", "evil.example"),
        ("x.forwarded~proto", "https"),
        ("x_real_ip", "1.1.1.1"),
    ];

    #[test]
    fn what_a_client_says_of_itself_is_not_believed() {
        for forwarding in [
            Forwarding::new(),
            Forwarding::new().trust(["10.0.0.0/8".parse().unwrap()]),
            Forwarding::new()
                .x_forwarded(Fields::Replace)
                .forwarded(Fields::Replace)
                .trust(["0.0.0.0/0".parse().unwrap()]),
        ] {
            assert_eq!(
                told(&forwarding, "192.0.2.1:5", SPOOFED),
                [
                    "forwarded: for=192.0.2.1;proto=http",
                    "x-forwarded-for: 192.0.2.1",
                    "x-forwarded-host: a.example:81",
                    "x-forwarded-proto: http",
                ]
            );
        }
    }

    #[test]
    fn what_a_trusted_proxy_says_is_added_to() {
        let forwarding = Forwarding::new().trust(["10.0.0.0/8".parse().unwrap()]);
        // As it comes through a socket for both families.
        for peer in ["10.1.2.3:5", "[::ffff:10.1.2.3]:5"] {
            assert_eq!(
                told(&forwarding, peer, SPOOFED),
                [
                    "forwarded: for=1.1.1.1, for=10.1.2.3;proto=http",
                    "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.1.2.3",
                    "x-forwarded-host: evil.example",
                    "x-forwarded-path: /admin",
                    "x-forwarded-port: 443",
                    "x-forwarded-proto: https",
                    "x-forwarded-scheme: https",
                    "x-forwarded-uri: /admin",
                    "x-real-ip: 1.1.1.1",
                ]
            );
        }
    }

    #[test]
    fn an_address_of_ipv6_is_quoted() {
        let told = told(&Forwarding::new().x_forwarded(Fields::Remove), "[2001:db8::1]:5", SPOOFED);
        assert_eq!(told, ["forwarded: for=\"[2001:db8::1]\";proto=http"]);
    }

    #[test]
    fn without_a_peer_nothing_is_believed() {
        let told = told(&Forwarding::new().trust(["0.0.0.0/0".parse().unwrap()]), "", SPOOFED);
        assert_eq!(told, ["x-forwarded-host: a.example:81", "x-forwarded-proto: http"]);
    }

    proptest::proptest! {
        #[test]
        fn addresses_are_written_as_everywhere(ip: IpAddr) {
            let mut text = Text::new();
            write_ip(&mut text, ip);
            assert_eq!(std::str::from_utf8(&text), Ok(&*ip.to_string()));
        }
    }

    #[test]
    fn they_can_be_left_alone() {
        let forwarding = Forwarding::new().x_forwarded(Fields::Leave).forwarded(Fields::Leave);
        assert_eq!(told(&forwarding, "192.0.2.1:5", SPOOFED).len(), SPOOFED.len());
    }
}
