//! Nobody but a trusted proxy has a say in what a client's address is.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Request;
use proptest::prelude::*;
use tower_keep_balance::{Affinity, ByClient, Field, Peer};

/// Trusts 10.0.0.0/8 and `fd00::/8`.
fn by_client() -> ByClient {
    ByClient::new().trust(["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()))
}

fn request(peer: &str, name: &str, values: &[&str]) -> Request<()> {
    let mut builder = Request::builder();
    for value in values {
        builder = builder.header(name, *value);
    }
    let mut request = builder.body(()).unwrap();
    let peer = SocketAddr::new(peer.parse().unwrap(), 1234);
    request.extensions_mut().insert(Peer::new(peer));
    request
}

fn address(by: &ByClient, request: &Request<()>) -> String {
    by.address(request.headers(), request.extensions()).unwrap().to_string()
}

#[test]
fn x_forwarded_for_is_read_from_its_end_past_trusted_proxies() {
    for (peer, values, is) in [
        ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", &["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", &["6.6.6.6, 198.51.100.7, 10.9.9.9"], "198.51.100.7"),
        ("10.0.0.1", &["6.6.6.6", "198.51.100.7", "10.9.9.9 , 10.1.1.1"], "198.51.100.7"),
        ("10.0.0.1", &["10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", &["198.51.100.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", &["198.51.100.7, "], "10.0.0.1"),
        ("10.0.0.1", &["6.6.6.6, 198.51.100.7:4711"], "198.51.100.7"),
        ("fd00::1", &["[2001:db8::7]:4711"], "2001:db8::7"),
        ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
        ("::ffff:10.0.0.1", &["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
    ] {
        assert_eq!(
            address(&by_client(), &request(peer, "x-forwarded-for", values)),
            is,
            "{values:?}"
        );
        // The other field isn't read.
        assert_eq!(
            address(&by_client(), &request(peer, "forwarded", &["for=6.6.6.6"])),
            peer.trim_start_matches("::ffff:")
        );
    }
}

#[test]
fn forwarded_is_read_likewise_quoted_or_not() {
    let by_client = by_client().field(Field::Forwarded);
    for (values, is) in [
        (&["for=198.51.100.7"][..], "198.51.100.7"),
        (&["for=6.6.6.6, for=198.51.100.7;proto=http;by=10.0.0.1"], "198.51.100.7"),
        (&["for=6.6.6.6", "proto=https; For=\"198.51.100.7:80\""], "198.51.100.7"),
        (&["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
        (&["for=198.51.100.7, for=10.3.3.3"], "198.51.100.7"),
        (&["for=198.51.100.7, for=_hidden"], "10.0.0.1"),
        (&["for=198.51.100.7, for=unknown"], "10.0.0.1"),
        (&["for=198.51.100.7, by=10.0.0.1"], "10.0.0.1"),
        // A client opens a quoted string, to swallow what the proxy appends.
        (&["for=6.6.6.6;x=\", for=198.51.100.7"], "198.51.100.7"),
        (&["for=6.6.6.6;x=\", for=\"198.51.100.7:80\""], "198.51.100.7"),
        (&["for=6.6.6.6;x=\"\\, for=198.51.100.7"], "198.51.100.7"),
        // A proxy quotes what the client has written; what can't be read for sure isn't.
        (&["for=198.51.100.7;host=\"x, for=6.6.6.6\""], "10.0.0.1"),
        (&["for=198.51.100.7;host=\"x, for=6.6.6.6, y\""], "10.0.0.1"),
        (&["for=198.51.100.7;host=\"x, for=6.6.6.6, \\\"\""], "10.0.0.1"),
        (&["for=198.51.100.7;host=\"x, y;for=6.6.6.6;z\""], "10.0.0.1"),
        (&["for=198.51.100.7;host=\"x;for=6.6.6.6\""], "198.51.100.7"),
    ] {
        assert_eq!(
            address(&by_client, &request("10.0.0.1", "forwarded", values)),
            is,
            "{values:?}"
        );
    }
}

#[test]
fn an_ipv6_network_is_one_client_unless_the_settings_say_otherwise() {
    let hash = |by: &ByClient, peer: &str| by.hash(&request(peer, "x", &[])).unwrap();
    let (one, other) = ("2001:db8::1", "2001:db8::ffff");
    assert_eq!(hash(&by_client(), one), hash(&by_client(), other));
    assert_ne!(hash(&by_client(), one), hash(&by_client(), "2001:db8:0:1::1"));
    let exact = by_client().ipv6_prefix(128);
    assert_ne!(hash(&exact, one), hash(&exact, other));
    let none = by_client().ipv6_prefix(0);
    assert_eq!(hash(&none, one), hash(&none, "fe80::1"));
}

#[test]
fn a_request_of_nobody_known_has_no_address() {
    let request = Request::builder().header("x-forwarded-for", "198.51.100.7").body(()).unwrap();
    assert_eq!(by_client().hash(&request), None);
}

#[cfg(feature = "axum")]
#[test]
fn axum_says_who_the_peer_is() {
    let mut request = Request::new(());
    let peer = SocketAddr::from(([192, 0, 2, 1], 1234));
    request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
    assert_eq!(address(&by_client(), &request), "192.0.2.1");
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn is_trusted(address: Ipv4Addr) -> bool {
    address.octets()[0] == 10
}

proptest! {
    /// Whatever a client writes itself, the proxies before it write where it came from.
    #[test]
    fn no_client_chooses_its_address(
        forged in proptest::collection::vec("[ -~]{0,40}", 0..4),
        client in v4().prop_filter("a client isn't a proxy", |address| !is_trusted(*address)),
        proxies in proptest::collection::vec(any::<u32>(), 0..5),
        is_forwarded in any::<bool>(),
        appends in any::<bool>(),
    ) {
        // Each writes the address of the one before it, beside what was there or in a new field.
        let mut at = client;
        let mut values: Vec<String> = forged;
        for proxy in proxies {
            let says = if is_forwarded { format!("for={at}") } else { at.to_string() };
            match values.last_mut().filter(|_| appends) {
                Some(last) => *last = format!("{last}, {says}"),
                None => values.push(says),
            }
            at = Ipv4Addr::from(proxy & 0x00ff_ffff | 0x0a00_0000);
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let (name, field) = if is_forwarded {
            ("forwarded", Field::Forwarded)
        } else {
            ("x-forwarded-for", Field::XForwardedFor)
        };
        let request = request(&at.to_string(), name, &values);
        let found = by_client().field(field).address(request.headers(), request.extensions());
        prop_assert_eq!(found, Some(IpAddr::V4(client)));
    }

    /// Of what nobody trusted has written, nothing is read.
    #[test]
    fn what_an_untrusted_peer_says_does_not_matter(
        peer in v4().prop_filter("not a proxy", |address| !is_trusted(*address)),
        values in proptest::collection::vec("\\PC{0,60}", 0..4),
    ) {
        let values: Vec<String> =
            values.into_iter().filter(|value| http::HeaderValue::from_str(value).is_ok()).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        for name in ["x-forwarded-for", "forwarded"] {
            let request = request(&peer.to_string(), name, &values);
            for field in [Field::XForwardedFor, Field::Forwarded] {
                let found = by_client().field(field).address(request.headers(), request.extensions());
                prop_assert_eq!(found, Some(IpAddr::V4(peer)));
            }
        }
    }
}
