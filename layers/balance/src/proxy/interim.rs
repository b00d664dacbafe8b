//! Interim responses (RFC 9110 §15.2) of an upstream, on their way to the client.
//!
//! A proxy must forward them, and hyper's server can't send them. So they are written below it, by
//! [`InterimIo`], at a moment when hyper has nothing of its own half written:
//!
//! - hyper serves the requests of an HTTP/1 connection one after the other, and calls the service for
//!   the next only when it has encoded the whole response to the one before and tried to write it.
//!   So all that can lie before an interim response is an earlier response in part. From the first
//!   attempt to write until hyper has flushed its buffer the connection is _dirty_, and nothing is
//!   put in.
//! - A [`Turn`] lasts from the call of the service to the head of the final response. Only the request
//!   whose turn it is can have interim responses: a fill that outlives its client, or refreshes what
//!   was served stale, says nothing to whoever comes next on the same connection.
//! - What found no clean moment before the final head is dropped, as a client must do without, too.
//!
//! Only HTTP/1.1 clients have turns. HTTP/1.0 doesn't know interim responses, and on a connection of
//! HTTP/2 raw bytes would be noise; hyper has no other way to send them there.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::{BufMut, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode, Version};

use super::hop;

mod io;

pub use io::InterimIo;

/// How many interim responses one request gets, and how many bytes of them may wait.
const MAX_HEADS: usize = 16;
const MAX_BYTES: usize = 16 * 1024;

/// The interim responses of one connection. All clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Interims(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The number of the request that is being answered.
    turn: Option<u64>,
    last_turn: u64,
    /// The heads that wait to be written, and how many there were in this turn.
    heads: BytesMut,
    count: usize,
    /// hyper has tried to write something, and not flushed it yet.
    dirty: bool,
    /// The connection's task.
    waker: Option<Waker>,
}

impl Interims {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of a request that has just come.
    pub fn turn(&self, version: Version) -> Option<Turn> {
        if version != Version::HTTP_11 {
            return None;
        }
        let mut state = self.state();
        state.last_turn += 1;
        state.turn = Some(state.last_turn);
        state.heads.clear();
        state.count = 0;
        Some(Turn(Sink { interims: self.clone(), turn: state.last_turn }))
    }
}

/// While it is there, its request can have interim responses.
#[derive(Debug)]
pub struct Turn(Sink);

impl Turn {
    /// Where they go.
    pub fn sink(&self) -> Sink {
        self.0.clone()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.interims.state();
        if state.turn == Some(self.0.turn) {
            // What waits is written in front of the final head; or dropped, if that stands right
            // behind something that isn't flushed.
            state.turn = None;
        }
    }
}

/// Takes the interim responses to one request.
#[derive(Clone, Debug)]
pub struct Sink {
    interims: Interims,
    turn: u64,
}

impl Sink {
    /// Sends an interim response, if the client still waits for the final one.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap) {
        // What 100 tells the client, hyper does; 101 isn't interim.
        let own = [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&status);
        if own || !status.is_informational() {
            return;
        }
        let head = encode(status, headers);
        let mut state = self.interims.state();
        let fits = state.count < MAX_HEADS && state.heads.len() + head.len() <= MAX_BYTES;
        if state.turn != Some(self.turn) || !fits {
            return;
        }
        state.count += 1;
        state.heads.extend_from_slice(&head);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

/// No value can end a line before its time: the types of `http` don't let them.
fn encode(status: StatusCode, headers: &HeaderMap) -> BytesMut {
    let mut headers = headers.clone();
    hop::strip(&mut headers);
    // RFC 9110 §8.6
    headers.remove(CONTENT_LENGTH);
    let mut head = BytesMut::new();
    let reason = status.canonical_reason().unwrap_or_default();
    // Writing to memory doesn't fail.
    let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", status.as_str());
    for (name, value) in &headers {
        head.put_slice(name.as_str().as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    head.put_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests;
