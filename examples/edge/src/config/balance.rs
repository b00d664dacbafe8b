//! By which rule a pool picks, and what it makes of backends that fail or begin.

use std::time::Duration;

use http::HeaderName;
use toml::Spanned;
use tower_keep_balance::proxy::Upstream;
use tower_keep_balance::{Hash, OutlierDetection, PeakEwma, Pool, SlowStart, Strategy};

use super::listener::positive;
use super::table::Table;

/// By what requests belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HashOn {
    Client,
    Uri,
    Header(HeaderName),
    Cookie(String),
}

/// What nginx, HAProxy, Envoy, Caddy and Traefik call some of them.
const FOREIGN: [(&str, &str); 16] = [
    ("least_conn", "least-connections"),
    ("leastconn", "least-connections"),
    ("least_request", "two-choices"),
    ("random_choose", "two-choices"),
    ("p2c", "two-choices"),
    ("ewma", "peak-ewma"),
    ("roundrobin", "round-robin"),
    ("wrr", "round-robin"),
    ("static-rr", "round-robin"),
    ("weighted_round_robin", "round-robin"),
    ("ip_hash", "hash"),
    ("source", "hash"),
    ("maglev", "hash"),
    ("ring_hash", "hash"),
    ("header", "hash"),
    ("cookie", "hash"),
];

pub(super) fn strategy(table: &Table<'_>) -> Strategy {
    let hash = Strategy::Hash(match table.or_none("bounded_load", None) {
        Some(percent) => {
            if percent <= 100 {
                table.refuse(
                    "bounded_load",
                    "expected more than 100, as 125 percent of a fair share",
                );
            }
            Hash::default().bounded_load(percent)
        }
        None => Hash::default(),
    });
    let decay = positive(table, "ewma_decay", Duration::from_secs(10));
    let initial = positive(table, "ewma_initial", Duration::from_millis(30));
    let peak = Strategy::PeakEwma(PeakEwma::default().decay(decay).initial(initial));
    let strategies = [
        ("peak-ewma", peak),
        ("round-robin", Strategy::RoundRobin),
        ("random", Strategy::Random),
        ("least-connections", Strategy::LeastConnections),
        ("two-choices", Strategy::TwoChoices),
        ("hash", hash),
    ];
    let strategy = table.choice_or("strategy", peak, &strategies, &FOREIGN);
    if !matches!(strategy, Strategy::Hash(_)) && table.value("bounded_load").is_some() {
        needs_hash(table, "bounded_load");
    }
    strategy
}

fn needs_hash(table: &Table<'_>, key: &'static str) {
    table.refuse(key, "it is for `strategy = \"hash\"`");
}

pub(super) fn hash_on(table: &Table<'_>, strategy: Strategy) -> Vec<HashOn> {
    let names = table.get::<Vec<Spanned<String>>>("hash_on");
    let is_hash = matches!(strategy, Strategy::Hash(_));
    match names {
        None if is_hash => vec![HashOn::Client],
        None => Vec::new(),
        Some(names) => {
            if !is_hash {
                needs_hash(table, "hash_on");
            }
            names.iter().filter_map(|name| hash_on_one(table, name)).collect()
        }
    }
}

fn hash_on_one(table: &Table<'_>, name: &Spanned<String>) -> Option<HashOn> {
    let part = match name.get_ref().split_once(':') {
        None if name.get_ref() == "client" => Some(HashOn::Client),
        None if name.get_ref() == "uri" => Some(HashOn::Uri),
        Some(("header", field)) => field.trim().parse().ok().map(HashOn::Header),
        Some(("cookie", cookie)) => Some(HashOn::Cookie(cookie.trim().to_owned())),
        _ => None,
    };
    if part.is_none() {
        let expected = "expected \"client\", \"uri\", \"header:NAME\" or \"cookie:NAME\"";
        table.refuse_at(name.span(), "hash_on", expected);
    }
    part
}

pub(super) fn slow_start(pool: &Table<'_>) -> Option<SlowStart> {
    let table = pool.table("slow_start")?;
    let window = positive(&table, "window", Duration::from_secs(30));
    #[allow(clippy::cast_possible_truncation, reason = "no more than two digits of it matter")]
    let aggression = table.or("aggression", 1.0) as f32;
    let minimum = table.within("minimum", 10, 1..=100);
    let slow_start = SlowStart::within(window).aggression(aggression).minimum(minimum);
    table.check(Pool::<Upstream>::builder().slow_start(slow_start).build())?;
    Some(slow_start)
}

/// On, unless it is switched off.
pub(super) fn outlier(pool: &Table<'_>) -> Option<OutlierDetection> {
    let Some(table) = pool.table("outlier") else { return Some(OutlierDetection::new()) };
    let is_on = table.or("enabled", true);
    let outlier = OutlierDetection::new()
        .consecutive_failures(table.or("consecutive_failures", 5))
        .window(table.or("window", Duration::from_secs(10)))
        .minimum_requests(table.or("minimum_requests", 100))
        .success_rate_deviation(table.or_none("success_rate_deviation", Some(1.9)))
        .failure_percentage(table.or_none("failure_percentage", None))
        .base_ejection(table.or("base_ejection", Duration::from_secs(30)))
        .max_ejection(table.or("max_ejection", Duration::from_secs(300)))
        .max_ejected_percent(table.within("max_ejected_percent", 50, 1..=100));
    table.check(Pool::<Upstream>::builder().outlier_detection(outlier).build())?;
    is_on.then_some(outlier)
}
