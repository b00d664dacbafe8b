//! Which requests a response answers.

use http::Method;

use super::super::Aspect::{Reused, Selected};
use super::super::Way::{Laxer, Stricter};
use super::super::case::Case;
use super::{Exception, directives, is_mixed_case, lines, repeat};

pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        name: "values that mean the same select the same",
        aspect: Selected,
        way: Laxer,
        why: "RFC 9111 §4.1: \"normalizing both header field values in a way that is known to have \
              identical semantics […] (e.g., […] case-normalization, where values are defined to be \
              case-insensitive)\".",
        applies: selects_by_meaning,
        example: || {
            let case = Case::new("max-age=60", &[("vary", "accept-language")]);
            let request = vec![("accept-language", "en, fr;q=1".to_owned())];
            Case { request, ..case }.then(0, &[("accept-language", "EN,fr; q=1")])
        },
    },
    Exception {
        name: "every line of a field selects",
        aspect: Selected,
        way: Stricter,
        why: "RFC 9111 §4.1: \"all the presented request header fields nominated by that Vary field \
              value match\", \"combining multiple header field lines with the same field name\". \
              Theirs compares the first.",
        applies: has_lines,
        example: || {
            let case = Case::new("max-age=60", &[("vary", "x-a")]);
            let request = vec![("x-a", "1".to_owned())];
            Case { request, ..case }.then(0, &[("x-a", "1"), ("x-a", "2")])
        },
    },
    Exception {
        name: "what a GET got answers HEAD",
        aspect: Reused,
        way: Laxer,
        why: "RFC 9110 §9.3.1: \"a cache MAY use it to satisfy subsequent GET and HEAD requests\". \
              Theirs validates it.",
        applies: |case| case.later_method == Method::HEAD,
        example: || Case { later_method: Method::HEAD, ..Case::new("max-age=60", &[]) },
    },
    Exception {
        name: "a request with no-store passes",
        aspect: Reused,
        way: Stricter,
        why: "RFC 9111 §5.2.1.5: \"a cache MUST NOT store any part of either this request or any \
              response to it\". It may be answered from what is stored; but who says so mostly wants \
              the origin's answer.",
        applies: |case| case.asks("no-store"),
        example: || Case::new("max-age=60", &[]).then(0, &[("cache-control", "no-store")]),
    },
    Exception {
        name: "max-age=0 is a reload",
        aspect: Reused,
        way: Stricter,
        why: "RFC 9111 §5.2.1.1: \"a response whose age is less than or equal to the specified number \
              of seconds\". Within a response's first second that would be none at all, and whoever \
              reloads wants one.",
        applies: |case| directives(&case.later).any(|it| it == ("max-age", Some("0"))),
        example: || Case::new("max-age=60", &[]).then(0, &[("cache-control", "max-age=0")]),
    },
    Exception {
        name: "what is immutable needs no reload",
        aspect: Reused,
        way: Laxer,
        why: "RFC 8246 §2: \"Clients SHOULD NOT issue a conditional request during the \
              response’s freshness lifetime (e.g., upon a reload)\", and what asks for something \
              younger is one.",
        applies: |case| case.says("immutable") && case.asks("max-age"),
        example: || {
            Case::new("max-age=60, immutable", &[]).then(10, &[("cache-control", "max-age=5")])
        },
    },
    Exception {
        name: "max-stale includes its last second",
        aspect: Reused,
        way: Laxer,
        why: "RFC 9111 §5.2.1.2: \"exceeded its freshness lifetime by no more than the specified \
              number of seconds\".",
        applies: |case| !forbids_stale(case) && takes_stale_for(case, case.ours().stale_for),
        example: || Case::new("max-age=60", &[]).then(70, &[("cache-control", "max-stale=10")]),
    },
    Exception {
        name: "no max-stale against the origin",
        aspect: Reused,
        way: Stricter,
        why: "RFC 9111 §4.2.4: \"A cache MUST NOT generate a stale response if it is prohibited by an \
              explicit in-protocol directive (e.g., by a no-cache response directive, a \
              must-revalidate response directive, or an applicable s-maxage or proxy-revalidate \
              response directive […])\". Theirs heeds must-revalidate alone.",
        applies: |case| case.asks("max-stale") && forbids_stale(case),
        example: || Case::new("s-maxage=60", &[]).then(70, &[("cache-control", "max-stale")]),
    },
    Exception {
        name: "stale-while-revalidate",
        aspect: Reused,
        way: Laxer,
        why: "RFC 5861 §3: \"caches MAY serve the response it appears in after it becomes \
              stale, up to the indicated number of seconds\".",
        applies: |case| case.says("stale-while-revalidate") && !forbids_stale(case),
        example: || Case::new("max-age=60, stale-while-revalidate=30", &[]).then(70, &[]),
    },
    Exception {
        name: "a guess may end within a second",
        aspect: Reused,
        way: Laxer,
        why: "RFC 9111 §4.2.2: \"no more than some fraction of the interval since that time\". Ours \
              isn't rounded; theirs drops what is less than a second.",
        applies: |case| case.has("last-modified") && case.elapsed == case.ours().lifetime,
        example: || {
            let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
            let case = Case::new("", &[date, ("last-modified", "Sun, 06 Nov 1994 08:49:22 GMT")]);
            case.then(1, &[])
        },
    },
    Exception {
        name: "a repeated lifetime doesn't forbid stale use",
        aspect: Reused,
        way: Laxer,
        why: "RFC 9111 §4.2.1 has the first value, or the response as stale, which is no \
              must-revalidate: it may be used stale if a client permits it (§4.2.4).",
        applies: |case| repeat(&case.response) && case.asks("max-stale") && !forbids_stale(case),
        example: || {
            let case = Case::new("max-age=30, max-age=60", &[]);
            case.then(40, &[("cache-control", "max-stale=20")])
        },
    },
    Exception {
        name: "Pragma beside Cache-Control means nothing",
        aspect: Reused,
        way: Laxer,
        why: "RFC 9111 §5.4: \"support for Cache-Control is now widespread. As a result, this \
              specification deprecates Pragma.\" RFC 7234 §5.4 had it heeded only \"when the \
              Cache-Control header field is not present in a request\".",
        applies: |case| {
            ["pragma", "cache-control"].iter().all(|name| lines(&case.later, name).count() > 0)
        },
        example: || {
            let case = Case::new("max-age=60", &[]);
            case.then(0, &[("pragma", "no-cache"), ("cache-control", "max-age=60")])
        },
    },
    Exception {
        name: "every line of Pragma counts",
        aspect: Reused,
        way: Stricter,
        why: "RFC 9110 §5.2: \"combined field value consists of the list of corresponding field line \
              values within that section, concatenated in order\". Theirs reads the first.",
        applies: |case| lines(&case.later, "pragma").count() > 1,
        example: || {
            Case::new("max-age=60", &[]).then(0, &[("pragma", "x"), ("pragma", "no-cache")])
        },
    },
    Exception {
        name: "what a request says oddly, or twice, is read strictly",
        aspect: Reused,
        way: Stricter,
        why: "RFC 9111 §5.2.1 makes request directives \"advisory\", and says nothing of odd ones. \
              To ask the origin once too often is the lesser harm. Theirs ignores what is no number, \
              and takes the first of several.",
        applies: |case| {
            let is_odd = |(name, argument): (&str, Option<&str>)| match argument {
                Some(argument) => argument.parse::<u32>().is_err(),
                None => ["max-age", "min-fresh"].contains(&name),
            };
            repeat(&case.later) || directives(&case.later).any(is_odd)
        },
        example: || Case::new("max-age=60", &[]).then(0, &[("cache-control", "min-fresh=x")]),
    },
    Exception {
        name: "min-fresh asks for something fresh",
        aspect: Reused,
        way: Stricter,
        why: "RFC 9111 §5.2.1.3: \"the client wants a response that will still be fresh for at least \
              the specified number of seconds\", also when that is 0, and whatever max-stale says.",
        applies: |case| case.asks("min-fresh") && case.asks("max-stale"),
        example: || {
            let case = Case::new("max-age=60", &[]);
            case.then(70, &[("cache-control", "min-fresh=0, max-stale=60")])
        },
    },
    Exception {
        name: "case hides no request directive",
        aspect: Reused,
        way: Stricter,
        why: "RFC 9111 §5.2: \"Cache directives are identified by a token, to be compared \
              case-insensitively\".",
        applies: |case| is_mixed_case(&case.later) || is_mixed_case(&case.response),
        example: || Case::new("max-age=60", &[]).then(0, &[("cache-control", "No-Cache")]),
    },
];

/// Whether the fields that select are the same but for case and whitespace.
fn selects_by_meaning(case: &Case) -> bool {
    let plain = |fields, name| {
        let lines: Vec<_> = lines(fields, name).collect();
        lines.join(",").to_ascii_lowercase().replace(' ', "")
    };
    ["x-a", "accept-language"].iter().all(|name| {
        let named = case.lines("vary").any(|line| line.to_ascii_lowercase().contains(name));
        !named || plain(&case.request, name) == plain(&case.later, name)
    })
}

/// Whether the later request takes what has been stale for just so many seconds.
fn takes_stale_for(case: &Case, secs: i64) -> bool {
    let secs = secs.to_string();
    directives(&case.later).any(|it| it == ("max-stale", Some(secs.as_str())))
}

/// Whether the response forbids stale use, here.
fn forbids_stale(case: &Case) -> bool {
    let shared = ["proxy-revalidate", "s-maxage"].iter().any(|it| case.says(it));
    case.says_bare("no-cache") || case.says("must-revalidate") || (case.shared && shared)
}

fn has_lines(case: &Case) -> bool {
    ["x-a", "accept-language"]
        .iter()
        .any(|name| lines(&case.request, name).count() > 1 || lines(&case.later, name).count() > 1)
}
