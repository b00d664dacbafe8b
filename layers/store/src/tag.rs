//! Tag names, and the two strengths of an invalidation.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::error::Error;

/// The longest tag, in bytes.
pub const MAX_TAG_LEN: usize = 256;

/// The most tags an entry may carry.
pub const MAX_TAGS: usize = 64;

/// What the tag of a space begins with. Even a space without a name differs from everything.
const OWN_PREFIX: &str = "*:";

/// What the tags of a part of a space begin with.
const PART_PREFIX: &str = "*/";

/// A name under which entries are invalidated together.
///
/// ```
/// use tower_keep_store::Tag;
///
/// assert!(Tag::new("product:42").is_ok());
/// assert!(Tag::new("").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// Checks `name`: 1 to [`MAX_TAG_LEN`] bytes, no control characters, and not beginning with
    /// `*`, which the store keeps for itself.
    ///
    /// # Errors
    ///
    /// [`Error::Tag`], with the rule that `name` breaks.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        let broken = if name.is_empty() {
            "it is empty"
        } else if name.len() > MAX_TAG_LEN {
            "it is longer than 256 bytes"
        } else if name.starts_with('*') {
            "names that begin with `*` are the store's own"
        } else if name.chars().any(char::is_control) {
            "it contains a control character"
        } else {
            return Ok(Self(Arc::from(name)));
        };
        Err(Error::Tag(name.chars().take(64).collect(), broken))
    }

    /// The tag that every entry of a store carries.
    pub(crate) fn everything() -> Self {
        Self(Arc::from("*"))
    }

    /// The tag that every entry of one space carries.
    pub(crate) fn space(name: &str) -> Self {
        // A longer name would make a tag that no node accepts.
        if name.len() + OWN_PREFIX.len() <= MAX_TAG_LEN {
            Self(Arc::from([OWN_PREFIX, name].concat()))
        } else {
            Self(Arc::from(format!("{OWN_PREFIX}{:032x}", xxh3_128(name.as_bytes()))))
        }
    }

    /// A tag of one part of a space. No user of the store can name it, and no response.
    pub(crate) fn part(space: &str, digest: u128) -> Self {
        // As above, so that the name stays within bounds.
        if space.len() + PART_PREFIX.len() + 33 <= MAX_TAG_LEN {
            Self(Arc::from(format!("{PART_PREFIX}{space}/{digest:032x}")))
        } else {
            let space = xxh3_128(space.as_bytes());
            Self(Arc::from(format!("{PART_PREFIX}{space:032x}/{digest:032x}")))
        }
    }

    /// Whether it is that of a part of a space.
    pub(crate) fn is_part(&self) -> bool {
        self.0.starts_with(PART_PREFIX)
    }

    /// A tag that came from the second tier: its names include the store's own.
    pub(crate) fn received(name: &str) -> Option<Self> {
        match name.strip_prefix('*') {
            Some(space) if space.len() < MAX_TAG_LEN => Some(Self(Arc::from(name))),
            Some(_) => None,
            None => Self::new(name).ok(),
        }
    }

    /// Whether the store itself put it on an entry.
    pub(crate) fn is_own(&self) -> bool {
        self.0.starts_with('*')
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How strong an invalidation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strength {
    /// What it covers is never served again.
    Hard,
    /// What it covers is stale from now on: it may still be served while it is refreshed, or when
    /// the origin fails, within the windows it was stored with.
    Soft,
}

/// How far an invalidation got before its call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is in force on this node, in the second tier, and has been announced to every node
    /// connected to it.
    ///
    /// Redis replicates asynchronously: a failover can lose what its replica hadn't got. Nodes that
    /// knew of it make up for it as soon as they are with the new primary; until then, which is
    /// seconds, other nodes may find there what was invalidated. Of tags, spaces and everything, any
    /// node that knew will do. Removals of single keys are done again by the node that made them: the
    /// last 4,096 of the last minute. What only a node knew that ended with the primary is lost: by
    /// what the new primary has, nothing was removed, and nodes that hadn't heard of it yet keep what
    /// they hold.
    Everywhere,
    /// The second tier is out of reach. It is in force on this node, and is kept and replayed as
    /// soon as the second tier is back.
    ThisNode,
}
