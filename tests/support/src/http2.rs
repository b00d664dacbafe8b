//! Servers of HTTP/2 that do what real ones seldom do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use h2::Reason;
use tokio::net::TcpListener;

/// A server that refuses every stream (RFC 9113 §8.7: it has not been processed), and how many those
/// were. Runs in a task.
pub async fn refusing() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port to listen on");
    let (address, count) =
        (listener.local_addr().expect("the port"), Arc::<AtomicUsize>::default());
    let counts = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counts = Arc::clone(&counts);
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    counts.fetch_add(1, SeqCst);
                    respond.send_reset(Reason::REFUSED_STREAM);
                }
            });
        }
    });
    (address, count)
}
