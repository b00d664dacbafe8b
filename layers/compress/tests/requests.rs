//! What clients send in a content coding: decoded, or refused with the status that says why.
#![cfg(all(feature = "br", feature = "deflate", feature = "gzip", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_keep_compress::{
    BoxError, DecodeBody, DecodeError, DecompressLayer, Encoding, Limits, encode_all,
};

const TEXT: &[u8] = b"All work and no play makes Jack a dull boy.";

fn layer() -> DecompressLayer {
    DecompressLayer::builder().limits(Limits::default().max_len(1 << 20)).build().unwrap()
}

fn encode(content: &[u8], encodings: &[Encoding]) -> Bytes {
    let encoded = encodings
        .iter()
        .fold(content.to_vec(), |content, one| encode_all(&content, *one, 3).unwrap());
    encoded.into()
}

/// Answers with what it read, and in the fields with those of the request; with 500 if it can't read.
async fn echo<B>(request: Request<DecodeBody<B>>) -> Result<Response<Full<Bytes>>, BoxError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let (head, body) = request.into_parts();
    let mut response = match body.collect().await {
        Ok(read) => {
            let trailers = read.trailers().map_or(0, HeaderMap::len);
            let mut response = Response::new(Full::new(read.to_bytes()));
            response.headers_mut().insert("x-trailers", trailers.into());
            response
        }
        Err(_) => Response::builder().status(500).body(Full::from("broken")).unwrap(),
    };
    for name in ["content-encoding", "content-length", "content-digest"] {
        if let Some(value) = head.headers.get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

async fn send<B>(layer: &DecompressLayer, codings: &str, body: B) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let request = Request::post("/")
        .header("content-encoding", codings)
        .header("content-length", 77)
        .header("content-digest", "sha-256=::")
        .body(body)
        .unwrap();
    layer.layer(service_fn(echo)).oneshot(request).await.unwrap()
}

async fn read(response: Response<Full<Bytes>>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn the_service_reads_plain_bytes_and_sees_no_coding() {
    for encodings in [
        vec![Encoding::Gzip],
        vec![Encoding::Deflate],
        vec![Encoding::Brotli],
        vec![Encoding::Zstd],
        vec![Encoding::Gzip, Encoding::Brotli],
        vec![Encoding::Zstd, Encoding::Deflate, Encoding::Gzip],
    ] {
        let names: Vec<_> = encodings.iter().map(|encoding| encoding.name()).collect();
        let sent = Full::new(encode(TEXT, &encodings));
        let answer = send(&layer(), &names.join(", "), sent).await;
        assert_eq!(answer.status(), StatusCode::OK, "{names:?}");
        assert_eq!(answer.headers().len(), 1, "{:?}", answer.headers());
        assert_eq!(read(answer).await, TEXT);
    }
}

#[tokio::test]
async fn a_request_without_a_coding_passes_as_it_is() {
    let request = Request::post("/").header("content-length", 43).body(Full::<Bytes>::from(TEXT));
    let service = layer().layer(service_fn(|request: Request<DecodeBody<Full<Bytes>>>| {
        assert_eq!(request.body().size_hint().exact(), Some(43));
        echo(request)
    }));
    let answer = service.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.headers()["content-length"], "43");
    assert_eq!(read(answer).await, TEXT);
}

#[tokio::test]
async fn other_codings_are_refused_with_those_that_are_read() {
    for codings in ["compress", "gzip, compress", "gzip, gzip, gzip, gzip"] {
        let answer = send(&layer(), codings, Full::<Bytes>::from(TEXT)).await;
        assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{codings}");
        assert_eq!(answer.headers()["accept-encoding"], "zstd, br, gzip, deflate");
    }
    let gzip = DecompressLayer::builder().encodings([Encoding::Gzip]).build().unwrap();
    let answer = send(&gzip, "br", Full::new(encode(TEXT, &[Encoding::Brotli]))).await;
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer.headers()["accept-encoding"], "gzip");

    let lenient = DecompressLayer::builder().pass_unknown(true).build().unwrap();
    let answer = send(&lenient, "compress", Full::<Bytes>::from(TEXT)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-encoding"], "compress");
    assert_eq!(read(answer).await, TEXT);
}

#[tokio::test]
async fn what_is_cut_off_corrupt_or_followed_by_something_is_a_bad_request() {
    for encoding in Encoding::ALL {
        let whole = encode(TEXT, &[encoding]);
        let mut followed = whole.to_vec();
        followed.extend_from_slice(b"garbage");
        for bad in [whole.slice(..whole.len() - 1), Bytes::from(followed), Bytes::from_static(TEXT)]
        {
            let answer = send(&layer(), encoding.name(), Full::new(bad.clone())).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{encoding} {bad:?}");
            assert_eq!(read(answer).await, "");
        }
    }
}

#[tokio::test]
async fn what_swells_beyond_the_limits_is_too_large() {
    let long = vec![b'x'; (1 << 20) + 1];
    for encoding in Encoding::ALL {
        let answer = send(&layer(), encoding.name(), Full::new(encode(&long, &[encoding]))).await;
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{encoding}");
        let fits = encode(&long[1..], &[encoding]);
        assert_eq!(send(&layer(), encoding.name(), Full::new(fits)).await.status(), 200);

        let dense = DecompressLayer::builder().build().unwrap();
        let bomb = encode(&vec![0; 4 << 20], &[encoding]);
        let answer = send(&dense, encoding.name(), Full::new(bomb)).await;
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{encoding}");
    }
}

#[tokio::test]
async fn an_error_of_the_service_over_a_bad_body_is_the_clients() {
    let strict = layer().layer(service_fn(|request: Request<DecodeBody<Full<Bytes>>>| async {
        let read = request.into_body().collect().await?;
        Ok::<_, BoxError>(Response::new(Full::new(read.to_bytes())))
    }));
    let bad = Request::post("/").header("content-encoding", "gzip").body(Full::from(TEXT)).unwrap();
    let answer = strict.oneshot(bad).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_service_that_succeeds_all_the_same_is_heard() {
    let lax = layer().layer(service_fn(|request: Request<DecodeBody<Full<Bytes>>>| async {
        let error = request.into_body().collect().await.unwrap_err();
        let error = error.downcast::<DecodeError>()?;
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(error.to_string())))
    }));
    let bad = Request::post("/").header("content-encoding", "gzip").body(Full::from(TEXT)).unwrap();
    let answer = lax.oneshot(bad).await.unwrap();
    assert_eq!(read(answer).await, "the gzip data is corrupt");
}

#[tokio::test]
async fn errors_and_trailers_of_the_body_arrive() {
    let frames = |last| {
        let mut frames: Vec<Result<Frame<Bytes>, BoxError>> = encode(TEXT, &[Encoding::Zstd])
            .chunks(3)
            .map(|part| Ok(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        frames.push(last);
        StreamBody::new(stream::iter(frames))
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checked", "yes".parse().unwrap());
    trailers.insert("content-digest", "sha-256=::".parse().unwrap());
    let answer = send(&layer(), "zstd", frames(Ok(Frame::trailers(trailers)))).await;
    assert_eq!(answer.headers()["x-trailers"], "1");
    assert_eq!(read(answer).await, TEXT);
    // That is no fault of the client's content.
    let answer = send(&layer(), "zstd", frames(Err("reset".into()))).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn content_arrives_as_it_is_sent() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let frames = stream::unfold(receiver, |mut receiver| async {
        let data = receiver.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(data)), receiver))
    });
    let body = Box::pin(StreamBody::new(frames));
    let mut body = DecodeBody::new(body, &[Encoding::Gzip], Limits::default()).unwrap();
    for part in ["one", "two"] {
        // A member of its own.
        sender.send(encode(part.as_bytes(), &[Encoding::Gzip])).unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), part);
    }
    drop(sender);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn what_decodes_to_nothing_gives_others_their_turn_as_well() {
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        // Members, or frames, that are empty, one after the other.
        let empty = encode(b"", &[encoding]);
        let content = Bytes::from(empty.repeat((1 << 20) / empty.len()));
        let mut body = DecodeBody::new(Full::new(content), &[encoding], Limits::none()).unwrap();
        let mut body = std::pin::Pin::new(&mut body);
        let mut cx = std::task::Context::from_waker(futures_util::task::noop_waker_ref());
        let mut turns = 0;
        while body.as_mut().poll_frame(&mut cx).is_pending() {
            turns += 1;
        }
        assert!(turns >= 64, "{encoding}: {turns}");
    }
}
