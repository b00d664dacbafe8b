//! `[pool.NAME.health]`: what the backends of a pool are asked, and how often.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderValue, Method};
use tower_keep_balance::health::{Grpc, Http, Initially, Tcp};
use tower_keep_balance::proxy::Upstream;
use tower_keep_balance::{HealthCheck, PoolBuilder};

use super::listener::{positive, positive_or_none};
use super::table::Table;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Health {
    kind: Kind,
    port: Option<u16>,
    interval: Duration,
    timeout: Option<Duration>,
    rise: u32,
    fall: u32,
    jitter: u8,
    initially: Initially,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Tcp,
    Http {
        path: String,
        method: Method,
        host: Option<HeaderValue>,
        statuses: Vec<RangeInclusive<u16>>,
        body: Option<String>,
    },
    Grpc {
        service: String,
    },
}

/// What is there for one kind.
const KEYS: [(&str, &str); 6] = [
    ("path", "http"),
    ("method", "http"),
    ("host", "http"),
    ("statuses", "http"),
    ("body", "http"),
    ("service", "grpc"),
];

impl Health {
    pub(super) fn read(pool: &Table<'_>) -> Option<Self> {
        let table = pool.table("health")?;
        let kinds = [("tcp", "tcp"), ("http", "http"), ("grpc", "grpc")];
        let kind = table.choice("kind", "http", &kinds);
        for (key, its) in KEYS {
            if table.value(key).is_some() && kind != its {
                table.refuse(key, format!("it is for `kind = \"{its}\"`"));
            }
        }
        let kind = match kind {
            "tcp" => Kind::Tcp,
            "http" => http(&table),
            _ => Kind::Grpc { service: table.or("service", String::new()) },
        };
        let initially = [("healthy", Initially::Healthy), ("unhealthy", Initially::Unhealthy)];
        let health = Self {
            kind,
            port: table.value("port").is_some().then(|| table.within("port", 80, 1..=u16::MAX)),
            interval: positive(&table, "interval", Duration::from_secs(10)),
            timeout: positive_or_none(&table, "timeout", None),
            rise: table.within("rise", 2, 1..=u32::MAX),
            fall: table.within("fall", 3, 1..=u32::MAX),
            jitter: table.within("jitter", 20, 0..=100),
            initially: table.choice("initially", Initially::Healthy, &initially),
        };
        table.check(health.apply(tower_keep_balance::Pool::builder()).build())?;
        Some(health)
    }

    /// A pool with these checks.
    pub(crate) fn apply(&self, pool: PoolBuilder<Upstream>) -> PoolBuilder<Upstream> {
        match &self.kind {
            Kind::Tcp => {
                let probe = Tcp::new();
                let probe = self.port.into_iter().fold(probe, Tcp::port);
                pool.health_check(self.timed(HealthCheck::new(probe)))
            }
            Kind::Grpc { service } => {
                let probe = Grpc::service(service.as_str());
                let probe = self.port.into_iter().fold(probe, Grpc::port);
                pool.health_check(self.timed(HealthCheck::new(probe)))
            }
            Kind::Http { path, method, host, statuses, body } => {
                let probe = Http::get(path).method(method.clone());
                let probe = self.port.into_iter().fold(probe, Http::port);
                let probe = host.iter().cloned().fold(probe, Http::host);
                let probe = statuses.iter().cloned().fold(probe, Http::status);
                let probe = body.iter().cloned().fold(probe, Http::body_contains);
                pool.health_check(self.timed(HealthCheck::new(probe)))
            }
        }
    }

    fn timed<P>(&self, check: HealthCheck<P>) -> HealthCheck<P> {
        let check = check.interval(self.interval).rise(self.rise).fall(self.fall);
        let check = check.jitter(self.jitter).initially(self.initially);
        self.timeout.into_iter().fold(check, HealthCheck::timeout)
    }
}

fn http(table: &Table<'_>) -> Kind {
    let host = table.get::<String>("host").filter(|host| {
        let is_host = host.parse::<Authority>().is_ok();
        if !is_host {
            table.refuse("host", "expected a host, with or without a port");
        }
        is_host
    });
    Kind::Http {
        path: table.or("path", "/".to_owned()),
        method: table.or("method", Method::GET),
        host: host.and_then(|host| HeaderValue::from_str(&host).ok()),
        statuses: table.or("statuses", Vec::new()),
        body: table.get("body"),
    }
}
