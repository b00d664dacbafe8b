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
    Exact(Literal),
    /// This path and what is below it.
    Prefix(Literal),
}

/// A path, or the beginning of some; in lower case where case makes no difference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Literal {
    /// In its [normal](path::normal) form.
    pub(crate) text: String,
    /// [Without escapes](path::decoded).
    decoded: String,
    pub(crate) ignores_case: bool,
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

impl Literal {
    pub(crate) fn new(text: &str, ignores_case: bool) -> Self {
        let lower = |text: String| if ignores_case { text.to_ascii_lowercase() } else { text };
        let decoded = lower(path::decoded(text));
        Self { text: lower(text.to_owned()), decoded, ignores_case }
    }

    /// What `path` has behind `start`, which is of this, if it begins so.
    fn strip<'p>(&self, start: &str, path: &'p str) -> Option<&'p str> {
        if !self.ignores_case {
            return path.strip_prefix(start);
        }
        let (begin, rest) = path.split_at_checked(start.len())?;
        begin.eq_ignore_ascii_case(start).then_some(rest)
    }
}

impl PathPattern {
    fn read(table: &Table<'_>) -> Self {
        let ignores_case = table.or("ignore_case", false);
        if ignores_case && table.value("path").or(table.value("path_prefix")).is_none() {
            let expected = "it is for the `path` or the `path_prefix`, of which there is none";
            table.refuse("ignore_case", expected);
        }
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
            (Some(_), _) => Self::Exact(Literal::new(&normal, ignores_case)),
            (None, "") => Self::Any,
            // With or without a slash at its end, it is the same.
            (None, prefix) => Self::Prefix(Literal::new(prefix, ignores_case)),
        }
    }

    /// What is left of `path` below this, if it is for it: `/b` of `/a/b` below `/a`; of `/ab`, nothing.
    pub(crate) fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.rest_by(path, |literal| &literal.text)
    }

    /// Whether it is for a path without escapes.
    pub(crate) fn is_for_decoded(&self, path: &str) -> bool {
        self.rest_by(path, |literal| &literal.decoded).is_some()
    }

    fn rest_by<'p>(&self, path: &'p str, start: fn(&Literal) -> &str) -> Option<&'p str> {
        match self {
            Self::Any => Some(path),
            Self::Exact(exact) => exact.strip(start(exact), path).filter(|rest| rest.is_empty()),
            Self::Prefix(prefix) => {
                let rest = prefix.strip(start(prefix), path);
                rest.filter(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    /// Whether others read it as a path that has nothing to be read in several ways.
    pub(crate) fn has_plain_reading(&self) -> bool {
        match self {
            Self::Any => false,
            Self::Exact(literal) | Self::Prefix(literal) => {
                literal.text.contains('%') && literal.decoded.is_ascii()
            }
        }
    }

    /// The more, the sooner it is asked: exact ones, then prefixes by length; and those in one spelling
    /// before those in any.
    pub(crate) fn weight(&self) -> (u8, usize, bool) {
        match self {
            Self::Exact(exact) => (2, 0, !exact.ignores_case),
            Self::Prefix(prefix) => (1, prefix.decoded.len(), !prefix.ignores_case),
            Self::Any => (0, 0, false),
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
            PathPattern::Exact(path) => f.write_str(&path.text),
            PathPattern::Prefix(prefix) => write!(f, "{}/*", prefix.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_segment_does() {
        let below = |prefix| PathPattern::Prefix(Literal::new(prefix, false));
        assert_eq!(below("/a").rest("/a/b"), Some("/b"));
        assert_eq!(below("/a").rest("/a"), Some(""));
        assert_eq!(below("/a").rest("/ab"), None);
        assert_eq!(below("/a").rest("/A"), None);
    }

    #[test]
    fn case_makes_no_difference_where_it_is_to_make_none() {
        let below = PathPattern::Prefix(Literal::new("/Admin", true));
        for (path, rest) in [
            ("/admin/X", Some("/X")),
            ("/ADMIN", Some("")),
            ("/adminx", None),
            ("/adm", None),
            // A letter of two bytes where the prefix ends.
            ("/admi\u{df}", None),
        ] {
            assert_eq!(below.rest(path), rest, "{path}");
        }
        let exact = PathPattern::Exact(Literal::new("/Admin", true));
        assert_eq!((exact.rest("/aDMIN"), exact.rest("/admin/")), (Some(""), None));
    }
}
