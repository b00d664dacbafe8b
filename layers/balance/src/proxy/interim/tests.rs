//! Interim responses are written where they can be, and nowhere else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use http::{HeaderMap, HeaderValue, StatusCode, Version};
use tokio::io::AsyncWrite;

use super::{InterimIo, Interims, MAX_BYTES, MAX_HEADS, Turn};

/// A connection that takes as many bytes as there is room for.
#[derive(Default)]
struct Pipe {
    written: Vec<u8>,
    room: usize,
    /// Whether a flush gets through.
    stuck: bool,
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = buf.len().min(self.room);
        if taken == 0 {
            return Poll::Pending;
        }
        self.room -= taken;
        self.written.extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stuck { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What hyper does with a connection.
struct Hyper {
    io: InterimIo<&'static mut Pipe>,
    interims: Interims,
    buffer: Vec<u8>,
}

impl Hyper {
    fn new(room: usize) -> Self {
        let pipe = Box::leak(Box::new(Pipe { room, ..Pipe::default() }));
        let interims = Interims::default();
        Self { io: InterimIo::new(pipe, interims.clone()), interims, buffer: Vec::new() }
    }

    fn turn(&self) -> Turn {
        self.interims.turn(Version::HTTP_11).unwrap()
    }

    /// Writes and flushes as far as it goes, as at the end of every poll of a connection.
    fn poll_with(&mut self, waker: &Waker) -> Poll<()> {
        let mut cx = Context::from_waker(waker);
        while !self.buffer.is_empty() {
            match Pin::new(&mut self.io).poll_write(&mut cx, &self.buffer) {
                Poll::Ready(written) => drop(self.buffer.drain(..written.unwrap())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.io).poll_flush(&mut cx).map(Result::unwrap)
    }

    fn poll(&mut self) -> Poll<()> {
        self.poll_with(Waker::noop())
    }

    fn pipe(&mut self) -> &mut Pipe {
        self.io.io
    }

    fn written(&self) -> &str {
        std::str::from_utf8(&self.io.io.written).unwrap()
    }
}

fn hint(turn: &Turn) {
    turn.sink().send(StatusCode::EARLY_HINTS, &HeaderMap::new());
}

const HINT: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn on_a_clean_connection_they_are_written_at_once_and_its_task_is_woken() {
    let mut hyper = Hyper::new(usize::MAX);
    let turn = hyper.turn();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    for n in 1..=2 {
        assert!(hyper.poll_with(&waker).is_ready());
        hint(&turn);
        assert_eq!(wakes.0.load(SeqCst), n);
        assert!(hyper.poll_with(&waker).is_ready());
        assert_eq!(hyper.written(), HINT.repeat(n));
    }
}

#[test]
fn they_come_before_a_final_head_that_is_ready_at_the_same_time() {
    let mut hyper = Hyper::new(usize::MAX);
    let turn = hyper.turn();
    hint(&turn);
    drop(turn);
    hyper.buffer.extend(b"final");
    assert!(hyper.poll().is_ready());
    assert_eq!(hyper.written(), [HINT, "final"].concat());
}

#[test]
fn they_wait_until_the_response_before_is_flushed() {
    let mut hyper = Hyper::new(2);
    hyper.buffer.extend(b"first");
    assert!(hyper.poll().is_pending());
    let turn = hyper.turn();
    hint(&turn);
    assert!(hyper.poll().is_pending());
    assert_eq!(hyper.written(), "fi");
    (hyper.pipe().room, hyper.pipe().stuck) = (usize::MAX, true);
    assert!(hyper.poll().is_pending());
    assert_eq!(hyper.written(), "first");
    hyper.pipe().stuck = false;
    assert!(hyper.poll().is_ready());
    assert_eq!(hyper.written(), ["first", HINT].concat());
}

#[test]
fn they_are_dropped_if_the_final_head_stands_behind_another_response() {
    let mut hyper = Hyper::new(2);
    hyper.buffer.extend(b"first");
    assert!(hyper.poll().is_pending());
    let turn = hyper.turn();
    hint(&turn);
    drop(turn);
    hyper.buffer.extend(b"second");
    hyper.pipe().room = usize::MAX;
    assert!(hyper.poll().is_ready());
    assert_eq!(hyper.written(), "firstsecond");
}

#[test]
fn one_that_is_half_written_is_finished_before_all_else() {
    let mut hyper = Hyper::new(4);
    let turn = hyper.turn();
    hint(&turn);
    assert!(hyper.poll().is_pending());
    assert_eq!(hyper.written(), "HTTP");
    // The final response is encoded, and the next request has its turn, while the hint is stuck.
    drop(turn);
    hyper.buffer.extend(b"first");
    assert!(hyper.poll().is_pending());
    let next = hyper.turn();
    hint(&next);
    assert!(hyper.poll().is_pending());
    hyper.pipe().room = usize::MAX;
    assert!(hyper.poll().is_ready());
    assert_eq!(hyper.written(), [HINT, "first", HINT].concat());
}

#[test]
fn only_the_request_whose_turn_it_is_has_any() {
    let mut hyper = Hyper::new(usize::MAX);
    let first = hyper.turn();
    let late = first.sink();
    drop(first);
    late.send(StatusCode::EARLY_HINTS, &HeaderMap::new());
    let second = hyper.turn();
    late.send(StatusCode::EARLY_HINTS, &HeaderMap::new());
    assert!(hyper.poll().is_ready());
    assert_eq!(hyper.written(), "");
    drop(second);
    for version in [Version::HTTP_10, Version::HTTP_2] {
        assert!(hyper.interims.turn(version).is_none());
    }
}

#[test]
fn number_and_size_are_bounded() {
    let mut hyper = Hyper::new(usize::MAX);
    let turn = hyper.turn();
    let mut headers = HeaderMap::new();
    headers.insert("link", HeaderValue::try_from("x".repeat(MAX_BYTES)).unwrap());
    turn.sink().send(StatusCode::EARLY_HINTS, &headers);
    for _ in 0..=MAX_HEADS {
        hint(&turn);
        assert!(hyper.poll().is_ready());
    }
    assert_eq!(hyper.written(), HINT.repeat(MAX_HEADS));
}

#[test]
fn the_head_is_without_what_belongs_to_the_origins_connection() {
    let mut hyper = Hyper::new(usize::MAX);
    let turn = hyper.turn();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("link", "</a.css>; rel=preload"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("link", "</b.css>"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    for status in [100, 101, 200, 199] {
        turn.sink().send(StatusCode::from_u16(status).unwrap(), &headers);
    }
    assert!(hyper.poll().is_ready());
    let expected = "HTTP/1.1 199 \r\nlink: </a.css>; rel=preload\r\nlink: </b.css>\r\n\r\n";
    assert_eq!(hyper.written(), expected);
}

/// Whatever the timing, no message is torn, and each hint comes before its own response and behind
/// the one before.
#[test]
fn they_are_in_order_whatever_the_timing() {
    for seed in 0..2000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut hyper = Hyper::new(0);
        let mut turn = None;
        let mut number = 0;
        while number < 5 || !hyper.buffer.is_empty() {
            match random.u8(..5) {
                0 => hyper.pipe().room += random.usize(..40),
                1 => hyper.pipe().stuck = random.bool(),
                2 if number < 5 => {
                    let turn = turn.get_or_insert_with(|| {
                        number += 1;
                        hyper.turn()
                    });
                    let mut headers = HeaderMap::new();
                    headers.insert("n", HeaderValue::from(number));
                    turn.sink().send(StatusCode::EARLY_HINTS, &headers);
                }
                3 if turn.take().is_some() => {
                    hyper.buffer.extend(format!("HTTP/1.1 200 OK\r\nn: {number}\r\n\r\n").bytes());
                }
                _ => {}
            }
            // Whatever hyper does, it tries to write before its task is left.
            let _ = hyper.poll();
        }
        drop(turn);
        (hyper.pipe().room, hyper.pipe().stuck) = (usize::MAX, false);
        assert!(hyper.poll().is_ready());
        let mut last = 0;
        for message in hyper.written().split_terminator("\r\n\r\n") {
            let (head, n) = message.split_once("\r\nn: ").expect(message);
            let n: i32 = n.parse().unwrap();
            match head {
                "HTTP/1.1 103 Early Hints" => assert_eq!(n, last + 1, "seed {seed}"),
                "HTTP/1.1 200 OK" => {
                    assert_eq!(n, last + 1, "seed {seed}");
                    last = n;
                }
                torn => panic!("seed {seed}: {torn}"),
            }
        }
        assert!(last >= 4, "seed {seed}: {last}");
    }
}
