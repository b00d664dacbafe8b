//! A store of one tier, and an origin that counts its calls.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    reason = "not every test needs all of it"
)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::sleep;
use tower_keep_store::{L1, Store, Typed};

pub const SECOND: Duration = Duration::from_secs(1);

pub fn store() -> Store {
    Store::builder().l1(L1::bytes(16 << 20)).jitter(0).build().unwrap()
}

pub fn numbers(store: &Store) -> Typed<u64, u32> {
    store.typed("number")
}

/// An origin that counts its calls and answers with their number.
#[derive(Clone, Default)]
pub struct Origin(Arc<AtomicU32>);

impl Origin {
    pub fn calls(&self) -> u32 {
        self.0.load(SeqCst)
    }

    pub fn answer(&self) -> impl Future<Output = Result<u32, io::Error>> + use<> {
        let calls = Arc::clone(&self.0);
        async move { Ok(calls.fetch_add(1, SeqCst) + 1) }
    }

    pub fn slow_answer(
        &self,
        delay: Duration,
    ) -> impl Future<Output = Result<u32, io::Error>> + use<> {
        let answer = self.answer();
        async move {
            sleep(delay).await;
            answer.await
        }
    }
}

pub async fn fail() -> Result<u32, io::Error> {
    Err(io::Error::other("origin is down"))
}
