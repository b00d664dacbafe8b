//! What has been read of a body, kept to be read again.
//!
//! What a client sends in crumbs is put together: a part of one byte would otherwise cost a few dozen
//! for its handle, and hold the whole buffer into which it was read.

use bytes::{Bytes, BytesMut};

/// Shorter parts are copied.
const CRUMB: usize = 1024;

/// How long a block of crumbs gets.
const BLOCK: usize = 8 * 1024;

/// Parts of a body, in order.
#[derive(Debug, Default)]
pub(super) struct Kept {
    blocks: Vec<Bytes>,
    /// Crumbs, which the next ones are added to.
    last: BytesMut,
    length: usize,
}

/// How far one who reads it has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    block: usize,
    /// What of that block was read.
    within: usize,
}

impl Kept {
    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, part: &Bytes) {
        self.length += part.len();
        if part.len() < CRUMB {
            self.last.extend_from_slice(part);
            if self.last.len() >= BLOCK {
                self.seal();
            }
        } else {
            self.seal();
            self.blocks.push(part.clone());
        }
    }

    /// The crumbs so far are a block.
    fn seal(&mut self) {
        if !self.last.is_empty() {
            self.blocks.push(self.last.split().freeze());
        }
    }

    /// What there is at `place`, which is moved behind it.
    pub(super) fn read(&self, place: &mut Place) -> Option<Bytes> {
        while let Some(block) = self.blocks.get(place.block) {
            let rest = block.slice(place.within.min(block.len())..);
            *place = Place { block: place.block + 1, within: 0 };
            if !rest.is_empty() {
                return Some(rest);
            }
        }
        let rest = self.last.get(place.within..).filter(|rest| !rest.is_empty())?;
        place.within = self.last.len();
        Some(Bytes::copy_from_slice(rest))
    }

    /// Whether there is nothing at `place`.
    pub(super) fn is_read(&self, place: Place) -> bool {
        let mut place = place;
        while let Some(block) = self.blocks.get(place.block) {
            if place.within < block.len() {
                return false;
            }
            place = Place { block: place.block + 1, within: 0 };
        }
        place.within >= self.last.len()
    }

    /// The place behind all.
    pub(super) fn end(&self) -> Place {
        Place { block: self.blocks.len(), within: self.last.len() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// One reads while it grows, another one when all is there.
        #[test]
        fn whoever_reads_gets_all_in_order(
            parts in prop::collection::vec((1usize..3_000, any::<bool>()), 0..60),
        ) {
            let (mut kept, mut place) = (Kept::default(), Place::default());
            let (mut all, mut seen) = (Vec::new(), Vec::new());
            for (at, (length, reads)) in parts.into_iter().enumerate() {
                let length = if at % 3 == 0 { length } else { length % 40 + 1 };
                let part = Bytes::from(vec![u8::try_from(at).unwrap(); length]);
                kept.push(&part);
                all.extend_from_slice(&part);
                prop_assert!(!kept.is_read(place));
                while reads && let Some(part) = kept.read(&mut place) {
                    prop_assert!(!part.is_empty());
                    seen.extend_from_slice(&part);
                }
                prop_assert_eq!(kept.is_read(place), seen.len() == all.len());
            }
            while let Some(part) = kept.read(&mut place) {
                seen.extend_from_slice(&part);
            }
            prop_assert_eq!(&seen, &all);
            prop_assert_eq!(kept.len(), all.len());
            prop_assert!(kept.is_read(place) && kept.is_read(kept.end()));
            let (mut again, mut place) = (Vec::new(), Place::default());
            while let Some(part) = kept.read(&mut place) {
                again.extend_from_slice(&part);
            }
            prop_assert_eq!(again, all);
        }
    }

    #[test]
    fn crumbs_cost_hardly_more_than_their_bytes() {
        let mut kept = Kept::default();
        let buffer = Bytes::from(vec![0; 64 * 1024]);
        for at in 0..64 * 1024 {
            kept.push(&buffer.slice(at..=at));
        }
        assert!(kept.blocks.len() <= 8, "{}", kept.blocks.len());
        assert!(kept.blocks.iter().all(|block| !buffer.as_ptr_range().contains(&block.as_ptr())));
    }
}
