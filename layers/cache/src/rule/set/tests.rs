use http::{Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::policy::Statuses;

const SECOND: Duration = Duration::from_secs(1);

fn rules(rules: impl IntoIterator<Item = Rule>) -> Result<Rules, ConfigError> {
    Rules::new(rules.into_iter().collect(), &Arc::default())
}

/// Which of the rules, told apart by their `max_ttl`, is for a request; `None` if it passes.
fn chosen(rules: &Rules, request: &Request<()>) -> Option<u64> {
    let policy = rules.policy(request);
    assert_eq!(policy.is_none(), rules.bypass(request));
    policy.map(|policy| policy.max_ttl.map_or(0, |ttl| ttl.as_secs()))
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn number(rule: Rule, n: u32) -> Rule {
    rule.max_ttl(SECOND * n)
}

#[test]
fn the_first_that_applies_counts() {
    let all = rules([
        number(Rule::new().path("/a/b"), 1),
        Rule::new().path_prefix("/a/b").bypass(),
        number(Rule::new().path_prefix("/a"), 3),
    ]);
    let all = all.unwrap();
    assert_eq!(chosen(&all, &get("/a/b?x")), Some(1));
    assert_eq!(chosen(&all, &get("/a/b/c")), None);
    assert_eq!(chosen(&all, &get("/a")), Some(3));
    assert_eq!(chosen(&all, &get("/b")), Some(0));
}

#[test]
fn every_kind_of_condition_must_hold_and_any_of_one_kind() {
    let rule = Rule::new()
        .path_prefix("/a")
        .path_prefix("/b")
        .path_suffix(".css")
        .host("example.com")
        .method(Method::GET)
        .when(|head| head.headers().contains_key("x-one"))
        .when(|head| head.extensions().get::<u8>().is_some());
    let all = rules([number(rule, 1)]).unwrap();
    let full = |uri: &str| {
        let mut request = get(uri);
        request.headers_mut().insert("x-one", "1".parse().unwrap());
        request.extensions_mut().insert(1u8);
        request
    };
    assert_eq!(chosen(&all, &full("http://EXAMPLE.com:8080/a/x.css")), Some(1));
    assert_eq!(chosen(&all, &full("http://example.com/b/x.css")), Some(1));
    for other in ["http://example.com/c/x.css", "http://example.com/a/x", "http://a.com/a/x.css"] {
        assert_eq!(chosen(&all, &full(other)), Some(0), "{other}");
    }
    let mut lacking = full("http://example.com/a/x.css");
    lacking.headers_mut().clear();
    assert_eq!(chosen(&all, &lacking), Some(0));
    let mut head = full("http://example.com/a/x.css");
    *head.method_mut() = Method::HEAD;
    assert_eq!(chosen(&all, &head), Some(0));
}

#[test]
fn escapes_do_not_hide_a_path_and_dot_segments_are_on_the_safe_side() {
    let all = rules([
        Rule::new().path_prefix("/admin").bypass(),
        number(Rule::new().path_prefix("/a%64s"), 2),
    ]);
    let all = all.unwrap();
    assert_eq!(chosen(&all, &get("/%61dmin/x")), None);
    assert_eq!(chosen(&all, &get("/ad%73/x")), Some(2));
    for path in ["/ads/../admin", "/ads/..%2fadmin", "/ads/%2e%2e/admin"] {
        assert_eq!(chosen(&all, &get(path)), None, "{path}");
    }
    let only = rules([number(Rule::new().path_prefix("/ads"), 2)]).unwrap();
    assert_eq!(chosen(&only, &get("/ads/../admin")), Some(0));
}

#[test]
fn a_hit_asks_no_rule_behind_the_last_that_bypasses() {
    let plain = || number(Rule::new().path("/a"), 1);
    assert_eq!(rules([plain()]).unwrap().deciding, 0);
    let all = [plain(), Rule::new().path("/b").bypass(), number(Rule::new().path("/c"), 3)];
    assert_eq!(rules(all).unwrap().deciding, 2);
}

#[test]
fn what_a_rule_leaves_open_is_as_the_layer_has_it() {
    let layer = PolicyOptions {
        default_ttl: Some(SECOND),
        max_ttl: Some(SECOND * 2),
        stale_while_revalidate: SECOND * 3,
        stale_if_error: SECOND * 4,
        ..PolicyOptions::default()
    };
    let rule = Rule::new().path("/a").max_ttl(SECOND * 9).stale_if_error(Duration::ZERO);
    let all = Rules::new(vec![rule], &Arc::new(layer)).unwrap();
    let policy = all.policy(&get("/a")).unwrap();
    assert_eq!((policy.default_ttl, policy.max_ttl), (Some(SECOND), Some(SECOND * 9)));
    assert_eq!(
        (policy.stale_while_revalidate, policy.stale_if_error),
        (SECOND * 3, Duration::ZERO)
    );
}

#[test]
fn what_cannot_work_is_refused_with_the_fix() {
    let new = Rule::new;
    let not_found = StatusCode::NOT_MODIFIED;
    let cases: Vec<(Vec<Rule>, &str)> = vec![
        (vec![new().min_ttl(SECOND * 2).max_ttl(SECOND)], "1: min_ttl is longer than its max_ttl"),
        (vec![new().default_ttl(SECOND * 2).max_ttl(SECOND)], "default_ttl is longer"),
        (vec![new().negative_ttl(SECOND * 2).max_ttl(SECOND)], "default_ttl_for is longer"),
        (vec![new().default_ttl(Duration::ZERO)], "default_ttl is 0: leave it out"),
        (vec![new().max_ttl(Duration::from_micros(1))], "max_ttl is 0: leave it out"),
        (vec![new().bypass().stale_if_error(SECOND)], "leave out stale_if_error, or bypass"),
        (vec![new().bypass().min_ttl(SECOND)], "leave out min_ttl, or bypass"),
        (vec![new().default_ttl_for(not_found, SECOND)], "304 are never stored: leave it out"),
        (vec![new().path("a")], "no path is \"a\": let it begin with a slash"),
        (vec![new().path_prefix("/a/%2e./b")], "dot segments: write it without"),
        (vec![new().path("/a?b")], "use `when`"),
        (vec![new().path_suffix("")], "leave the empty path_suffix out"),
        (vec![new().host("http://example.com")], "give the name alone"),
        (vec![new().host("example.com:80")], "give the name alone"),
        (vec![new().method(Method::OPTIONS)], "leave the method out, or add GET"),
        (vec![new().path("/a").path_suffix(".b")], "leave out the path_prefix and path_suffix"),
        (vec![new(), new().path("/a").bypass()], "rule 2: rule 1 comes before it"),
        (vec![new().path_prefix("/a"), new().path("/a/b").host("x")], "put it before that one"),
        (vec![new().path("/a").bypass(), new().path("/a")], "or make them one"),
    ];
    for (given, expected) in cases {
        let error = rules(given.clone()).unwrap_err().to_string();
        assert!(error.contains(expected), "{given:?}: {error}");
    }
    let layer = PolicyOptions { max_ttl: Some(SECOND), ..PolicyOptions::default() };
    let error = Rules::new(vec![new().min_ttl(SECOND * 2)], &Arc::new(layer)).unwrap_err();
    assert!(error.to_string().contains("the layer's max_ttl: give the rule its own"), "{error}");
}

#[test]
fn what_can_work_is_not_refused() {
    let new = Rule::new;
    let apart = rules([
        new().path_prefix("/a").when(|_| false),
        new().path_prefix("/a/b/"),
        new().path_prefix("/a/b"),
        new().path_suffix(".css").method(Method::GET),
        new().path_suffix(".css"),
        new().host("a.example").negative_ttl(SECOND),
        new().default_ttl_for(Statuses::REDIRECTION, SECOND),
    ]);
    assert!(apart.is_ok(), "{apart:?}");
}

prop_compose! {
    /// A rule of few conditions, so that they often meet.
    fn any_rule()(
        paths in proptest::collection::vec("/[ab](/[ab])?", 0..2),
        prefixes in proptest::collection::vec("/[ab]?(/[ab])?/?", 0..3),
        suffixes in proptest::collection::vec("[ab]{1,2}", 0..2),
        hosts in proptest::collection::vec("[xX]|y", 0..2),
        head: bool,
    ) -> Rule {
        let mut rule = paths.iter().fold(Rule::new(), Rule::path);
        rule = prefixes.iter().filter(|it| !it.contains("//")).fold(rule, Rule::path_prefix);
        rule = suffixes.iter().fold(rule, Rule::path_suffix);
        rule = hosts.iter().fold(rule, Rule::host);
        if head { rule.method(Method::HEAD) } else { rule }
    }
}

proptest! {
    #[test]
    fn a_rule_that_covers_another_is_for_all_its_requests(
        earlier in any_rule(),
        later in any_rule(),
        path in "/([ab](/[ab]{0,2})?)?",
        host in "x|y",
        method in prop_oneof![Just(Method::GET), Just(Method::HEAD)],
    ) {
        let request = Request::builder().method(method).uri(format!("http://{host}{path}"));
        let request = request.body(()).unwrap();
        let head = RequestHead::of(&request);
        let covered = earlier.conditions.cover(&later.conditions);
        if covered && later.conditions.hold(&head, false) {
            prop_assert!(earlier.conditions.hold(&head, false));
        }
    }
}
