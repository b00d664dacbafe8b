//! In the place of compression, without the feature `zstd`: nothing is compressed, and what another
//! node has compressed can't be read.

use crate::frame::BadFrame;

/// There is none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Compression {}

impl Compression {
    pub(crate) fn wants(self, _: usize) -> bool {
        match self {}
    }

    pub(crate) fn is_quick(self, _: usize) -> bool {
        match self {}
    }

    pub(crate) fn pack(self, _: &[u8], _: usize) -> Option<Vec<u8>> {
        match self {}
    }
}

pub(crate) fn unpack(_: &[u8], _: usize) -> Result<Vec<u8>, BadFrame> {
    Err(BadFrame::Compression)
}
