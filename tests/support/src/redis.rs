//! A Redis or Valkey process that belongs to one test.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, iter};

use rustix::process::Pid;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::process::Process;
use crate::resp::{self, Reply};

/// A server that doesn't answer for so long never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// Below the ports that systems hand to outgoing connections: one of those could otherwise take
/// a server's port while it is down, and make its restart fail.
const PORTS: Range<u16> = 20_000..32_000;

/// How many times a server that exits at once, most likely because its port is taken, is tried.
pub(crate) const ATTEMPTS: usize = 20;

/// A Redis or Valkey server on a port of its own, without persistence.
///
/// Whatever state it is in, dropping it kills the process and removes its directory.
///
/// Its waits are in real time: a test that pauses tokio's clock must start the server before.
#[derive(Debug)]
pub struct RedisServer {
    // Before `dir`, so that the process is gone when its directory is removed.
    process: Option<Process>,
    port: u16,
    dir: TempDir,
    args: Vec<OsString>,
    paused: AtomicBool,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// The program is the one that `REDIS_SERVER` names, else `redis-server`, else
    /// `valkey-server`. Panics when there is none.
    pub async fn start() -> Self {
        let mut server = Self::prepare(0, in_memory());
        let ports = iter::repeat_with(random_port);
        let (process, port) = launch(server.dir(), &server.args, ports).await;
        (server.process, server.port) = (Some(process), port);
        server
    }

    /// A server that is yet to be [launched](Self::try_launch), with these arguments beside ours.
    pub(crate) fn prepare(port: u16, args: Vec<OsString>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("tower-keep-redis-")
            .tempdir()
            .expect("a temporary directory for the server");
        Self { process: None, port, dir, args, paused: AtomicBool::new(false) }
    }

    /// Starts it; false if it exits at once, most likely because its port is taken.
    pub(crate) async fn try_launch(&mut self) -> bool {
        self.process = launch_on(self.port, self.dir.path(), &self.args).await;
        self.process.is_some()
    }

    pub(crate) fn set_args(&mut self, args: Vec<OsString>) {
        self.args = args;
    }

    /// Where it keeps its files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The address in the form that clients take.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port, the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server, as a crash would: nothing is saved, no connection is closed in order.
    pub fn kill(&mut self) {
        self.process = None;
        self.paused.store(false, Ordering::SeqCst);
    }

    /// Whether it is [frozen](Self::pause).
    pub fn is_paused(&self) -> bool {
        self.process.is_some() && self.paused.load(Ordering::SeqCst)
    }

    /// Whether it has been started and not killed since.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts the server again, empty, on the same port, and waits until it answers.
    /// One that still runs is killed first.
    pub async fn restart(&mut self) {
        self.kill();
        let (process, _) = launch(self.dir.path(), &self.args, iter::repeat(self.port)).await;
        self.process = Some(process);
    }

    /// Freezes the server: connections stay open, and nothing is answered until [`resume`].
    ///
    /// [`resume`]: Self::resume
    pub fn pause(&self) {
        self.process().pause();
        self.paused.store(true, Ordering::SeqCst);
    }

    /// Lets a frozen server go on; what it was sent meanwhile is then answered.
    pub fn resume(&self) {
        self.paused.store(false, Ordering::SeqCst);
        self.process().resume();
    }

    /// Sends one command, over a connection of its own. Panics when no answer comes.
    pub async fn command(&self, args: &[&[u8]]) -> Reply {
        self.try_command(args).await.expect("the server answers")
    }

    /// The same of a server that may end its connections: a sentinel lets one do so that becomes a
    /// replica.
    ///
    /// # Errors
    ///
    /// If the connection can't be made, or ends.
    pub async fn try_command(&self, args: &[&[u8]]) -> io::Result<Reply> {
        let answer = timeout(PATIENCE, resp::call(self.port, args)).await;
        answer.expect("the server answers in time")
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("the server was killed")
    }
}

/// Starts a server on the first of the ports that it gets for itself.
async fn launch(dir: &Path, args: &[OsString], ports: impl Iterator<Item = u16>) -> (Process, u16) {
    for port in ports.take(ATTEMPTS) {
        if let Some(process) = launch_on(port, dir, args).await {
            return (process, port);
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the Redis server exited at once, {ATTEMPTS} times; its last words:\n{}", log(dir));
}

/// Starts a server on a port and waits until it answers; none if it exits instead.
async fn launch_on(port: u16, dir: &Path, args: &[OsString]) -> Option<Process> {
    let mut process = spawn(port, dir, args);
    let deadline = Instant::now() + PATIENCE;
    while process.0.try_wait().expect("the state of the server").is_none() {
        if answers(port, process.pid()).await {
            return Some(process);
        }
        let in_time = Instant::now() < deadline;
        assert!(in_time, "the Redis server doesn't answer; its log:\n{}", log(dir));
        sleep(Duration::from_millis(10)).await;
    }
    None
}

/// Whether it is this process that answers: when two tests choose the same port, one of the
/// servers is about to exit, and the other would answer in its place.
async fn answers(port: u16, pid: Pid) -> bool {
    let probe = async {
        resp::call(port, &[b"PING"]).await?;
        resp::call(port, &[b"INFO", b"server"]).await
    };
    match timeout(Duration::from_secs(1), probe).await {
        Ok(Ok(Reply::Bytes(info))) => String::from_utf8_lossy(&info)
            .lines()
            .filter_map(|line| line.strip_prefix("process_id:"))
            .any(|id| id == pid.to_string()),
        _ => false,
    }
}

fn spawn(port: u16, dir: &Path, args: &[OsString]) -> Process {
    let programs: Vec<OsString> = match env::var_os("REDIS_SERVER") {
        Some(program) if !program.is_empty() => vec![program],
        _ => vec!["redis-server".into(), "valkey-server".into()],
    };
    for program in &programs {
        let output = File::create(log_path(dir)).expect("a log for the server");
        let errors = output.try_clone().expect("a log for the server");
        let spawned = Command::new(program)
            // First, since a file of settings must be.
            .args(args)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--daemonize", "no", "--dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn();
        match spawned {
            Ok(child) => return Process(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{} doesn't start: {error}", program.display()),
        }
    }
    panic!(
        "no Redis server: found none of {programs:?}. `scripts/test` installs one and runs the \
         tests; REDIS_SERVER can name one that is not on PATH."
    );
}

/// The arguments of a server that keeps nothing on disk.
pub(crate) fn in_memory() -> Vec<OsString> {
    ["--save", "", "--appendonly", "no"].map(OsString::from).to_vec()
}

/// The standard library keys each `RandomState` differently: random enough to keep tests apart.
pub(crate) fn random_port() -> u16 {
    let width = u64::from(PORTS.end - PORTS.start);
    let offset = RandomState::new().hash_one(()) % width;
    PORTS.start + u16::try_from(offset).expect("less than the width of a range of ports")
}

fn log(dir: &Path) -> String {
    fs::read_to_string(log_path(dir)).unwrap_or_else(|error| format!("(no log: {error})"))
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("server.log")
}
