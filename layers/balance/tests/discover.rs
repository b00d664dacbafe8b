//! A pool that follows a `Discover`, whether or not there are requests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::discover::Change;
use tower_keep_balance::{Backend, Pool, State, follow_discover, follow_discover_with};

/// Those that are not on their way out.
fn names<T>(pool: &Pool<T>) -> Vec<String> {
    let status = pool.status();
    let stays = status.iter().filter(|backend| !matches!(backend.state, State::Draining));
    stays.map(|backend| backend.name.to_string()).collect()
}

/// Until `pool` has these.
async fn has<T>(pool: &Pool<T>, wanted: &[&str]) {
    let waits = async {
        while names(pool) != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waits).await.unwrap();
}

#[tokio::test]
async fn a_pool_follows_without_being_asked() {
    let (send, receive) = mpsc::unbounded_channel();
    let changes = UnboundedReceiverStream::new(receive).map(Ok::<_, Infallible>);
    let pool = Pool::builder().build().unwrap();
    let task = tokio::spawn(follow_discover(pool.clone(), changes));
    for port in [3000, 3001] {
        send.send(Change::Insert(port, format!("http://10.0.0.1:{port}"))).unwrap();
    }
    has(&pool, &["3000", "3001"]).await;
    let in_use = pool.pick().unwrap();
    send.send(Change::Remove(3000)).unwrap();
    send.send(Change::Remove(9999)).unwrap();
    has(&pool, &["3001"]).await;
    assert!(in_use.starts_with("http://10.0.0.1:300"));
    send.send(Change::Insert(3001, "http://10.0.0.2".to_owned())).unwrap();
    drop(send);
    task.await.unwrap().unwrap();
    assert_eq!(*pool.pick().unwrap(), "http://10.0.0.2", "it stays as it was left");
}

#[tokio::test]
async fn what_is_found_can_be_made_a_backend_of_any_kind_under_its_key() {
    let changes = [("big", 10), ("small", 5)];
    let inserts = changes.map(|(key, weight)| Ok::<_, Infallible>(Change::Insert(key, weight)));
    let removal = [Ok(Change::Remove("small"))];
    let changes = futures_util::stream::iter(inserts.into_iter().chain(removal));
    let pool = Pool::builder().build().unwrap();
    let made = |_: &&str, weight| Backend::new("any", ()).weight(weight);
    follow_discover_with(pool.clone(), changes, made).await.unwrap();
    let status = pool.status();
    assert_eq!((status.len(), &*status[0].name, status[0].weight), (1, "big", 10));
}

#[tokio::test]
async fn an_error_ends_it_and_leaves_the_pool_as_it_is() {
    let changes = [Ok(Change::Insert("a", ())), Err("gone")];
    let pool = Pool::builder().build().unwrap();
    let ended = follow_discover(pool.clone(), futures_util::stream::iter(changes)).await;
    assert_eq!((ended, names(&pool)), (Err("gone"), vec!["a".to_owned()]));
}
