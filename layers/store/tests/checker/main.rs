//! A history checker: several processes read, write and invalidate at random while Redis and the ways
//! to it are damaged, and every single read is judged when the run is over.
//!
//! Every value tells when a fill began to fetch it. One that is merely validated keeps that, and its
//! origin's version of it often stays the same when it is invalidated: so what is brought back shows.
//!
//! What is judged is invariant I1. Let an invalidation (of a key, of a tag, of a space or everything; a
//! `set` is one, too) be called, and return. Then no read that begins later returns, of a key that it
//! covers, what was stored or being fetched when it was called:
//!
//! 1. on the node that called it: from the moment that it returned, whatever it returned;
//! 2. on another node that has been in touch since: within a second, which is several hundred times what
//!    an announcement takes, for busy machines;
//! 3. on any other node, one that was frozen included: within four heartbeats, by when a loss is noticed;
//!    `max_unsynced`, for which a node goes on; and a second for busy machines.
//!
//! Where the call returned `ThisNode`, 2 and 3 count from when the node has nothing owed any more.
//! Where a failover may have lost what was acknowledged (see `Reach::Everywhere`), from when it is over.
//! What a `set` stores is as of its return: whatever is invalidated meanwhile may come before it. At the
//! very end, all know the truth.
//!
//! Every run prints its seed. `TOWER_KEEP_SEED=…` makes the same choices again, of operations and of
//! faults; `TOWER_KEEP_SECONDS=…` sets how long each scenario lasts.
#![cfg(feature = "redis")]
#![allow(unreachable_pub, reason = "the parts of a test")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "it tells its seed and what it found")]

mod broken;
mod faults;
mod field;
mod fills;
mod late;
mod node;
mod origin;
mod record;
mod verdict;

use std::env;
use std::time::Duration;

use tokio::time::sleep;
use tower_keep_testing::{Employer, RedisCluster, RedisSentinel, RedisServer, Way};

use faults::Injected;
use field::{Counts, Field, Plan};
use node::MAX_UNSYNCED;
use verdict::{Bounds, Verdict, check};

const NODES: usize = 3;

/// What busy machines are given on top.
const SLACK: Duration = Duration::from_secs(1);

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap())
}

fn lasts() -> Duration {
    Duration::from_secs(number("TOWER_KEEP_SECONDS").unwrap_or(20))
}

fn plan(heartbeat: u64, deadline: u64, broken: &'static str, urls: Vec<String>) -> Plan {
    let seed = number("TOWER_KEEP_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("TOWER_KEEP_SEED={seed}");
    let (heartbeat, deadline) = (Duration::from_millis(heartbeat), Duration::from_millis(deadline));
    Plan { seed, heartbeat, deadline, broken, urls }
}

/// Judges a run that is over.
async fn judge(field: Field, plan: &Plan) -> (Verdict, Counts) {
    let any = 4 * plan.heartbeat + MAX_UNSYNCED + SLACK;
    let (history, counts) = field.end(any).await;
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap();
    let bounds = Bounds { in_touch: nanos(SLACK), any: nanos(any) };
    (check(&history, bounds), counts)
}

fn report(scenario: &str, verdict: &Verdict, counts: &Counts, injected: &Injected) {
    let Verdict { reads, invalidations, own, in_touch, any, violations, .. } = verdict;
    let faults: u32 = injected.values().sum();
    eprintln!(
        "{scenario}: {reads} reads, {invalidations} invalidations, {faults} faults {injected:?}"
    );
    eprintln!("  {counts:?}");
    eprintln!("  reads judged by rule 1: {own}, 2: {in_touch}, 3: {any}");
    eprintln!(
        "  the latest old value on another node: {:?} after, in touch; {:?}, otherwise",
        Duration::from_nanos(verdict.latest_in_touch),
        Duration::from_nanos(verdict.latest)
    );
    eprintln!("  violations: {}", violations.len());
    for violation in violations.iter().take(10) {
        eprintln!("    {violation}");
    }
}

fn nothing_was_violated(verdict: &Verdict, counts: &Counts, injected: &Injected) {
    assert_eq!(verdict.violations, [""; 0]);
    assert!(verdict.own > 0 && verdict.in_touch > 0 && verdict.any > 0, "{verdict:?}");
    let Counts { l1_hits, l2_hits, fills, validated, losses, deferred } = *counts;
    for exercised in [l1_hits, l2_hits, fills, validated, losses, deferred] {
        assert!(exercised > 0, "{counts:?}");
    }
    assert!(injected.values().sum::<u32>() > 1, "{injected:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_one_server_keep_the_promise_whatever_happens_to_it() {
    let mut server = RedisServer::start().await;
    let mut ways = Vec::new();
    for _ in 0..NODES {
        ways.push(Way::open(server.port()).await);
    }
    let plan = plan(100, 100, "", ways.iter().map(Way::url).collect());
    let mut field = Field::start(&plan).await;
    let injected = faults::on_one_server(&mut field, &mut server, &ways, lasts()).await;
    let (verdict, counts) = judge(field, &plan).await;
    report("one server", &verdict, &counts, &injected);
    nothing_was_violated(&verdict, &counts, &injected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_a_cluster_keep_the_promise_when_it_fails_over() {
    let mut cluster = RedisCluster::start().await;
    let urls = (0..NODES).map(|node| cluster.url_of(node)).collect();
    let plan = plan(250, 400, "", urls);
    let mut field = Field::start(&plan).await;
    let injected = faults::on_a_cluster(&mut field, &mut cluster, lasts()).await;
    let (verdict, counts) = judge(field, &plan).await;
    report("Cluster", &verdict, &counts, &injected);
    nothing_was_violated(&verdict, &counts, &injected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_keep_the_promise_when_sentinels_replace_the_primary() {
    let mut servers = RedisSentinel::start().await;
    let plan = plan(200, 300, "", vec![servers.url(); NODES]);
    let mut field = Field::start(&plan).await;
    let injected = faults::under_sentinels(&mut field, &mut servers, lasts() / 4).await;
    let (verdict, counts) = judge(field, &plan).await;
    report("Sentinel", &verdict, &counts, &injected);
    nothing_was_violated(&verdict, &counts, &injected);
}

/// Whether the checker finds that nodes which are broken violate each of these rules. Which of them a run
/// shows is left to chance, so there is another, twice as long, where one is missing.
async fn finds<const N: usize>(broken: &'static str, rules: [&str; N]) -> bool {
    let mut missing: Vec<&str> = rules.into();
    for length in [4_500, 9_000, 18_000] {
        let server = RedisServer::start().await;
        let plan = plan(100, 100, broken, vec![server.url(); NODES]);
        let field = Field::start(&plan).await;
        sleep(Duration::from_millis(length)).await;
        let (verdict, counts) = judge(field, &plan).await;
        report(broken, &verdict, &counts, &Injected::new());
        missing.retain(|rule| !verdict.violations.iter().any(|it| it.ends_with(rule)));
        if missing.is_empty() {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_of_tags_that_is_off_is_found_out() {
    assert!(finds("Tags", ["it was in touch"]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_that_are_dropped_are_found_out() {
    let rules = ["it was in touch", "the bound for all nodes had passed"];
    assert!(finds("Announcements", rules).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_by_being_validated_is_found_out() {
    assert!(finds("Validation", ["it was in touch"]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removals_that_are_only_acknowledged_are_found_out() {
    assert!(finds("Removals", ["it had invalidated that itself"]).await);
}

/// Does nothing, unless one of the other tests has started it as a node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node() {
    if let Some(employer) = Employer::find().await {
        node::run(employer).await;
    }
}
