//! `[[listener]]`: where connections are taken, and within which limits.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use toml::Spanned;
use tower_keep_balance::proxy::IpNet;

use super::Once;
use super::certificate::{Authorities, Certificate};
use super::table::Table;
use super::value::Bound;

/// Which versions of HTTP are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocols {
    pub(crate) http1: bool,
    /// With TLS by ALPN, without by prior knowledge.
    pub(crate) http2: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listener {
    /// The address, unless it has a name of its own.
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// With TLS, if there are some. The first is for clients that name none of the others.
    pub(crate) certificates: Vec<Certificate>,
    /// Who has to have certified clients, if they have to be.
    pub(crate) client_authorities: Option<Authorities>,
    /// Who says in front of a connection whom it is from.
    pub(crate) proxy_protocol: Vec<IpNet>,
    pub(crate) protocols: Protocols,
    /// To which port of HTTPS every request is redirected, if it is.
    pub(crate) redirect: Option<u16>,
    pub(crate) max_connections: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// How long a client may be silent in the middle of a request's content.
    pub(crate) body_timeout: Duration,
    /// How many bytes of that come in a second at the least, in the long run.
    pub(crate) body_rate: Option<u64>,
    pub(crate) max_header_size: usize,
    pub(crate) max_headers: usize,
    pub(crate) max_streams: u32,
    pub(crate) max_body: Option<u64>,
}

impl Listener {
    /// At `address`, without anything else being said.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            name: address.to_string(),
            address,
            certificates: Vec::new(),
            client_authorities: None,
            proxy_protocol: Vec::new(),
            protocols: Protocols { http1: true, http2: true },
            redirect: None,
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            body_rate: Some(500),
            max_header_size: 64 << 10,
            max_headers: 100,
            max_streams: 200,
            max_body: None,
        }
    }

    pub(super) fn read_all(file: &Table<'_>, near: &Path) -> Vec<Self> {
        let (mut names, mut addresses) = (Once::default(), Once::default());
        let tables = file.tables("listener");
        if file.value("listener").is_none() {
            let expected = "expected at least one [[listener]], with its `address`";
            file.problems().add(0..0, "there is no listener", expected);
        }
        let read = |table: &Table<'_>| {
            let listener = Self::read(table, near)?;
            names.check("name", &listener.name, table.at("name"), table.problems());
            // Port 0 is another one each time.
            if listener.address.port() != 0 {
                let (address, at) = (listener.address.to_string(), table.at("address"));
                addresses.check("address", &address, at, table.problems());
            }
            Some(listener)
        };
        tables.iter().filter_map(read).collect()
    }

    fn read(table: &Table<'_>, near: &Path) -> Option<Self> {
        let address: Option<SocketAddr> =
            table.need("address", "an IP address and a port, such as \"127.0.0.1:8080\"");
        let certificates = Certificate::read_all(table, near);
        let redirects = table.or("http_redirect", false);
        let port = table.within("https_port", 443, 1..=u16::MAX);
        if redirects && table.value("certificates").is_some() {
            table
                .refuse("http_redirect", "this listener has TLS: what comes here is https already");
        }
        let standard = Self::at(address.unwrap_or_else(|| SocketAddr::from(([0; 4], 0))));
        let listener = Self {
            name: table.or("name", standard.name),
            address: standard.address,
            certificates,
            client_authorities: Authorities::read(table, near),
            proxy_protocol: table.or("proxy_protocol", Vec::new()),
            protocols: protocols(table),
            redirect: redirects.then_some(port),
            max_connections: table.within(
                "max_connections",
                standard.max_connections,
                1..=usize::MAX,
            ),
            header_timeout: positive(table, "header_timeout", standard.header_timeout),
            idle_timeout: positive(table, "idle_timeout", standard.idle_timeout),
            body_timeout: positive(table, "body_timeout", standard.body_timeout),
            body_rate: body_rate(table).unwrap_or(standard.body_rate),
            max_header_size: size(table, "max_header_size", standard.max_header_size, 8 << 10),
            max_headers: table.within("max_headers", standard.max_headers, 1..=10_000),
            max_streams: table.within("max_streams", standard.max_streams, 1..=u32::MAX),
            max_body: max_body(table).unwrap_or(standard.max_body),
        };
        address.map(|_| listener)
    }
}

/// `max_body` of listeners and routes, if it is said.
pub(super) fn max_body(table: &Table<'_>) -> Bound<u64> {
    size_bound(table, "max_body")
}

/// `body_rate` of listeners and routes, if it is said.
pub(super) fn body_rate(table: &Table<'_>) -> Bound<u64> {
    let rate = size_bound(table, "body_rate");
    if rate == Bound::Said(Some(0)) {
        table.refuse("body_rate", "at that rate, nothing has to come; expected more, or \"none\"");
    }
    rate
}

fn size_bound(table: &Table<'_>, key: &'static str) -> Bound<u64> {
    match table.bound::<ByteSize>(key) {
        Bound::Said(size) => Bound::Said(size.map(|size| size.as_u64())),
        Bound::Unsaid => Bound::Unsaid,
    }
}

/// Instants this far ahead can be told on all systems.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A time above zero.
pub(super) fn positive(table: &Table<'_>, key: &'static str, default: Duration) -> Duration {
    let time = table.or(key, default);
    if time.is_zero() {
        table.refuse(key, "nothing is done in no time; expected more than 0s");
        return default;
    }
    if time > LONGEST {
        table.refuse(key, "that is longer than anybody waits; expected a year or less");
        return default;
    }
    time
}

/// A time above zero, or `"none"`.
pub(super) fn positive_or_none(
    table: &Table<'_>,
    key: &'static str,
    default: Option<Duration>,
) -> Option<Duration> {
    time_bound(table, key).unwrap_or(default)
}

/// A time above zero, or `"none"`, if it is said.
pub(super) fn time_bound(table: &Table<'_>, key: &'static str) -> Bound<Duration> {
    let time = table.bound::<Duration>(key);
    if time == Bound::Said(Some(Duration::ZERO)) {
        table.refuse(key, "nothing is done in no time; expected more than 0s, or \"none\"");
        return Bound::Unsaid;
    }
    if matches!(time, Bound::Said(Some(time)) if time > LONGEST) {
        table
            .refuse(key, "that is longer than anybody waits; expected a year or less, or \"none\"");
        return Bound::Unsaid;
    }
    time
}

/// A number of bytes, of which there must be some.
pub(super) fn size(table: &Table<'_>, key: &'static str, default: usize, least: u64) -> usize {
    let Some(size) = table.get::<ByteSize>(key) else { return default };
    if size.as_u64() < least {
        table.refuse(key, format!("expected {} or more", ByteSize::b(least)));
    }
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

fn protocols(table: &Table<'_>) -> Protocols {
    let both = Protocols { http1: true, http2: true };
    let Some(names) = table.get::<Vec<Spanned<String>>>("protocols") else { return both };
    let (mut http1, mut http2) = (false, false);
    for name in &names {
        match name.get_ref().as_str() {
            "http/1.1" => http1 = true,
            "h2" => http2 = true,
            _ => {
                let expected = super::table::expected_one_of(name.get_ref(), &["http/1.1", "h2"]);
                table.refuse_at(name.span(), "protocols", expected);
                return both;
            }
        }
    }
    if names.is_empty() {
        table.refuse("protocols", "expected \"http/1.1\", \"h2\" or both");
        return both;
    }
    Protocols { http1, http2 }
}
