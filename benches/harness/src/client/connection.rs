//! One connection, with one request at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use tokio::time::Instant;

use crate::BoxError;

/// Fields that an answer may have.
const MAX_FIELDS: usize = 64;

pub(super) struct Connection {
    stream: TcpStream,
    /// What has come of a head that isn't complete, which is rare.
    head: Vec<u8>,
    waits: Option<Waits>,
}

/// For an answer.
struct Waits {
    due: Instant,
    /// The status, and how many bytes of content are still to come, once that is known.
    rest: Option<(u16, usize)>,
}

/// How it is with the answer.
pub(super) enum State {
    Waits,
    Answered { due: Instant, status: u16 },
}

impl Connection {
    pub(super) fn open(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, BoxError> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(Self { stream, head: Vec::new(), waits: None })
    }

    /// Since when an answer is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waits.as_ref().map(|waits| waits.due)
    }

    /// A request is short, and the one before was answered, so it fits into the kernel's buffer.
    pub(super) fn send(&mut self, request: &[u8], due: Instant) -> Result<(), BoxError> {
        if self.stream.write(request)? < request.len() {
            return Err("a request doesn't fit into the buffer of a connection".into());
        }
        self.waits = Some(Waits { due, rest: None });
        Ok(())
    }

    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<State, BoxError> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Err("a server ends a connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(State::Waits),
                Err(error) => return Err(error.into()),
            };
            let Some(waits) = &mut self.waits else {
                return Err("an answer without a request".into());
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            let rest = match waits.rest {
                Some((status, rest)) => Some((status, rest, read)),
                None => begin(&mut self.head, bytes)?,
            };
            let Some((status, rest, content)) = rest else { continue };
            if content > rest {
                return Err("more comes than an answer says".into());
            }
            waits.rest = Some((status, rest - content));
            if content == rest {
                let due = waits.due;
                self.waits = None;
                return Ok(State::Answered { due, status });
            }
        }
    }
}

/// Reads a head. Says the status, the length of the content, and how much of that has come.
fn begin(head: &mut Vec<u8>, bytes: &[u8]) -> Result<Option<(u16, usize, usize)>, BoxError> {
    if head.is_empty() {
        let parsed = parse(bytes)?;
        if parsed.is_none() {
            head.extend_from_slice(bytes);
        }
        return Ok(parsed);
    }
    head.extend_from_slice(bytes);
    let parsed = parse(head)?;
    if parsed.is_some() {
        head.clear();
    }
    Ok(parsed)
}

fn parse(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>, BoxError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(end) = response.parse(bytes)? else { return Ok(None) };
    let length = response.headers.iter().find(|it| it.name.eq_ignore_ascii_case("content-length"));
    let length = length.ok_or("an answer doesn't say how long it is")?;
    let length = std::str::from_utf8(length.value)?.parse()?;
    Ok(Some((response.code.unwrap_or_default(), length, bytes.len() - end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_however_they_come() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhel";
        let mut head = Vec::new();
        assert_eq!(begin(&mut head, answer).unwrap(), Some((200, 5, 3)));
        for cut in 1..answer.len() - 3 {
            assert_eq!(begin(&mut head, &answer[..cut]).unwrap(), None);
            assert_eq!(begin(&mut head, &answer[cut..]).unwrap(), Some((200, 5, 3)), "{cut}");
            assert!(head.is_empty());
        }
        assert!(begin(&mut head, b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
