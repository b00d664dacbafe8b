//! One node: a process that reads, writes and invalidates at random, and remembers what it did.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_keep_store::remote::Remote;
use tower_keep_store::{FillError, L1, Reach, Redis, Store, Typed};
use tower_keep_testing::Employer;

use super::broken::Broken;
use super::fills::{Fills, is_long, tags, ttl};
use super::late::Late;
use super::origin::{Client, now};
use super::record::{GROUPS, Instant, KEYS, NEVER, Record, Scope, Value};

/// How long a node that is out of touch may serve what it holds.
pub const MAX_UNSYNCED: Duration = Duration::from_millis(500);

/// As short as it may be: those who die with it hold up the others that long.
const LEASE: Duration = Duration::from_millis(300);

const READERS: u64 = 4;

/// What a node is told: its number, how many there are, the seed, the origin's port, the heartbeat and
/// the deadline in milliseconds, what of it is broken, and the address of Redis.
pub struct Job {
    pub number: usize,
    pub nodes: usize,
    pub seed: u64,
    pub origin: u16,
    pub heartbeat: u64,
    pub deadline: u64,
    pub broken: String,
    pub url: String,
}

impl Job {
    pub fn to_line(&self) -> String {
        let Self { number, nodes, seed, origin, heartbeat, deadline, broken, url } = self;
        format!("{number} {nodes} {seed} {origin} {heartbeat} {deadline} {broken} {url}")
    }

    fn from_line(line: &str) -> Self {
        let parts: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| parts[at].parse::<u64>().unwrap();
        Self {
            number: usize::try_from(number(0)).unwrap(),
            nodes: usize::try_from(number(1)).unwrap(),
            seed: number(2),
            origin: u16::try_from(number(3)).unwrap(),
            heartbeat: number(4),
            deadline: number(5),
            broken: parts[6].to_owned(),
            url: parts[7].to_owned(),
        }
    }

    async fn store(&self) -> Store {
        let redis = Redis::builder(&self.url)
            .breaker_rest(Duration::from_millis(100))
            .deadline(Duration::from_millis(self.deadline))
            .heartbeat(Duration::from_millis(self.heartbeat))
            .connections(1 + self.number);
        let redis = redis.connect().await.unwrap();
        // The first node is never broken: it invalidates what the others go on to serve.
        match Broken::named(&self.broken, redis.clone()).filter(|_| self.number > 0) {
            Some(broken) => self.build(broken),
            None => self.build(Late { redis, seed: self.seed ^ self.number as u64 }),
        }
    }

    fn build(&self, remote: impl Remote) -> Store {
        let builder = Store::builder().l1(L1::bytes(16 << 20)).max_unsynced(MAX_UNSYNCED);
        // The first node doesn't wait for the others.
        let builder = if self.number > 0 { builder.lease(LEASE) } else { builder };
        builder.l2(remote).build().unwrap()
    }
}

struct Node {
    store: Store,
    values: Typed<usize, Value>,
    origin: Client,
    fills: Arc<Fills>,
    /// Whether it invalidates tags. One that does so itself can't serve what they were about, however
    /// broken it is.
    by_tag: bool,
    records: Mutex<Vec<Record>>,
    ended: watch::Sender<bool>,
}

/// Does what the test that started this process wants of it.
pub async fn run(mut employer: Employer) {
    let job = Job::from_line(employer.job());
    let store = job.store().await;
    let origin = Client::connect(job.origin).await;
    let remembers = job.broken == "Validation" && job.number > 0;
    let node = Arc::new(Node {
        values: store.typed("number"),
        store,
        origin: origin.clone(),
        fills: Arc::new(Fills {
            origin,
            validated: AtomicU64::new(0),
            memory: remembers.then(|| Mutex::new(HashMap::new())),
        }),
        by_tag: job.broken.is_empty() || job.number == 0,
        records: Mutex::default(),
        ended: watch::Sender::new(false),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&node).observe());
    let random = |task: u64| Rng::with_seed(job.seed ^ (job.number as u64) << 32 ^ task << 48);
    for key in (0..KEYS).filter(|key| key % job.nodes == job.number) {
        tasks.spawn(Arc::clone(&node).write(key, random(100 + key as u64)));
    }
    for reader in 0..READERS {
        tasks.spawn(Arc::clone(&node).read(random(reader)));
    }
    while let Some(told) = employer.hear().await {
        match told.as_str() {
            "in step?" => {
                let in_step = node.store.is_synced() && node.store.stats().in_step;
                employer.tell(if in_step { "yes" } else { "no" }).await;
            }
            "stop" => {
                node.ended.send_replace(true);
                while let Some(ended) = tasks.join_next().await {
                    ended.unwrap();
                }
                employer.tell("stopped").await;
            }
            "tell" => {
                for key in 0..KEYS {
                    if let Some(seen) = node.values.get(&key).await {
                        employer.tell(&Record::Last { key, seen: *seen }.to_line()).await;
                    }
                }
                let records = node.records.lock().unwrap().clone();
                for lines in records.chunks(4096) {
                    let lines: Vec<String> = lines.iter().map(|record| record.to_line()).collect();
                    employer.tell(&lines.join("\n")).await;
                }
                let stats = node.store.stats();
                let validated = node.fills.validated.load(Relaxed);
                let counts = [stats.l1_hits, stats.l2_hits, stats.fills, validated, stats.losses];
                let counts = counts.map(|count| count.to_string()).join(" ");
                employer.tell(&format!("end {counts} {}", stats.deferred_invalidations)).await;
            }
            told => panic!("{told}"),
        }
    }
}

impl Node {
    fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    fn record(&self, record: Record) {
        self.records.lock().unwrap().push(record);
    }

    /// Notes when the node falls out of step, and when what it owed has been spread.
    async fn observe(self: Arc<Self>) {
        let mut before = (false, 0);
        while !self.has_ended() {
            let stats = self.store.stats();
            let step = (stats.in_step, stats.losses);
            let at = now();
            if before != step {
                let mut records = self.records.lock().unwrap();
                records.push(Record::Step { is_in: false, at });
                if stats.in_step {
                    records.push(Record::Step { is_in: true, at });
                }
                before = step;
            }
            self.note_what_is_spread();
            sleep(Duration::from_millis(5)).await;
        }
        // Until nothing is owed.
        let _ = timeout(Duration::from_secs(20), async {
            while !self.store.is_synced() {
                sleep(Duration::from_millis(5)).await;
            }
            self.note_what_is_spread();
        })
        .await;
    }

    fn note_what_is_spread(&self) {
        let mut records = self.records.lock().unwrap();
        // Under the lock: what is owed now was recorded before.
        if self.store.is_synced() {
            let at = now();
            let recent = records.iter_mut().rev().take(10_000);
            for record in recent {
                if let Record::Invalidated { spread: spread @ NEVER, .. } = record {
                    *spread = at;
                }
            }
        }
    }

    /// The only one who changes `key`: at the origin first, and then here. Often only here, so that what
    /// was invalidated is still the origin's version.
    async fn write(self: Arc<Self>, key: usize, mut random: Rng) {
        while !self.has_ended() {
            let is_new = random.u8(..3) == 0;
            let version =
                if is_new { self.origin.bump(key).await } else { self.origin.get(key).await };
            sleep(Duration::from_micros(random.u64(..2000))).await;
            let called = now();
            match random.u8(if self.by_tag { 0 } else { 25 }..40) {
                0 => self.done(Scope::Everything, called, self.store.clear().await),
                1 => self.done(Scope::Everything, called, self.values.clear().await),
                25..30 => {
                    let value = Value { version, as_of: called };
                    let reach = self.values.set(&key, value, ttl(key)).await.unwrap();
                    self.done(Scope::Key(key), called, reach);
                    self.record(Record::Set { key, called, returned: now() });
                }
                2..16 => {
                    let group = key % GROUPS;
                    let mut worst = Reach::Everywhere;
                    for tag in tags(group) {
                        let reach = self.store.invalidate_tag(tag).await.unwrap();
                        if reach != Reach::Everywhere {
                            worst = reach;
                        }
                    }
                    self.done(Scope::Group(group), called, worst);
                }
                // One who gives up a removal leaves it to the store.
                16..20 => drop(timeout(Duration::from_millis(1), self.values.remove(&key)).await),
                20..25 => {
                    // Soft, which forbids nothing; so at last it is removed, too.
                    for tag in tags(key % GROUPS) {
                        self.store.expire_tag(tag).await.unwrap();
                    }
                    let reach = self.values.remove(&key).await;
                    self.done(Scope::Key(key), called, reach);
                }
                _ => {
                    let reach = self.values.remove(&key).await;
                    self.done(Scope::Key(key), called, reach);
                }
            }
            // Now and then long enough for the others to be due.
            let longest = if random.u8(..4) == 0 { 4000 } else { 200 };
            sleep(Duration::from_millis(random.u64(..longest))).await;
        }
    }

    fn done(&self, scope: Scope, called: Instant, reach: Reach) {
        self.record(Record::invalidated(scope, called, now(), reach));
    }

    async fn read(self: Arc<Self>, mut random: Rng) {
        while !self.has_ended() {
            let key = random.usize(..KEYS);
            let began = now();
            match random.u8(..10) {
                0..2 => self.saw(key, began, self.values.get(&key).await),
                2 => {
                    let keys: Vec<usize> = (key..KEYS).step_by(5).collect();
                    let found = self.values.get_many(&keys).await;
                    for (key, found) in keys.into_iter().zip(found) {
                        self.saw(key, began, found);
                    }
                }
                3 if random.u8(..) == 0 => drop(self.values.expire(&key).await),
                how => {
                    let (fills, random) = (Arc::clone(&self.fills), random.fork());
                    let fill = move |earlier| fills.fill(key, earlier, random);
                    let found = if is_long(key) && how < 6 {
                        self.values.get_or_try_set(&key, ttl(key), || fill(None)).await
                    } else {
                        self.values.get_or_try_refresh(&key, ttl(key), fill).await
                    };
                    match found {
                        Ok(found) => self.saw(key, began, Some(found)),
                        Err(FillError::Failed(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            sleep(Duration::from_micros(random.u64(..4000))).await;
        }
    }

    fn saw(&self, key: usize, began: Instant, seen: Option<Arc<Value>>) {
        if let Some(seen) = seen {
            self.record(Record::Read { key, began, seen: *seen });
        }
    }
}
