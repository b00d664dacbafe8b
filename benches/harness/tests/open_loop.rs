//! Whether the client of the open loop charges a server for all whom it kept waiting.
#![cfg(feature = "load")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use harness::client::{Arrivals, Plan, run};

const PAUSE: Duration = Duration::from_millis(400);

/// Longer than the machine is likely to keep anybody waiting, and a quarter of the pause.
const LONG: u64 = 100_000_000;

/// Answers one request after the other, and pauses before the 50th.
fn serve(mut stream: TcpStream) {
    let mut heads = Vec::new();
    let mut buffer = [0; 4096];
    let mut count = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        heads.extend_from_slice(&buffer[..read]);
        while let Some(end) = heads.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            heads.drain(..end + 4);
            count += 1;
            if count == 50 {
                thread::park_timeout(PAUSE);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        }
    }
}

/// How many requests waited for long, of how many.
fn waited(arrivals: Arrivals) -> (u64, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || serve(listener.accept().unwrap().0));
    let outcome = run(&Plan {
        address,
        paths: vec!["/".to_owned()],
        fields: Vec::new(),
        connections: 1,
        arrivals,
        duration: Duration::from_secs(1),
    })
    .unwrap();
    server.join().unwrap();
    assert_eq!(outcome.failed, 0);
    (outcome.latency.count_between(LONG, u64::MAX), outcome.latency.len())
}

#[test]
fn whoever_is_due_while_a_server_pauses_waits_for_it() {
    // 200 a second: 80 are due in the pause, and all but the last 20 of them wait for long.
    let (open, all) = waited(Arrivals::Open { rate: 200.0, seed: 1 });
    assert!((150..260).contains(&all), "{all}");
    assert!(open > 30, "{open} of {all}");
    // A client that waits for answers sees one that was slow, and a few for which the machine is.
    let (closed, all) = waited(Arrivals::Closed);
    assert!(closed >= 1 && closed < open / 3, "{closed} of {all}");
}
