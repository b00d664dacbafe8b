//! The pools, of which those that a reload doesn't change stay as they are.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tower_keep_balance::proxy::{Balanced, Forwarding, Proxy, Pseudonym, Upstream};
use tower_keep_balance::registry::{Dns, File, Instance, Redis};
use tower_keep_balance::{Backend, Pool};

use crate::affinity::Hashes;
use crate::config::{self, Address, Config, Core, Discovery, Retry, Source};

/// What sends requests to the backends of a pool.
pub(crate) type PoolProxy = Proxy<Balanced<Hashes>>;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A pool in use.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) pool: Pool<Upstream>,
    pub(crate) proxy: PoolProxy,
    config: config::Pool,
    forwarding: config::Forwarding,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub(crate) struct Upstreams(pub(crate) BTreeMap<String, Arc<Entry>>);

/// The change of a pool that stays, to be made when nothing can fail any more.
#[derive(Debug)]
pub(crate) struct Update {
    pool: Pool<Upstream>,
    backends: Vec<Backend<Upstream>>,
    /// Those whose target is another than before.
    replaced: HashSet<String>,
}

impl Upstreams {
    /// Those that `config` names. What `before` has of them is used again, with its health, its
    /// connections and its counters.
    pub(crate) fn new(
        config: &Config,
        before: &Self,
        pseudonym: &Pseudonym,
    ) -> Result<(Self, Vec<Update>), Error> {
        let (mut entries, mut updates) = (BTreeMap::new(), Vec::new());
        for (name, settings) in &config.pools {
            let known = before.0.get(name);
            let is_same = |entry: &&Arc<Entry>| {
                entry.config == *settings
                    && entry.forwarding == config.forwarding
                    && entry.proxy.pseudonym().as_str() == pseudonym.as_str()
            };
            if let Some(entry) = known.filter(is_same) {
                entries.insert(name.clone(), Arc::clone(entry));
                continue;
            }
            let pool = match known.filter(|entry| entry.config.core == settings.core) {
                Some(entry) => {
                    updates.extend(Update::new(entry, settings)?);
                    entry.pool.clone()
                }
                None => new_pool(settings).map_err(|error| format!("pool.{name}: {error}"))?,
            };
            let proxy = proxy(&pool, settings, &settings.retry, config, pseudonym)?;
            let (config, forwarding) = (settings.clone(), config.forwarding.clone());
            entries.insert(name.clone(), Arc::new(Entry { pool, proxy, config, forwarding }));
        }
        Ok((Self(entries), updates))
    }

    /// The proxy of a route, which may have other ideas about retries than its pool.
    pub(crate) fn proxy_for(
        &self,
        route: &config::Route,
        pool: &str,
        config: &Config,
        pseudonym: &Pseudonym,
    ) -> Result<PoolProxy, Error> {
        let entry = self.0.get(pool).ok_or_else(|| format!("there is no pool {pool}"))?;
        let retry = route.retry(&entry.config.retry);
        if retry == entry.config.retry {
            return Ok(entry.proxy.clone());
        }
        proxy(&entry.pool, &entry.config, &retry, config, pseudonym)
    }
}

impl Update {
    /// Nothing, if the backends are the same.
    fn new(entry: &Entry, settings: &config::Pool) -> Result<Option<Self>, Error> {
        if entry.config.backends == settings.backends {
            return Ok(None);
        }
        let url_before = |name: &str| {
            let mut before = entry.config.backends.iter();
            before.find(|it| it.name == name).map(|it| it.url.as_str())
        };
        let is_replaced =
            |it: &&Address| url_before(&it.name).is_some_and(|before| before != it.url);
        let replaced = settings.backends.iter().filter(is_replaced);
        let replaced = replaced.map(|it| it.name.clone()).collect();
        Ok(Some(Self { pool: entry.pool.clone(), backends: backends(settings)?, replaced }))
    }

    pub(crate) fn make(self) {
        let Self { pool, backends, replaced } = self;
        pool.update(backends.iter().cloned());
        for backend in backends.into_iter().filter(|it| replaced.contains(it.name())) {
            pool.insert(backend);
        }
    }
}

fn backends(settings: &config::Pool) -> Result<Vec<Backend<Upstream>>, Error> {
    let of = |address: &Address| {
        let upstream = settings.core.upstream.upstream(&address.url)?;
        let backend = Backend::new(address.name.as_str(), upstream);
        let backend = backend.weight(address.weight).priority(address.priority);
        Ok(address.max_in_flight.into_iter().fold(backend, Backend::max_in_flight))
    };
    settings.backends.iter().map(of).collect()
}

fn new_pool(settings: &config::Pool) -> Result<Pool<Upstream>, Error> {
    let Core { strategy, when_none_healthy, slow_start, outlier, health, discovery, upstream } =
        &settings.core;
    let pool = Pool::builder()
        .strategy(*strategy)
        .when_none_healthy(*when_none_healthy)
        .outlier_detection(*outlier)
        .backends(backends(settings)?);
    let pool = slow_start.iter().fold(pool, |pool, it| pool.slow_start(*it));
    let pool = health.iter().fold(pool, |pool, it| it.apply(pool)).build()?;
    let Some(Discovery { source, service, scheme }) = discovery else { return Ok(pool) };
    let (upstream, scheme) = (upstream.clone(), *scheme);
    let make = move |instance: &Instance| {
        let address = instance.address();
        let url = if address.contains("://") { address } else { &format!("{scheme}://{address}") };
        upstream.upstream(url).map(|upstream| instance.backend(upstream))
    };
    // It goes on for as long as the pool is in use.
    drop(match source {
        Source::Dns(port) => pool.follow(&Dns::addresses(*port).build()?, service, make),
        Source::Srv => pool.follow(&Dns::srv().build()?, service, make),
        Source::File(path) => pool.follow(&File::new(path.as_path()), service, make),
        Source::Redis { url, prefix } => {
            pool.follow(&Redis::builder(url).prefix(prefix.as_str()).build()?, service, make)
        }
    });
    Ok(pool)
}

fn proxy(
    pool: &Pool<Upstream>,
    settings: &config::Pool,
    retry: &Retry,
    config: &Config,
    pseudonym: &Pseudonym,
) -> Result<PoolProxy, Error> {
    let config::Forwarding { forwarded, x_forwarded, trusted, keep: _ } = &config.forwarding;
    let forwarding = Forwarding::new()
        .forwarded(*forwarded)
        .x_forwarded(*x_forwarded)
        .trust(trusted.iter().copied());
    let proxy = Proxy::builder(pool.clone())
        .pseudonym(pseudonym.clone())
        .forwarding(forwarding)
        .host(settings.host.clone())
        .upgrades(settings.upgrades.iter().map(String::as_str))
        .tunnel_timeout(settings.tunnel_timeout)
        .queue(settings.queue)
        .retry(retry.builder())
        .affinity(Hashes::new(&settings.hash_on, trusted));
    Ok(proxy.build()?)
}
