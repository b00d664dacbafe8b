//! Processes of a test's own: the test binary, started again.
//!
//! A test that needs nodes which can be frozen, or whose memory is measured, starts [`Worker`]s. Each
//! runs one other test of the same binary, which asks [`Employer::find`] what it is to do; started by
//! anybody else, that test finds no employer and has nothing to do.

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::process::Process;

/// Where the employer listens.
const EMPLOYER: &str = "TOWER_KEEP_EMPLOYER";

/// What the worker is to do.
const JOB: &str = "TOWER_KEEP_JOB";

/// How long a worker may take to report.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that a test started. It ends with its owner.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    line: Line,
}

impl Worker {
    /// Runs the test `name` of this binary in a process of its own, for the sake of `job`.
    pub async fn start(name: &str, job: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port to listen on");
        let port = listener.local_addr().expect("the port").port();
        let child = Command::new(env::current_exe().expect("this binary"))
            .args(["--exact", name, "--nocapture"])
            .env(EMPLOYER, port.to_string())
            .env(JOB, job)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("this binary starts again");
        let process = Process(child);
        let accepted = timeout(PATIENCE, listener.accept()).await;
        let (stream, _) = accepted.expect("the worker reports in time").expect("it connects");
        Self { process, line: Line::new(stream) }
    }

    /// Freezes it, until it is [resumed](Self::resume).
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Ends it, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends it a line of text.
    pub async fn tell(&mut self, text: &str) {
        self.line.send(text).await;
    }

    /// The next line that it sends. Panics when it has ended, or says nothing for a minute.
    pub async fn hear(&mut self) -> String {
        self.hear_within(PATIENCE).await
    }

    /// The same, of one who may need longer.
    pub async fn hear_within(&mut self, patience: Duration) -> String {
        let line = timeout(patience, self.line.next()).await;
        line.expect("the worker says something").expect("the worker still runs")
    }

    /// What it answers to a line of text.
    pub async fn ask(&mut self, text: &str) -> String {
        self.tell(text).await;
        self.hear().await
    }
}

/// The test that started this process.
#[derive(Debug)]
pub struct Employer {
    job: String,
    line: Line,
}

impl Employer {
    /// The one that started this process, if a test did.
    pub async fn find() -> Option<Self> {
        let port: u16 = env::var(EMPLOYER).ok()?.parse().expect("a port");
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the employer listens");
        Some(Self { job: env::var(JOB).unwrap_or_default(), line: Line::new(stream) })
    }

    /// What this process is to do.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Sends a line of text.
    pub async fn tell(&mut self, text: &str) {
        self.line.send(text).await;
    }

    /// The next line; none once the employer is gone.
    pub async fn hear(&mut self) -> Option<String> {
        self.line.next().await
    }
}

/// Lines of text in both directions.
#[derive(Debug)]
struct Line(BufReader<TcpStream>);

impl Line {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        Self(BufReader::new(stream))
    }

    async fn send(&mut self, text: &str) {
        // One who is gone is noticed when nothing comes back.
        let _ = self.0.write_all(format!("{text}\n").as_bytes()).await;
    }

    async fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await {
            Ok(1..) => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}
