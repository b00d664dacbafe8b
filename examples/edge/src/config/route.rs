//! `[[route]]`: which requests, and what becomes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::condition::{Condition, PathPattern};
use super::listener::{body_rate, max_body, time_bound};
use super::table::{Table, expected_one_of};
use super::value::Bound;
use super::{Cache, Compress, Guard, Named, Once, Pool, Retry, conflict};
use crate::path;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    /// What requests it is for.
    pub(crate) condition: Condition,
    /// In logs. Default: its conditions.
    pub(crate) name: String,
    pub(crate) action: Action,
    /// What the matched path, or prefix, is replaced by.
    pub(crate) rewrite: Option<String>,
    /// What is said of these counts instead of what the pool and the listener say.
    timeout: Bound<Duration>,
    try_timeout: Bound<Duration>,
    attempts: Option<u32>,
    pub(crate) max_body: Bound<u64>,
    pub(crate) body_rate: Bound<u64>,
    /// The policy by which it is cached, if it is.
    pub(crate) cache: Option<String>,
    pub(crate) compress: Option<Compress>,
    /// Whose requests get here, if not all do.
    pub(crate) guard: Option<Guard>,
    pub(crate) tags: Vec<String>,
    pub(crate) request_headers: Fields,
    pub(crate) response_headers: Fields,
}

/// Fields to set; or to remove, where there is no value.
pub(crate) type Fields = Vec<(HeaderName, Option<HeaderValue>)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pool(String),
    Respond { status: StatusCode, content_type: HeaderValue, body: String },
    Redirect { status: StatusCode, to: String },
}

impl Route {
    pub(super) fn read_all(file: &Table<'_>, named: Named<'_>) -> Vec<Self> {
        let tables = file.tables("route");
        if file.value("route").is_none() {
            return Self::only(file, named).into_iter().collect();
        }
        let mut names = Once::default();
        let mut routes = Vec::new();
        for table in &tables {
            let route = Self::read(table, named);
            if table.value("name").is_some() {
                names.check("name", &route.name, table.at("name"), table.problems());
            }
            routes.push((route, table.span()));
        }
        conflict::check(&routes, file.problems());
        routes.into_iter().map(|(route, _)| route).collect()
    }

    /// With one pool, nothing has to be said.
    fn only(file: &Table<'_>, named: Named<'_>) -> Option<Self> {
        let mut names = named.pools.keys();
        match (names.next(), names.next()) {
            (Some(pool), None) => Some(Self::to(pool, named.compress)),
            (None, _) => {
                let expected = "expected a [pool.NAME], with its `backends`";
                file.problems().add(0..0, "there is nothing to serve", expected);
                None
            }
            _ => {
                let expected = "expected [[route]] tables, as there are several pools";
                file.problems().add(file.at("pool"), "there is no route", expected);
                None
            }
        }
    }

    /// Everything to this pool.
    fn to(pool: &str, compress: Option<&Compress>) -> Self {
        Self {
            condition: Condition::default(),
            name: "/".to_owned(),
            action: Action::Pool(pool.to_owned()),
            rewrite: None,
            timeout: Bound::Unsaid,
            try_timeout: Bound::Unsaid,
            attempts: None,
            max_body: Bound::Unsaid,
            body_rate: Bound::Unsaid,
            cache: Some("default".to_owned()),
            compress: compress.cloned(),
            guard: None,
            tags: Vec::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }
    }

    fn read(table: &Table<'_>, named: Named<'_>) -> Self {
        let condition = Condition::read(table, named.listeners);
        let name = table.get("name").unwrap_or_else(|| condition.to_string());
        let rewrite = rewrite(table, &condition.path);
        let tags: Vec<String> = table.or("tags", Vec::new());
        if let Some(wrong) = tags.iter().find(|tag| tower_keep::store::Tag::new(tag).is_err()) {
            table.refuse("tags", format!("{wrong:?} can't be a tag"));
        }
        let route = Self {
            name,
            action: action(table, named.pools),
            rewrite,
            timeout: time_bound(table, "timeout"),
            try_timeout: time_bound(table, "try_timeout"),
            attempts: table.value("attempts").map(|_| table.within("attempts", 1, 1..=100)),
            max_body: max_body(table),
            body_rate: body_rate(table),
            cache: policy(table, named.cache),
            compress: Compress::read_route(table, named.compress),
            guard: Guard::read(table, named.jwts),
            tags,
            request_headers: fields(table, "request_headers"),
            response_headers: fields(table, "response_headers"),
            condition,
        };
        if let Action::Pool(pool) = &route.action
            && let Some(pool) = named.pools.get(pool)
        {
            route.retry(&pool.retry).check(table);
        }
        route
    }

    /// How requests are sent again here, to a pool that has `retry`.
    pub(crate) fn retry(&self, retry: &Retry) -> Retry {
        let mut retry = retry.clone();
        retry.timeout = self.timeout.unwrap_or(retry.timeout);
        retry.try_timeout = self.try_timeout.unwrap_or(retry.try_timeout);
        retry.attempts = self.attempts.unwrap_or(retry.attempts);
        retry
    }
}

fn action(table: &Table<'_>, pools: &BTreeMap<String, Pool>) -> Action {
    let (respond, redirect) = (table.table("respond"), table.table("redirect"));
    let given = [table.value("pool").is_some(), respond.is_some(), redirect.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        let expected = "expected one of `pool`, `respond` and `redirect`";
        table.problems().add(table.span(), "what this route does isn't clear", expected);
    }
    let respond = respond.map(|table| read_respond(&table));
    let redirect = redirect.map(|table| read_redirect(&table));
    if let Some(action) = respond.or(redirect) {
        return action;
    }
    let pool = table.get::<String>("pool").unwrap_or_default();
    if table.value("pool").is_some() && !pools.contains_key(&pool) {
        let names: Vec<_> = pools.keys().map(String::as_str).collect();
        let title = format!("there is no pool `{pool}`");
        table.problems().add(table.at("pool"), title, expected_one_of(&pool, &names));
    }
    Action::Pool(pool)
}

fn read_respond(table: &Table<'_>) -> Action {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    Action::Respond {
        status: table.or("status", StatusCode::OK),
        content_type: table.or("content_type", plain),
        body: table.or("body", String::new()),
    }
}

fn read_redirect(table: &Table<'_>) -> Action {
    let status = table.or("status", StatusCode::PERMANENT_REDIRECT);
    if !status.is_redirection() {
        table.refuse("status", "expected 301, 302, 303, 307 or 308");
    }
    let to = table.need::<String>("to", "where to, such as \"https://{host}{path}\"");
    let to = to.unwrap_or_default();
    let example = to.replace("{host}", "a").replace("{path}", "/");
    if example.contains(['{', '}']) || HeaderValue::from_str(&example).is_err() {
        table.refuse("to", "expected a URL, in which {host} and {path} stand for the request's");
    }
    Action::Redirect { status, to }
}

fn rewrite(table: &Table<'_>, path: &PathPattern) -> Option<String> {
    let to = table.get::<String>("rewrite");
    if table.or("strip_prefix", false) {
        if to.is_some() {
            table.refuse("rewrite", "`strip_prefix` replaces the prefix by nothing already");
        }
        if !matches!(path, PathPattern::Prefix(_)) {
            table.refuse("strip_prefix", "it is for routes with a `path_prefix`");
        }
        return Some(String::new());
    }
    let to = to?;
    if !to.starts_with('/') || to.parse::<http::uri::PathAndQuery>().is_err() || to.contains('?') {
        table.refuse("rewrite", "expected a path, which begins with a slash");
    }
    if matches!(path, PathPattern::Any) {
        table.refuse(
            "rewrite",
            "it replaces the `path` or the `path_prefix`, of which there is none",
        );
    }
    Some(path::normal(&to).trim_end_matches('/').to_owned())
}

/// `true`, `false`, or the name of a policy.
fn policy(table: &Table<'_>, cache: &Cache) -> Option<String> {
    let Some(value) = table.value("cache") else { return Some("default".to_owned()) };
    match value.get_ref() {
        toml::de::DeValue::Boolean(is_on) => is_on.then(|| "default".to_owned()),
        toml::de::DeValue::String(name) if cache.policies.contains_key(&**name) => {
            Some(name.to_string())
        }
        toml::de::DeValue::String(name) => {
            let names: Vec<_> = cache.policies.keys().map(String::as_str).collect();
            let title = format!("there is no cache policy `{name}`");
            table.problems().add(value.span(), title, expected_one_of(name, &names));
            None
        }
        _ => {
            let expected = "true, false, or the name of a [cache.policy.NAME]";
            super::value::wrong(value, "route.cache", expected, table.problems());
            None
        }
    }
}

/// Fields to set, or to remove by an empty value.
fn fields(table: &Table<'_>, key: &'static str) -> Fields {
    named_fields(table, key, HeaderValue::is_empty)
}

/// Fields by name. Some values stand for none.
pub(super) fn named_fields(
    table: &Table<'_>,
    key: &'static str,
    is_none: impl Fn(&HeaderValue) -> bool,
) -> Fields {
    let of = |(name, at, value): (&str, _, HeaderValue)| {
        if let Ok(name) = name.parse() {
            return Some((name, (!is_none(&value)).then_some(value)));
        }
        let title = format!("`{name}` is no name of a field");
        table.problems().add(at, title, "expected letters, digits and dashes");
        None
    };
    table.pairs(key).into_iter().filter_map(of).collect()
}
