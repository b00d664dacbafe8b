//! `[pool.NAME.discovery]`: where the backends of a pool come from, if they aren't named.

use std::path::{Path, PathBuf};

use tower_keep_balance::registry::{Dns, Redis};

use super::table::Table;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discovery {
    pub(crate) source: Source,
    /// The name that is looked up.
    pub(crate) service: String,
    /// What an address needs to be a URL.
    pub(crate) scheme: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A and AAAA records, and the port.
    Dns(u16),
    Srv,
    File(PathBuf),
    Redis {
        url: String,
        prefix: String,
    },
}

impl Discovery {
    pub(super) fn read(pool: &Table<'_>, near: &Path) -> Option<Self> {
        let table = pool.table("discovery")?;
        let kinds = [("dns", 0), ("srv", 1), ("file", 2), ("redis", 3)];
        if table.value("kind").is_none() {
            let title = "a discovery of no kind";
            table.problems().add(table.span(), title, "expected `kind`: dns, srv, file or redis");
        }
        let kind = table.choice("kind", 0, &kinds);
        let service = table.need::<String>("service", "the name that is looked up");
        let schemes = [("http", "http"), ("https", "https")];
        let scheme = table.choice("scheme", "http", &schemes);
        // Each is there for one kind, and yet a known key in all.
        let (port, path) = (table.get::<u16>("port"), table.get::<PathBuf>("path"));
        let url = table.get::<String>("url");
        let prefix = table.or("prefix", "tk".to_owned());
        let source = match kind {
            0 => Source::Dns(port.or_else(|| table.need("port", "the port of all instances"))?),
            1 => Source::Srv,
            2 => Source::File(near.join(path.or_else(|| table.need("path", "the JSON file"))?)),
            _ => {
                let url =
                    url.or_else(|| table.need("url", "the address of Redis, redis://HOST"))?;
                let registry = Redis::builder(&url).prefix(prefix.as_str()).build();
                registry.map_err(|why| table.refuse("url", why)).ok()?;
                Source::Redis { url, prefix }
            }
        };
        if matches!(source, Source::Dns(_) | Source::Srv) {
            table.check(Dns::srv().build())?;
        }
        Some(Self { source, service: service?, scheme })
    }
}
