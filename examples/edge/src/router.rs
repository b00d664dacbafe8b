//! Finds the route of a request.
//!
//! Of all routes whose conditions a request meets, it takes the most specific one, whatever their
//! order in the file:
//!
//! 1. a host by name before `*.example.com`, the longer one of those first, before any host;
//! 2. a whole path before a prefix, the longer one first, before any path; of two that are the same but
//!    for case, the one that doesn't ignore it;
//! 3. more fields before fewer;
//! 4. one that names methods before one that doesn't, and likewise listeners.
//!
//! Of two that are still equal, the first in the file; where they could be for the same requests,
//! the configuration is refused.

use std::cmp::Reverse;
use std::collections::HashMap;

use http::{HeaderMap, Method};

use crate::config::{Condition, HostPattern, PathPattern};
use crate::path;

/// What routes are chosen by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) listener: &'a str,
    /// In its [normal](crate::path::normal_host) form; empty if there is none.
    pub(crate) host: &'a str,
    /// In its [normal](crate::path::normal) form.
    pub(crate) path: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

/// Routes by what they are for: `T` is what is found.
#[derive(Debug)]
pub(crate) struct Router<T> {
    /// By a host's name, for which they come first of all.
    named: HashMap<String, Vec<Entry>>,
    /// For all other hosts. In both, there is one for each host of a route, the most specific first.
    others: Vec<Entry>,
    routes: Vec<T>,
    /// Whether a path without escapes can be what a route's stands for.
    has_plain_readings: bool,
}

#[derive(Debug)]
struct Entry {
    /// What the host has to end with, if that isn't known to be right.
    below: Option<String>,
    condition: Condition,
    /// In `routes`.
    route: usize,
}

impl<T> Router<T> {
    pub(crate) fn new(routes: impl IntoIterator<Item = (Condition, T)>) -> Self {
        let (mut named, mut others) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        let (mut all, mut has_plain_readings) = (Vec::new(), false);
        for (condition, route) in routes {
            let of = |host| Entry { below: host, condition: condition.clone(), route: all.len() };
            for host in &condition.hosts {
                let (entries, below) = match host {
                    HostPattern::Exact(name) => (named.entry(name.clone()).or_default(), None),
                    HostPattern::Below(end) => (&mut others, Some(end.clone())),
                };
                entries.push(of(below));
            }
            if condition.hosts.is_empty() {
                others.push(of(None));
            }
            has_plain_readings |= condition.path.has_plain_reading();
            all.push(route);
        }
        // Stable: equal ones stay in the order of the file.
        for entries in named.values_mut().chain([&mut others]) {
            entries.sort_by_key(|entry| Reverse(entry.weight()));
        }
        Self { named, others, routes: all, has_plain_readings }
    }

    pub(crate) fn find(&self, asked: Asked<'_>) -> Option<&T> {
        self.first(asked, |path| path.rest(asked.path).is_some())
    }

    /// The routes of a path, as it was sent, for those who read it otherwise than it is written. In
    /// `asked`, it is of no consequence.
    pub(crate) fn find_otherwise(&self, path: &str, asked: Asked<'_>) -> impl Iterator<Item = &T> {
        let is_read = self.has_plain_readings || path::has_readings(path);
        let readings = is_read.then(|| path::readings(path));
        let find = move |path: String| self.first(asked, |pattern| pattern.is_for_decoded(&path));
        readings.into_iter().flatten().filter_map(find)
    }

    fn first(&self, asked: Asked<'_>, is_path: impl Fn(&PathPattern) -> bool) -> Option<&T> {
        let named = self.named.get(asked.host).into_iter().flatten();
        let mut entries = named.chain(&self.others);
        let entry = entries.find(|it| is_path(&it.condition.path) && it.is_for(asked))?;
        self.routes.get(entry.route)
    }
}

impl Entry {
    fn weight(&self) -> (usize, (u8, usize, bool), usize, bool, bool) {
        let Condition { path, headers, methods, listeners, .. } = &self.condition;
        let host = self.below.as_ref().map_or(0, String::len);
        (host, path.weight(), headers.len(), !methods.is_empty(), !listeners.is_empty())
    }

    /// Whatever its path.
    fn is_for(&self, asked: Asked<'_>) -> bool {
        let Condition { listeners, methods, headers, .. } = &self.condition;
        let is_below =
            |below: &String| asked.host.len() > below.len() && asked.host.ends_with(below.as_str());
        let is_host = self.below.as_ref().is_none_or(is_below);
        let has = |name, wanted: &Option<http::HeaderValue>| {
            let mut values = asked.headers.get_all(name).iter();
            values.any(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        };
        is_host
            && (methods.is_empty() || methods.contains(asked.method))
            && headers.iter().all(|(name, value)| has(name, value))
            && (listeners.is_empty() || listeners.iter().any(|name| name == asked.listener))
    }
}

#[cfg(test)]
mod tests;
