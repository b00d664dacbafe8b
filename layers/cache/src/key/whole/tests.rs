//! Tests of keys by a policy.

use std::collections::HashMap;

use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, COOKIE, HOST};
use proptest::prelude::*;

use super::*;

#[derive(Clone)]
struct Tenant(Vec<u8>);

fn tenant(head: &RequestHead<'_>) -> Option<Vec<u8>> {
    head.extensions().get::<Tenant>().map(|tenant| tenant.0.clone())
}

fn request(uri: &str) -> Request<()> {
    Request::get(uri).header(HOST, "h").body(()).unwrap()
}

fn with(uri: &str, name: &HeaderName, values: &[&str]) -> Request<()> {
    let mut request = request(uri);
    for value in values {
        request.headers_mut().append(name.clone(), value.parse().unwrap());
    }
    request
}

fn key(request: &Request<()>, policy: &KeyPolicy) -> Result<Vec<u8>, KeyError> {
    let mut out = Vec::new();
    write_whole(request, Some(policy), None, &mut out).map(|_| out)
}

fn text(request: &Request<()>, policy: &KeyPolicy) -> String {
    String::from_utf8(key(request, policy).unwrap()).unwrap()
}

#[test]
fn without_settings_the_key_is_the_target() {
    for uri in ["/a?b=c&a", "http://h/a", "/a?"] {
        let mut target = Vec::new();
        Target::of(&request(uri)).unwrap().write(&mut target).unwrap();
        assert_eq!(key(&request(uri), &KeyPolicy::new()).unwrap(), target);
    }
}

#[test]
fn what_does_not_count_is_left_out() {
    let of = |uri, policy: KeyPolicy| text(&request(uri), &policy);
    assert_eq!(of("/a?utm_source=x", KeyPolicy::new().ignore_params(["utm_*"])), "h/a");
    assert_eq!(of("/a?b=1&c=2", KeyPolicy::new().keep_params(["c"])), "h/a?c=2");
    assert_eq!(of("/a?b=1&c=2", KeyPolicy::new().ignore_query()), "h/a");
    assert_eq!(of("/a?b=1&a=2", KeyPolicy::new().sort_params()), "h/a?a=2&b=1");
    assert_eq!(of("http://h/a?b", KeyPolicy::new().ignore_host()), "http /a?b");
    assert_eq!(of("https://h:443/a?b", KeyPolicy::new().ignore_scheme()), "h/a?b");
    let mut ambiguous = request("/a");
    ambiguous.headers_mut().append(HOST, HeaderValue::from_static("i"));
    assert_eq!(key(&ambiguous, &KeyPolicy::new().ignore_host()), Err(KeyError::Host));
}

#[test]
fn fields_are_normalised_as_for_vary_and_absent_is_not_empty() {
    let policy = KeyPolicy::new().header(ACCEPT_ENCODING);
    let of = |values: &[&str]| text(&with("/a", &ACCEPT_ENCODING, values), &policy);
    assert_eq!(of(&[]), "h/a\th:accept-encoding");
    assert_eq!(of(&[""]), "h/a\th:accept-encoding=0:");
    assert_eq!(of(&["gzip;q=0.5, br"]), of(&["br", "gzip"]));
}

#[test]
fn one_cookie_counts_with_all_of_its_values() {
    let policy = KeyPolicy::new().cookie("theme");
    let of = |values: &[&str]| text(&with("/a", &COOKIE, values), &policy);
    assert_eq!(of(&["id=1; theme=dark"]), of(&["theme=dark", "other=2"]));
    let different = [
        of(&["id=1"]),
        of(&["theme="]),
        of(&["theme"]),
        of(&["theme=a"]),
        of(&["theme=a; theme=b"]),
        of(&["theme=b; theme=a"]),
        of(&["theme=a\"; x=\"y; theme=b"]),
        of(&["theme=a=1:b"]),
    ];
    for (at, one) in different.iter().enumerate() {
        assert!(!different[..at].contains(one), "{one}");
    }
}

#[test]
fn identity_is_told_only_where_it_is_there() {
    let policy = KeyPolicy::new().identity("sub", tenant).part("tenant", tenant);
    let of = |tenant: Option<&[u8]>| {
        let mut request = request("/a");
        if let Some(tenant) = tenant {
            request.extensions_mut().insert(Tenant(tenant.to_vec()));
        }
        write_whole(&request, Some(&policy), None, &mut Vec::new())
    };
    assert_eq!((of(None), of(Some(b"")), of(Some(b"7"))), (Ok(false), Ok(false), Ok(true)));
    let part = KeyPolicy::new().part("tenant", |_| Some("7"));
    assert_eq!(write_whole(&request("/a"), Some(&part), None, &mut Vec::new()), Ok(false));
}

#[test]
fn a_key_stays_within_its_bound() {
    let policy = KeyPolicy::new().part("x", |_| Some(vec![b'x'; 1 << 20]));
    let mut out = Vec::new();
    assert_eq!(write_whole(&request("/a"), Some(&policy), None, &mut out), Err(KeyError::TooLong));
    assert!(out.len() <= MAX_LEN);
}

#[test]
fn a_resource_has_one_digest_whatever_its_keys() {
    let of = |uri: &str, host: &str, policy: Option<&KeyPolicy>| {
        let request = Request::post(uri).header(HOST, host).body(()).unwrap();
        resource(&Target::of(&request).unwrap(), policy)
    };
    let one = of("/a", "h", None);
    for (uri, host) in [("http://h/a", "h"), ("https://h:443/a", "h"), ("/a", "H:80")] {
        assert_eq!(of(uri, host, None), one, "{uri} {host}");
    }
    for (uri, host) in [("/b", "h"), ("/a", "i"), ("/a?", "h"), ("/a", "h:81")] {
        assert_ne!(of(uri, host, None), one, "{uri} {host}");
    }
    let policy = KeyPolicy::new().ignore_params(["utm_*"]).sort_params().ignore_host();
    assert_eq!(of("/a?c&b&utm_x", "h", Some(&policy)), of("/a?b&c", "i", Some(&policy)));
}

#[test]
fn names_that_would_be_ambiguous_are_refused() {
    assert!(KeyPolicy::new().cookie("a").part("b-c:d", tenant).check().is_ok());
    for name in ["", "a=b", "a;b", "a b", "a\tb", "\u{e9}", &"x".repeat(129)] {
        assert!(KeyPolicy::new().cookie(name).check().is_err(), "{name}");
        assert!(KeyPolicy::new().part(name, tenant).check().is_err(), "{name}");
    }
    assert!(KeyPolicy::new().ignore_params(["a%20"]).check().is_err());
}

/// What a request may say of the parts of a key; the first letter of each field is its name's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Says {
    path: String,
    header: Option<Vec<u8>>,
    cookies: Vec<String>,
    tenant: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    content: Option<u8>,
}

impl Says {
    fn key(&self) -> Vec<u8> {
        let mut request = request(&self.path);
        if let Some(value) = self.header.as_deref() {
            let value = HeaderValue::from_bytes(value).unwrap();
            request.headers_mut().insert("x-one", value);
        }
        for value in &self.cookies {
            request.headers_mut().append(COOKIE, format!("c={value}").parse().unwrap());
        }
        let (tenant, user) = (self.tenant.clone(), self.user.clone());
        let policy = KeyPolicy::new()
            .header(HeaderName::from_static("x-one"))
            .cookie("c")
            .part("tenant", move |_| tenant.clone())
            .identity("user", move |_| user.clone());
        let content = self.content.map(|byte| ContentDigest::of(&[byte]));
        let mut out = Vec::new();
        write_whole(&request, Some(&policy), content.as_ref(), &mut out).unwrap();
        out
    }
}

/// Values made of what divides parts, so that any confusion would show.
fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of("(\t|=|1|:|\n|x:|i:user|h:x-one|0){0,4}".prop_map(String::into_bytes))
}

fn says() -> impl Strategy<Value = Says> {
    let header = prop::option::of("[=1:x]{0,3}".prop_map(String::into_bytes));
    let cookies = prop::collection::vec("[=1:-]{0,2}", 0..3);
    let all = ("/[ab]{0,2}(\\?[=1]{0,2}|)", header, cookies, value(), value());
    (all, prop::option::of(0..3u8)).prop_map(|((path, header, cookies, tenant, user), content)| {
        Says { path, header, cookies, tenant, user, content }
    })
}

proptest! {
    #[test]
    fn different_parts_have_different_keys(all in prop::collection::vec(says(), 2..40)) {
        let mut known: HashMap<Vec<u8>, Says> = HashMap::new();
        for says in all {
            if let Some(other) = known.insert(says.key(), says.clone()) {
                prop_assert_eq!(other, says);
            }
        }
    }

    #[test]
    fn nothing_can_be_moved_from_one_part_to_the_next(
        a in "[ab]{0,2}", b in "[ab]{0,2}", c in "[ab]{0,2}",
        boundary in "\tx:two(=|)[0-9]{0,1}(:|)",
    ) {
        let key = |one: &str, two: &str| {
            let (one, two) = (one.to_owned(), two.to_owned());
            let policy = KeyPolicy::new();
            let policy = policy.part("one", move |_| Some(one.clone()));
            text(&request("/a"), &policy.part("two", move |_| Some(two.clone())))
        };
        let (one, other) = (format!("{a}{boundary}{b}"), format!("{b}{boundary}{c}"));
        prop_assert_ne!(key(&one, &c), key(&a, &other));
    }

    #[test]
    fn no_key_begins_another(one in says(), other in says()) {
        // So what is appended for a variant can't make it another resource's.
        let (one, other) = (one.key(), other.key());
        if one != other {
            let mut varied = one.clone();
            varied.extend_from_slice(b"\n12345678x:y\n");
            prop_assert!(varied != other);
        }
    }

    #[test]
    fn equal_parts_have_equal_keys(says in says()) {
        prop_assert_eq!(says.key(), says.clone().key());
    }
}
