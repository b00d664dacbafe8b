//! An origin that costs as little as can be: whatever is asked, the answer is 1 KiB of text. It
//! serves HTTP/1.1 with keep-alive, and requests without content only.
//!
//! `origin ADDRESS...` listens on each of the addresses.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut servers = Vec::new();
    for address in std::env::args().skip(1) {
        let listener = TcpListener::bind(address).await?;
        servers.push(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                // A client that breaks off is no news.
                tokio::spawn(async move { drop(serve(stream).await) });
            }
        }));
    }
    for server in servers {
        let ended: io::Result<()> = server.await?;
        ended?;
    }
    Ok(())
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let content = "x".repeat(1_024);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nserver: origin\r\ndate: Wed, 25 Nov 2026 12:00:00 GMT\r\n\
         content-type: text/plain\r\ncontent-length: {}\r\n\r\n{content}",
        content.len()
    );
    let mut heads = Vec::new();
    while stream.read_buf(&mut heads).await? > 0 {
        while let Some(end) = heads.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            heads.drain(..end + 4);
            stream.write_all(answer.as_bytes()).await?;
        }
    }
    Ok(())
}
