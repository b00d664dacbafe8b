//! Tests of the negotiation.

use proptest::prelude::*;

use super::*;

const ALL: [Encoding; 4] = Encoding::ALL;

fn accept(line: &str) -> AcceptEncoding {
    AcceptEncoding::parse([line.as_bytes()])
}

fn choice(line: &str) -> &'static str {
    accept(line).choose(ALL).map_or("identity", Encoding::name)
}

#[test]
fn what_is_sent_follows_the_rfc() {
    for (line, sent) in [
        // The examples of RFC 9110 §12.5.3.
        ("compress, gzip", "gzip"),
        ("", "identity"),
        ("*", "zstd"),
        ("compress;q=0.5, gzip;q=1.0", "gzip"),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", "gzip"),
        // Common clients.
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip;q=0.5", "deflate"),
        ("identity", "identity"),
        // Weights first, then our order.
        ("br;q=0.9, gzip;q=0.9, zstd;q=0.8", "br"),
        ("gzip;q=0.001", "gzip"),
        ("gzip;q=0.5, br;q=0.51", "br"),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        ("gzip;q=0.5, identity;q=0.6", "identity"),
        ("gzip;q=0.1, *;q=0.5", "zstd"),
        ("gzip;q=0.1, zstd;q=0, br;q=0, deflate;q=0, *;q=0.5", "identity"),
        // Refusals.
        ("gzip;q=0", "identity"),
        ("gzip;q=0.000, br", "br"),
        ("*;q=0", "identity"),
        ("zstd;q=0, *", "br"),
        ("gzip, gzip;q=0", "identity"),
        ("gzip;q=0, x-gzip", "identity"),
        // Spelling.
        ("X-GZip", "gzip"),
        ("BR ; Q=0.3", "br"),
        ("  br  ,, gzip\t;q=1.000", "br"),
        // What is no weight, or more than one parameter, tells nothing.
        ("gzip;q=2", "identity"),
        ("gzip;q=1.001", "identity"),
        ("gzip;q=0.0001", "identity"),
        ("gzip;q=.5", "identity"),
        ("gzip;level=3", "identity"),
        ("gzip;q=1;q=0", "identity"),
        ("gzip;", "identity"),
        ("gzipx, x-br", "identity"),
    ] {
        assert_eq!(choice(line), sent, "{line}");
    }
}

#[test]
fn nothing_is_encoded_for_clients_that_do_not_say() {
    assert_eq!(AcceptEncoding::of(&HeaderMap::new()).choose(ALL), None);
    assert!(AcceptEncoding::of(&HeaderMap::new()).accepts_identity());
}

#[test]
fn the_plain_form_is_refused_by_name_or_by_all() {
    for (line, accepted) in [
        ("", true),
        ("gzip", true),
        ("identity;q=0", false),
        ("gzip, *;q=0", false),
        ("*;q=0, identity;q=0.1", true),
        ("*;q=0.1, identity;q=0.0", false),
        ("*;q=0.1", true),
    ] {
        assert_eq!(accept(line).accepts_identity(), accepted, "{line}");
    }
}

#[test]
fn lines_make_one_list() {
    let lines = AcceptEncoding::parse([&b"gzip;q=0"[..], b"br;q=0.5"]);
    assert_eq!(lines, accept("gzip;q=0, br;q=0.5"));
}

/// A member, and what it says; `None` for one that says nothing.
fn member() -> impl Strategy<Value = (String, Option<(String, u16)>)> {
    let names = prop::sample::select(vec![
        "gzip", "x-gzip", "br", "zstd", "deflate", "identity", "*", "sdch",
    ]);
    let weights = prop_oneof![
        Just((String::new(), Some(1000))),
        Just((";q=1".to_owned(), Some(1000))),
        (0u16..1000).prop_map(|q| (format!(" ; q=0.{q:03}"), Some(q))),
        Just((";q=7".to_owned(), None)),
    ];
    (names, weights).prop_map(|(name, (suffix, weight))| {
        (format!("{name}{suffix}"), weight.map(|weight| (name.to_owned(), weight)))
    })
}

proptest! {
    #[test]
    fn what_is_refused_or_not_named_is_never_sent(list in prop::collection::vec(member(), 0..8)) {
        let line: Vec<_> = list.iter().map(|(text, _)| text.clone()).collect();
        let read = accept(&line.join(","));
        let said = |wanted: &dyn Fn(&str) -> bool| {
            list.iter().filter_map(|(_, said)| said.as_ref()).filter(|(name, _)| wanted(name)).map(|(_, q)| *q).min()
        };
        let any = said(&|name| name == "*");
        let plain = said(&|name| name == "identity").or(any);
        if let Some(sent) = read.choose(ALL) {
            let named = said(&|name| Encoding::from_name(name.as_bytes()) == Some(sent));
            let weight = named.or(any).unwrap_or(0);
            prop_assert!(weight > 0, "{sent} for {line:?}");
            prop_assert!(plain.is_none_or(|plain| plain <= weight));
            for other in ALL {
                prop_assert!(read.weight(other).thousandths() <= weight);
            }
        }
        prop_assert_eq!(read.accepts_identity(), plain != Some(0));
    }

    #[test]
    fn any_bytes_can_be_read(lines: Vec<Vec<u8>>) {
        let read = AcceptEncoding::parse(lines.iter().map(Vec::as_slice));
        if let Some(sent) = read.choose(ALL) {
            prop_assert!(read.weight(sent).accepts());
        }
    }
}
