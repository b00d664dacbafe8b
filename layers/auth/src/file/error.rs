//! What can be wrong with a file of keys.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::KeyError;

/// Why a file of keys can't be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It can't be read.
    #[error("{}: {kind}; give the path of a file that this process may read", path.display())]
    Unreadable {
        /// Where it should be.
        path: Arc<Path>,
        /// Why.
        kind: io::ErrorKind,
    },
    /// It can be read, and isn't what it is said to be.
    #[error("{}: {error}", path.display())]
    Content {
        /// Where it is.
        path: Arc<Path>,
        /// What is wrong with it.
        error: KeyError,
    },
}

impl FileError {
    /// A short name, for labels of metrics: one of a fixed set.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::Content { .. } => "content",
        }
    }
}
