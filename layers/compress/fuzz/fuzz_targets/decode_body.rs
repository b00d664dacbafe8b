//! Any bytes in any pieces: a body says the same of them as of the whole.
#![no_main]

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use tower_keep_compress::{DecodeBody, Encoding, Limits, decode_all};

struct Pieces(std::vec::IntoIter<Vec<u8>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece.into()))))
    }
}

fuzz_target!(|input: (u8, Vec<Vec<u8>>)| {
    let (coding, pieces) = input;
    let Some(encoding) = Encoding::ALL.get(usize::from(coding & 3)).copied() else { return };
    let limits = Limits::none().max_len(1 << 20);
    let whole = decode_all(&pieces.concat(), &[encoding], limits);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let body = DecodeBody::new(Pieces(pieces.into_iter()), &[encoding], limits).unwrap();
    let read = runtime.block_on(body.collect()).map(|read| read.to_bytes().to_vec());
    assert_eq!(whole.ok(), read.ok());
});
