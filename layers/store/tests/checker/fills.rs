//! What the fills of a node do: fetch, validate, fail, take their time.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;
use tower_keep_store::{Fill, Ttl};

use super::origin::{Client, now};
use super::record::{GROUPS, Value};

/// How long the slowest fills take: longer than a node that is out of touch may serve what it holds, and
/// than it takes to notice that.
const SLOWEST: Duration = Duration::from_secs(4);

const LONG: Duration = Duration::from_secs(3600);

/// The tags of a group. What is fetched has one of them, or both. What is validated has the second, and
/// perhaps the first. A group is invalidated in this order, too: so what had only the first doesn't get
/// away by the second.
pub fn tags(group: usize) -> [String; 2] {
    [format!("group-{group}"), format!("again-{group}")]
}

/// For what is set: for long.
pub fn ttl(key: usize) -> Ttl {
    Ttl::new(LONG).stale_while_revalidate(LONG).tags(tags(key % GROUPS))
}

/// Whether values of `key` live for long. Those of the others are validated again and again.
pub fn is_long(key: usize) -> bool {
    key / GROUPS % 4 == 3
}

/// Each key has another.
fn lifetime(key: usize, random: &mut Rng) -> Ttl {
    let short = Ttl::new(Duration::from_millis(random.u64(10..250)));
    match key / GROUPS % 4 {
        0 => short.stale_if_error(LONG),
        1 => short.stale_while_revalidate(LONG),
        2 => short.stale_while_revalidate(Duration::from_millis(100)).stale_if_error(LONG),
        _ => Ttl::new(LONG).stale_while_revalidate(LONG),
    }
}

/// What the fills of a node have in common.
pub struct Fills {
    pub origin: Client,
    pub validated: AtomicU64,
    /// For a node that is broken: what it remembers to have fetched, and goes by where that is still the
    /// origin's version, whatever was invalidated since.
    pub memory: Option<Mutex<HashMap<usize, Value>>>,
}

impl Fills {
    /// A fill of `key`, which has `earlier` to validate.
    pub async fn fill(
        self: Arc<Self>,
        key: usize,
        earlier: Option<Arc<Value>>,
        mut random: Rng,
    ) -> io::Result<Fill<Value>> {
        // All that was invalidated before, this may be served in spite of; no more.
        let as_of = now();
        let slow = if random.u16(..512) == 0 { SLOWEST } else { Duration::from_millis(4) };
        let (before, after) = (slow.mul_f64(random.f64() / 2.0), slow.mul_f64(random.f64() / 2.0));
        sleep(before).await;
        let version = self.origin.get(key).await;
        sleep(after).await;
        if random.u8(..48) == 0 {
            return Err(io::Error::other("now and then"));
        }
        let life = lifetime(key, &mut random);
        let [first, second] = tags(key % GROUPS);
        let fetched = Value { version, as_of };
        if let Some(memory) = &self.memory {
            let mut memory = memory.lock().unwrap();
            let value = memory.entry(key).or_insert(fetched);
            if value.version != version {
                *value = fetched;
            }
            return Ok(Fill::value(*value).ttl(life.tags([first, second])));
        }
        if let Some(earlier) = earlier.filter(|earlier| earlier.version == version) {
            self.validated.fetch_add(1, Relaxed);
            let life = life.tags([second]);
            let life = if random.u8(..4) == 0 { life.tags([first]) } else { life };
            // Or one made of it.
            let is_copy = random.u8(..4) == 0;
            let kept = if is_copy { Fill::value(*earlier) } else { Fill::not_modified() };
            return Ok(kept.ttl(life));
        }
        if random.u8(..24) == 0 {
            return Ok(Fill::pass(fetched));
        }
        let life = match random.u8(..4) {
            0..2 => life.tags([first]),
            2 => life.tags([second]),
            _ => life.tags([first, second]),
        };
        Ok(Fill::value(fetched).ttl(life))
    }
}
