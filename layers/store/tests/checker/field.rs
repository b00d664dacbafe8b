//! The nodes of one run, each a process of its own, and what they bring home.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};
use tower_keep_testing::Worker;

use super::node::Job;
use super::origin::Origin;
use super::record::Record;
use super::verdict::History;

/// How long the nodes may take to be in step once all faults are over.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all nodes together have done.
#[derive(Debug, Default)]
pub struct Counts {
    pub l1_hits: u64,
    pub l2_hits: u64,
    pub fills: u64,
    pub validated: u64,
    pub losses: u64,
    pub deferred: u64,
}

/// What the nodes of a run have in common.
pub struct Plan {
    pub seed: u64,
    pub heartbeat: Duration,
    pub deadline: Duration,
    pub broken: &'static str,
    /// The address of Redis, for each node.
    pub urls: Vec<String>,
}

pub struct Field {
    pub nodes: Vec<Worker>,
    pub random: Rng,
    pub history: History,
    origin: Origin,
}

impl Field {
    pub async fn start(plan: &Plan) -> Self {
        let origin = Origin::start().await;
        let mut nodes = Vec::new();
        for (number, url) in plan.urls.iter().enumerate() {
            let job = Job {
                number,
                nodes: plan.urls.len(),
                seed: plan.seed,
                origin: origin.port,
                heartbeat: u64::try_from(plan.heartbeat.as_millis()).unwrap(),
                deadline: u64::try_from(plan.deadline.as_millis()).unwrap(),
                broken: plan.broken.to_owned(),
                url: url.clone(),
            };
            nodes.push(Worker::start("node", &job.to_line()).await);
        }
        let random = Rng::with_seed(plan.seed);
        let mut field = Self { nodes, random, history: History::default(), origin };
        field.in_step().await;
        field
    }

    /// Waits until every node is in step.
    pub async fn in_step(&mut self) {
        let start = Instant::now();
        for node in &mut self.nodes {
            while timeout(PATIENCE, node.ask("in step?")).await.unwrap() != "yes" {
                assert!(start.elapsed() < PATIENCE, "not in step within {PATIENCE:?}");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Up to `most`, and a tenth of that at least.
    pub fn span(&mut self, most: Duration) -> Duration {
        most.mul_f64(0.1 + 0.9 * self.random.f64())
    }

    /// Freezes a node for so long.
    pub async fn freeze(&mut self, node: usize, span: Duration) {
        self.nodes[node].pause();
        sleep(span).await;
        self.nodes[node].resume();
    }

    /// Ends the run. Gives the nodes `settle` to follow what was invalidated last.
    pub async fn end(mut self, settle: Duration) -> (History, Counts) {
        for node in &mut self.nodes {
            assert_eq!(node.ask("stop").await, "stopped");
        }
        self.in_step().await;
        sleep(settle).await;
        let mut counts = Counts::default();
        for node in &mut self.nodes {
            node.tell("tell").await;
            let mut records = Vec::new();
            let end = loop {
                let line = node.hear().await;
                if let Some(end) = line.strip_prefix("end ") {
                    break end.to_owned();
                }
                records.push(Record::from_line(&line));
            };
            let mut each = end.split(' ').map(|count| count.parse::<u64>().unwrap());
            let Counts { l1_hits, l2_hits, fills, validated, losses, deferred } = &mut counts;
            for count in [l1_hits, l2_hits, fills, validated, losses, deferred] {
                *count += each.next().unwrap();
            }
            self.history.nodes.push(records);
        }
        self.history.versions = self.origin.versions();
        (self.history, counts)
    }
}
