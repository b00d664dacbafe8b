//! The Cluster and the sentinels do what the tests that lean on them assume.

use tower_keep_testing::{RedisCluster, RedisSentinel, Reply};

#[tokio::test]
async fn a_cluster_fails_over_and_takes_the_old_primary_back() {
    let mut cluster = RedisCluster::start().await;
    let primary = cluster.primary_of("key").await;
    let set = cluster.node(primary).command(&[b"SET", b"key", b"value"]).await;
    assert_eq!(set, Reply::Bytes(b"OK".into()));
    assert_eq!(cluster.node(primary).command(&[b"WAIT", b"1", b"5000"]).await, Reply::Int(1));

    cluster.node_mut(primary).kill();
    cluster.failed_over("key", primary).await;
    let new = cluster.primary_of("key").await;
    let get: [&[u8]; 2] = [b"GET", b"key"];
    assert_eq!(cluster.node(new).command(&get).await, Reply::Bytes(b"value".into()));

    cluster.node_mut(primary).restart().await;
    cluster.whole().await;
    assert_eq!(cluster.primary_of("key").await, new);
}

#[tokio::test]
async fn a_slot_moves_with_its_keys() {
    let cluster = RedisCluster::start().await;
    let (slot, from) = (cluster.slot("key").await, cluster.primary_of("key").await);
    let to = (from + 1) % 3;
    cluster.node(from).command(&[b"SET", b"key", b"value"]).await;
    cluster.begin_migration(slot, from, to).await;
    assert_eq!(cluster.migrate_keys(slot, from, to, 10).await, 1);
    let asked = cluster.node(from).command(&[b"GET", b"key"]).await;
    assert!(matches!(asked, Reply::Error(text) if text.starts_with("ASK")));
    cluster.end_migration(slot, from, to).await;
    let get: [&[u8]; 2] = [b"GET", b"key"];
    assert_eq!(cluster.node(to).command(&get).await, Reply::Bytes(b"value".into()));
}

#[tokio::test]
async fn sentinels_replace_a_frozen_primary() {
    let servers = RedisSentinel::start().await;
    assert_eq!(servers.primary().await, Some(0));
    servers.server(0).pause();
    let new = servers.failed_over(0).await;
    assert_ne!(new, 0);
    assert_eq!(servers.primary().await, Some(new));
}
