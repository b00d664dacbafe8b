//! The binary of the edge.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "each test binary uses its own part, and a test may panic"
)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};

#[allow(unused_imports, reason = "each test binary uses its own part")]
pub use tower_keep_testing::http::{Client, Origin, Response, field, get};

/// A running edge; killed when it is dropped.
pub struct Edge {
    child: Child,
    pub address: SocketAddr,
}

impl Edge {
    pub fn before(origin: SocketAddr) -> Self {
        Self::at("127.0.0.1:0", origin)
    }

    pub fn at(listen: &str, origin: SocketAddr) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edge"))
            .args([&format!("http://{origin}"), listen])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().next().expect("it says where it listens");
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, address }
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

    /// Asks it to stop.
    pub fn terminate(&self) {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(kill.success());
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
