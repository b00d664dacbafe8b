//! The edge as a process.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "each test binary uses its own part; a test may panic, and waits for another process"
)]

pub mod tls;
pub mod tokens;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test binary uses its own part")]
pub use tower_keep_testing::http::{Client, Origin, Response, field, get};

/// After which what doesn't happen is taken not to.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of one test, which goes with it.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running edge; killed when it is dropped.
pub struct Edge {
    child: Child,
    /// Its name and address, of each listener.
    pub addresses: Vec<(String, SocketAddr)>,
    /// The first of them.
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
    pub directory: Directory,
}

impl Edge {
    /// In front of one origin.
    pub fn before(origin: SocketAddr) -> Self {
        Self::at("127.0.0.1:0", origin)
    }

    pub fn at(listen: &str, origin: SocketAddr) -> Self {
        Self::new(&format!(
            "[[listener]]\naddress = \"{listen}\"\n[pool.app]\nbackends = [\"http://{origin}\"]\n"
        ))
    }

    pub fn new(config: &str) -> Self {
        Self::within(Directory::new(), config)
    }

    /// With what is in `directory` beside its configuration.
    pub fn within(directory: Directory, config: &str) -> Self {
        let path = directory.write("edge.toml", config);
        let mut child = Command::new(env!("CARGO_BIN_EXE_edge"))
            .arg("--config")
            .arg(path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, written) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        thread::spawn(move || {
            for line in stderr.lines() {
                let line = line.unwrap();
                written.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
        let mut addresses = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "ready" {
                break;
            }
            let (name, url) = line.split_once(' ').unwrap();
            let address = url.split_once("://").unwrap().1.parse().unwrap();
            addresses.push((name.to_owned(), address));
        }
        let Some((_, address)) = addresses.first() else {
            let _ = child.wait();
            thread::sleep(Duration::from_millis(100));
            panic!("it doesn't start: {}", log.lock().unwrap());
        };
        Self { child, address: *address, addresses, log, directory }
    }

    /// Where the listener `name` is.
    pub fn at_name(&self, name: &str) -> SocketAddr {
        self.addresses.iter().find(|(it, _)| it == name).unwrap().1
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The response to one request on a connection of its own.
    pub fn ask(&self, request: &str) -> Response {
        let mut client = self.client();
        client.send(request);
        client.response()
    }

    pub fn get(&self, path: &str) -> Response {
        self.ask(&get(path))
    }

    /// The response from the store. A client can have its response a moment before the store has.
    pub fn hit(&self, path: &str) -> Response {
        for _ in 0..1000 {
            let response = self.get(path);
            if response.is_hit() {
                return response;
            }
            let status = response.field("cache-status").unwrap();
            assert!(status.ends_with("collapsed"), "{status}");
        }
        unreachable!("{path} is not stored")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged `text` so many times.
    pub fn wait_for_log(&self, text: &str, times: usize) {
        let start = Instant::now();
        while self.log().matches(text).count() < times {
            assert!(start.elapsed() < PATIENCE, "{text:?} is not in {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writes another configuration, and has it loaded. Says what came of it.
    fn reload_with(&self, config: &str, text: &str) {
        self.directory.write("edge.toml", config);
        let before = self.log().matches(text).count();
        self.signal("-HUP");
        self.wait_for_log(text, before + 1);
    }

    pub fn reload(&self, config: &str) {
        self.reload_with(config, "the configuration is loaded again");
    }

    /// With one that can't be used.
    pub fn reload_in_vain(&self, config: &str) {
        self.reload_with(config, "the configuration stays as it is");
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(kill.success());
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
