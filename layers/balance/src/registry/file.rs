//! Instances that a file names, which is watched.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::sleep;

use super::Discovery;
use super::error::RegistryError;
use super::instance::Instance;
use super::watch::{Publisher, Watch};
use crate::backoff::jittered;

/// The largest file, in bytes, unless another bound is set.
const MAX_SIZE: u64 = 1024 * 1024;

/// The instances of services, as a JSON file names them:
///
/// ```json
/// {
///   "shop": [
///     { "id": "shop-1", "address": "http://10.0.0.1:3000", "weight": 2 },
///     { "id": "shop-2", "address": "http://10.0.0.2:3000", "priority": 1, "metadata": { "zone": "b" } }
///   ]
/// }
/// ```
///
/// The file is read again at intervals, and what is in it counts, not when it was changed or by what:
/// so it may be written in place, renamed over by an editor, or swapped by a link, as Kubernetes does
/// with config maps. One that is missing or can't be understood changes nothing:
/// [`Watch::error`] says what is wrong with it, and in which line and column.
///
/// | setting | default |
/// | --- | --- |
/// | [`interval`](Self::interval) | 1 s |
/// | [`max_size`](Self::max_size) | 1 MiB |
#[derive(Clone, Debug)]
#[must_use]
pub struct File {
    path: Arc<Path>,
    interval: Duration,
    max_size: u64,
}

impl File {
    /// The file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into().into();
        Self { path, interval: Duration::from_secs(1), max_size: MAX_SIZE }
    }

    /// How often it is read, at least 10 ms. Default: 1 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(10));
        self
    }

    /// The most bytes that are read. Default: 1 MiB.
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    async fn read(&self) -> Result<Vec<u8>, RegistryError> {
        let path = self.path.display();
        let unreadable = |error| RegistryError::unavailable(format!("{path}: {error}"));
        // To open a pipe would wait for whoever writes to it, and block a thread until then.
        if !tokio::fs::metadata(&self.path).await.map_err(unreadable)?.is_file() {
            return Err(RegistryError::unavailable(format!("{path}: it is not a regular file")));
        }
        let file = tokio::fs::File::open(&self.path).await.map_err(unreadable)?;
        let mut content = Vec::new();
        let mut bounded = file.take(self.max_size.saturating_add(1));
        let read = bounded.read_to_end(&mut content).await.map_err(unreadable)?;
        if u64::try_from(read).is_ok_and(|read| read <= self.max_size) {
            return Ok(content);
        }
        let text = format!("{path} has more than {} bytes", self.max_size);
        Err(RegistryError::Content(text.into()))
    }

    /// The instances of `service` in `content`.
    fn parse(&self, content: &[u8], service: &str) -> Result<Vec<Instance>, RegistryError> {
        let services: HashMap<String, Vec<Instance>> = serde_json::from_slice(content)
            .map_err(|error| RegistryError::Content(self.located(&error).into()))?;
        let mut services = services;
        services.remove(service).ok_or_else(|| RegistryError::Unknown(service.into()))
    }

    /// Says where `error` is, as compilers do.
    fn located(&self, error: &serde_json::Error) -> String {
        let (line, column, text) = (error.line(), error.column(), error.to_string());
        let text = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
        format!("{}:{line}:{column}: {text}", self.path.display())
    }

    async fn follow(self, service: String, publisher: Publisher) {
        let mut before = None;
        loop {
            match self.read().await {
                // What hasn't changed is as good, or as bad, as it was.
                Ok(content) if before.as_ref() == Some(&content) => {}
                Ok(content) => {
                    match self.parse(&content, &service) {
                        Ok(instances) => publisher.publish(instances),
                        Err(error) => publisher.failed(error),
                    }
                    before = Some(content);
                }
                Err(error) => {
                    publisher.failed(error);
                    before = None;
                }
            }
            tokio::select! {
                () = sleep(jittered(self.interval)) => {}
                () = publisher.closed() => return,
            }
        }
    }
}

impl Discovery for File {
    async fn healthy(&self, service: &str) -> Result<Vec<Instance>, RegistryError> {
        self.parse(&self.read().await?, service)
    }

    fn watch(&self, service: &str) -> Watch {
        let (publisher, watch) = Watch::channel(service);
        tokio::spawn(self.clone().follow(service.to_owned(), publisher));
        watch
    }
}
