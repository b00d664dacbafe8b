//! Whom a proxy in front says that a connection is from: the PROXY protocol, versions 1 and 2.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};
use tower_keep_balance::proxy::IpNet;

/// The longest header of version 1.
const MOST_TEXT: usize = 107;

/// And of version 2: its parts are short, but anybody may add some.
const MOST_BINARY: u16 = 4096;

/// Whether a connection begins so. Of all others, it would be a lie.
pub(crate) fn is_announced(peer: IpAddr, proxies: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    proxies.iter().any(|network| network.contains(&peer))
}

/// Reads the header, and nothing that is behind it. None if the connection is the proxy's own.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>> {
    let mut header = vec![stream.read_u8().await?];
    if header == *b"\r" {
        header.resize(16, 0);
        stream.read_exact(header.get_mut(1..).unwrap_or_default()).await?;
        let length = header.last_chunk().map_or(0, |length| u16::from_be_bytes(*length));
        if length > MOST_BINARY {
            return Err(invalid());
        }
        header.resize(16 + usize::from(length), 0);
        stream.read_exact(header.get_mut(16..).unwrap_or_default()).await?;
    } else {
        while !header.ends_with(b"\r\n") {
            if header.len() == MOST_TEXT
                || !b"PROXY ".starts_with(header.get(..6).unwrap_or(&header))
            {
                return Err(invalid());
            }
            header.push(stream.read_u8().await?);
        }
    }
    let (header, _) = ProxyHeader::parse(&header, ParseConfig::default()).map_err(|_| invalid())?;
    Ok(header.proxied_address().map(|address| address.source))
}

fn invalid() -> Error {
    Error::new(ErrorKind::InvalidData, "this is no header of the PROXY protocol")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8]) -> Result<(Option<SocketAddr>, Vec<u8>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rest = bytes;
        let address = runtime.block_on(read(&mut rest))?;
        Ok((address, rest.to_vec()))
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        [&header, body, b"GET"].concat()
    }

    #[test]
    fn the_client_is_read_and_nothing_behind_it() {
        let of = |bytes: &[u8]| {
            let (address, rest) = read_all(bytes).unwrap();
            assert_eq!(rest, b"GET");
            address.map(|it| it.to_string())
        };
        let four = Some("192.0.2.1:56324".to_owned());
        assert_eq!(of(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET"), four);
        assert_eq!(
            of(b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\nGET"),
            Some("[2001:db8::1]:56324".to_owned())
        );
        assert_eq!(of(b"PROXY UNKNOWN\r\nGET"), None);
        let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 1, 187];
        assert_eq!(of(&binary(1, 0x11, &addresses)), four);
        // With something that nobody here asks for.
        assert_eq!(of(&binary(1, 0x11, &[&addresses[..], &[4, 0, 1, 0]].concat())), four);
        // A health check of the proxy itself.
        assert_eq!(of(&binary(0, 0, &[])), None);
    }

    #[test]
    fn what_is_none_is_refused_before_more_than_one_could_be_is_read() {
        let cases: [&[u8]; 7] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
            b"PROXY TCP4 192.0.2.256 192.0.2.2 56324 443\r\n",
            b"PROXX TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\n      ",
            &binary(1, 0x11, &[1, 2, 3]),
            &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
        ];
        for case in cases {
            assert!(read_all(case).is_err(), "{}", case.escape_ascii());
        }
        let long = binary(1, 0x11, &[0; 5000]);
        assert_eq!(read_all(&long).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn no_bytes_do_any_harm(
            head in prop::sample::select(vec![&b""[..], b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n"]),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = read_all(&[head, &bytes].concat());
        }
    }
}
