//! When a rule applies.

use std::fmt;
use std::sync::Arc;

use http::Method;
use http::uri::Authority;

use super::path::{is_ambiguous, is_under, normal};
use crate::head::RequestHead;

type Predicate = Arc<dyn Fn(&RequestHead<'_>) -> bool + Send + Sync>;

/// What must be true of a request. Those of one kind are alternatives, and each kind must hold;
/// one of which there are none does.
#[derive(Clone, Default)]
pub(super) struct Conditions {
    pub(super) paths: Vec<String>,
    pub(super) prefixes: Vec<String>,
    pub(super) suffixes: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) methods: Vec<Method>,
    /// Each of these must hold.
    pub(super) predicates: Vec<Predicate>,
}

impl Conditions {
    /// Whether a request meets them. `cautious` says what holds of the path where it can't be known
    /// what it names.
    pub(super) fn hold(&self, head: &RequestHead<'_>, cautious: bool) -> bool {
        let method = self.methods.is_empty() || self.methods.contains(head.method());
        method
            && (self.hosts.is_empty() || head.host().is_some_and(|host| self.names(host)))
            && (!self.are_about_paths() || self.hold_of(&normal(head.path()), cautious))
            && self.predicates.iter().all(|predicate| predicate(head))
    }

    fn names(&self, host: &str) -> bool {
        self.hosts.iter().any(|named| named.eq_ignore_ascii_case(host))
    }

    fn are_about_paths(&self) -> bool {
        !(self.paths.is_empty() && self.prefixes.is_empty() && self.suffixes.is_empty())
    }

    fn hold_of(&self, path: &str, cautious: bool) -> bool {
        if is_ambiguous(path) {
            return cautious;
        }
        (self.paths.is_empty() || self.paths.iter().any(|exact| exact == path))
            && (self.prefixes.is_empty() || self.has_prefix_of(path))
            && (self.suffixes.is_empty() || self.has_suffix_of(path))
    }

    fn has_prefix_of(&self, path: &str) -> bool {
        self.prefixes.iter().any(|prefix| is_under(path, prefix))
    }

    fn has_suffix_of(&self, path: &str) -> bool {
        self.suffixes.iter().any(|suffix| path.ends_with(suffix.as_str()))
    }

    /// Whether every request that meets `later` meets these too, as far as can be told.
    pub(super) fn cover(&self, later: &Self) -> bool {
        let (paths, prefixes) = (&later.paths, &later.prefixes);
        // Of a kind that `later` has none of, it says nothing.
        let all = |of: &[String], meet: &dyn Fn(&str) -> bool| {
            !of.is_empty() && of.iter().all(|alternative| meet(alternative))
        };
        let methods = &later.methods;
        self.predicates.is_empty()
            && (self.methods.is_empty()
                || (!methods.is_empty() && methods.iter().all(|it| self.methods.contains(it))))
            && (self.hosts.is_empty() || all(&later.hosts, &|host| self.names(host)))
            && (self.paths.is_empty()
                || all(paths, &|path| self.paths.iter().any(|exact| exact == path)))
            && (self.prefixes.is_empty()
                || all(paths, &|path| self.has_prefix_of(path))
                || all(prefixes, &|prefix| self.has_prefix_of(prefix)))
            && (self.suffixes.is_empty()
                || all(paths, &|path| self.has_suffix_of(path))
                || all(&later.suffixes, &|suffix| self.has_suffix_of(suffix)))
    }

    /// What keeps them from ever holding, and what to do about it.
    pub(super) fn fault(&self) -> Option<String> {
        let absolute = |path: &&String| !path.starts_with('/');
        if let Some(path) = self.paths.iter().chain(&self.prefixes).find(absolute) {
            return Some(format!("no path is {path:?}: let it begin with a slash"));
        }
        if let Some(path) = self.paths.iter().chain(&self.prefixes).find(|path| is_ambiguous(path))
        {
            return Some(format!("the path {path:?} has dot segments: write it without"));
        }
        if let Some(path) = self.paths.iter().chain(&self.prefixes).find(|path| path.contains('?'))
        {
            return Some(format!("{path:?} has a query, and no path does: use `when` for that"));
        }
        if self.suffixes.iter().any(String::is_empty) {
            return Some("every path ends in nothing: leave the empty path_suffix out".to_owned());
        }
        let is_host = |host: &str| host.parse().is_ok_and(|it: Authority| it.host() == host);
        if let Some(host) = self.hosts.iter().find(|host| !is_host(host)) {
            let fix = "give the name alone, without scheme, port and path";
            return Some(format!("{host:?} is no host: {fix}"));
        }
        let passes =
            |method: &Method| matches!(*method, Method::OPTIONS | Method::TRACE | Method::CONNECT);
        if !self.methods.is_empty() && self.methods.iter().all(passes) {
            let fix = "leave the method out, or add GET";
            return Some(format!("requests with such a method always pass: {fix}"));
        }
        if !self.paths.is_empty() && !self.paths.iter().any(|path| self.hold_of(path, false)) {
            let fix = "leave out the path_prefix and path_suffix";
            return Some(format!(
                "the path lies under no path_prefix, or has no path_suffix: {fix}"
            ));
        }
        None
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conditions")
            .field("paths", &self.paths)
            .field("prefixes", &self.prefixes)
            .field("suffixes", &self.suffixes)
            .field("hosts", &self.hosts)
            .field("methods", &self.methods)
            .field("predicates", &self.predicates.len())
            .finish()
    }
}
