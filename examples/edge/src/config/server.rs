//! `[server]`, `[log]`, `[admin]`, `[announce]` and `[forwarding]`: what is about the process as a
//! whole.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use tower_keep_balance::proxy::{Fields, IpNet, Pseudonym};
use tower_keep_balance::registry::{Instance, Redis};
use tracing_subscriber::EnvFilter;

use super::certificate::read_file;
use super::listener::positive;
use super::table::{Table, expected_one_of};
use crate::overrides;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// In `Via`, `Proxy-Status` and `Cache-Status`.
    pub(crate) name: String,
    /// How long connections are still taken after the signal to stop.
    pub(crate) drain_delay: Duration,
    /// How long those that are open have then to end.
    pub(crate) drain_timeout: Duration,
}

impl Server {
    pub(super) fn read(file: &Table<'_>) -> Self {
        let Some(table) = file.table("server") else { return Self::default() };
        let standard = Self::default();
        let server = Self {
            name: table.or("name", standard.name),
            drain_delay: table.or("drain_delay", standard.drain_delay),
            drain_timeout: table.or("drain_timeout", standard.drain_timeout),
        };
        if Pseudonym::new(&server.name).is_none() {
            table.refuse(
                "name",
                "expected letters, digits and !#$%&'*+-.^_`|~, as it stands in Via",
            );
        }
        server
    }
}

impl Default for Server {
    fn default() -> Self {
        let drain_timeout = Duration::from_secs(30);
        Self { name: "edge".to_owned(), drain_delay: Duration::ZERO, drain_timeout }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) format: Format,
    /// As in `RUST_LOG`.
    pub(crate) level: String,
    /// Whether each request is logged.
    pub(crate) access: bool,
}

impl Log {
    pub(super) fn read(file: &Table<'_>) -> Self {
        let Some(table) = file.table("log") else { return Self::default() };
        let formats = [("text", Format::Text), ("json", Format::Json)];
        let log = Self {
            format: table.choice("format", Format::Text, &formats),
            level: table.or("level", Self::default().level),
            access: table.or("access", true),
        };
        if let Err(error) = EnvFilter::try_new(&log.level) {
            let expected = "expected error, warn, info, debug or trace, or as for RUST_LOG";
            table.refuse("level", format!("{expected}: {error}"));
        }
        log
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned(), access: true }
    }
}

/// The listener for operators.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Admin {
    pub(super) fn read(file: &Table<'_>, near: &Path) -> Option<Self> {
        let table = file.table("admin")?;
        let address = table.need("address", "an IP address and a port, such as \"127.0.0.1:9000\"");
        let has_file = table.value("token_file").is_some();
        let token = match table.get::<String>("token") {
            Some(token) => Some(token),
            None if has_file => {
                let token = read_file(&table, "token_file", near, "a file with the token");
                token.and_then(|token| String::from_utf8(token).ok()).map(|it| it.trim().to_owned())
            }
            None => table.need("token", "`token` or `token_file`: whoever knows it may purge"),
        };
        if token.as_ref().is_some_and(|token| token.len() < 16) {
            table.refuse("token", "it is too easy to guess; expected 16 bytes or more");
        }
        Some(Self { address: address?, token: token? })
    }
}

impl std::fmt::Debug for Admin {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("address", &self.address).finish_non_exhaustive()
    }
}

/// This process as an instance in a registry, for those in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announce {
    pub(crate) redis: String,
    pub(crate) prefix: String,
    pub(crate) service: String,
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) weight: u16,
    pub(crate) ttl: Duration,
}

impl Announce {
    pub(super) fn read(file: &Table<'_>) -> Option<Self> {
        let table = file.table("announce")?;
        let redis = table.need::<String>("redis", "the address of Redis, redis://HOST");
        let prefix = table.or("redis_prefix", "tk".to_owned());
        let service = table.need("service", "the name of the service that this is one instance of");
        let address =
            table.need::<String>("address", "the URL by which others reach this instance");
        let id = table.get("id").or(address.clone());
        let weight = table.or("weight", 1);
        let ttl = positive(&table, "ttl", Duration::from_secs(15));
        if let Some(redis) = &redis {
            let registry = Redis::builder(redis).prefix(prefix.as_str()).build();
            registry.map_err(|why| table.refuse("redis", why)).ok()?;
        }
        let (redis, service, address, id) = (redis?, service?, address?, id?);
        let announce = Self { redis, prefix, service, id, address, weight, ttl };
        table.check(announce.instance().validate())?;
        Some(announce)
    }

    pub(crate) fn instance(&self) -> Instance {
        Instance::new(self.id.as_str(), self.address.as_str()).weight(self.weight)
    }
}

/// What backends are told of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwarding {
    pub(crate) forwarded: Fields,
    pub(crate) x_forwarded: Fields,
    pub(crate) trusted: Vec<IpNet>,
    /// Of the fields of [`crate::overrides`], those that clients may say.
    pub(crate) keep: Vec<String>,
}

impl Forwarding {
    /// Whether `peer` is a proxy that tells the truth.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&peer))
    }

    pub(super) fn read(file: &Table<'_>) -> Self {
        let Some(table) = file.table("forwarding") else { return Self::default() };
        let fields = [
            ("append", Fields::Append),
            ("replace", Fields::Replace),
            ("remove", Fields::Remove),
            ("leave", Fields::Leave),
        ];
        let keep: Vec<Spanned<String>> = table.or("keep", Vec::new());
        for name in keep.iter().filter(|name| !overrides::NAMES.contains(&name.get_ref().as_str()))
        {
            let expected = expected_one_of(name.get_ref(), &overrides::NAMES);
            table.refuse_at(name.span(), "keep", expected);
        }
        Self {
            forwarded: table.choice("forwarded", Fields::Append, &fields),
            x_forwarded: table.choice("x_forwarded", Fields::Append, &fields),
            trusted: table.or("trusted", Vec::new()),
            keep: keep.into_iter().map(Spanned::into_inner).collect(),
        }
    }
}
