//! What nodes tell each other: which tag or key is no longer what it was. Never a value.
//!
//! ```text
//! 0  version     1  kind     2  sender (u64)     10  epoch (u64)     18  name, to the end
//! ```

use crate::key::MAX_KEY_LEN;
use crate::tag::{Strength, Tag};

const VERSION: u8 = 1;
const HEADER_LEN: usize = 18;

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A tag was invalidated and has this epoch now.
    Tag {
        /// The tag.
        tag: Tag,
        /// Its new epoch.
        epoch: u64,
        /// How strongly.
        strength: Strength,
    },
    /// An entry was removed, replaced, or made stale.
    Key {
        /// The whole key, its space included.
        key: Vec<u8>,
        /// How strongly.
        strength: Strength,
    },
}

/// An event and the node it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// A number that each process draws at random.
    pub sender: u64,
    /// What happened.
    pub event: Event,
}

impl Announcement {
    /// Everything before the name of a tag's announcement, its epoch left out: for a server that
    /// draws the epoch itself and puts it between the two.
    pub(crate) fn tag_prefix(sender: u64, strength: Strength) -> Vec<u8> {
        let kind = match strength {
            Strength::Hard => 1,
            Strength::Soft => 2,
        };
        let mut out = vec![VERSION, kind];
        out.extend(sender.to_le_bytes());
        out
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, epoch, name) = match &self.event {
            Event::Tag { tag, epoch, strength } => {
                let mut out = Self::tag_prefix(self.sender, *strength);
                out.extend(epoch.to_le_bytes());
                out.extend(tag.as_str().as_bytes());
                return out;
            }
            Event::Key { key, strength: Strength::Hard } => (3, 0u64, key),
            Event::Key { key, strength: Strength::Soft } => (4, 0, key),
        };
        let mut out = vec![VERSION, kind];
        out.extend(self.sender.to_le_bytes());
        out.extend(epoch.to_le_bytes());
        out.extend(name);
        out
    }

    /// From bytes; `None` if they are not an announcement of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, name) = bytes.split_at_checked(HEADER_LEN)?;
        let (&[version, kind], rest) = header.split_first_chunk()?;
        let (sender, epoch) = rest.split_first_chunk()?;
        let epoch = u64::from_le_bytes(epoch.try_into().ok()?);
        let tag = || Tag::received(std::str::from_utf8(name).ok()?);
        let key = || (name.len() <= MAX_KEY_LEN).then(|| name.to_vec());
        let event = match (version, kind) {
            (VERSION, 1) => Event::Tag { tag: tag()?, epoch, strength: Strength::Hard },
            (VERSION, 2) => Event::Tag { tag: tag()?, epoch, strength: Strength::Soft },
            (VERSION, 3) => Event::Key { key: key()?, strength: Strength::Hard },
            (VERSION, 4) => Event::Key { key: key()?, strength: Strength::Soft },
            _ => return None,
        };
        Some(Self { sender: u64::from_le_bytes(*sender), event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strength() -> impl Strategy<Value = Strength> {
        prop_oneof![Just(Strength::Hard), Just(Strength::Soft)]
    }

    proptest! {
        #[test]
        fn returns_what_was_sent(sender: u64, epoch: u64, strength in strength(), name in "[a-z]{1,20}", key: Vec<u8>) {
            let tag = Tag::new(name).unwrap();
            for event in [Event::Tag { tag, epoch, strength }, Event::Key { key, strength }] {
                let sent = Announcement { sender, event };
                prop_assert_eq!(Announcement::decode(&sent.encode()), Some(sent));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Announcement::decode(&bytes);
        }
    }
}
