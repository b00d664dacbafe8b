//! Instances that a name server knows: A and AAAA, or SRV records.

mod builder;
mod srv;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::try_join;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::sleep;

pub use self::builder::DnsBuilder;
use self::srv::Target;
use super::Discovery;
use super::error::RegistryError;
use super::instance::Instance;
use super::watch::{Publisher, Watch};
use crate::backoff::Waits;

/// How many names are looked up at the same time.
const AT_ONCE: usize = 8;

/// Which records name the instances.
#[derive(Clone, Copy, Debug)]
enum Records {
    /// A and AAAA, if those are wanted.
    Addresses { port: u16 },
    /// SRV, and A and AAAA of its targets.
    Srv,
}

/// The instances of a service, as DNS says them. A service's name is the name that is looked up.
///
/// | records | an instance for | port, weight and priority | metadata |
/// | --- | --- | --- | --- |
/// | [`addresses`](Self::addresses) | each A and AAAA record of the name | as given, 1, 0 | `host`: the name |
/// | [`srv`](Self::srv) | each A and AAAA record of each target of its SRV records | of the record | `host`: the target |
///
/// Its id and its address are `ip:port`. The name is looked up again when the time to live of its
/// records ends. One that isn't there, has no records, or can't be looked up changes nothing: what
/// was known last stays. A target that is `.` (the service is not available here, RFC 2782) is an
/// empty list.
///
/// SRV priorities become 0, 1, 2 and so on in their order. A target's weight is shared by its
/// addresses; where some weights are 0 and others aren't, the former get about a hundredth.
///
/// ```no_run
/// use tower_keep_balance::Pool;
/// use tower_keep_balance::registry::Dns;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let dns = Dns::srv().build()?;
/// let pool = Pool::<std::net::SocketAddr>::builder().build()?;
/// let following = pool.follow(&dns, "_http._tcp.shop.svc.cluster.local.", |instance| {
///     instance.address().parse().map(|address| instance.backend(address))
/// });
/// following.ready().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Dns {
    resolver: TokioResolver,
    records: Records,
    ipv4_only: bool,
    shortest: Duration,
    longest: Duration,
}

impl Dns {
    /// Settings for instances that A and AAAA records name, all at `port`.
    pub fn addresses(port: u16) -> DnsBuilder {
        DnsBuilder::new(Records::Addresses { port })
    }

    /// Settings for instances that SRV records name.
    pub fn srv() -> DnsBuilder {
        DnsBuilder::new(Records::Srv)
    }

    /// The instances of `service`, and for how long that holds.
    async fn find(&self, service: &str) -> Result<(Vec<Instance>, Duration), RegistryError> {
        let name = Name::from_utf8(service).map_err(|error| {
            RegistryError::Content(format!("{service:?} is no DNS name: {error}").into())
        })?;
        match self.records {
            Records::Addresses { port } => {
                let (found, ttl) = self.resolve(&name).await?;
                let instances = found.into_iter().map(|ip| {
                    let address = SocketAddr::new(ip, port).to_string();
                    let instance = Instance::new(address.as_str(), address.as_str());
                    instance.meta("host", host(&name))
                });
                Ok((instances.collect(), ttl))
            }
            Records::Srv => self.find_targets(&name).await,
        }
    }

    async fn find_targets(&self, name: &Name) -> Result<(Vec<Instance>, Duration), RegistryError> {
        let found = self.resolver.lookup(name.clone(), RecordType::SRV).await;
        let found = found.map_err(RegistryError::unavailable)?;
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv.clone()),
            _ => None,
        });
        let mut records: Vec<SRV> = records.collect();
        let mut ttl = ttl(&found);
        if records.len() == 1 && records.iter().all(|record| record.target.is_root()) {
            return Ok((Vec::new(), ttl));
        }
        records.retain(|record| !record.target.is_root());
        let lookups: Vec<_> = records.into_iter().map(|record| self.target(record)).collect();
        let lookups = stream::iter(lookups).buffer_unordered(AT_ONCE);
        let targets: Vec<_> = lookups.try_collect().await?;
        let targets: Vec<_> = targets
            .into_iter()
            .flatten()
            .map(|(target, its_ttl)| {
                ttl = ttl.min(its_ttl);
                target
            })
            .collect();
        if targets.is_empty() {
            let text = format!("no target of the SRV records of {name} has an address");
            return Err(RegistryError::unavailable(text));
        }
        Ok((srv::instances(&targets), ttl))
    }

    /// The target of an SRV record; none if DNS says that it has no address.
    async fn target(&self, record: SRV) -> Result<Option<(Target, Duration)>, RegistryError> {
        match self.resolve(&record.target).await {
            Ok((found, ttl)) => {
                let at = |ip| SocketAddr::new(ip, record.port);
                let target = Target {
                    priority: record.priority,
                    weight: record.weight,
                    host: host(&record.target),
                    addresses: found.into_iter().map(at).collect(),
                };
                Ok(Some((target, ttl)))
            }
            Err(RegistryError::Unknown(target)) => {
                tracing::debug!(%target, "a target of SRV records has no address");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The addresses of `name`. Both kinds must be answered: half of them would look like the loss of
    /// the others.
    async fn resolve(&self, name: &Name) -> Result<(Vec<IpAddr>, Duration), RegistryError> {
        let v6 = async {
            if self.ipv4_only { Ok(None) } else { self.lookup(name, RecordType::AAAA).await }
        };
        let (v4, v6) = try_join(self.lookup(name, RecordType::A), v6).await?;
        let (mut found, mut shortest) = (Vec::new(), Duration::MAX);
        for lookup in v4.iter().chain(&v6) {
            shortest = shortest.min(ttl(lookup));
            found.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr()));
        }
        if found.is_empty() {
            return Err(RegistryError::Unknown(name.to_utf8().into()));
        }
        found.sort_unstable();
        found.dedup();
        Ok((found, shortest))
    }

    /// None if DNS says that there are no such records.
    async fn lookup(
        &self,
        name: &Name,
        records: RecordType,
    ) -> Result<Option<Lookup>, RegistryError> {
        match self.resolver.lookup(name.clone(), records).await {
            Ok(lookup) => Ok(Some(lookup)),
            Err(error) if is_none(&error) => Ok(None),
            Err(error) => Err(RegistryError::unavailable(error)),
        }
    }

    async fn follow(self, service: String, publisher: Publisher) {
        let mut waits = Waits::new(self.shortest, self.longest);
        loop {
            let found = tokio::select! {
                found = self.find(&service) => found,
                () = publisher.closed() => return,
            };
            let wait = match found {
                Ok((instances, ttl)) => {
                    waits.reset();
                    publisher.publish(instances);
                    // Not before its end, when the answer would be the same.
                    let ttl = ttl.mul_f64(1.0 + 0.1 * fastrand::f64());
                    ttl.clamp(self.shortest, self.longest)
                }
                Err(error) => {
                    publisher.failed(error);
                    waits.next(fastrand::f64())
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = publisher.closed() => return,
            }
        }
    }
}

/// Until when the records hold: from now on, since nothing is cached on the way here.
fn ttl(lookup: &Lookup) -> Duration {
    let shortest = lookup.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(shortest.unwrap_or_default().into())
}

fn host(name: &Name) -> String {
    let name = name.to_utf8();
    name.strip_suffix('.').unwrap_or(&name).to_owned()
}

/// Whether it is an answer that says that there is nothing.
fn is_none(error: &NetError) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else { return false };
    matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

impl Discovery for Dns {
    async fn healthy(&self, service: &str) -> Result<Vec<Instance>, RegistryError> {
        Ok(self.find(service).await?.0)
    }

    fn watch(&self, service: &str) -> Watch {
        let (publisher, watch) = Watch::channel(service);
        tokio::spawn(self.clone().follow(service.to_owned(), publisher));
        watch
    }
}
