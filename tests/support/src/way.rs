//! A way to a server that can be cut, held up, made slow and spoilt.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// How many pieces may be on their way in one direction of a connection.
const ON_THE_WAY: usize = 1024;

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// It arrives.
    Flows,
    /// Connections end at once, new ones included.
    Ends,
    /// Nothing arrives and no connection ends, as where a firewall drops packets; once it
    /// [flows](Self::Flows) again, all of it does, late.
    Waits,
    /// The same of one connection alone: of those that were ever made, the one with that number, from 0 on.
    WaitsOn(usize),
    /// What the server sends arrives so much later.
    Lags(Duration),
    /// Other bytes arrive in place of what the server sends.
    Spoils,
}

/// A port that leads to a server, for as long as this lives.
#[derive(Debug)]
pub struct Way {
    port: u16,
    traffic: watch::Sender<Traffic>,
    listening: JoinHandle<()>,
}

impl Way {
    /// A way to the server at `to`, on which everything flows.
    pub async fn open(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port to listen on");
        let port = listener.local_addr().expect("the port").port();
        let traffic = watch::Sender::new(Traffic::Flows);
        let receiver = traffic.subscribe();
        let listening = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, number, to, receiver.clone()));
                number += 1;
            }
        });
        Self { port, traffic, listening }
    }

    /// The port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address in the form that Redis clients take.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sets what becomes of what is sent from now on.
    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.listening.abort();
        self.traffic.send_replace(Traffic::Ends);
    }
}

async fn carry(client: TcpStream, number: usize, to: u16, mut traffic: watch::Receiver<Traffic>) {
    if *traffic.borrow() == Traffic::Ends {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (there, back) = (traffic.clone(), traffic.clone());
    tokio::select! {
        () = pass(from_client, to_server, number, there, false) => {}
        () = pass(from_server, to_client, number, back, true) => {}
        _ = traffic.wait_for(|traffic| *traffic == Traffic::Ends) => {}
    }
}

/// Passes on what one end sends, until either end closes.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: usize,
    mut traffic: watch::Receiver<Traffic>,
    is_answer: bool,
) {
    let (sender, mut on_the_way) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let state = traffic.clone();
    let reading = async move {
        let mut bytes = vec![0; 65_536];
        while let Ok(len @ 1..) = from.read(&mut bytes).await {
            let lag = match *state.borrow() {
                Traffic::Lags(lag) if is_answer => lag,
                _ => Duration::ZERO,
            };
            if sender.send((Instant::now() + lag, bytes[..len].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((arrives, mut bytes)) = on_the_way.recv().await {
            sleep_until(arrives).await;
            let waits = [Traffic::Waits, Traffic::WaitsOn(number)];
            if traffic.wait_for(|traffic| !waits.contains(traffic)).await.is_err() {
                break;
            }
            if is_answer && *traffic.borrow() == Traffic::Spoils {
                bytes.fill(b'?');
            }
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    // Reading ends first, as a rule: what is on its way still arrives.
    tokio::join!(reading, writing);
}
