//! Reading the body of a request, within bounds of length and of time.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Body;
use tokio::time::timeout;

use super::body::Read;
use super::builder::Settings;
use crate::budget::Reservation;

/// The most frames that a body may come in. What comes in more isn't worth the work.
const MAX_FRAMES: usize = 4096;

/// What became of a body.
pub(super) enum Ended {
    /// It has been read to its end.
    Whole,
    /// It passes on, for this reason.
    Passes(&'static str),
}

/// A body that is being read.
struct Reading<'a, B> {
    body: Pin<Box<B>>,
    data: BytesMut,
    limit: usize,
    reservation: &'a mut Reservation,
    frames: usize,
}

/// Reads a body to its end, or as far as the settings allow.
pub(super) async fn read<B: Body>(
    body: B,
    settings: &Settings,
    reservation: &mut Reservation,
) -> (Read<B>, Ended) {
    let mut reading = Reading {
        body: Box::pin(body),
        data: BytesMut::new(),
        limit: settings.max_len,
        reservation,
        frames: 0,
    };
    let Ok((read, ended)) = timeout(settings.max_wait, reading.run()).await else {
        let read = Read { rest: Some(reading.body), ..nothing(reading.data.freeze()) };
        return (read, Ended::Passes("content-too-slow"));
    };
    let read = Read { data: reading.data.freeze(), ..read };
    match ended {
        // It has ended, and some bodies must not be asked again.
        None => (read, Ended::Whole),
        Some(why) if read.error.is_some() => (read, Ended::Passes(why)),
        Some(why) => (Read { rest: Some(reading.body), ..read }, Ended::Passes(why)),
    }
}

fn nothing<B: Body>(data: Bytes) -> Read<B> {
    Read { data, excess: Bytes::new(), trailers: None, error: None, rest: None }
}

impl<B: Body> Reading<'_, B> {
    /// Reads until the end, or a reason to stop. It may be dropped at any time: what was read is
    /// kept.
    async fn run(&mut self) -> (Read<B>, Option<&'static str>) {
        let mut read = nothing(Bytes::new());
        loop {
            match poll_fn(|cx| self.body.as_mut().poll_frame(cx)).await {
                None => return (read, None),
                Some(Err(error)) => {
                    read.error = Some(error);
                    return (read, Some("content-failed"));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => {
                        let len = data.remaining();
                        self.frames += 1;
                        let fits = self.frames <= MAX_FRAMES && len <= self.limit - self.data.len();
                        if !fits || !self.reservation.grow(len) {
                            read.excess = data.copy_to_bytes(len);
                            return (read, Some("content-too-long"));
                        }
                        self.data.put(data);
                    }
                    Err(frame) => {
                        // The key doesn't cover them, and the origin may read them.
                        read.trailers = frame.into_trailers().ok().filter(|all| !all.is_empty());
                        if read.trailers.is_some() {
                            return (read, Some("content-trailers"));
                        }
                    }
                },
            }
        }
    }
}
