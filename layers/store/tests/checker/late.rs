//! A second tier whose announcements are late now and then, as on a busy network: a node goes on for a
//! while without what others have done, and learns of later epochs before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tower_keep_store::remote::{
    Claim, Epochs, Health, Leased, Listener, Put, Remote, RemoteFuture, Stored, Term,
};
use tower_keep_store::{Error, Redis, Strength, Tag};

use super::broken::forward;

/// The latest that an announcement arrives, beyond what the machine takes: within what the checker gives
/// busy machines, and sooner than its node takes silence for a loss.
const LATEST: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub struct Late {
    pub redis: Redis,
    pub seed: u64,
}

impl Remote for Late {
    forward! {
        is_available health get put lease update_lease resolve last_epoch invalidate buckets bucket
        removals
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Result<(), Error> {
        let (said, hears) = mpsc::unbounded_channel();
        let lost = Arc::new(AtomicU64::new(0));
        let random = Rng::with_seed(self.seed);
        tokio::spawn(tell(Arc::clone(&listener), hears, Arc::clone(&lost), random));
        self.redis.listen(Arc::new(Slow { listener, said, lost }))
    }
}

enum Said {
    Heard(Bytes),
    Confirmed { age: Duration, span: Duration },
}

/// Something that came, when it came, and how often the connection had been lost by then.
struct Came {
    at: Instant,
    lost: u64,
    said: Said,
}

/// Tells `listener` everything in its order.
async fn tell(
    listener: Arc<dyn Listener>,
    mut hears: mpsc::UnboundedReceiver<Came>,
    lost: Arc<AtomicU64>,
    mut random: Rng,
) {
    while let Some(came) = hears.recv().await {
        if random.u8(..8) == 0 {
            sleep_until(came.at + LATEST.mul_f64(random.f64())).await;
        }
        match came.said {
            // What is on its way when a connection is lost never arrives.
            _ if came.lost != lost.load(SeqCst) => {}
            Said::Heard(announcement) => listener.heard(&announcement),
            Said::Confirmed { age, span } => listener.confirmed(age + came.at.elapsed(), span),
        }
    }
}

/// A listener that is told late.
struct Slow {
    listener: Arc<dyn Listener>,
    said: mpsc::UnboundedSender<Came>,
    lost: Arc<AtomicU64>,
}

impl Slow {
    fn comes(&self, said: Said) {
        let came = Came { at: Instant::now(), lost: self.lost.load(SeqCst), said };
        // It fails when the runtime ends, and with it the node.
        let _ = self.said.send(came);
    }
}

impl Listener for Slow {
    fn heard(&self, announcement: &[u8]) {
        self.comes(Said::Heard(Bytes::copy_from_slice(announcement)));
    }

    fn lost(&self) {
        self.lost.fetch_add(1, SeqCst);
        self.listener.lost();
    }

    fn replaced(&self) {
        self.listener.replaced();
    }

    fn regained(&self) -> RemoteFuture<'_, ()> {
        self.listener.regained()
    }

    fn confirmed(&self, age: Duration, span: Duration) {
        self.comes(Said::Confirmed { age, span });
    }

    fn check(&self) -> RemoteFuture<'_, ()> {
        self.listener.check()
    }
}
