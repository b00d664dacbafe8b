//! Compressing and decompressing, away from the threads that must not wait for it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::inner::Inner;
use crate::codec::Encoded;
use crate::frame::BadFrame;
use crate::payload::Payload;

/// From how many bytes on it takes more than about 100 µs, which is longer than a task should keep
/// its thread.
const LONG_TO_UNPACK: usize = 128 * 1024;

/// How much of each is done at once: as much as there are processors. It bounds the threads, and the
/// memory that values take which turn out to be larger than they look. Who reads doesn't wait for what is
/// being written, which can take seconds.
#[derive(Debug)]
pub(super) struct Permits {
    pack: Arc<Semaphore>,
    unpack: Arc<Semaphore>,
}

impl Default for Permits {
    fn default() -> Self {
        let many = std::thread::available_parallelism().map_or(1, usize::from);
        let [pack, unpack] = [(); 2].map(|()| Arc::new(Semaphore::new(many)));
        Self { pack, unpack }
    }
}

impl Inner {
    /// `value` as it is to be stored: compressed, if that is wanted and worth it.
    pub(crate) async fn pack(&self, value: Encoded) -> Payload {
        let Some(compression) = self.compression else { return Payload::raw(value) };
        let len = value.head.len().saturating_add(value.body.len());
        let payload = if compression.is_quick(len) || !compression.wants(len) {
            Payload::packed(value, compression)
        } else {
            let shared = value.clone();
            let work = move || Payload::packed(shared, compression);
            self.elsewhere(&self.packing.pack, work).await.unwrap_or_else(|| Payload::raw(value))
        };
        if payload.is_packed() {
            self.counters.compressed.add();
            self.counters.compressed_from_bytes.add_many(payload.len() as u64);
            self.counters.compressed_to_bytes.add_many(payload.stored_len() as u64);
        }
        payload
    }

    /// The value that lay in a frame.
    pub(crate) async fn unpack(&self, payload: Payload) -> Result<Encoded, BadFrame> {
        if payload.is_packed() && payload.len() >= LONG_TO_UNPACK {
            let work = move || payload.unpacked();
            self.elsewhere(&self.packing.unpack, work).await.unwrap_or(Err(BadFrame::Compression))
        } else {
            payload.unpacked()
        }
    }

    /// Does `work` on a thread that may be kept busy. Nothing if there is none any more.
    async fn elsewhere<T: Send + 'static>(
        &self,
        permits: &Arc<Semaphore>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let runtime = self.runtime.as_ref()?;
        let permit = Arc::clone(permits).acquire_owned().await.ok()?;
        let task = runtime.spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        task.await.ok()
    }
}
