//! Requests that belong together go to the same upstream, whatever the proxy makes of them.

use std::io::Write;
use std::net::SocketAddr;

use http::Request;
use tower_keep_balance::proxy::{Fields, Forwarding, IpNet, Proxy};
use tower_keep_balance::{Affinity, Backend, ByClient, Field, Hash, Peer, Pool, Strategy, Wish};

use super::support::{Client, Origin, serve};

fn here() -> [IpNet; 1] {
    ["127.0.0.0/8".parse().unwrap()]
}

/// A request of a client that an earlier proxy has told of.
fn request(field: Field, client: u8) -> (String, String) {
    let (name, value) = match field {
        Field::Forwarded => ("forwarded", format!("for=192.0.2.{client}")),
        _ => ("x-forwarded-for", format!("192.0.2.{client}")),
    };
    (name.to_owned(), value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_known_by_what_came_whatever_upstreams_are_told() {
    let origins: Vec<_> = (0..3)
        .map(|at| {
            Origin::new(move |_, stream| {
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{at}").is_ok()
            })
        })
        .collect();
    let backends = || origins.iter().enumerate().map(|(at, it)| (at.to_string(), it.address));
    let pool = |strategy| {
        let of = |(name, at): (String, SocketAddr)| {
            Backend::http(&format!("http://{at}")).map(|it| Backend::new(name, it.target().clone()))
        };
        let backends: Result<Vec<_>, _> = backends().map(of).collect();
        Pool::builder().strategy(strategy).backends(backends.unwrap()).build().unwrap()
    };
    for fields in [Fields::Append, Fields::Replace, Fields::Remove, Fields::Leave] {
        for (trusted, field) in [
            (false, Field::XForwardedFor),
            (true, Field::XForwardedFor),
            (false, Field::Forwarded),
            (true, Field::Forwarded),
        ] {
            let by_client = ByClient::new().trust(here()).field(field);
            let forwarding = Forwarding::new().x_forwarded(fields).forwarded(fields);
            let forwarding = if trusted { forwarding.trust(here()) } else { forwarding };
            let pool = pool(Strategy::Hash(Hash::default()));
            let proxy = Proxy::builder(pool.clone())
                .forwarding(forwarding)
                .affinity(by_client.clone())
                .build()
                .unwrap();
            let mut client = Client::connect(serve(proxy).await);
            for number in 0..16 {
                let (name, value) = request(field, number);
                // Where it goes without the proxy in between.
                let mut direct = Request::get("/").header(&name, &value).body(()).unwrap();
                direct.extensions_mut().insert(Peer::new("127.0.0.1:9".parse().unwrap()));
                let hash = by_client.hash(&direct).unwrap();
                let expected = pool.pick_by(Wish::new().hash(hash)).unwrap().name().to_owned();
                client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{name}: {value}\r\n\r\n"));
                let response = client.response();
                assert_eq!(response.body, expected, "{fields:?} {trusted} {name}: {value}");
            }
        }
    }
}
