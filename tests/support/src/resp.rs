//! As much of RESP2 as a test needs to look into a server behind the back of the code it tests.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What a server answers to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// No value: a nil string or a nil array.
    Nil,
    /// An integer.
    Int(i64),
    /// A string of either kind; `OK` arrives as these two bytes.
    Bytes(Vec<u8>),
    /// Several replies.
    Array(Vec<Reply>),
    /// The server refused the command.
    Error(String),
}

/// Sends one command over a connection of its own.
pub(crate) async fn call(port: u16, args: &[&[u8]]) -> io::Result<Reply> {
    Conversation::begin(port).await?.call(args).await
}

/// A connection to a server, for commands whose effects belong to it, such as subscriptions.
#[derive(Debug)]
pub struct Conversation(BufReader<TcpStream>);

impl Conversation {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub async fn begin(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command, and returns the next reply.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub async fn call(&mut self, args: &[&[u8]]) -> io::Result<Reply> {
        self.0.write_all(&encode(args)).await?;
        self.listen().await
    }

    /// What the server says next.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub async fn listen(&mut self) -> io::Result<Reply> {
        read(&mut self.0).await
    }
}

fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| invalid(line))?;
    let number = || rest.parse::<i64>().map_err(|_| invalid(line));

    Ok(match kind {
        "+" => Reply::Bytes(rest.as_bytes().to_vec()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Int(number()?),
        // A negative length stands for nil.
        "$" => match usize::try_from(number()?) {
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes).await?;
                bytes.truncate(length);
                Reply::Bytes(bytes)
            }
            Err(_) => Reply::Nil,
        },
        "*" => match usize::try_from(number()?) {
            Ok(length) => {
                let mut replies = Vec::new();
                for _ in 0..length {
                    replies.push(Box::pin(read(stream)).await?);
                }
                Reply::Array(replies)
            }
            Err(_) => Reply::Nil,
        },
        _ => return Err(invalid(line)),
    })
}

fn invalid(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP2: {line:?}"))
}
