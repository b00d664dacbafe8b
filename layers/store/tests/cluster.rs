//! Two nodes on a Redis Cluster whose primaries die, hang and hand on their slots.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/deaf.rs"]
mod deaf;
#[path = "support/nodes.rs"]
mod nodes;

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_keep_store::{Reach, Redis, Store, Ttl};
use tower_keep_testing::{RedisCluster, RedisServer, Reply};

use deaf::Deaf;
use nodes::{A_WHILE, caught_up, disconnect, fill, followers, l2_reads, node_on, numbers, until};

/// Enough keys for every primary to have some.
const KEYS: std::ops::Range<u64> = 0..30;

/// The longest that the second tier may be out of use after a primary is lost: the Cluster takes up
/// to three seconds of it.
const BOUND: Duration = Duration::from_secs(10);

async fn node(cluster: &RedisCluster) -> Store {
    node_with(cluster, 1).await
}

async fn node_with(cluster: &RedisCluster, connections: usize) -> Store {
    node_on(connect(cluster, connections).await).await
}

async fn connect(cluster: &RedisCluster, connections: usize) -> Redis {
    // One server is enough to find the others by, also when it is that which dies.
    let redis = Redis::builder(&cluster.url_of(0)).heartbeat(Duration::from_millis(250));
    // A machine that runs several Clusters at once is slow at times.
    let redis = redis.deadline(Duration::from_millis(400)).connections(connections);
    redis.connect().await.unwrap()
}

/// A node that doesn't listen at `primary`: at which one it does differs by node.
async fn node_that_listens_elsewhere(cluster: &RedisCluster, primary: &RedisServer) -> Store {
    loop {
        // By their ids: the connection of the last one that was dropped may take a while to go.
        let before = followers(primary).await;
        let node = node(cluster).await;
        if followers(primary).await.iter().all(|id| before.contains(id)) {
            return node;
        }
    }
}

async fn nodes(cluster: &RedisCluster) -> [Store; 2] {
    [node(cluster).await, node_with(cluster, 3).await]
}

fn tagged() -> Ttl {
    Ttl::secs(600).tags(["t"])
}

/// Lets both hold `value` at all keys.
async fn both_hold([a, b]: &[Store; 2], value: u32) {
    for key in KEYS {
        until("a has set it", async || {
            numbers(a).set(&key, value, tagged()).await.unwrap() == Reach::Everywhere
        })
        .await;
        until("b has it", async || numbers(b).get(&key).await.as_deref() == Some(&value)).await;
    }
}

/// Lets both hold 1 at all keys, as the one filled it in and the other found it. What is set is done
/// again where a failover may have lost it.
async fn both_find([a, b]: &[Store; 2]) {
    for key in KEYS {
        until("b has it", async || {
            fill(&numbers(a), key, 1).await;
            numbers(b).get(&key).await.is_some()
        })
        .await;
    }
}

async fn in_step(nodes: &[Store; 2]) {
    let start = Instant::now();
    until("both are in step", async || nodes.iter().all(Store::is_synced)).await;
    assert!(start.elapsed() < BOUND, "only after {:?}", start.elapsed());
}

async fn known(node: &Store) -> Vec<(u64, u32)> {
    let mut known = Vec::new();
    for key in KEYS {
        known.extend(numbers(node).get(&key).await.map(|value| (key, *value)));
    }
    known
}

#[tokio::test]
async fn nodes_do_on_a_cluster_what_they_do_on_one_server() {
    let cluster = RedisCluster::start().await;
    let both = nodes(&cluster).await;
    let [a, b] = &both;
    let (on_a, on_b) = (numbers(a), numbers(b));
    both_hold(&both, 1).await;
    let keys: Vec<u64> = KEYS.collect();
    let c = node(&cluster).await;
    let found = numbers(&c).get_many(&keys).await;
    assert_eq!(found.iter().flatten().count(), keys.len(), "{:?}", c.stats());
    let more: Vec<u64> = (1000..1060).collect();
    let origin =
        |keys: Vec<u64>| async { Ok::<_, io::Error>(keys.into_iter().map(|key| (key, 7))) };
    let filled = numbers(&c).get_or_try_set_many(more, tagged(), origin).await;
    assert!(filled.iter().all(|value| value.as_deref().is_ok_and(|value| *value == 7)));

    for key in KEYS.take(6) {
        assert_eq!(on_a.remove(&key).await, Reach::Everywhere);
        until("it is removed", async || on_b.get(&key).await.is_none()).await;
        // A fill that is too slow for the second tier is kept by b alone.
        until("a finds what b filled", async || {
            on_a.remove(&key).await;
            fill(&on_b, key, 2).await;
            sleep(Duration::from_millis(10)).await;
            on_a.get(&key).await.as_deref() == Some(&2)
        })
        .await;
        assert_eq!(on_b.expire(&key).await, Reach::Everywhere);
        until("a refreshes", async || fill(&on_a, key, 3).await == 3).await;
    }
    for way in ["tag", "space", "clear"] {
        both_hold(&both, 10).await;
        let reach = match way {
            "tag" => b.invalidate_tag("t").await.unwrap(),
            "space" => on_b.clear().await,
            _ => b.clear().await,
        };
        assert_eq!(reach, Reach::Everywhere, "{way}");
        until(way, async || known(a).await.is_empty() && known(b).await.is_empty()).await;
    }
    both_hold(&both, 20).await;
    assert_eq!(b.expire_tag("t").await.unwrap(), Reach::Everywhere);
    until("a refreshes", async || fill(&on_a, 1, 21).await == 21).await;
    for node in &both {
        assert_eq!(node.stats().bad_frames, 0);
    }
}

/// Loses the primary of `key`, and sees the store through it.
async fn fails_over(key: &str, frozen: bool) {
    let mut cluster = RedisCluster::start().await;
    let both = nodes(&cluster).await;
    let [a, b] = &both;
    both_hold(&both, 1).await;
    let primary = cluster.primary_of(key).await;
    if frozen {
        cluster.node(primary).pause();
    } else {
        cluster.node_mut(primary).kill();
    }
    let lost = Instant::now();
    until("a has noticed", async || !a.is_synced()).await;
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::ThisNode);
    for key in KEYS {
        let before = Instant::now();
        assert_eq!(fill(&numbers(a), key, 2).await, 2);
        assert!(before.elapsed() < Duration::from_secs(1), "everybody is answered soon");
    }
    cluster.failed_over(key, primary).await;
    in_step(&both).await;
    assert!(lost.elapsed() < BOUND, "in use again only after {:?}", lost.elapsed());
    until("b is told", async || known(b).await.iter().all(|(_, value)| *value != 1)).await;
    if frozen {
        cluster.node(primary).resume();
    } else {
        cluster.node_mut(primary).restart().await;
    }
    cluster.whole().await;
    in_step(&both).await;
    for key in KEYS {
        let set = numbers(b).set(&key, 3, tagged()).await;
        assert_eq!(set.unwrap(), Reach::Everywhere);
    }
    until("a reads what b wrote", async || {
        known(a).await.iter().filter(|(_, value)| *value == 3).count() == KEYS.count()
    })
    .await;
}

#[tokio::test]
async fn the_primary_of_the_tags_dies() {
    fails_over("{tk}", false).await;
}

#[tokio::test]
async fn the_primary_of_the_tags_hangs() {
    fails_over("{tk}", true).await;
}

#[tokio::test]
async fn the_primary_of_an_entry_dies() {
    fails_over("tk:2:number:1", false).await;
}

#[tokio::test]
async fn a_removal_that_a_failover_loses_is_done_again() {
    let mut cluster = RedisCluster::start().await;
    let both = nodes(&cluster).await;
    let [a, b] = &both;
    both_hold(&both, 1).await;
    let primary = cluster.primary_of("tk:2:number:1").await;
    assert_eq!(cluster.node(primary).command(&[b"WAIT", b"1", b"5000"]).await, Reply::Int(1));
    // From here on, the replica gets nothing any more.
    cluster.node(primary + 3).pause();
    cluster.node(primary).command(&[b"CLIENT", b"KILL", b"TYPE", b"REPLICA"]).await;
    assert_eq!(numbers(a).remove(&1).await, Reach::Everywhere);
    cluster.node_mut(primary).kill();
    cluster.node(primary + 3).resume();
    cluster.failed_over("tk:2:number:1", primary).await;
    in_step(&both).await;
    until("it is removed again", async || numbers(b).get(&1).await.is_none()).await;
    assert_eq!(numbers(a).get(&1).await, None);
}

#[tokio::test]
async fn a_primary_hands_over_to_its_replica() {
    let cluster = RedisCluster::start().await;
    let both = nodes(&cluster).await;
    both_hold(&both, 1).await;
    let old = cluster.primary_of("{tk}").await;
    // No connection ends: the old one just isn't the primary any more.
    cluster.node(old + 3).command(&[b"CLUSTER", b"FAILOVER"]).await;
    cluster.failed_over("{tk}", old).await;
    until("invalidations reach it", async || {
        both[0].invalidate_tag("t").await.unwrap() == Reach::Everywhere
    })
    .await;
    until("b is told", async || known(&both[1]).await.is_empty()).await;
    in_step(&both).await;
    both_hold(&both, 2).await;
}

#[tokio::test]
async fn slots_move_under_traffic() {
    let cluster = RedisCluster::start().await;
    let both = nodes(&cluster).await;
    let [a, b] = &both;
    both_hold(&both, 1).await;
    let (mut truth, tags) = (1, cluster.slot("{tk}").await);
    for key in ["{tk}", "tk:2:number:1", "tk:2:number:2"] {
        let (slot, from) = (cluster.slot(key).await, cluster.primary_of(key).await);
        let to = (from + 1) % 3;
        cluster.begin_migration(slot, from, to).await;
        for step in 0.. {
            truth += 1;
            let keys = [1, 2, 3];
            for key in keys {
                let reach = numbers(a).remove(&key).await;
                // A script needs the tag and the clock, which are in different places on the way.
                assert!(reach == Reach::Everywhere || slot == tags, "{reach:?} of {key}");
                assert_eq!(fill(&numbers(a), key, truth).await, truth);
            }
            a.invalidate_tag("t").await.unwrap();
            for key in keys {
                assert_eq!(fill(&numbers(a), key, truth + 1).await, truth + 1);
            }
            truth += 1;
            until("b sees no older value", async || {
                known(b).await.iter().all(|(key, value)| !keys.contains(key) || *value == truth)
            })
            .await;
            if cluster.migrate_keys(slot, from, to, 1).await == 0 && step > 0 {
                break;
            }
        }
        cluster.end_migration(slot, from, to).await;
        in_step(&both).await;
        for key in 1..=3 {
            let set = numbers(b).set(&key, truth, tagged()).await;
            assert_eq!(set.unwrap(), Reach::Everywhere);
            until("a sees it", async || numbers(a).get(&key).await.as_deref() == Some(&truth))
                .await;
        }
    }
}

#[tokio::test]
async fn links_within_the_cluster_that_are_cut_are_noticed() {
    let cluster = RedisCluster::start().await;
    let both = nodes(&cluster).await;
    let [_, b] = &both;
    both_hold(&both, 1).await;
    cluster.drop_publications(true).await;
    until("b has noticed", async || !b.is_synced()).await;
    cluster.drop_publications(false).await;
    in_step(&both).await;
    both_hold(&both, 2).await;
}

#[tokio::test]
async fn a_tag_whose_invalidation_was_lost_on_the_way_is_asked_for_again() {
    let cluster = RedisCluster::start().await;
    let a = node(&cluster).await;
    // One that doesn't listen where tags are invalidated.
    let tags = cluster.node(cluster.primary_of("{tk}").await);
    let both = [a, node_that_listens_elsewhere(&cluster, tags).await];
    let [a, b] = &both;
    both_hold(&both, 1).await;
    cluster.drop_publications(true).await;
    assert_eq!(a.invalidate_tag("t").await.unwrap(), Reach::Everywhere);
    sleep(Duration::from_millis(50)).await;
    cluster.drop_publications(false).await;
    until("b asks", async || known(b).await.is_empty()).await;
    sleep(A_WHILE).await;
    assert!(b.is_synced(), "no reason to connect anew");
}

#[tokio::test]
async fn what_nodes_hold_survives_a_failover_but_for_what_is_removed_meanwhile() {
    let mut cluster = RedisCluster::start().await;
    let both = nodes(&cluster).await;
    let [a, b] = &both;
    both_find(&both).await;
    let primary = cluster.primary_of("tk:2:number:1").await;
    caught_up(cluster.node(primary)).await;
    cluster.node_mut(primary).kill();
    until("a has noticed", async || !a.is_synced()).await;
    assert_eq!(numbers(a).remove(&1).await, Reach::ThisNode);
    cluster.failed_over("tk:2:number:1", primary).await;
    in_step(&both).await;
    until("it is removed", async || numbers(b).get(&1).await.is_none()).await;
    let before = l2_reads(b);
    assert_eq!(known(b).await.len(), KEYS.count() - 1);
    assert_eq!(l2_reads(b), before + 1, "all but one are still held");
}

/// Ends the connections for announcements, and waits until they are there again.
async fn reconnect(cluster: &RedisCluster, both: &[Store; 2]) {
    let losses = both[1].stats().losses;
    for server in (0..3).map(|server| cluster.node(server)) {
        disconnect(server, &followers(server).await).await;
    }
    until("b has noticed", async || both[1].stats().losses > losses).await;
    in_step(both).await;
}

#[tokio::test]
async fn a_removal_that_is_missed_while_its_slot_moves_shows() {
    let cluster = RedisCluster::start().await;
    let deaf = Deaf::new(connect(&cluster, 1).await);
    let both = [node(&cluster).await, node_on(deaf.clone()).await];
    let [a, b] = &both;
    both_find(&both).await;
    // Of the entry and the epoch of its bucket, one has moved; and both.
    for (key, moved) in [(1, 1), (2, 2)] {
        let name = format!("tk:2:number:{key}");
        let (slot, from) = (cluster.slot(&name).await, cluster.primary_of(&name).await);
        let to = (from + 1) % 3;
        cluster.begin_migration(slot, from, to).await;
        assert_eq!(cluster.migrate_keys(slot, from, to, moved).await, moved);
        let missed = deaf.missed();
        deaf.set(true);
        assert_eq!(numbers(a).remove(&key).await, Reach::Everywhere);
        until("it is announced", async || deaf.missed() > missed).await;
        deaf.set(false);
        assert_eq!(numbers(b).get(&key).await.as_deref(), Some(&1), "b knows nothing of it");
        reconnect(&cluster, &both).await;
        assert_eq!(numbers(b).get(&key).await, None);
        assert_eq!(fill(&numbers(b), key, 1).await, 1);
        until("b holds it", async || {
            let before = l2_reads(b);
            numbers(b).get(&key).await.is_some() && l2_reads(b) == before
        })
        .await;
        for _ in 0..2 {
            let before = l2_reads(b);
            assert_eq!(known(b).await.len(), KEYS.count());
            assert_eq!(l2_reads(b), before, "all is held");
            reconnect(&cluster, &both).await;
        }
        while cluster.migrate_keys(slot, from, to, 10).await > 0 {}
        cluster.end_migration(slot, from, to).await;
        in_step(&both).await;
    }
}

#[tokio::test]
async fn a_removal_that_was_lost_on_the_way_shows_with_the_next_in_its_slot() {
    let cluster = RedisCluster::start().await;
    let a = node(&cluster).await;
    let primary = cluster.node(cluster.primary_of("tk:2:word:{x}1").await);
    let b = node_that_listens_elsewhere(&cluster, primary).await;
    let (on_a, on_b) = (a.typed::<str, u32>("word"), b.typed::<str, u32>("word"));
    for word in ["{x}1", "{x}2", "{y}1"] {
        until("b has it", async || {
            let fill = || async { Ok::<_, io::Error>(1) };
            on_a.get_or_try_set(word, tagged(), fill).await.unwrap();
            on_b.get(word).await.is_some()
        })
        .await;
    }
    cluster.drop_publications(true).await;
    assert_eq!(on_a.remove("{x}1").await, Reach::Everywhere);
    sleep(Duration::from_millis(50)).await;
    cluster.drop_publications(false).await;
    assert_eq!(on_a.remove("{x}3").await, Reach::Everywhere);
    until("b notices", async || b.stats().missed_buckets == 1).await;
    until("b has dropped it", async || on_b.get("{x}1").await.is_none()).await;
    let before = l2_reads(&b);
    assert_eq!(on_b.get("{y}1").await.as_deref(), Some(&1));
    assert_eq!(l2_reads(&b), before, "another slot has nothing to do with it");
}
