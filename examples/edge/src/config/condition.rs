//! Which requests a route is for.

use std::fmt;

use http::Method;
use http::uri::Authority;
use toml::Spanned;

use super::Listener;
use super::route::{Fields, named_fields};
use super::table::{Table, expected_one_of};
use crate::path;

/// Of each kind that is given, one must hold; of the fields, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) listeners: Vec<String>,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) path: PathPattern,
    pub(crate) methods: Vec<Method>,
    /// Any value is right where none is given.
    pub(crate) headers: Fields,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostPattern {
    Exact(String),
    /// Every host that ends so: `.example.com` for `*.example.com`.
    Below(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum PathPattern {
    #[default]
    Any,
    Exact(String),
    /// This path and what is below it.
    Prefix(String),
}

impl Condition {
    pub(super) fn read(table: &Table<'_>, listeners: &[Listener]) -> Self {
        let names: Vec<_> = listeners.iter().map(|listener| listener.name.as_str()).collect();
        let given: Vec<Spanned<String>> = table.or("listeners", Vec::new());
        for name in given.iter().filter(|name| !names.contains(&name.get_ref().as_str())) {
            let title = format!("there is no listener `{}`", name.get_ref());
            table.problems().add(name.span(), title, expected_one_of(name.get_ref(), &names));
        }
        let hosts: Vec<Spanned<String>> = table.or("hosts", Vec::new());
        let host = |host: &Spanned<String>| {
            HostPattern::of(host.get_ref())
                .map_err(|why| table.refuse_at(host.span(), "hosts", why))
                .ok()
        };
        Self {
            listeners: given.into_iter().map(Spanned::into_inner).collect(),
            hosts: hosts.iter().filter_map(host).collect(),
            path: PathPattern::read(table),
            methods: table.or("methods", Vec::new()),
            headers: named_fields(table, "headers", |value| value == "*"),
        }
    }
}

impl HostPattern {
    fn of(text: &str) -> Result<Self, &'static str> {
        let (host, is_below) = match text.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (text, false),
        };
        let expected = "is no host such as \"example.com\" or \"*.example.com\"";
        let authority: Authority = host.parse().map_err(|_| expected)?;
        if authority.port().is_some() {
            return Err("has a port; a route is for a host at any port");
        }
        if host.contains(['*', '@']) {
            return Err("has more than a leading `*.`");
        }
        let host = path::normal_host(host);
        Ok(if is_below { Self::Below(format!(".{host}")) } else { Self::Exact(host) })
    }
}

impl PathPattern {
    fn read(table: &Table<'_>) -> Self {
        let (exact, prefix) = (table.get::<String>("path"), table.get::<String>("path_prefix"));
        let (key, text) = match (&exact, &prefix) {
            (None, None) => return Self::Any,
            (Some(exact), None) => ("path", exact),
            (None, Some(prefix)) => ("path_prefix", prefix),
            (Some(_), Some(_)) => {
                table.refuse("path_prefix", "`path` is given as well; expected one of them");
                return Self::Any;
            }
        };
        if !text.starts_with('/') || text.contains(['?', '#']) || path::is_ambiguous(text) {
            table.refuse(key, "expected a path without a query or dots, which begins with a slash");
        }
        let normal = path::normal(text).into_owned();
        match (exact, normal.trim_end_matches('/')) {
            (Some(_), _) => Self::Exact(normal),
            (None, "") => Self::Any,
            // With or without a slash at its end, it is the same.
            (None, prefix) => Self::Prefix(prefix.to_owned()),
        }
    }

    /// The more, the sooner it is asked: exact ones, then prefixes by length.
    pub(crate) fn weight(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (2, 0),
            Self::Prefix(prefix) => (1, prefix.len()),
            Self::Any => (0, 0),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Below(host) => write!(f, "*{host}"),
        }
    }
}

/// As in `GET example.com/api/*`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        if !methods.is_empty() {
            write!(f, "{} ", methods.join(","))?;
        }
        let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
        f.write_str(&hosts.join(","))?;
        match &self.path {
            PathPattern::Any => f.write_str("/*"),
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Prefix(prefix) => write!(f, "{prefix}/*"),
        }
    }
}
