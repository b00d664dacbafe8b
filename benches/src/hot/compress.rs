//! `CompressLayer`, where there is nothing to compress: of what it compresses, the encoder is the cost.

use http::HeaderValue;
use tower::Layer;
use tower_keep::compress::CompressLayer;

use super::service::{KIB, bare, request, request_with, sends};
use super::{HOT, below};
use crate::Way;

pub(super) fn identity() -> Box<dyn Way> {
    let service = CompressLayer::builder().build().unwrap().layer(bare(4 * KIB));
    let mut next = below(HOT);
    sends(service, move || request(next()))
}

pub(super) fn small() -> Box<dyn Way> {
    let service = CompressLayer::builder().build().unwrap().layer(bare(KIB / 2));
    let accepted = HeaderValue::from_static("gzip, deflate, br");
    let mut next = below(HOT);
    sends(service, move || request_with(next(), "accept-encoding", &accepted))
}
