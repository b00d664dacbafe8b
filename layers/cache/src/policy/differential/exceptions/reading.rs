//! How long a response is fresh, and how old it is.

use super::super::Aspect::{Age, Lifetime};
use super::super::Way::{Laxer, Stricter};
use super::super::case::{Case, NOW};
use super::{Exception, directives, is_mixed_case, repeat};

pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        name: "lifetime: a response is as old as its Date",
        aspect: Lifetime,
        way: Stricter,
        why: OLD_DATE,
        applies: is_older_than_it_says,
        example: old,
    },
    Exception {
        name: "age: a response is as old as its Date",
        aspect: Age,
        way: Stricter,
        why: OLD_DATE,
        applies: is_older_than_it_says,
        example: old,
    },
    Exception {
        name: "lifetime: the time that a response takes is part of its age",
        aspect: Lifetime,
        way: Stricter,
        why: DELAY,
        applies: |case| case.delay > 0,
        example: slow,
    },
    Exception {
        name: "age: the time that a response takes is part of its age",
        aspect: Age,
        way: Stricter,
        why: DELAY,
        applies: |case| case.delay > 0,
        example: slow,
    },
    Exception {
        name: "lifetime: of several ages the first counts",
        aspect: Lifetime,
        way: Stricter,
        why: AGES,
        applies: has_several_ages,
        example: || Case::new("max-age=60", &[("age", "5, 10")]),
    },
    Exception {
        name: "age: of several ages the first counts",
        aspect: Age,
        way: Stricter,
        why: AGES,
        applies: has_several_ages,
        example: || Case::new("max-age=60", &[("age", "5, 10")]),
    },
    Exception {
        name: "no-cache for some fields leaves the rest fresh",
        aspect: Lifetime,
        way: Laxer,
        why: "RFC 9111 §5.2.2.4: \"a cache MAY use the response to satisfy a subsequent request, […] \
              if the listed header fields are excluded from the subsequent response\".",
        applies: |case| case.says("no-cache") && !case.says_bare("no-cache"),
        example: || Case::new("max-age=60, no-cache=\"x-a\"", &[]),
    },
    Exception {
        name: "proxy-revalidate is about what is stale",
        aspect: Lifetime,
        way: Laxer,
        why: "RFC 9111 §5.2.2.8: \"once the response has become stale, a shared cache MUST NOT reuse \
              that response\". Theirs takes it to be stale at once.",
        applies: |case| case.shared && case.says("proxy-revalidate"),
        example: || Case::new("max-age=60, proxy-revalidate", &[]),
    },
    Exception {
        name: "Set-Cookie leaves a response fresh",
        aspect: Lifetime,
        way: Laxer,
        why: "RFC 9111 §7.3: \"the Set-Cookie response header field [COOKIE] does not inhibit caching\". \
              Theirs takes it for stale in a shared cache, unless it is public or immutable. By \
              default ours isn't stored; this is about `SetCookie::Store`.",
        applies: |case| case.shared && case.has("set-cookie"),
        example: || Case::new("max-age=60", &[("set-cookie", "id=1")]),
    },
    Exception {
        name: "Pragma in a response means nothing",
        aspect: Lifetime,
        way: Laxer,
        why: "RFC 9111 §5.4: \"the meaning of \"Pragma: no-cache\" in responses was never specified\".",
        applies: |case| case.has("pragma"),
        example: || {
            let expires = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
            Case::new("", &[("pragma", "no-cache"), expires])
        },
    },
    Exception {
        name: "a lifetime without a number is none",
        aspect: Lifetime,
        way: Stricter,
        why: "RFC 9111 §4.2.1: \"Caches are encouraged to consider responses that have invalid \
              freshness information […] to be stale.\" Theirs goes on to the next that says one.",
        applies: |case| {
            directives(&case.response).any(|it| it == ("max-age", None) || it == ("s-maxage", None))
        },
        example: || Case::new("s-maxage, max-age=60", &[("etag", "\"a\"")]),
    },
    Exception {
        name: "of a repeated lifetime the shortest counts",
        aspect: Lifetime,
        way: Stricter,
        why: "RFC 9111 §4.2.1: \"either the first occurrence should be used or the response should \
              be considered stale\". The shortest lies between the two, and doesn't depend on the \
              order in which proxies join lines. Theirs takes the first.",
        applies: |case| repeat(&case.response) || case.lines("expires").count() > 1,
        example: || Case::new("max-age=60, max-age=10", &[]),
    },
    Exception {
        name: "case shortens a lifetime",
        aspect: Lifetime,
        way: Stricter,
        why: CASE,
        applies: |case| is_mixed_case(&case.response),
        example: || {
            let expires = ("expires", "Sun, 06 Nov 1994 08:59:37 GMT");
            Case::new("MAX-AGE=60", &[expires])
        },
    },
    Exception {
        name: "case gives a lifetime",
        aspect: Lifetime,
        way: Laxer,
        why: CASE,
        applies: |case| is_mixed_case(&case.response),
        example: || Case::new("MAX-AGE=60", &[]),
    },
    Exception {
        name: "a lifetime beyond counting is one of 68 years",
        aspect: Lifetime,
        way: Stricter,
        why: "RFC 9111 §1.2.2: \"the cache MUST consider the value to be 2147483648 (2^31) or the \
              greatest positive integer it can conveniently represent\".",
        applies: |case| {
            directives(&case.response).any(|(_, argument)| argument == Some("9999999999"))
        },
        example: || Case::new("max-age=9999999999", &[]),
    },
    Exception {
        name: "obsolete dates are dates: Expires",
        aspect: Lifetime,
        way: Laxer,
        why: DATES,
        applies: has_obsolete_date,
        example: || Case::new("", &[("expires", "Sunday, 06-Nov-94 08:50:37 GMT")]),
    },
    Exception {
        name: "obsolete dates are dates: Date",
        aspect: Lifetime,
        way: Stricter,
        why: DATES,
        applies: has_obsolete_date,
        example: || Case::new("max-age=60", &[("date", "Sunday, 06-Nov-94 08:49:27 GMT")]),
    },
];

const OLD_DATE: &str = "RFC 9111 §4.2.3: \"corrected_initial_age can be calculated more \
    conservatively as corrected_initial_age = max(apparent_age, corrected_age_value)\". Caches that \
    send no Age exist. Theirs looks at Age alone.";

const DELAY: &str = "RFC 9111 §4.2.3: \"response_delay = response_time - request_time; \
    corrected_age_value = age_value + response_delay\". Theirs isn't told when the request was sent.";

const AGES: &str = "RFC 9111 §5.1: \"a cache encountering a message with a list-based Age field value \
    SHOULD use the first member of the field value\". Theirs takes such a list for none.";

const CASE: &str = "RFC 9111 §5.2: \"Cache directives are identified by a token, to be compared case-insensitively\".";

const DATES: &str = "RFC 9110 §5.6.7: \"A recipient that parses a timestamp value in an HTTP field \
    MUST accept all three HTTP-date formats.\"";

fn old() -> Case {
    Case::new("max-age=60", &[("date", "Sun, 06 Nov 1994 08:49:27 GMT")])
}

fn slow() -> Case {
    Case { delay: 5, ..Case::new("max-age=60", &[]) }
}

fn is_older_than_it_says(case: &Case) -> bool {
    let date = case.lines("date").next().and_then(|it| httpdate::parse_http_date(it).ok());
    let age = case.lines("age").next().and_then(|age| age.parse().ok()).unwrap_or(0);
    let date = date.and_then(|it| it.duration_since(std::time::UNIX_EPOCH).ok());
    date.is_some_and(|date| date.as_secs() + age < NOW)
}

fn has_several_ages(case: &Case) -> bool {
    case.lines("age").next().is_some_and(|age| age.contains(','))
}

fn has_obsolete_date(case: &Case) -> bool {
    ["expires", "date"].iter().any(|name| case.lines(name).any(|it| it.contains("-Nov-")))
}
