//! One request, and all that comes back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::BoxError;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status line and the fields, in lower case.
    pub head: String,
    /// The content; with what divides it into chunks, if it came so.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a field, if it is there.
    pub fn field(&self, name: &str) -> Option<&str> {
        let is_it = |line: &&str| line.split(':').next() == Some(name);
        let line = self.head.lines().find(is_it)?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

/// Asks `address` for `path` with these lines in the head, on a connection that then ends. It names the host
/// as wrk does: another would be another entry of a cache.
///
/// # Errors
///
/// If nothing comes back, or no 200.
pub fn ask(address: &str, path: &str, fields: &[&str]) -> Result<Answer, BoxError> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let host = format!("host: {address}");
    let lines = [host.as_str(), "connection: close"].into_iter().chain(fields.iter().copied());
    let lines = lines.collect::<Vec<_>>().join("\r\n");
    let request = format!("GET {path} HTTP/1.1\r\n{lines}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("there is no head")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(format!("it answers {:?}", head.lines().next().unwrap_or_default()).into());
    }
    Ok(Answer { head, body: answer.split_off(end + 4) })
}
