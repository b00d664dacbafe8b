//! Tests of lifetimes and ages.

use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::policy::{Statuses, storable};
use crate::vary::VaryRule;

/// Sun, 06 Nov 1994 08:49:37 GMT, and a fraction of a second.
pub(in crate::policy) const NOW_MS: u64 = 784_111_777_400;

pub(in crate::policy) fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        })
        .collect()
}

pub(in crate::policy) fn exchange<'a>(
    request: &'a HeaderMap,
    response: &'a HeaderMap,
    vary: &'a VaryRule,
) -> Exchange<'a> {
    Exchange {
        method: &Method::GET,
        request,
        identified: false,
        status: StatusCode::OK,
        response,
        vary,
        request_time_ms: NOW_MS,
        response_time_ms: NOW_MS,
    }
}

fn decide(fields: &[(&str, &str)], options: &PolicyOptions) -> Result<Lifetime, NotStored> {
    let (request, response) = (HeaderMap::new(), headers(fields));
    let vary = VaryRule::of(&response);
    storable(&exchange(&request, &response, &vary), options)
}

fn lifetime_of(fields: &[(&str, &str)]) -> Result<Lifetime, NotStored> {
    decide(fields, &PolicyOptions::default())
}

fn fresh_secs(fields: &[(&str, &str)]) -> u64 {
    lifetime_of(fields).unwrap().fresh_for.as_secs()
}

const DATE_NOW: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
const DATE_EARLIER: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:27 GMT");
const IN_A_MINUTE: (&str, &str) = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");

#[test]
fn explicit_freshness_has_an_order() {
    let all = ("cache-control", "max-age=20, s-maxage=30");
    assert_eq!(fresh_secs(&[all, IN_A_MINUTE, DATE_NOW]), 30);
    assert_eq!(fresh_secs(&[("cache-control", "max-age=20"), IN_A_MINUTE, DATE_NOW]), 20);
    assert_eq!(fresh_secs(&[IN_A_MINUTE, DATE_NOW]), 60);
    assert_eq!(fresh_secs(&[IN_A_MINUTE]), 60);
    let private = PolicyOptions { kind: CacheKind::Private, ..Default::default() };
    assert_eq!(decide(&[all], &private).unwrap().fresh_for.as_secs(), 20);
}

#[test]
fn an_expires_that_is_no_date_lies_in_the_past() {
    assert_eq!(lifetime_of(&[("expires", "0")]), Err(NotStored::Stale));
    assert_eq!(lifetime_of(&[IN_A_MINUTE, ("expires", "never")]), Err(NotStored::Stale));
    assert_eq!(fresh_secs(&[("expires", "0"), ("etag", "\"a\"")]), 0);
}

#[test]
fn age_is_the_greatest_that_can_be_told() {
    let minute = ("cache-control", "max-age=60");
    let age = |fields: &[(&str, &str)]| lifetime_of(fields).unwrap().age_at_receipt.as_secs();
    assert_eq!(age(&[minute]), 0);
    assert_eq!(age(&[minute, DATE_EARLIER]), 10);
    assert_eq!(age(&[minute, DATE_EARLIER, ("age", "30")]), 30);
    assert_eq!(age(&[minute, ("date", "x"), ("age", "0")]), 0);
    assert_eq!(fresh_secs(&[minute, ("age", "30")]), 30);

    let (request, response) = (HeaderMap::new(), headers(&[minute, ("age", "30")]));
    let vary = VaryRule::of(&response);
    let slow = Exchange { request_time_ms: NOW_MS - 5500, ..exchange(&request, &response, &vary) };
    let decided = storable(&slow, &PolicyOptions::default()).unwrap();
    assert_eq!(decided.age_at_receipt, Duration::from_millis(35_500));
    assert_eq!(decided.fresh_for, Duration::from_millis(24_500));
}

#[test]
fn of_an_age_the_first_number_counts() {
    let minute = ("cache-control", "max-age=60");
    // RFC 9111 §5.1
    for (age, fresh) in [
        ("50", 10),
        ("50, 0", 10),
        ("0,50", 60),
        ("x", 60),
        ("-1", 60),
        ("1.0", 60),
        ("0;a=1", 60),
        ("", 60),
    ] {
        assert_eq!(fresh_secs(&[minute, ("age", age)]), fresh, "{age}");
    }
    assert_eq!(fresh_secs(&[minute, ("age", "20"), ("age", "0")]), 40);
}

#[test]
fn what_says_nothing_is_not_kept_unless_configured() {
    let modified = ("last-modified", "Sun, 06 Nov 1994 08:48:37 GMT");
    assert_eq!(lifetime_of(&[]), Err(NotStored::NoFreshness));
    assert_eq!(lifetime_of(&[modified, ("etag", "\"a\"")]), Err(NotStored::NoFreshness));

    let cap = Duration::from_secs(5);
    let tenth = |cap| PolicyOptions {
        heuristic: Heuristic::Fraction { percent: 10, cap },
        ..Default::default()
    };
    let guessed = decide(&[modified], &tenth(Duration::MAX)).unwrap();
    assert_eq!(guessed.fresh_for.as_secs(), 6);
    assert_eq!(decide(&[modified], &tenth(cap)).unwrap().fresh_for, cap);
    assert_eq!(decide(&[], &tenth(cap)), Err(NotStored::NoFreshness));

    let default = PolicyOptions { default_ttl: Some(cap), ..Default::default() };
    assert_eq!(decide(&[], &default).unwrap().fresh_for, cap);
    let (request, response) = (HeaderMap::new(), HeaderMap::new());
    let none = VaryRule::default();
    let found = Exchange { status: StatusCode::FOUND, ..exchange(&request, &response, &none) };
    assert_eq!(storable(&found, &default), Err(NotStored::NoFreshness));
}

#[test]
fn a_lifetime_by_status_is_for_what_says_nothing() {
    let secs = Duration::from_secs;
    let mut options = PolicyOptions { default_ttl: Some(secs(5)), ..Default::default() };
    options.status_ttls.add(StatusCode::FOUND.into(), secs(7));
    options.status_ttls.add(Statuses::SERVER_ERROR, secs(9));
    let decide = |status, control| {
        let (request, response) = (HeaderMap::new(), headers(&[("cache-control", control)]));
        let vary = VaryRule::default();
        let status = StatusCode::from_u16(status).unwrap();
        let decided =
            storable(&Exchange { status, ..exchange(&request, &response, &vary) }, &options);
        decided.map(|lifetime| lifetime.fresh_for.as_secs())
    };
    assert_eq!(decide(200, ""), Ok(5));
    assert_eq!(decide(302, ""), Ok(7));
    assert_eq!(decide(503, ""), Ok(9));
    assert_eq!(decide(303, ""), Err(NotStored::NoFreshness));
    assert_eq!(decide(303, "public"), Ok(5));
    assert_eq!(decide(511, ""), Err(NotStored::Status));
    for (control, refused) in [
        ("no-store", NotStored::NoStore),
        ("private", NotStored::Private),
        ("no-cache", NotStored::Stale),
        ("max-age=0", NotStored::Stale),
    ] {
        assert_eq!(decide(302, control), Err(refused), "{control}");
    }
    assert_eq!(decide(302, "max-age=60"), Ok(60));
}

#[test]
fn the_shortest_time_stretches_what_the_origin_says_unless_it_insists() {
    let options = PolicyOptions {
        min_ttl: Some(Duration::from_secs(60)),
        default_ttl: Some(Duration::from_secs(5)),
        ..Default::default()
    };
    let decide = |fields: &[(&str, &str)], options: &PolicyOptions| {
        decide(fields, options).map(|it| (it.fresh_for.as_secs(), it.stale_if_error.as_secs()))
    };
    let said = |control: &str| decide(&[("cache-control", control), ("etag", "\"a\"")], &options);
    assert_eq!(said("max-age=1"), Ok((60, 0)));
    assert_eq!(said("max-age=0, stale-if-error=9"), Ok((60, 9)));
    assert_eq!(said("max-age=100"), Ok((100, 0)));
    assert_eq!(said(""), Ok((5, 0)), "a default is as it was given");
    for insists in ["must-revalidate", "proxy-revalidate", "s-maxage=1", "no-cache"] {
        let control = format!("max-age=1, {insists}");
        assert!(said(&control).unwrap().0 <= 1, "{insists}");
    }
    assert_eq!(decide(&[("expires", "0")], &options), Ok((60, 0)));
    let old = [("cache-control", "max-age=10, stale-if-error=9"), ("age", "300")];
    assert_eq!(decide(&old, &options), Ok((60, 9)), "counted from when it was received");

    let capped = PolicyOptions { max_ttl: Some(Duration::from_secs(20)), ..options.clone() };
    assert_eq!(decide(&[("cache-control", "max-age=1")], &capped), Ok((20, 0)));

    let (request, response) = (HeaderMap::new(), headers(&[("cache-control", "max-age=1")]));
    let none = VaryRule::default();
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let error = Exchange { status, ..exchange(&request, &response, &none) };
    assert_eq!(storable(&error, &options).unwrap().fresh_for.as_secs(), 1);
}

#[test]
fn never_fresh_is_kept_for_its_validator() {
    for control in ["no-cache", "max-age=0"] {
        let control = ("cache-control", control);
        assert_eq!(lifetime_of(&[control]), Err(NotStored::Stale));
        assert_eq!(lifetime_of(&[control, ("etag", "unquoted")]), Err(NotStored::Stale));
        assert_eq!(fresh_secs(&[control, ("etag", "W/\"a\"")]), 0);
    }
    assert_eq!(fresh_secs(&[("cache-control", "no-cache=\"x\", max-age=60")]), 60);
    // But no-cache alone permits nothing.
    let (request, none) = (HeaderMap::new(), VaryRule::default());
    for (control, refused) in [
        ("no-cache", Some(NotStored::NoFreshness)),
        ("no-cache, max-age=1", None),
        ("no-cache, public", None),
    ] {
        let response = headers(&[("cache-control", control), ("etag", "\"a\"")]);
        let status = StatusCode::FOUND;
        let found = Exchange { status, ..exchange(&request, &response, &none) };
        assert_eq!(storable(&found, &PolicyOptions::default()).err(), refused, "{control}");
    }
}

#[test]
fn stale_windows_are_those_of_the_response_unless_it_forbids_them() {
    let windows = |control: &str| {
        let options =
            PolicyOptions { stale_if_error: Duration::from_secs(9), ..Default::default() };
        let it = decide(&[("cache-control", control), ("etag", "\"a\"")], &options).unwrap();
        (it.stale_while_revalidate.as_secs(), it.stale_if_error.as_secs())
    };
    assert_eq!(windows("max-age=1, stale-while-revalidate=5"), (5, 9));
    assert_eq!(windows("max-age=1, stale-while-revalidate=x, stale-if-error=3"), (0, 3));
    for forbids in ["must-revalidate", "proxy-revalidate", "s-maxage=1", "no-cache"] {
        let control = format!("max-age=1, {forbids}, stale-while-revalidate=5, stale-if-error=5");
        assert_eq!(windows(&control), (0, 0), "{forbids}");
    }
}

#[test]
fn windows_began_when_the_response_became_stale() {
    let control = ("cache-control", "max-age=10, stale-while-revalidate=30, stale-if-error=5");
    let decided = lifetime_of(&[control, ("age", "20")]).unwrap();
    assert_eq!(decided.fresh_for, Duration::ZERO);
    assert_eq!(decided.stale_while_revalidate.as_secs(), 20);
    assert_eq!(decided.stale_if_error, Duration::ZERO);
}

#[test]
fn the_longest_time_caps() {
    let options = PolicyOptions { max_ttl: Some(Duration::from_secs(5)), ..Default::default() };
    let decided = decide(&[("cache-control", "max-age=60")], &options).unwrap();
    assert_eq!(decided.fresh_for.as_secs(), 5);
}

proptest! {
    #[test]
    fn any_exchange_is_decided_and_bounded(
        control in "((max-age|s-maxage|stale-if-error|public|no-cache)(=[0-9]{0,12})?, ?){0,4}",
        age in proptest::option::of("[0-9, x-]{0,14}"),
        date in proptest::option::of("Sun, 0[0-9] Nov [0-9]{4} 08:49:37 GMT"),
        times: (u64, u64),
    ) {
        let mut response = headers(&[("cache-control", &control), ("etag", "\"a\"")]);
        for (name, value) in [(AGE, age), (DATE, date)] {
            if let Some(value) = value {
                response.insert(name, HeaderValue::try_from(value).unwrap());
            }
        }
        let request = HeaderMap::new();
        let none = VaryRule::default();
        let exchange = Exchange {
            request_time_ms: times.0,
            response_time_ms: times.1,
            ..exchange(&request, &response, &none)
        };
        if let Ok(decided) = storable(&exchange, &PolicyOptions::default()) {
            prop_assert!(decided.fresh_for.as_secs() <= 1 << 31);
            prop_assert!(!decided.must_revalidate || decided.stale_if_error.is_zero());
        }
    }
}
