//! Cases that meet in the places where caches differ.

use std::time::{Duration, UNIX_EPOCH};

use http::Method;
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;

use super::case::{Case, Fields, NOW};

fn date(secs: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs))
}

fn text(texts: &'static [&'static str]) -> BoxedStrategy<String> {
    select(texts).prop_map(str::to_owned).boxed()
}

/// Near `NOW`, so that what compares dates has something to compare.
fn near() -> BoxedStrategy<String> {
    (NOW - 200..NOW + 200).prop_map(date).boxed()
}

fn response_directive() -> BoxedStrategy<String> {
    let secs = || select(&[0u32, 1, 30, 60, 300][..]);
    prop_oneof![
        6 => secs().prop_map(|secs| format!("max-age={secs}")),
        4 => secs().prop_map(|secs| format!("s-maxage={secs}")),
        8 => text(&[
            "no-cache", "no-store", "private", "public", "must-revalidate", "proxy-revalidate",
            "must-understand", "immutable", "no-transform",
        ]),
        1 => secs().prop_map(|secs| format!("stale-while-revalidate={secs}")),
        1 => secs().prop_map(|secs| format!("stale-if-error={secs}")),
        2 => text(&[
            "no-cache=\"x-a\"", "private=\"x-a\"", "max-age", "s-maxage", "max-age=x", "max-age=\"60\"",
            "MAX-AGE=60", "No-Store", "Private", "max-age=9999999999", "x=\"a, no-store, b\"", "x=\"open",
        ]),
    ]
    .boxed()
}

fn request_directive() -> BoxedStrategy<String> {
    let secs = || select(&[0u32, 1, 10, 30, 60][..]);
    prop_oneof![
        4 => secs().prop_map(|secs| format!("max-age={secs}")),
        4 => secs().prop_map(|secs| format!("max-stale={secs}")),
        4 => secs().prop_map(|secs| format!("min-fresh={secs}")),
        4 => text(&["no-cache", "max-stale", "no-store", "x"]),
        1 => text(&["only-if-cached"]),
        1 => text(&["max-age=x", "max-stale=x", "min-fresh=x", "No-Cache", "min-fresh"]),
    ]
    .boxed()
}

/// Up to two lines, of up to three directives each.
fn control(directive: BoxedStrategy<String>, most: usize) -> BoxedStrategy<Fields> {
    let count = prop_oneof![4 => Just(1), 2 => Just(2), 1 => Just(3)];
    let line = count.prop_flat_map(move |count| vec(directive.clone(), count)).boxed();
    let line = line.prop_map(|list| ("cache-control", list.join(", ")));
    // Mostly one line: where much is said, more is excused.
    let lines = prop_oneof![2 => Just(0), 6 => Just(1.min(most)), 1 => 0..=most];
    lines.prop_flat_map(move |count| vec(line.clone(), count)).boxed()
}

/// The field, of one line or none; rarely of two.
fn field(name: &'static str, value: BoxedStrategy<String>, often: f64) -> BoxedStrategy<Fields> {
    (weighted(often, value.clone()), weighted(0.02, value))
        .prop_map(move |(one, two)| one.into_iter().chain(two).map(|value| (name, value)).collect())
        .boxed()
}

fn etag() -> BoxedStrategy<String> {
    text(&["\"a\"", "\"a\"", "\"b\"", "W/\"a\"", "unquoted"])
}

fn modified() -> BoxedStrategy<String> {
    let at = select(&[NOW - 1_000_000, NOW - 500, NOW - 500, NOW + 100][..]).prop_map(date);
    prop_oneof![9 => at, 1 => text(&["yesterday"])].boxed()
}

fn join(parts: impl IntoIterator<Item = Fields>) -> Fields {
    parts.into_iter().flatten().collect()
}

fn response() -> BoxedStrategy<Fields> {
    let old = date(NOW - 20);
    let expires = prop_oneof![
        9 => near(),
        1 => text(&["0", "Sunday, 06-Nov-94 08:50:37 GMT"]),
    ];
    let dates = prop_oneof![
        6 => Just(date(NOW)),
        2 => Just(old),
        1 => near(),
        1 => text(&["x", "Sunday, 06-Nov-94 08:49:27 GMT"]),
    ];
    let age = prop_oneof![9 => text(&["0", "5", "30", "100"]), 1 => text(&["x", "5, 10", "-1"])];
    let vary = text(&["x-a", "X-A", "accept-language", "x-a, accept-language", "*", "x-a, *"]);
    let parts = (
        control(response_directive(), 2),
        field("expires", expires.boxed(), 0.3),
        field("date", dates.boxed(), 0.6),
        field("age", age.boxed(), 0.3),
        field("last-modified", modified(), 0.4),
        field("etag", etag(), 0.4),
        field("vary", vary.boxed(), 0.3),
        weighted(0.05, Just(("set-cookie", "id=1".to_owned()))),
        weighted(0.05, Just(("pragma", "no-cache".to_owned()))),
        field("content-type", text(&["text/plain", "text/html"]), 0.5),
    );
    parts
        .prop_map(|(control, expires, date, age, modified, etag, vary, cookie, pragma, other)| {
            let single = cookie.into_iter().chain(pragma).collect();
            join([control, expires, date, age, modified, etag, vary, single, other])
        })
        .boxed()
}

/// What a request has beside its directives.
fn selecting() -> BoxedStrategy<Fields> {
    (
        field("x-a", text(&["1", "2"]), 0.5),
        field("accept-language", text(&["en, fr;q=1", "EN,fr; q=1", "fr"]), 0.5),
    )
        .prop_map(|(a, b)| join([a, b]))
        .boxed()
}

fn validation() -> BoxedStrategy<Fields> {
    (
        control(response_directive(), 1),
        field("last-modified", modified(), 0.3),
        field("etag", etag(), 0.5),
        field("content-type", text(&["text/plain", "text/html"]), 0.2),
        field("content-length", text(&["1", "2"]), 0.1),
        field("x-new", text(&["1", "2"]), 0.2),
    )
        .prop_map(|(control, modified, etag, ctype, length, new)| {
            join([control, modified, etag, ctype, length, new])
        })
        .boxed()
}

prop_compose! {
    pub(super) fn cases()(
        shared: bool,
        method in select(&[Method::GET; 20][..])
            .prop_union(select(&[Method::HEAD, Method::POST][..])),
        status in prop_oneof![
            6 => Just(200u16),
            4 => select(&[
                203u16, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 404, 405, 410, 418, 429,
                500, 501, 503, 599,
            ][..]),
        ],
        request in selecting(),
        credentials in of(select(&["authorization", "cookie"][..])),
        identified in weighted(0.2, Just(())),
        directives in control(request_directive(), 1),
        directed in weighted(0.1, Just(())),
        response in response(),
        delay in prop_oneof![9 => Just(0u64), 1 => 1..20u64],
        later_method in prop_oneof![9 => Just(Method::GET), 1 => Just(Method::HEAD)],
        same: bool,
        selecting in selecting(),
        later in control(request_directive(), 2),
        extra in field("pragma", text(&["no-cache", "x"]), 0.1),
        conditions in field("if-none-match", text(&["\"a\"", "\"z\""]), 0.1),
        elapsed in prop_oneof![select(&[0u64, 1, 10, 29, 30, 31, 60, 90][..]), 0..400u64],
        validation in validation(),
    ) -> Case {
        let credentials = credentials.filter(|_| identified.is_some());
        let credentials = credentials.into_iter().map(|name| (name, "x".to_owned()));
        // Who wants only what is there causes no exchange.
        let sent = |(_, value): &(&str, String)| !value.contains("only-if-cached");
        let directives = directives.into_iter().filter(|it| directed.is_some() && sent(it)).collect();
        let selecting = if same { request.clone() } else { selecting };
        Case {
            shared,
            method,
            status,
            request: join([request, credentials.collect(), directives]),
            response,
            delay,
            later_method,
            later: join([selecting, later, extra, conditions]),
            elapsed,
            validation,
        }
    }
}
