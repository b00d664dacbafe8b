//! What nodes tell each other: which tag or key is no longer what it was. Never a value.
//!
//! ```text
//! of a tag:  0  version     1  kind     2  sender (u64)     10  epoch (u64)     18  name, to the end
//! of a key:  0  version     1  kind     2  sender (u64)     10  epoch (u64)     18  before (u64)
//!           26  name, to the end
//! ```

use crate::key::MAX_KEY_LEN;
use crate::tag::{Strength, Tag};

const VERSION: u8 = 2;
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
        /// The removal epoch that its bucket has now.
        epoch: u64,
        /// The one that it had before; 0 if it had none. A node that knows another has missed an
        /// announcement.
        before: u64,
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
    /// What a tag's announcement begins with, up to its epoch: for a server that draws the epoch
    /// itself.
    pub(crate) fn tag_prefix(sender: u64, strength: Strength) -> Vec<u8> {
        Self::prefix(sender, if strength == Strength::Hard { 1 } else { 2 })
    }

    /// The same of a key's announcement.
    pub(crate) fn key_prefix(sender: u64, strength: Strength) -> Vec<u8> {
        Self::prefix(sender, if strength == Strength::Hard { 3 } else { 4 })
    }

    fn prefix(sender: u64, kind: u8) -> Vec<u8> {
        let mut out = vec![VERSION, kind];
        out.extend(sender.to_le_bytes());
        out
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        match &self.event {
            Event::Tag { tag, epoch, strength } => {
                let mut out = Self::tag_prefix(self.sender, *strength);
                out.extend(epoch.to_le_bytes());
                out.extend(tag.as_str().as_bytes());
                out
            }
            Event::Key { key, epoch, before, strength } => {
                let mut out = Self::key_prefix(self.sender, *strength);
                out.extend(epoch.to_le_bytes());
                out.extend(before.to_le_bytes());
                out.extend(key);
                out
            }
        }
    }

    /// From bytes; `None` if they are not an announcement of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, name) = bytes.split_at_checked(HEADER_LEN)?;
        let (&[version, kind], rest) = header.split_first_chunk()?;
        let (sender, epoch) = rest.split_first_chunk()?;
        let epoch = u64::from_le_bytes(epoch.try_into().ok()?);
        let tag = || Tag::received(std::str::from_utf8(name).ok()?);
        let key = |strength| {
            let (before, key) = name.split_first_chunk()?;
            let key = (key.len() <= MAX_KEY_LEN).then(|| key.to_vec())?;
            Some(Event::Key { key, epoch, before: u64::from_le_bytes(*before), strength })
        };
        let event = match (version, kind) {
            (VERSION, 1) => Event::Tag { tag: tag()?, epoch, strength: Strength::Hard },
            (VERSION, 2) => Event::Tag { tag: tag()?, epoch, strength: Strength::Soft },
            (VERSION, 3) => key(Strength::Hard)?,
            (VERSION, 4) => key(Strength::Soft)?,
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

    #[test]
    fn another_versions_are_not_read() {
        let event =
            Event::Key { key: b"k".to_vec(), epoch: 2, before: 1, strength: Strength::Hard };
        let mut bytes = Announcement { sender: 7, event }.encode();
        bytes[0] -= 1;
        assert_eq!(Announcement::decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn returns_what_was_sent(sender: u64, epoch: u64, before: u64, strength in strength(), name in "[a-z]{1,20}", key: Vec<u8>) {
            let tag = Tag::new(name).unwrap();
            let removal = Event::Key { key, epoch, before, strength };
            for event in [Event::Tag { tag, epoch, strength }, removal] {
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
