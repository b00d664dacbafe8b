//! Tests of what counts of a query.

use super::*;
use proptest::prelude::*;

fn rule(params: Params, sorted: bool) -> QueryRule {
    let rule = QueryRule { params, sorted };
    rule.check().unwrap();
    rule
}

fn patterns(names: &[&str]) -> Vec<Pattern> {
    names.iter().map(|name| Pattern::new((*name).to_owned())).collect()
}

fn except(names: &[&str]) -> QueryRule {
    rule(Params::Except(patterns(names)), false)
}

fn only(names: &[&str]) -> QueryRule {
    rule(Params::Only(patterns(names)), false)
}

fn sorted() -> QueryRule {
    rule(Params::All, true)
}

fn of(rule: &QueryRule, query: &str) -> Option<String> {
    rule.apply(query).map(Cow::into_owned)
}

#[test]
fn ignored_parameters_are_left_out_by_name_or_prefix() {
    let rule = except(&["utm_*", "fbclid"]);
    for (query, left) in [
        ("utm_source=x", None),
        ("q=1&utm_source=x&fbclid=2", Some("q=1")),
        ("utm_&q&fbclid&fbclids", Some("q&fbclids")),
        ("", Some("")),
        ("utm_source=x&", Some("")),
        ("a=utm_source", Some("a=utm_source")),
    ] {
        assert_eq!(of(&rule, query).as_deref(), left, "{query}");
    }
}

#[test]
fn what_could_be_something_else_to_the_origin_is_not_ignored() {
    let rule = except(&["utm_*", "x y"]);
    for query in [
        "%75tm_source=x",
        "utm%5fsource=x",
        "utm_+=x",
        "utm_source=x;q=evil",
        ";utm_source=x",
        "UTM_SOURCE=x",
        "utm_\u{e9}=x",
        "[utm_source]=x",
    ] {
        assert_eq!(of(&rule, query).as_deref(), Some(query));
    }
}

#[test]
fn what_could_be_a_kept_name_to_the_origin_is_kept() {
    let rule = only(&["q", "user_id", "f*"]);
    for query in [
        "q=1",
        "q",
        "Q=1",
        "q[]=1",
        "q[a]=1",
        "q.a=1",
        "%71=1",
        "q%00=1",
        "+q=1",
        "x;q=1",
        "x=1;q=1",
        "[q]=1",
        "user.id=1",
        "user-id=1",
        "USER_ID[0]=1",
        "foo=1",
        "f",
        "F.x=1",
    ] {
        assert_eq!(of(&rule, query).as_deref(), Some(query));
    }
    for query in ["p=q", "qq=1", "user=1", "userid=1", "", "x=f"] {
        assert_eq!(of(&rule, query), None, "{query}");
    }
    assert_eq!(of(&rule, "b=1&q=2&z=3&q=1").as_deref(), Some("q=2&q=1"));
}

#[test]
fn sorting_keeps_what_may_be_one_parameter_in_its_order() {
    for (query, expected) in [
        ("b=1&a=2", "a=2&b=1"),
        ("a=2&b&a=1", "a=2&a=1&b"),
        ("b&a[]=2&A=1&a[x]=0&a=3", "a[]=2&A=1&a[x]=0&a=3&b"),
        ("b_1&a-b=1&a_b=2", "a-b=1&a_b=2&b_1"),
        // Names that only the origin can read.
        ("b=1&%61=2&a=3", "b=1&%61=2&a=3"),
        ("b=1&a.b=2", "b=1&a.b=2"),
        ("b=1;c&a=2", "b=1;c&a=2"),
        ("b=1&[a]=2", "b=1&[a]=2"),
    ] {
        assert_eq!(of(&sorted(), query).as_deref(), Some(expected));
    }
    let long = format!("b={}&a=1", "x".repeat(MAX_SORTED));
    assert_eq!(of(&sorted(), &long), Some(long.clone()));
}

#[test]
fn names_that_would_never_match_are_refused() {
    for name in ["", "a%20b", "a+b", "a=b", "a&b", "a*b", "**", "a;b", "\u{e9}", "[a]"] {
        let rule = QueryRule { params: Params::Except(patterns(&[name])), sorted: false };
        assert!(rule.check().is_err(), "{name}");
    }
    assert!(rule(Params::Only(patterns(&["*"])), false).check().is_ok());
}

/// Whether a name counts.
type Counts<'a> = &'a dyn Fn(&str) -> bool;

/// Names as a lax origin reads them, with their values, in order.
fn as_read(query: &str) -> Vec<(String, String)> {
    let pairs = query.split(['&', ';']).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .map(|(name, value)| {
            let name = name.replace("%61", "a").replace("%62", "b").to_lowercase();
            let name = name.trim_start_matches('[').replace('.', "_");
            let end = name.find(['[', ']']).unwrap_or(name.len());
            (name[..end].to_owned(), value.to_owned())
        })
        .collect()
}

fn queries() -> impl Strategy<Value = String> {
    let parameter = "(\\[|%61|%62|a|b|A|B|c|a_b|a\\.b)(\\[\\]|)(;b|)(=[12]|)";
    prop::collection::vec(parameter, 0..5).prop_map(|parameters| parameters.join("&"))
}

/// Two queries; half of them made of the same parameters, in another order.
fn pairs() -> impl Strategy<Value = (String, String)> {
    let shuffled = queries().prop_flat_map(|query| {
        let parameters: Vec<_> = query.split('&').map(str::to_owned).collect();
        let shuffled = Just(parameters).prop_shuffle().prop_map(|all| all.join("&"));
        (Just(query), shuffled)
    });
    prop_oneof![shuffled, (queries(), queries())]
}

proptest! {
    /// The poisoning property: what a lax origin reads under a name that counts is the same for
    /// all requests with the same key.
    #[test]
    fn equal_keys_mean_equal_values_of_all_that_counts((one, other) in pairs()) {
        let reads = |query: &str, counts: Counts<'_>| {
            let mut read = as_read(query);
            read.retain(|(name, _)| counts(name));
            // In which order different names come is what sorting takes to be the same.
            read.sort_by(|(one, _), (other, _)| one.cmp(other));
            read
        };
        let cases: [(QueryRule, Counts<'_>); 4] = [
            (only(&["a"]), &|name| name == "a"),
            (except(&["c"]), &|name| name != "c" && !name.is_empty()),
            (sorted(), &|_| true),
            (rule(Params::Only(patterns(&["a", "a_b"])), true), &|name| name != "b" && name != "c" && !name.is_empty()),
        ];
        for (rule, counts) in cases {
            if of(&rule, &one) == of(&rule, &other) {
                prop_assert_eq!(reads(&one, counts), reads(&other, counts), "{:?}", rule);
            }
        }
    }

    #[test]
    fn applying_twice_changes_nothing(query in queries()) {
        for rule in [only(&["a"]), except(&["a*"]), sorted()] {
            let once = of(&rule, &query);
            prop_assert_eq!(once.as_ref().and_then(|query| of(&rule, query)), once.clone());
        }
    }
}
