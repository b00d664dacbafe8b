//! Settings of keys in a file, checked when they are built.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::follow::{Known, Reading};
use super::format::{Format, MAX_LEN};
use super::{FileKeys, Inner};
use crate::error::BuildError;
use crate::source::Keys;

/// Settings of [`FileKeys`].
///
/// | setting | default |
/// | --- | --- |
/// | [`kid`](Self::kid) | the key's own name, if it has one |
/// | [`interval`](Self::interval) | 1 s |
#[derive(Clone, Debug)]
#[must_use]
pub struct FileKeysBuilder {
    path: PathBuf,
    format: Format,
    kid: Option<Box<str>>,
    interval: Duration,
}

impl FileKeysBuilder {
    pub(super) fn new(path: PathBuf, format: Format) -> Self {
        Self { path, format, kid: None, interval: Duration::from_secs(1) }
    }

    /// Names the key in the file, which must be one alone. Tokens name it in `kid`. When another key
    /// takes its place, that should have another name, so give a set if it does.
    pub fn kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into().into_boxed_str());
        self
    }

    /// How often the file is read, at least 10 ms. A key that leaves it is accepted for no longer.
    /// Default: 1 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(10));
        self
    }

    /// Reads the file for the first time, and has a task read it from then on, for as long as the
    /// result or a clone of it is there. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BuildError::File`] if it can't be read or has no key that can be used, and
    /// [`BuildError::Setting`], each with what to change.
    pub fn build(self) -> Result<FileKeys, BuildError> {
        let Self { path, format, kid, interval } = self;
        if kid.is_some() && !format.is_of_one() {
            let text =
                "`kid` names one key, and those of a set have names of their own; leave it out";
            return Err(BuildError::Setting(text));
        }
        let text = "keys in a file are watched by a task; build them within a tokio runtime";
        let runtime = Handle::try_current().map_err(|_| BuildError::Setting(text))?;
        let reading = Reading { path: path.into(), format, kid };
        let mut content = Vec::new();
        std::fs::File::open(&reading.path)
            .and_then(|file| file.take(MAX_LEN + 1).read_to_end(&mut content))
            .map_err(|error| BuildError::File(reading.unreadable(&error)))?;
        let set = reading.parse(&content).map_err(BuildError::File)?;
        if set.is_empty() {
            return Err(BuildError::File(reading.without_keys(&set)));
        }
        let (path, keys, known) =
            (Arc::clone(&reading.path), Keys::new(set), Arc::new(Known::new()));
        let follow = reading.follow(keys.clone(), Arc::clone(&known), Some(content), interval);
        let task = runtime.spawn(follow).abort_handle();
        Ok(FileKeys { inner: Arc::new(Inner { path, keys, known, task }) })
    }
}
