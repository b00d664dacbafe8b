//! Waiting for servers to agree.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Servers that haven't agreed after so long never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `done`, and panics if that takes too long.
pub(crate) async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
