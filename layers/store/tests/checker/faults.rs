//! What is done to the nodes and to their servers.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_keep_testing::{RedisCluster, RedisSentinel, RedisServer, Reply, Traffic, Way};

use super::field::Field;
use super::origin::now;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    EarsCut,
    ConnectionsCut,
    RedisFrozen,
    RedisKilled,
    Flushed,
    TagsDeleted,
    ScriptsFlushed,
    NodeCutOff,
    NodeHeldUp,
    NodeFrozen,
    PrimaryKilled,
    PrimaryFrozen,
}

/// How often each was injected.
pub type Injected = BTreeMap<Fault, u32>;

/// The longest that something lasts.
const LONGEST: Duration = Duration::from_millis(2500);

const ON_ONE_SERVER: [Fault; 10] = [
    Fault::EarsCut,
    Fault::ConnectionsCut,
    Fault::RedisFrozen,
    Fault::RedisKilled,
    Fault::Flushed,
    Fault::TagsDeleted,
    Fault::ScriptsFlushed,
    Fault::NodeCutOff,
    Fault::NodeHeldUp,
    Fault::NodeFrozen,
];

const ON_A_CLUSTER: [Fault; 4] =
    [Fault::PrimaryKilled, Fault::NodeFrozen, Fault::PrimaryFrozen, Fault::ConnectionsCut];

/// What a replica may not have got of what had been acknowledged before its primary was lost, in
/// nanoseconds.
const BEHIND: u64 = 1_000_000_000;

/// Injects one fault after the other, in random order, each once before one of them is repeated.
/// After each, all nodes come into step again, and are left in peace for a while.
pub async fn on_one_server(
    field: &mut Field,
    server: &mut RedisServer,
    ways: &[Way],
    lasts: Duration,
) -> Injected {
    let (start, mut deck, mut injected) = (Instant::now(), Vec::new(), Injected::new());
    while start.elapsed() < lasts {
        let peace = field.span(Duration::from_millis(1500));
        sleep(peace).await;
        let fault = draw(field, &mut deck, &ON_ONE_SERVER);
        let (from, span) = (now(), field.span(LONGEST));
        let node = field.random.usize(..ways.len());
        match fault {
            Fault::EarsCut => drop(server.command(&[b"CLIENT", b"KILL", b"TYPE", b"PUBSUB"]).await),
            Fault::ConnectionsCut => {
                drop(server.command(&[b"CLIENT", b"KILL", b"TYPE", b"NORMAL"]).await);
            }
            Fault::RedisFrozen => {
                server.pause();
                sleep(span).await;
                server.resume();
            }
            Fault::RedisKilled => {
                server.kill();
                sleep(span / 2).await;
                server.restart().await;
            }
            Fault::Flushed => drop(server.command(&[b"FLUSHALL"]).await),
            Fault::TagsDeleted => {
                drop(
                    server
                        .command(&[b"DEL", b"{tk}:epoch", b"{tk}:t:group-0", b"{tk}:t:again-0"])
                        .await,
                );
            }
            Fault::ScriptsFlushed => drop(server.command(&[b"SCRIPT", b"FLUSH"]).await),
            Fault::NodeCutOff | Fault::NodeHeldUp => {
                let cut = fault == Fault::NodeCutOff;
                ways[node].set(if cut { Traffic::Ends } else { Traffic::Waits });
                // Long enough for what it holds to be due.
                sleep(2 * span).await;
                ways[node].set(Traffic::Flows);
            }
            Fault::NodeFrozen => field.freeze(node, span).await,
            Fault::PrimaryKilled | Fault::PrimaryFrozen => {
                unreachable!("there is no other")
            }
        }
        field.in_step().await;
        field.history.faults.push((from, now()));
        *injected.entry(fault).or_default() += 1;
    }
    injected
}

/// The same on a Cluster.
pub async fn on_a_cluster(
    field: &mut Field,
    cluster: &mut RedisCluster,
    lasts: Duration,
) -> Injected {
    let (start, mut deck, mut injected) = (Instant::now(), Vec::new(), Injected::new());
    while start.elapsed() < lasts {
        let peace = field.span(Duration::from_millis(1500));
        sleep(peace).await;
        let fault = draw(field, &mut deck, &ON_A_CLUSTER);
        let (from, span) = (now(), field.span(LONGEST));
        match fault {
            Fault::NodeFrozen => {
                let node = field.random.usize(..field.nodes.len());
                field.freeze(node, span).await;
            }
            Fault::ConnectionsCut => {
                let server = cluster.node(field.random.usize(..6));
                let reply = server.command(&[b"CLIENT", b"KILL", b"TYPE", b"NORMAL"]).await;
                assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
            }
            _ => {
                let key = *field.random.choice(["{tk}", "tk:2:number:1"].iter()).unwrap();
                let primary = cluster.primary_of(key).await;
                if fault == Fault::PrimaryKilled {
                    cluster.node_mut(primary).kill();
                    cluster.failed_over(key, primary).await;
                    cluster.node_mut(primary).restart().await;
                } else {
                    cluster.node(primary).pause();
                    cluster.failed_over(key, primary).await;
                    cluster.node(primary).resume();
                }
                cluster.whole().await;
            }
        }
        field.in_step().await;
        if matches!(fault, Fault::PrimaryKilled | Fault::PrimaryFrozen) {
            field.history.lossy.push((from.saturating_sub(BEHIND), now()));
        }
        field.history.faults.push((from, now()));
        *injected.entry(fault).or_default() += 1;
    }
    injected
}

/// The same where sentinels replace the primary: each time, a node is frozen first. They take their time
/// between two failovers.
pub async fn under_sentinels(
    field: &mut Field,
    servers: &mut RedisSentinel,
    lasts: Duration,
) -> Injected {
    let (start, mut injected) = (Instant::now(), Injected::new());
    while start.elapsed() < lasts {
        let (from, span) = (now(), field.span(LONGEST));
        let node = field.random.usize(..field.nodes.len());
        field.freeze(node, span).await;
        field.in_step().await;
        field.history.faults.push((from, now()));
        *injected.entry(Fault::NodeFrozen).or_default() += 1;

        let peace = field.span(Duration::from_secs(3));
        sleep(peace).await;
        let from = now();
        let old = servers.primary().await.unwrap();
        let fault = if field.random.bool() { Fault::PrimaryKilled } else { Fault::PrimaryFrozen };
        if fault == Fault::PrimaryKilled {
            servers.server_mut(old).kill();
            servers.failed_over(old).await;
            servers.server_mut(old).restart().await;
        } else {
            servers.server(old).pause();
            servers.failed_over(old).await;
            servers.server(old).resume();
        }
        servers.whole().await;
        field.in_step().await;
        field.history.lossy.push((from.saturating_sub(BEHIND), now()));
        field.history.faults.push((from, now()));
        *injected.entry(fault).or_default() += 1;
    }
    let peace = field.span(Duration::from_secs(3));
    sleep(peace).await;
    injected
}

fn draw(field: &mut Field, deck: &mut Vec<Fault>, all: &[Fault]) -> Fault {
    if deck.is_empty() {
        deck.extend(all);
        field.random.shuffle(deck);
    }
    deck.pop().unwrap()
}
