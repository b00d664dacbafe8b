//! The router against the plainest possible one, for any routes and requests.

use http::HeaderValue;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::config::{Literal, PathPattern};

fn host_pattern() -> impl Strategy<Value = HostPattern> {
    let exact =
        select(vec!["a.test", "b.a.test", "test"]).prop_map(|host| HostPattern::Exact(host.into()));
    let below = select(vec![".a.test", ".test"]).prop_map(|host| HostPattern::Below(host.into()));
    prop_oneof![exact, below]
}

fn path_pattern() -> impl Strategy<Value = PathPattern> {
    let paths = || {
        let texts = select(vec!["/a", "/a/b", "/ab", "/a/b/c", "/A", "/A/b"]);
        (texts, any::<bool>()).prop_map(|(text, ignores_case)| Literal::new(text, ignores_case))
    };
    prop_oneof![
        // Often, so that the rest decides.
        4 => Just(PathPattern::Any),
        1 => paths().prop_map(PathPattern::Exact),
        1 => paths().prop_map(PathPattern::Prefix),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let methods = vec(select(vec![Method::GET, Method::POST]), 0..2);
    let value = select(vec![None, Some(HeaderValue::from_static("1"))]);
    let headers =
        vec((select(vec!["x-a", "x-b"]).prop_map(|name| name.parse().unwrap()), value), 0..3);
    let listeners = vec(select(vec!["one".to_owned(), "two".to_owned()]), 0..2);
    let hosts = prop_oneof![2 => Just(Vec::new()), 1 => vec(host_pattern(), 1..3)];
    (hosts, path_pattern(), methods, headers, listeners).prop_map(
        |(hosts, path, methods, headers, listeners)| Condition {
            listeners,
            hosts,
            path,
            methods,
            headers,
        },
    )
}

/// Whether `condition` is for the request, with `host` as the one of its hosts.
fn meets(condition: &Condition, host: Option<&HostPattern>, asked: &Asked<'_>) -> bool {
    let is_host = match host {
        None => true,
        Some(HostPattern::Exact(host)) => host == asked.host,
        Some(HostPattern::Below(end)) => {
            asked.host.strip_suffix(end.as_str()).is_some_and(|it| !it.is_empty())
        }
    };
    let path = |literal: &Literal| {
        if literal.ignores_case { asked.path.to_lowercase() } else { asked.path.to_owned() }
    };
    let is_path = match &condition.path {
        PathPattern::Any => true,
        PathPattern::Exact(it) => path(it) == it.text,
        PathPattern::Prefix(it) => {
            path(it) == it.text || path(it).starts_with(&format!("{}/", it.text))
        }
    };
    let has = |name: &http::HeaderName, value: &Option<HeaderValue>| match value {
        None => asked.headers.contains_key(name),
        Some(value) => asked.headers.get(name) == Some(value),
    };
    is_host
        && is_path
        && (condition.methods.is_empty() || condition.methods.contains(asked.method))
        && (condition.listeners.is_empty()
            || condition.listeners.iter().any(|it| it == asked.listener))
        && condition.headers.iter().all(|(name, value)| has(name, value))
}

/// As the documentation has it: a number for each thing that counts, the first one most.
fn rank(condition: &Condition, host: Option<&HostPattern>) -> [usize; 8] {
    let (host_kind, host_length) = match host {
        Some(HostPattern::Exact(_)) => (2, 0),
        Some(HostPattern::Below(end)) => (1, end.len()),
        None => (0, 0),
    };
    let (path_kind, path_length, path_case) = match &condition.path {
        PathPattern::Exact(it) => (2, 0, !it.ignores_case),
        PathPattern::Prefix(it) => (1, it.text.len(), !it.ignores_case),
        PathPattern::Any => (0, 0, false),
    };
    let (methods, listeners) = (!condition.methods.is_empty(), !condition.listeners.is_empty());
    [
        host_kind,
        host_length,
        path_kind,
        path_length,
        usize::from(path_case),
        condition.headers.len(),
        usize::from(methods),
        usize::from(listeners),
    ]
}

fn plainest(routes: &[Condition], asked: &Asked<'_>) -> Option<usize> {
    let mut best: Option<([usize; 8], usize)> = None;
    for (at, condition) in routes.iter().enumerate() {
        let hosts: Vec<_> = if condition.hosts.is_empty() {
            vec![None]
        } else {
            condition.hosts.iter().map(Some).collect()
        };
        for host in hosts {
            let rank = rank(condition, host);
            if meets(condition, host, asked) && best.is_none_or(|(before, _)| rank > before) {
                best = Some((rank, at));
            }
        }
    }
    best.map(|(_, at)| at)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_most_specific_route_takes_a_request_whatever_their_order(
        routes in vec(condition(), 0..8),
        host in select(vec!["a.test", "b.a.test", "c.b.a.test", "test", "other", ""]),
        path in select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/A", "/A/B"]),
        method in select(vec![Method::GET, Method::POST]),
        (a, b) in (any::<Option<bool>>(), any::<Option<bool>>()),
        listener in select(vec!["one", "two", "three"]),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", a), ("x-b", b)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(if value { "1" } else { "2" }));
            }
        }
        let asked = Asked { listener, host, path, method: &method, headers: &headers };
        let router = Router::new(routes.iter().cloned().zip(0..));
        prop_assert_eq!(router.find(asked).copied(), plainest(&routes, &asked));
    }
}

#[test]
fn an_example_of_each_rule() {
    let prefix = |prefix: &str| PathPattern::Prefix(Literal::new(prefix, false));
    let at = |path| Condition { path, ..Condition::default() };
    let routes = [
        ("any", Condition::default()),
        ("a", at(prefix("/a"))),
        ("a/b", at(prefix("/a/b"))),
        ("exact", at(PathPattern::Exact(Literal::new("/a/b", false)))),
        ("A in any case", at(PathPattern::Prefix(Literal::new("/A", true)))),
        ("post", Condition { methods: vec![Method::POST], ..at(prefix("/a")) }),
        ("host", Condition { hosts: vec![HostPattern::Below(".test".into())], ..at(prefix("/a")) }),
    ];
    let router = Router::new(routes.map(|(name, condition)| (condition, name)));
    let find = |host, path, method: &Method| {
        let headers = HeaderMap::new();
        *router.find(Asked { listener: "", host, path, method, headers: &headers }).unwrap()
    };
    assert_eq!(find("x", "/", &Method::GET), "any");
    assert_eq!(find("x", "/a/c", &Method::GET), "a");
    assert_eq!(find("x", "/A/c", &Method::GET), "A in any case");
    assert_eq!(find("x", "/a/c", &Method::POST), "post");
    assert_eq!(find("x", "/a/b/c", &Method::POST), "a/b");
    assert_eq!(find("x", "/a/b", &Method::GET), "exact");
    assert_eq!(find("x.test", "/a/b", &Method::GET), "host");
    assert_eq!(find("x.test", "/b", &Method::GET), "any");
}
