//! What a node asks for once it has missed announcements.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tower_keep_store::remote::{Epochs, Listener, Put, Remote, RemoteFuture, Stored};
use tower_keep_store::{Error, L1, RemoteError, Store, Strength, Tag, Ttl};

/// A second tier that holds nothing, and counts what it is asked.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    listener: Option<Arc<dyn Listener>>,
    batches: Vec<usize>,
    answers: Option<usize>,
}

impl std::fmt::Debug for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counting")
    }
}

impl Counting {
    fn listener(&self) -> Arc<dyn Listener> {
        Arc::clone(self.0.lock().unwrap().listener.as_ref().unwrap())
    }

    /// Answers so many questions from now on.
    fn answers(&self, many: usize) {
        let mut counted = self.0.lock().unwrap();
        counted.answers = Some(many);
        counted.batches.clear();
    }

    fn batches(&self) -> Vec<usize> {
        self.0.lock().unwrap().batches.clone()
    }
}

impl Remote for Counting {
    fn is_available(&self) -> bool {
        true
    }

    fn get(&self, _: Bytes) -> RemoteFuture<'_, Option<Bytes>> {
        Box::pin(async { Ok(None) })
    }

    fn put(&self, _: Put) -> RemoteFuture<'_, Stored> {
        Box::pin(async { Ok(Stored::Yes) })
    }

    fn resolve(&self, tags: Vec<Tag>, _: u64) -> RemoteFuture<'_, Vec<Epochs>> {
        Box::pin(async move {
            let mut counted = self.0.lock().unwrap();
            counted.batches.push(tags.len());
            match &mut counted.answers {
                Some(0) => return Err(RemoteError::Deadline),
                Some(left) => *left -= 1,
                None => {}
            }
            Ok(vec![Epochs::all(1); tags.len()])
        })
    }

    fn invalidate(&self, _: Tag, _: Strength, known: u64, _: u64) -> RemoteFuture<'_, u64> {
        Box::pin(async move { Ok(known + 1) })
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Result<(), Error> {
        self.0.lock().unwrap().listener = Some(listener);
        Ok(())
    }
}

async fn store_with_tags(remote: &Counting, tags: u32) -> Store {
    let store = Store::builder().l1(L1::bytes(16 << 20)).l2(remote.clone()).build().unwrap();
    let numbers = store.typed::<u32, u32>("number");
    for n in 0..tags {
        let ttl = Ttl::secs(600).tags([n.to_string()]);
        let fill = move || async move { Ok::<_, io::Error>(n) };
        numbers.get_or_try_set(&n, ttl, fill).await.unwrap();
    }
    store
}

#[tokio::test]
async fn an_attempt_that_fails_is_gone_on_with() {
    let remote = Counting::default();
    let store = store_with_tags(&remote, 1000).await;
    let listener = remote.listener();
    remote.answers(3);
    assert!(listener.regained().await.is_err());
    assert_eq!(remote.batches().len(), 4);
    assert!(remote.batches().iter().all(|&tags| tags <= 256), "{:?}", remote.batches());
    remote.answers(usize::MAX);
    listener.regained().await.unwrap();
    // 1,000 tags, that of the space, and two times that of everything.
    assert_eq!(remote.batches().iter().sum::<usize>(), 1003 - 3 * 256);
    assert_eq!(store.l1_size().0, 0, "single keys may have been removed");

    remote.answers(1);
    assert!(listener.regained().await.is_ok(), "there is nothing left to ask for");
    listener.lost();
    assert!(listener.regained().await.is_err(), "now there is");
}

#[tokio::test]
async fn every_tag_is_checked_in_its_turn() {
    let remote = Counting::default();
    let _store = store_with_tags(&remote, 600).await;
    let listener = remote.listener();
    remote.answers(usize::MAX);
    for _ in 0..6 {
        listener.check().await.unwrap();
    }
    assert_eq!(remote.batches(), [256, 256, 90, 256, 256, 90]);
}
