//! Tests of variants.

use proptest::prelude::*;

use super::*;

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers
            .append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    headers
}

fn rule(list: &str) -> VaryRule {
    VaryRule::parse([list.as_bytes()])
}

fn variant(rule: &VaryRule, request: &HeaderMap) -> String {
    let mut out = Vec::new();
    rule.write_variant(request, &mut out);
    String::from_utf8(out).unwrap()
}

fn encoding(value: &str) -> String {
    let written = variant(&rule("accept-encoding"), &headers(&[("accept-encoding", value)]));
    written.strip_prefix("accept-encoding:").unwrap().trim_end_matches('\n').to_owned()
}

#[test]
fn a_rule_is_sorted_and_says_each_name_once() {
    let response = headers(&[("vary", "Cookie, accept"), ("vary", ",ACCEPT , origin")]);
    let read = VaryRule::of(&response);
    assert_eq!(read.to_string(), "accept,cookie,origin");
    assert!(read.names(&COOKIE) && !read.names(&ACCEPT_ENCODING));
    assert_eq!(rule(" , "), VaryRule::None);
    assert_eq!(VaryRule::of(&HeaderMap::new()), VaryRule::None);
}

#[test]
fn what_cannot_be_matched_is_any() {
    let many: Vec<_> = (0..=MAX_NAMES).map(|at| format!("x-{at}")).collect();
    for list in ["*", "accept, *", "a b", "x@y", &many.join(",")] {
        assert!(rule(list).is_any(), "{list}");
    }
    assert!(!rule(&many[1..].join(",")).is_any());
}

#[test]
fn absent_is_not_empty() {
    let rule = rule("x-a, x-b");
    assert_eq!(variant(&rule, &HeaderMap::new()), "x-a\nx-b\n");
    assert_eq!(variant(&rule, &headers(&[("x-a", "")])), "x-a:\nx-b\n");
    assert_eq!(variant(&VaryRule::None, &headers(&[("x-a", "1")])), "");
}

#[test]
fn lines_make_one_list() {
    let request = headers(&[("x-a", "1"), ("x-a", " 2 "), ("cookie", "a=1"), ("cookie", "b=2")]);
    assert_eq!(variant(&rule("x-a, cookie"), &request), "cookie:a=1; b=2\nx-a:1, 2\n");
    assert_eq!(
        variant(&rule("x-a"), &request),
        variant(&rule("x-a"), &headers(&[("x-a", "1, 2")]))
    );
}

#[test]
fn spaces_and_case_go_where_they_mean_nothing() {
    let rule = rule("accept, accept-language");
    let one = headers(&[
        ("accept", "text/html ; q=0.9 , a/b;c=\"X, y\""),
        ("accept-language", "en-US, de;q=0.5"),
    ]);
    let other = headers(&[
        ("accept", "text/html;q=0.9,a/b;c=\"X, y\""),
        ("accept-language", "en-us"),
        ("accept-language", "de; q=0.5"),
    ]);
    assert_eq!(variant(&rule, &one), variant(&rule, &other));
    assert_eq!(
        variant(&rule, &one),
        "accept:text/html;q=0.9,a/b;c=\"X, y\"\naccept-language:en-us,de;q=0.5\n"
    );
}

#[test]
fn encodings_have_one_form() {
    for (value, form) in [
        ("gzip, deflate, br, zstd", "br,deflate,gzip,zstd"),
        ("gzip, deflate, br", "br,deflate,gzip"),
        ("gzip, br", "br,gzip"),
        ("br,gzip", "br,gzip"),
        ("BR;q=0.1 , X-Gzip; Q=1.000", "br,gzip"),
        ("br;q=0, gzip", "gzip"),
        ("gzip;q=0.000", ""),
        ("", ""),
        ("identity", ""),
        ("gzip, identity;q=0", "gzip,identity;q=0"),
        ("gzip, *;q=0", "gzip,identity;q=0"),
        ("gzip, *;q=0, identity", "gzip"),
        ("gzip, *;q=0.1, foo", "*"),
        ("*, dcb;q=0, gzip;q=0, br", "*,gzip;q=0,dcb;q=0"),
        ("*, identity;q=0", "*,identity;q=0"),
        ("Dcz, gzip, dcb, foo;q=0", "gzip,dcb,dcz"),
        ("gzip;q=2, br", "br,gzip;q=2"),
        ("gzip;q=0.0000", "gzip;q=0.0000"),
        ("gzip, br, gzip;q=0", ",gzip, br, gzip;q=0"),
        ("*, *;q=0", ",*, *;q=0"),
    ] {
        assert_eq!(encoding(value), form, "{value}");
    }
    let long = "a, ".repeat(40);
    assert_eq!(encoding(&long), format!(",{}", long.trim()));
}

proptest! {
    #[test]
    fn the_order_of_encodings_does_not_matter(
        mut list in proptest::sample::subsequence(
            vec!["br", "gzip;q=0.5", "zstd", "deflate;q=0", "identity;q=0", "*", "dcb", "x"], 0..8,
        ),
        seed: u64,
    ) {
        let form = encoding(&list.join(", "));
        let turns = usize::try_from(seed % 8).unwrap().min(list.len());
        list.rotate_left(turns);
        list.reverse();
        prop_assert_eq!(&form, &encoding(&list.join(" ,")));
    }

    /// Whoever shares a variant accepts the same codings: reading the form again changes nothing.
    #[test]
    fn the_form_of_a_form_is_itself(value in "((br|gzip|zstd|x|\\*|identity)(;q=(0|1|0\\.5|7))?, ?){0,5}") {
        let form = encoding(&value);
        if !form.starts_with(',') {
            prop_assert_eq!(encoding(&form), form);
        }
    }

    /// Fields that are not normalised, under the rule of any of them: equal exactly when the lines
    /// are, joined.
    #[test]
    fn variants_are_equal_exactly_when_the_values_are(
        names in (0..4usize, 0..4usize),
        one in proptest::collection::vec(proptest::option::of("[ab:,\t\u{e9}]{0,3}"), 2),
        two in proptest::collection::vec(proptest::option::of("[ab:,\t\u{e9}]{0,3}"), 2),
    ) {
        let rules = [rule("x-a"), rule("x-b"), rule("x-a, x-b"), rule("x-a-x-b")];
        let request = |values: &[Option<String>]| {
            let mut headers = HeaderMap::new();
            for (name, value) in ["x-a", "x-b"].into_iter().zip(values) {
                headers.extend(value.as_ref().map(|value| {
                    (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap())
                }));
            }
            headers
        };
        let chosen = |rule: &VaryRule, headers: &HeaderMap| {
            let VaryRule::Fields(names) = rule else { unreachable!() };
            let trimmed = |name| headers.get(name).map(|v| field::trim(v.as_bytes()).to_vec());
            names.iter().map(|name| (name.clone(), trimmed(name))).collect::<Vec<_>>()
        };
        let (one_rule, two_rule) = (&rules[names.0], &rules[names.1]);
        let (one, two) = (request(&one), request(&two));
        let same = chosen(one_rule, &one) == chosen(two_rule, &two);
        prop_assert_eq!(variant(one_rule, &one) == variant(two_rule, &two), same);
    }

    #[test]
    fn any_request_has_a_variant(
        fields in proptest::collection::vec((0..4usize, any::<Vec<u8>>()), 0..6)
    ) {
        let names = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE];
        let fields = fields.into_iter().filter_map(|(name, value)| {
            Some((names[name].clone(), HeaderValue::from_bytes(&value).ok()?))
        });
        let mut request = HeaderMap::new();
        for (name, value) in fields {
            request.append(name, value);
        }
        let mut out = Vec::new();
        rule("accept, accept-encoding, accept-language, cookie").write_variant(&request, &mut out);
        prop_assert_eq!(out.split(|byte| *byte == b'\n').count(), 5);
    }

    #[test]
    fn any_rule_is_read_and_reads_back(lines: Vec<Vec<u8>>) {
        let read = VaryRule::parse(lines.iter().map(Vec::as_slice));
        prop_assert_eq!(rule(&read.to_string()), read);
    }
}

#[test]
fn a_union_covers_both() {
    let rule = |line: &str| VaryRule::parse([line.as_bytes()]);
    let both = rule("origin").union(&rule("accept, origin"));
    assert_eq!(both, rule("accept, origin"));
    assert!(both.covers(&rule("accept")) && both.covers(&VaryRule::None));
    assert!(!rule("accept").covers(&both) && !VaryRule::None.covers(&both));
    assert_eq!(VaryRule::None.union(&both), both);
    assert_eq!(both.union(&VaryRule::None), both);
    let many = (0..MAX_NAMES).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
    assert_eq!(rule(&many).union(&both), both);
}
