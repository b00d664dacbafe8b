//! What the server is asked beside its requests, a line at a time:
//!
//! | line | answer |
//! | --- | --- |
//! | `calls` | how often the handler was called |
//! | `storm RATE TAGS` | nothing; so many tags a second are invalidated, each of so many in turn |
//! | `stop` | how many that were, and microseconds: the median of them, and what 99 % did not exceed |

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use harness::BoxError;
use harness::samples::Samples;
use harness::site::{Handler, Site};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tower_keep::store::Store;

/// How many may be under way.
const MOST: usize = 1_024;

#[derive(Debug)]
pub(super) struct Control {
    listener: TcpListener,
    handler: Handler,
    store: Store,
}

impl Control {
    pub(super) async fn listen(address: &str, handler: Handler, store: Store) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, handler, store })
    }

    pub(super) async fn serve(self) {
        while let Ok((stream, _)) = self.listener.accept().await {
            let talk = talk(stream, self.handler.clone(), self.store.clone());
            // A client that breaks off is no news.
            tokio::spawn(async move { drop(talk.await) });
        }
    }
}

async fn talk(stream: TcpStream, handler: Handler, store: Store) -> Result<(), BoxError> {
    let mut stream = BufReader::new(stream);
    let mut storm = None;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["calls"] => handler.calls().to_string(),
            ["storm", rate, tags] => {
                storm = Some(Storm::begin(store.clone(), rate.parse()?, tags.parse()?));
                String::new()
            }
            ["stop"] => {
                let storm = storm.take().ok_or("there is none to stop")?;
                let took = storm.end().await?;
                format!("{} {:.1} {:.1}", took.count(), took.median(), took.at(0.99))
            }
            _ => return Err("it is not understood".into()),
        };
        stream.get_mut().write_all(format!("{answer}\n").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

/// Invalidations without end.
struct Storm {
    has_ended: Arc<AtomicBool>,
    task: JoinHandle<Samples>,
}

impl Storm {
    /// So many a second, of so many tags in turn.
    fn begin(store: Store, rate: f64, tags: u64) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(invalidate(store, rate, tags, Arc::clone(&has_ended)));
        Self { has_ended, task }
    }

    /// Microseconds that each took.
    async fn end(mut self) -> Result<Samples, BoxError> {
        self.has_ended.store(true, Relaxed);
        Ok((&mut self.task).await?)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // Its client may have gone away.
        self.has_ended.store(true, Relaxed);
    }
}

async fn invalidate(store: Store, rate: f64, tags: u64, has_ended: Arc<AtomicBool>) -> Samples {
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (begin, mut samples, mut running) = (Instant::now(), Samples::default(), JoinSet::new());
    let mut begun = 0_u64;
    while !has_ended.load(Relaxed) {
        tick.tick().await;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of them is due"
        )]
        let due = (begin.elapsed().as_secs_f64() * rate) as u64;
        while begun < due && running.len() < MOST {
            let (store, tag) = (store.clone(), Site::tag(begun % tags));
            running.spawn(async move {
                let start = Instant::now();
                let reach = store.invalidate_tag(tag).await;
                reach.is_ok().then(|| start.elapsed().as_secs_f64() * 1e6)
            });
            begun += 1;
        }
        while let Some(ended) = running.try_join_next() {
            if let Ok(Some(micros)) = ended {
                samples.push(micros);
            }
        }
    }
    samples
}
