//! What the file says: read, checked as a whole, and with everything filled in.

mod balance;
mod cache;
mod certificate;
mod compress;
mod condition;
mod conflict;
mod discovery;
mod health;
mod issuer;
mod jwt;
mod keys;
mod listener;
mod pool;
mod problem;
mod require;
mod retry;
mod revocation;
mod route;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use toml::de::DeTable;

pub(crate) use self::balance::HashOn;
pub(crate) use self::cache::{Cache, CacheSettings, Tier};
pub(crate) use self::certificate::Certificate;
pub(crate) use self::compress::Compress;
#[cfg(test)]
pub(crate) use self::condition::Literal;
pub(crate) use self::condition::{Condition, HostPattern, PathPattern};
pub(crate) use self::discovery::{Discovery, Source};
pub(crate) use self::issuer::Issuer;
pub(crate) use self::jwt::{Guard, Jwt, Trust};
pub(crate) use self::keys::{Keys, SystemClient};
pub(crate) use self::listener::{Listener, Protocols};
pub(crate) use self::pool::{Address, Core, Pool};
pub(crate) use self::problem::Invalid;
use self::problem::{Problems, Span};
pub(crate) use self::retry::Retry;
pub(crate) use self::revocation::Revocation;
pub(crate) use self::route::{Action, Fields, Route};
pub(crate) use self::server::{Admin, Announce, Format, Forwarding, Log, Server};
use self::table::Table;
pub(crate) use self::value::Bound;

/// All there is to set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) log: Log,
    pub(crate) admin: Option<Admin>,
    pub(crate) announce: Option<Announce>,
    pub(crate) forwarding: Forwarding,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) pools: BTreeMap<String, Pool>,
    pub(crate) cache: Cache,
    pub(crate) compress: Option<Compress>,
    pub(crate) jwts: BTreeMap<String, Jwt>,
    pub(crate) routes: Vec<Route>,
}

impl Config {
    /// Reads the file at `path`, and those that it names. To be called within a tokio runtime.
    pub(crate) fn load(path: &Path) -> Result<Self, Invalid> {
        let source = std::fs::read_to_string(path)
            .map_err(|error| Invalid(format!("error: {}: {error}", path.display())))?;
        Self::parse(&source, path)
    }

    /// Of `source`, which is the content of `path`. All that is wrong with it is told at once.
    pub(crate) fn parse(source: &str, path: &Path) -> Result<Self, Invalid> {
        let problems = Problems::default();
        let config = Self::read(source, path, &problems);
        problems.check(path, source)?;
        Ok(config)
    }

    fn read(source: &str, path: &Path, problems: &Problems) -> Self {
        let (document, errors) = DeTable::parse_recoverable(source);
        for error in &errors {
            let at = error.span().unwrap_or_default();
            problems.add(at, "this is no TOML", error.message());
        }
        // What follows from that is no news.
        let rest = Problems::default();
        let problems = if errors.is_empty() { problems } else { &rest };
        let file = Table::new(String::new(), 0..0, document.get_ref(), problems);
        let near = path.parent().unwrap_or(Path::new(""));
        let pools = Pool::read_all(&file, near);
        let cache = Cache::read(&file);
        let listeners = Listener::read_all(&file, near);
        let admin = Admin::read(&file, near);
        if let Some((admin, listener)) = admin.as_ref().zip(
            listeners.iter().find(|it| Some(it.address) == admin.as_ref().map(|it| it.address)),
        ) && admin.address.port() != 0
        {
            let title = format!("two listen at {}", listener.address);
            problems.add(file.at("admin"), title, "the admin's listener is one of its own");
        }
        let compress = Compress::read(&file);
        let jwts = Jwt::read_all(&file, near, cache.redis());
        let named = Named {
            pools: &pools,
            cache: &cache,
            compress: compress.as_ref(),
            jwts: &jwts,
            listeners: &listeners,
        };
        let routes = Route::read_all(&file, named);
        jwt::check_used(&file, &routes);
        Self {
            server: Server::read(&file),
            log: Log::read(&file),
            admin,
            announce: Announce::read(&file),
            forwarding: Forwarding::read(&file),
            listeners,
            pools,
            cache,
            compress,
            jwts,
            routes,
        }
    }
}

/// What routes can name.
#[derive(Clone, Copy, Debug)]
struct Named<'a> {
    pools: &'a BTreeMap<String, Pool>,
    cache: &'a Cache,
    compress: Option<&'a Compress>,
    jwts: &'a BTreeMap<String, Jwt>,
    listeners: &'a [Listener],
}

/// Notes where a name, or what must be one's own as well, is used twice.
#[derive(Debug, Default)]
struct Once(HashMap<String, Span>);

impl Once {
    fn check(&mut self, what: &str, name: &str, at: Span, problems: &Problems) {
        if let Some(first) = self.0.get(name) {
            let other = (first.clone(), "the first one");
            let label = format!("each {what} is there once");
            problems.add_with(at, format!("two have the {what} `{name}`"), label, other);
        } else {
            self.0.insert(name.to_owned(), at);
        }
    }
}
