//! A second tier without a server.
#![allow(unreachable_pub, dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tower_keep_store::remote::{Epochs, Listener, Put, Remote, RemoteFuture, Stored};
use tower_keep_store::{Error, RemoteError, Strength, Tag};

/// A second tier that holds nothing, and counts what it is asked.
#[derive(Clone, Default)]
pub struct Counting(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    listener: Option<Arc<dyn Listener>>,
    batches: Vec<usize>,
    answers: Option<usize>,
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

impl Counting {
    /// Who is to be told what happens.
    pub fn listener(&self) -> Arc<dyn Listener> {
        Arc::clone(self.0.lock().unwrap().listener.as_ref().unwrap())
    }

    /// Answers so many questions from now on.
    pub fn answers(&self, many: usize) {
        let mut counted = self.0.lock().unwrap();
        counted.answers = Some(many);
        counted.batches.clear();
    }

    /// How many tags were asked for at once, each time.
    pub fn batches(&self) -> Vec<usize> {
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
