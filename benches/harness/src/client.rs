//! A client of its own, for what wrk can't do: requests that are sent when they are due, whether or not
//! the ones before have been answered, with latencies counted from when they were due (so a server that
//! pauses is charged for all whom it kept waiting). It has one thread, which doesn't sleep while
//! something may be due.

mod arrivals;
mod connection;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use tokio::time::Instant;

use self::arrivals::Schedule;
use self::connection::{Connection, State};
use crate::BoxError;

pub use self::arrivals::Arrivals;

/// How long is waited for answers after the last request was due.
const GRACE: Duration = Duration::from_secs(2);

/// Below this, the kernel's timers are too coarse to sleep.
const NAP: Duration = Duration::from_millis(2);

/// What is asked, of whom, and when.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub address: String,
    /// The paths that are asked for, in turn.
    pub paths: Vec<String>,
    /// More lines of the head.
    pub fields: Vec<String>,
    /// Connections.
    pub connections: usize,
    /// When requests are due.
    pub arrivals: Arrivals,
    /// For how long they are.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Nanoseconds from when a request was due to the last byte of its answer. Those that weren't
    /// answered are in it by how long they have waited.
    pub latency: Histogram<u64>,
    /// Nanoseconds by which the client was late to see that a request was due.
    pub late: Histogram<u64>,
    /// Requests that were answered by a 2xx.
    pub answered: u64,
    /// Those that were answered by something else, or not at all.
    pub failed: u64,
    /// Answers a second, while requests were due.
    pub rate: f64,
}

/// Does as `plan` says.
///
/// # Errors
///
/// If the server can't be reached, breaks off, or sends what isn't understood.
pub fn run(plan: &Plan) -> Result<Outcome, BoxError> {
    Client::connect(plan)?.run(plan)
}

struct Client {
    poll: Poll,
    connections: Vec<Connection>,
    requests: Vec<Vec<u8>>,
    idle: VecDeque<usize>,
    due: VecDeque<Instant>,
    buffer: Vec<u8>,
    sent: usize,
    outcome: Outcome,
}

impl Client {
    fn connect(plan: &Plan) -> Result<Self, BoxError> {
        let address: SocketAddr = plan.address.parse()?;
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for number in 0..plan.connections {
            connections.push(Connection::open(address, poll.registry(), Token(number))?);
        }
        let fields = plan.fields.iter().fold(String::new(), |mut fields, field| {
            let _ = write!(fields, "{field}\r\n");
            fields
        });
        let request = |path: &String| {
            format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{fields}\r\n", plan.address).into_bytes()
        };
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 3);
        Ok(Self {
            poll,
            idle: (0..connections.len()).collect(),
            connections,
            requests: plan.paths.iter().map(request).collect(),
            due: VecDeque::new(),
            buffer: vec![0; 256 << 10],
            sent: 0,
            outcome: Outcome {
                latency: histogram()?,
                late: histogram()?,
                answered: 0,
                failed: 0,
                rate: 0.0,
            },
        })
    }

    fn run(mut self, plan: &Plan) -> Result<Outcome, BoxError> {
        let start = Instant::now();
        let end = start + plan.duration;
        let mut schedule = Schedule::begin(plan.arrivals, start);
        let mut events = Events::with_capacity(plan.connections);
        let mut in_time = 0;
        loop {
            let now = Instant::now();
            if now < end {
                in_time = self.outcome.answered;
                self.admit(&mut schedule, now);
            } else if self.is_done() || now > end + GRACE {
                break;
            }
            while let Some(due) = self.due.front().copied() {
                let Some(connection) = self.idle.pop_front() else { break };
                self.due.pop_front();
                self.send(connection, due)?;
            }
            let nap =
                schedule.next().map_or(end, |next| next.min(end)).saturating_duration_since(now);
            let nap = nap.saturating_sub(NAP);
            // Once nothing more is due, only answers can come.
            let nap = if now < end { nap } else { NAP };
            self.poll.poll(&mut events, Some(nap))?;
            for event in &events {
                self.receive(event.token().0)?;
            }
        }
        self.give_up(Instant::now());
        #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52")]
        let rate = in_time as f64 / plan.duration.as_secs_f64();
        Ok(Outcome { rate, ..self.outcome })
    }

    /// Queues what has become due. A closed loop has as much due as there are idle connections.
    fn admit(&mut self, schedule: &mut Schedule, now: Instant) {
        if schedule.is_closed() {
            self.due.resize(self.idle.len(), now);
            return;
        }
        while let Some(due) = schedule.take(now) {
            self.outcome.late.saturating_record(nanos(now - due));
            self.due.push_back(due);
        }
    }

    fn send(&mut self, number: usize, due: Instant) -> Result<(), BoxError> {
        let request = &self.requests[self.sent % self.requests.len()];
        self.sent += 1;
        self.connections[number].send(request, due)
    }

    fn receive(&mut self, number: usize) -> Result<(), BoxError> {
        match self.connections[number].receive(&mut self.buffer)? {
            State::Waits => {}
            State::Answered { due, status } => {
                self.outcome.latency.saturating_record(nanos(due.elapsed()));
                if (200..300).contains(&status) {
                    self.outcome.answered += 1;
                } else {
                    self.outcome.failed += 1;
                }
                self.idle.push_back(number);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.due.is_empty() && self.idle.len() == self.connections.len()
    }

    /// What wasn't answered has waited at least until now.
    fn give_up(&mut self, now: Instant) {
        let waiting = self.connections.iter().filter_map(Connection::due);
        for due in waiting.chain(self.due.iter().copied()) {
            self.outcome.latency.saturating_record(nanos(now - due));
            self.outcome.failed += 1;
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}
