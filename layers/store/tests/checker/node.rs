//! One node: a process that reads, writes and invalidates at random, and remembers what it did.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_keep_store::remote::Remote;
use tower_keep_store::{L1, Reach, Redis, Store, Ttl, Typed};
use tower_keep_testing::Employer;

use super::broken::Broken;
use super::origin::{Client, now};
use super::record::{GROUPS, Instant, KEYS, NEVER, Record, Scope};

/// How long a node that is out of touch may serve what it holds.
pub const MAX_UNSYNCED: Duration = Duration::from_millis(500);

/// How long the slowest fills take: longer than a node that is out of touch may serve what it holds, and
/// than it takes to notice that.
const SLOWEST_FILL: Duration = Duration::from_secs(4);

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
            None => self.build(redis),
        }
    }

    fn build(&self, remote: impl Remote) -> Store {
        let builder = Store::builder().l1(L1::bytes(16 << 20)).max_unsynced(MAX_UNSYNCED);
        // The first node doesn't wait for the others.
        let builder = if self.number > 0 { builder.lease(LEASE) } else { builder };
        builder.l2(remote).build().unwrap()
    }
}

fn ttl(key: usize) -> Ttl {
    let long = Duration::from_secs(3600);
    Ttl::new(long).stale_while_revalidate(long).tags([tag(key % GROUPS)])
}

fn tag(group: usize) -> String {
    format!("group-{group}")
}

struct Node {
    store: Store,
    values: Typed<usize, u32>,
    origin: Client,
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
    let node = Arc::new(Node {
        values: store.typed("number"),
        store,
        origin: Client::connect(job.origin).await,
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
                let counts = [stats.l1_hits, stats.l2_hits, stats.fills, stats.losses];
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

    /// The only one who changes `key`: at the origin first, and then here.
    async fn write(self: Arc<Self>, key: usize, mut random: Rng) {
        while !self.has_ended() {
            let version = self.origin.bump(key).await;
            sleep(Duration::from_micros(random.u64(..2000))).await;
            let called = now();
            match random.u8(if self.by_tag { 0 } else { 25 }..40) {
                0 => self.done(Scope::Everything, called, self.store.clear().await),
                1 => self.done(Scope::Everything, called, self.values.clear().await),
                25..30 => {
                    let reach = self.values.set(&key, version, ttl(key)).await.unwrap();
                    self.done(Scope::Key(key), called, reach);
                }
                2..16 => {
                    let group = key % GROUPS;
                    let reach = self.store.invalidate_tag(tag(group)).await.unwrap();
                    self.done(Scope::Group(group), called, reach);
                }
                // One who gives up a removal leaves it to the store.
                16..20 => drop(timeout(Duration::from_millis(1), self.values.remove(&key)).await),
                20..25 => {
                    // Soft, which forbids nothing; so at last it is removed, too.
                    self.store.expire_tag(tag(key % GROUPS)).await.unwrap();
                    let reach = self.values.remove(&key).await;
                    self.done(Scope::Key(key), called, reach);
                }
                _ => {
                    let reach = self.values.remove(&key).await;
                    self.done(Scope::Key(key), called, reach);
                }
            }
            // Now and then long enough for the others to be due.
            let longest = if random.u8(..4) == 0 { 4000 } else { 300 };
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
                _ => {
                    let fill = self.fill(key, random.fork());
                    let found = self.values.get_or_try_set(&key, ttl(key), || fill).await.unwrap();
                    self.saw(key, began, Some(found));
                }
            }
            sleep(Duration::from_micros(random.u64(..4000))).await;
        }
    }

    fn saw(&self, key: usize, began: Instant, seen: Option<Arc<u32>>) {
        if let Some(seen) = seen {
            self.record(Record::Read { key, began, seen: *seen });
        }
    }

    fn fill(&self, key: usize, mut random: Rng) -> impl Future<Output = io::Result<u32>> + use<> {
        let origin = self.origin.clone();
        async move {
            let slow = if random.u8(..128) == 0 { SLOWEST_FILL } else { Duration::from_millis(4) };
            let (before, after) =
                (slow.mul_f64(random.f64() / 2.0), slow.mul_f64(random.f64() / 2.0));
            sleep(before).await;
            let version = origin.get(key).await;
            sleep(after).await;
            Ok(version)
        }
    }
}
