//! Reads a file again and again, and puts its keys into the cell.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep};

use super::error::FileError;
use super::format::{Format, MAX_LEN};
use crate::error::KeyError;
use crate::key::KeySet;
use crate::source::Keys;

/// What was last seen of the file.
#[derive(Debug)]
pub(super) struct Known {
    /// When it was as its keys are.
    read_at: ArcSwap<Instant>,
    error: ArcSwapOption<FileError>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { read_at: ArcSwap::from_pointee(Instant::now()), error: ArcSwapOption::empty() }
    }

    pub(super) fn error(&self) -> Option<FileError> {
        self.error.load().as_deref().cloned()
    }

    pub(super) fn age(&self) -> Duration {
        self.read_at.load().elapsed()
    }

    fn is_good(&self, path: &Path) {
        self.read_at.store(Arc::new(Instant::now()));
        if self.error.swap(None).is_some() {
            tracing::info!(path = %path.display(), "the file of keys can be used again");
        }
    }

    fn is_bad(&self, error: FileError) {
        let error = Arc::new(error);
        if self.error.swap(Some(Arc::clone(&error))).is_none() {
            tracing::warn!(%error, "the file of keys can't be used; the keys stay as they are");
        }
    }
}

/// What a file is read as.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) path: Arc<Path>,
    pub(super) format: Format,
    pub(super) kid: Option<Box<str>>,
}

impl Reading {
    pub(super) fn unreadable(&self, error: &io::Error) -> FileError {
        FileError::Unreadable { path: Arc::clone(&self.path), kind: error.kind() }
    }

    pub(super) fn parse(&self, content: &[u8]) -> Result<KeySet, FileError> {
        let keys = self.format.read(content, self.kid.as_deref());
        keys.map_err(|error| FileError::Content { path: Arc::clone(&self.path), error })
    }

    /// What is wrong with a set that has no key to use: what is with its first one, if it has any.
    pub(super) fn without_keys(&self, set: &KeySet) -> FileError {
        let none = || KeyError::Jwk("the set has no key");
        let error = set.skipped().first().map_or_else(none, |skipped| skipped.why.clone());
        FileError::Content { path: Arc::clone(&self.path), error }
    }

    /// No more of it than a byte too much, which whoever parses it refuses.
    async fn content(&self) -> Result<Vec<u8>, FileError> {
        let read = async {
            let file = tokio::fs::File::open(&self.path).await?;
            let mut content = Vec::new();
            file.take(MAX_LEN + 1).read_to_end(&mut content).await?;
            Ok(content)
        };
        read.await.map_err(|error: io::Error| self.unreadable(&error))
    }

    /// Never ends: whoever holds the keys ends it.
    pub(super) async fn follow(
        self,
        keys: Keys,
        known: Arc<Known>,
        mut before: Option<Vec<u8>>,
        interval: Duration,
    ) {
        loop {
            // Shortened at random, so that many of one machine don't all read at once.
            sleep(interval.mul_f64(1.0 - 0.1 * fastrand::f64())).await;
            let content = match self.content().await {
                Ok(content) => content,
                Err(error) => {
                    known.is_bad(error);
                    before = None;
                    continue;
                }
            };
            // What hasn't changed is as good, or as bad, as it was.
            if before.as_ref() == Some(&content) {
                if known.error.load().is_none() {
                    known.is_good(&self.path);
                }
                continue;
            }
            match self.parse(&content) {
                Ok(set) => {
                    let change = keys.replace(set);
                    known.is_good(&self.path);
                    if change.added + change.removed > 0 {
                        let path = self.path.display();
                        tracing::info!(%path, ?change, "the file of keys has changed");
                    }
                }
                Err(error) => known.is_bad(error),
            }
            before = Some(content);
        }
    }
}
