//! `[pool.NAME]`: backends, and how requests reach them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;
use tower_keep_balance::proxy::{HostPolicy, Protocol, Tls, Upstream};
use tower_keep_balance::{OutlierDetection, Queue, SlowStart, Strategy, WhenNoneHealthy};

use super::balance::{self, HashOn};
use super::certificate::{read_file, read_path};
use super::discovery::Discovery;
use super::health::Health;
use super::listener::{positive, positive_or_none};
use super::retry::Retry;
use super::table::{Table, Value};
use super::{Once, Problems};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pool {
    pub(crate) core: Core,
    pub(crate) backends: Vec<Address>,
    pub(crate) hash_on: Vec<HashOn>,
    pub(crate) retry: Retry,
    pub(crate) queue: Queue,
    pub(crate) host: HostPolicy,
    pub(crate) upgrades: Vec<String>,
    pub(crate) tunnel_timeout: Option<Duration>,
}

/// What can't change without another pool: health, connections and counters hang on it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Core {
    pub(crate) strategy: Strategy,
    pub(crate) when_none_healthy: WhenNoneHealthy,
    pub(crate) slow_start: Option<SlowStart>,
    pub(crate) outlier: Option<OutlierDetection>,
    pub(crate) health: Option<Health>,
    pub(crate) discovery: Option<Discovery>,
    pub(crate) upstream: Settings,
}

/// A backend, which can change while its pool is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) weight: u16,
    pub(crate) priority: u8,
    pub(crate) max_in_flight: Option<u32>,
}

/// How each backend is connected to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    protocol: Protocol,
    connect_timeout: Duration,
    response_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    idle_timeout: Duration,
    max_idle: usize,
    tls: Option<TlsFiles>,
}

/// The content of the files, so that other content is another pool.
#[derive(Clone, PartialEq, Eq)]
struct TlsFiles {
    authorities: Vec<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
}

impl Pool {
    pub(super) fn read_all(file: &Table<'_>, near: &Path) -> BTreeMap<String, Self> {
        let tables = file.named("pool");
        tables.iter().map(|(name, table)| ((*name).to_owned(), Self::read(table, near))).collect()
    }

    fn read(table: &Table<'_>, near: &Path) -> Self {
        let strategy = balance::strategy(table);
        let hash_on = balance::hash_on(table, strategy);
        let settings = Settings::read(table, near);
        let discovery = Discovery::read(table, near);
        let backends = Address::read_all(table, &settings);
        if table.value("discovery").is_some() && table.value("backends").is_some() {
            table.refuse("backends", "the backends of this pool come by its discovery");
        }
        let names_none = table.elements("backends").is_empty();
        if table.value("discovery").is_none() && names_none {
            let title = "a pool without backends";
            table.problems().add(table.span(), title, "expected `backends`, or `discovery`");
        }
        let none_healthy =
            [("use-all", WhenNoneHealthy::UseAll), ("refuse", WhenNoneHealthy::Refuse)];
        let core = Core {
            strategy,
            when_none_healthy: table.choice(
                "when_none_healthy",
                WhenNoneHealthy::UseAll,
                &none_healthy,
            ),
            slow_start: balance::slow_start(table),
            outlier: balance::outlier(table),
            health: Health::read(table),
            discovery,
            upstream: settings,
        };
        let upgrades = table.or("upgrades", vec!["websocket".to_owned()]);
        let is_alone = core.discovery.is_none() && backends.len() == 1;
        let pool = Self {
            core,
            backends,
            hash_on,
            retry: Retry::read(table, is_alone),
            queue: queue(table),
            host: host(table),
            upgrades,
            tunnel_timeout: positive_or_none(
                table,
                "tunnel_timeout",
                Some(Duration::from_secs(3600)),
            ),
        };
        let empty = tower_keep_balance::Pool::builder().outlier_detection(None).build();
        if let Some(empty) = table.check(empty) {
            let proxy = tower_keep_balance::proxy::Proxy::builder(empty);
            if let Err(why) = proxy.upgrades(pool.upgrades.clone()).build() {
                table.refuse("upgrades", why);
            }
        }
        pool
    }
}

fn queue(pool: &Table<'_>) -> Queue {
    let Some(table) = pool.table("queue") else { return Queue::default() };
    Queue::new(table.or("requests", 1_024), table.or("time", Duration::from_secs(1)))
}

fn host(table: &Table<'_>) -> HostPolicy {
    match table.get::<String>("host").as_deref() {
        None | Some("client") => HostPolicy::Client,
        Some("upstream") => HostPolicy::Upstream,
        Some(host) => match host.parse() {
            Ok(host) => HostPolicy::Fixed(host),
            Err(error) => {
                let expected = "expected \"client\", \"upstream\" or a host";
                table.refuse("host", format!("{expected}: {error}"));
                HostPolicy::Client
            }
        },
    }
}

impl Address {
    fn read_all(pool: &Table<'_>, settings: &Settings) -> Vec<Self> {
        let mut names = Once::default();
        let read = |value| {
            let backend = Self::read(pool, value)?;
            names.check("backend", &backend.name, value.span(), pool.problems());
            if let Err(why) = settings.upstream(&backend.url) {
                refuse(value, &why.to_string(), pool.problems());
            }
            Some(backend)
        };
        pool.elements("backends").into_iter().filter_map(read).collect()
    }

    fn read(pool: &Table<'_>, value: &Value<'_>) -> Option<Self> {
        if let DeValue::String(url) = value.get_ref() {
            let (name, url) = (url.to_string(), url.to_string());
            return Some(Self { name, url, weight: 1, priority: 0, max_in_flight: None });
        }
        let DeValue::Table(entries) = value.get_ref() else {
            let expected = "a URL in quotes, or a table with a `url`";
            super::value::wrong(value, &pool.path("backends"), expected, pool.problems());
            return None;
        };
        let table = Table::new(pool.path("backends"), value.span(), entries, pool.problems());
        let url = table.need::<String>("url", "a URL such as \"http://10.0.0.1:3000\"");
        let backend = Self {
            name: table.get("name").or(url.clone()).unwrap_or_default(),
            url: url.clone().unwrap_or_default(),
            weight: table.or("weight", 1),
            priority: table.or("priority", 0),
            max_in_flight: table.or_none("max_in_flight", None),
        };
        if backend.max_in_flight == Some(0) {
            table.refuse(
                "max_in_flight",
                "expected 1 or more; `weight = 0` lets a backend have nothing",
            );
        }
        url.map(|_| backend)
    }
}

/// Says of a backend that nothing can be sent to it.
fn refuse(value: &Value<'_>, why: &str, problems: &Problems) {
    let at = match value.get_ref() {
        DeValue::Table(entries) => {
            entries.get("url").map_or_else(|| value.span(), toml::Spanned::span)
        }
        _ => value.span(),
    };
    problems.add(at, "this is no backend", why);
}

impl Settings {
    fn read(table: &Table<'_>, near: &Path) -> Self {
        let protocols =
            [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)];
        Self {
            protocol: table.choice("protocol", Protocol::Auto, &protocols),
            connect_timeout: positive(table, "connect_timeout", Duration::from_secs(5)),
            response_timeout: positive_or_none(
                table,
                "response_timeout",
                Some(Duration::from_secs(60)),
            ),
            body_timeout: positive_or_none(table, "body_timeout", Some(Duration::from_secs(300))),
            idle_timeout: positive(table, "idle_timeout", Duration::from_secs(60)),
            max_idle: table.or("max_idle", 1_024),
            tls: TlsFiles::read(table, near),
        }
    }

    /// The upstream at `url`.
    pub(crate) fn upstream(
        &self,
        url: &str,
    ) -> Result<Upstream, tower_keep_balance::proxy::AddressError> {
        let upstream = Upstream::builder(url)
            .protocol(self.protocol)
            .connect_timeout(self.connect_timeout)
            .response_timeout(self.response_timeout)
            .body_timeout(self.body_timeout)
            .idle_timeout(self.idle_timeout)
            .max_idle(self.max_idle);
        upstream.tls(self.tls.as_ref().map_or_else(Tls::new, TlsFiles::settings)).build()
    }
}

impl TlsFiles {
    fn read(pool: &Table<'_>, near: &Path) -> Option<Self> {
        let table = pool.table("tls")?;
        let authorities = table.or("authorities", Vec::<PathBuf>::new());
        let read = |path: &PathBuf| read_path(&table, "authorities", path, near);
        let mut identity = None;
        if table.value("certificate").is_some() || table.value("key").is_some() {
            let chain = read_file(&table, "certificate", near, "a file with a chain in PEM");
            identity = chain.zip(read_file(&table, "key", near, "a file with its key in PEM"));
        }
        Some(Self {
            authorities: authorities.iter().filter_map(read).collect(),
            identity,
            server_name: table.get("server_name"),
        })
    }

    fn settings(&self) -> Tls {
        let tls = self.authorities.iter().cloned().fold(Tls::new(), Tls::authority);
        let identity = self.identity.iter().cloned();
        let tls = identity.fold(tls, |tls, (chain, key)| tls.identity(chain, key));
        self.server_name.iter().cloned().fold(tls, Tls::server_name)
    }
}

impl std::fmt::Debug for TlsFiles {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsFiles").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
