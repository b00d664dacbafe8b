//! Bodies that come in parts: what can be read when, trailers, errors, and turns for other tasks.
#![cfg(all(feature = "br", feature = "deflate", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/plain.rs"]
mod support;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tower_keep_compress::{BoxError, CompressLayer, Encoding, Levels};

use support::{ask, field, plain, read, readable, response};

/// A body that says what is sent to it.
struct Channel(mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>);

impl Body for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

fn channel() -> (Sender, Channel) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Channel(receiver))
}

fn say(sender: &Sender, text: &str) {
    sender.send(Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))).unwrap();
}

fn only(encoding: Encoding) -> CompressLayer {
    CompressLayer::builder().encodings([encoding]).event_streams(true).build().unwrap()
}

const ANY: [(&str, &str); 1] = [("accept-encoding", "*")];
const TEXT: [(&str, &str); 1] = [("content-type", "text/plain")];

#[tokio::test]
async fn each_part_of_a_stream_can_be_read_before_the_next_is_sent() {
    for encoding in Encoding::ALL {
        let (sender, body) = channel();
        let events = [("content-type", "text/event-stream")];
        let answer = ask(&only(encoding), &ANY, response(&events, body)).await;
        assert_eq!(field(answer.headers(), "content-encoding"), Some(encoding.name()));
        let mut body = answer.into_body();
        assert!(body.frame().now_or_never().is_none(), "nothing was said, so nothing is sent");
        let (mut sent, mut received) = (String::new(), Vec::new());
        for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
            say(&sender, event);
            sent.push_str(event);
            let frame = body.frame().now_or_never().unwrap().unwrap().unwrap();
            received.extend_from_slice(frame.data_ref().unwrap());
            assert_eq!(readable(encoding, &received), sent.as_bytes(), "{encoding}");
            assert!(body.frame().now_or_never().is_none(), "it is flushed once");
        }
        drop(sender);
        let (rest, _) = read(body).await;
        received.extend_from_slice(&rest);
        assert_eq!(plain(encoding.name(), &received), sent.as_bytes());
    }
}

#[tokio::test]
async fn without_flushing_a_stream_waits_for_the_encoder() {
    let builder = CompressLayer::builder().encodings([Encoding::Gzip]).flush(false);
    let (sender, body) = channel();
    let mut body = ask(&builder.build().unwrap(), &ANY, response(&TEXT, body)).await.into_body();
    say(&sender, "a part");
    let beginning = body.frame().now_or_never();
    let data = beginning.map(|frame| frame.unwrap().unwrap().into_data().unwrap());
    assert!(readable(Encoding::Gzip, &data.unwrap_or_else(|| Bytes::from(vec![0; 10]))).is_empty());
    drop(sender);
    body.collect().await.unwrap();
}

#[tokio::test]
async fn a_body_of_unknown_length_that_is_there_at_once_is_judged_by_its_length() {
    for (parts, encoded) in [(1, false), (60, true), (5000, true)] {
        let (sender, body) = channel();
        (0..parts).for_each(|_| say(&sender, "twenty bytes of text"));
        drop(sender);
        let answer = ask(&only(Encoding::Gzip), &ANY, response(&TEXT, body)).await;
        let is_encoded = answer.headers().contains_key("content-encoding");
        assert_eq!(is_encoded, encoded, "{parts}");
        // What was looked at to its end has a length again.
        let at_once = parts * 20 < 16 * 1024;
        assert_eq!(answer.body().size_hint().exact().is_some(), at_once, "{parts}");
        let (body, _) = read(answer.into_body()).await;
        let body = if encoded { plain("gzip", &body) } else { body };
        assert_eq!(body, "twenty bytes of text".repeat(parts).as_bytes());
    }
}

#[tokio::test]
async fn trailers_follow_the_body_without_its_digest() {
    for parts in [100, 5000] {
        let (sender, body) = channel();
        (0..parts).for_each(|_| say(&sender, "twenty bytes of text"));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checked", HeaderValue::from_static("yes"));
        trailers.insert("content-digest", HeaderValue::from_static("sha-256=::"));
        sender.send(Ok(Frame::trailers(trailers))).unwrap();
        drop(sender);
        let answer = ask(&only(Encoding::Zstd), &ANY, response(&TEXT, body)).await;
        assert_eq!(field(answer.headers(), "content-length"), None);
        assert_eq!(answer.body().size_hint().exact(), None);
        let (body, trailers) = read(answer.into_body()).await;
        assert_eq!(plain("zstd", &body).len(), parts * 20);
        let expected =
            HeaderMap::from_iter([("x-checked".parse().unwrap(), "yes".parse().unwrap())]);
        assert_eq!(trailers, Some(expected));
    }
}

#[tokio::test]
async fn an_error_of_the_body_arrives_in_place_of_its_end() {
    for (before, encoded) in [(0, true), (5000, true)] {
        let (sender, body) = channel();
        (0..before).for_each(|_| say(&sender, "twenty bytes of text"));
        sender.send(Err("broken off".into())).unwrap();
        drop(sender);
        let answer = ask(&only(Encoding::Gzip), &ANY, response(&TEXT, body)).await;
        assert_eq!(answer.headers().contains_key("content-encoding"), encoded);
        let error = answer.into_body().collect().await.unwrap_err();
        assert_eq!(error.to_string(), "broken off");
    }
}

/// Says how long it is, and is not.
struct Liar(Option<Bytes>);

impl Body for Liar {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(30_000)
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_it_said_is_an_error() {
    let announced = [TEXT[0], ("content-length", "30000")];
    for encoding in Encoding::ALL {
        for len in [0, 2_000, 29_999, 30_001, 40_000] {
            let data = Bytes::from(vec![b'a'; len]);
            let liar = response(&TEXT, Liar(Some(data.clone())));
            let answer = ask(&only(encoding), &ANY, liar).await;
            assert!(answer.into_body().collect().await.is_err(), "{encoding} {len}");
            // The same in the field, of a body that doesn't know.
            let (sender, body) = channel();
            sender.send(Ok(Frame::data(data))).unwrap();
            drop(sender);
            let answer = ask(&only(encoding), &ANY, response(&announced, body)).await;
            assert_eq!(field(answer.headers(), "content-encoding"), Some(encoding.name()));
            assert!(answer.into_body().collect().await.is_err(), "{encoding} {len}");
        }
    }
}

#[tokio::test]
async fn a_large_chunk_gives_others_their_turn() {
    for encoding in Encoding::ALL {
        // Not repetitive, so that output doesn't interrupt it only by its size.
        let chunk: Vec<u8> =
            (0..4_000_000_u32).flat_map(|n| (n / 7 % 1000).to_le_bytes()).collect();
        let len = chunk.len();
        let full = response(&TEXT, Full::<Bytes>::from(chunk));
        let body = ask(&only(encoding), &ANY, full).await.into_body();
        let mut body = std::pin::pin!(body);
        let (mut turns, mut frames) = (0, 0);
        let mut cx = Context::from_waker(futures_util::task::noop_waker_ref());
        loop {
            match body.as_mut().poll_frame(&mut cx) {
                Poll::Pending => turns += 1,
                Poll::Ready(Some(frame)) => {
                    assert!(frame.unwrap().data_ref().unwrap().len() <= 512 * 1024);
                    frames += 1;
                }
                Poll::Ready(None) => break,
            }
        }
        assert!(turns >= len / (128 * 1024) - 1, "{encoding}: {turns} turns, {frames} frames");
    }
}

#[tokio::test]
async fn a_body_that_has_ended_says_so() {
    let (sender, body) = channel();
    say(&sender, &"x".repeat(20_000));
    let mut body = ask(&only(Encoding::Gzip), &ANY, response(&TEXT, body)).await.into_body();
    drop(sender);
    while !body.is_end_stream() {
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(body.size_hint().exact(), Some(0));
    assert!(body.frame().await.is_none());
}

/// Content as it occurs: text with repetition, or anything.
fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec("[a-e ]{1,9}", 0..4000).prop_map(|words| words.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..40_000),
        (0usize..300_000).prop_map(|len| vec![b'0'; len]),
    ]
}

fn level() -> impl Strategy<Value = (Encoding, i32)> {
    prop_oneof![
        (Just(Encoding::Zstd), 1..=9),
        (Just(Encoding::Brotli), 0..=8),
        (Just(Encoding::Gzip), 1..=9),
        (Just(Encoding::Deflate), 1..=9),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_arrives_is_what_was_sent(
        content in content(),
        (encoding, level) in level(),
        kind in prop::sample::select(vec!["text/html", "application/json", "image/svg+xml", "image/png"]),
        chunk in 1usize..50_000,
        known: bool,
        pauses: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let layer = CompressLayer::builder()
                .encodings([encoding])
                .levels(Levels::dynamic().with(encoding, level))
                .build()
                .unwrap();
            let fields = [("content-type", kind)];
            let answer = if known {
                let full = Full::<Bytes>::from(content.clone());
                let answer = ask(&layer, &ANY, response(&fields, full)).await;
                answer.map(BodyExt::boxed)
            } else {
                let (sender, body) = channel();
                let chunks: Vec<_> = content.chunks(chunk).map(Bytes::copy_from_slice).collect();
                tokio::spawn(async move {
                    for chunk in chunks {
                        if pauses {
                            tokio::task::yield_now().await;
                        }
                        drop(sender.send(Ok(Frame::data(chunk))));
                    }
                });
                if !pauses {
                    tokio::task::yield_now().await;
                }
                let answer = ask(&layer, &ANY, response(&fields, body)).await;
                answer.map(BodyExt::boxed)
            };
            let coded = field(answer.headers(), "content-encoding").unwrap_or("identity").to_owned();
            if kind == "image/png" || (known && content.len() < 1024) {
                assert_eq!(coded, "identity");
            } else if content.len() >= 1024 {
                assert_eq!(coded, encoding.name());
            }
            if let Some(len) = field(answer.headers(), "content-length") {
                assert_eq!(answer.body().size_hint().exact(), Some(len.parse().unwrap()));
            }
            let (encoded, _) = read(answer.into_body()).await;
            assert_eq!(plain(&coded, &encoded), content);
        });
    }
}
