//! Whether a response is stored.

use http::Method;

use super::super::Aspect::Stored;
use super::super::Way::{Laxer, Stricter};
use super::super::case::Case;
use super::{Exception, is_mixed_case, repeat};

pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        name: "only GET is stored",
        aspect: Stored,
        way: Stricter,
        why: "RFC 9111 §2: \"many HTTP caches in common use today only cache GET responses\". A \
              response to HEAD has nothing to store, and one to POST could only answer a GET.",
        applies: |case| case.method != Method::GET,
        example: || Case { method: Method::POST, ..Case::new("max-age=60", &[]) },
    },
    Exception {
        name: "any final status that says how long",
        aspect: Stored,
        way: Laxer,
        why: "RFC 9111 §3 asks that \"the response status code is final\", and that it be understood \
              only \"if the response status code is 206 or 304, or the must-understand cache \
              directive […] is present\".",
        applies: |case| !THEIR_STATUSES.contains(&case.status),
        example: || Case { status: 599, ..Case::new("max-age=60", &[]) },
    },
    Exception {
        name: "must-understand lifts no-store",
        aspect: Stored,
        way: Laxer,
        why: "RFC 9111 §5.2.2.3: \"the cache SHOULD ignore the no-store directive if it understands \
              and implements the status code's caching requirements\".",
        applies: |case| case.says("must-understand") && case.says("no-store"),
        example: || Case::new("max-age=60, must-understand, no-store", &[]),
    },
    Exception {
        name: "private for some fields leaves the rest",
        aspect: Stored,
        way: Laxer,
        why: "RFC 9111 §5.2.2.7: \"a shared cache MUST NOT store the listed header fields […] but MAY \
              store the remainder of the response message without those header fields\".",
        applies: |case| case.shared && case.says("private") && !case.says_bare("private"),
        example: || Case::new("max-age=60, private=\"x-a\"", &[]),
    },
    Exception {
        name: "to repeat a directive shares nothing",
        aspect: Stored,
        way: Stricter,
        why: "RFC 9111 §3.5 names what has that effect: \"must-revalidate (Section 5.2.2.2), public \
              (Section 5.2.2.9), and s-maxage (Section 5.2.2.10)\". Theirs takes a directive that is \
              repeated with another value for must-revalidate.",
        applies: |case| {
            let for_all = ["must-revalidate", "public", "s-maxage"];
            let identified = case.request.iter().any(|(it, _)| *it == "authorization");
            case.shared
                && identified
                && repeat(&case.response)
                && !for_all.iter().any(|it| case.says(it))
        },
        example: || Case {
            request: vec![("authorization", "x".to_owned())],
            ..Case::new("max-age=60, max-age=30", &[])
        },
    },
    Exception {
        name: "what varies on anything is not stored",
        aspect: Stored,
        way: Stricter,
        why: "RFC 9111 §4.1: \"A stored response with a Vary header field value containing a member \
              \"*\" always fails to match.\" So it is not worth its room.",
        applies: |case| case.lines("vary").any(|line| line.contains('*')),
        example: || Case::new("max-age=60", &[("vary", "x-a, *")]),
    },
    Exception {
        name: "what can't be read is not stored",
        aspect: Stored,
        way: Stricter,
        why: "RFC 9111 §5.2 has the grammar, and nothing for what breaks it. A quoted string that \
              never ends may have swallowed any directive.",
        applies: |case| {
            case.says("x") && case.lines("cache-control").any(|it| it.contains("x=\"open"))
        },
        example: || Case::new("max-age=60, x=\"open", &[]),
    },
    Exception {
        name: "what stands in quotes is no directive",
        aspect: Stored,
        way: Laxer,
        why: "RFC 9111 §5.2: \"cache-directive = token [ \"=\" ( token / quoted-string ) ]\".",
        applies: |case| case.lines("cache-control").any(|line| line.contains("\"a, no-store, b\"")),
        example: || Case::new("max-age=60, x=\"a, no-store, b\"", &[]),
    },
    Exception {
        name: "case hides no prohibition",
        aspect: Stored,
        way: Stricter,
        why: "RFC 9111 §5.2: \"Cache directives are identified by a token, to be compared \
              case-insensitively\".",
        applies: |case| is_mixed_case(&case.response) || is_mixed_case(&case.request),
        example: || Case::new("max-age=60, No-Store", &[]),
    },
    Exception {
        name: "case hides no permission",
        aspect: Stored,
        way: Laxer,
        why: "RFC 9111 §5.2: \"Cache directives are identified by a token, to be compared \
              case-insensitively\".",
        applies: |case| is_mixed_case(&case.response),
        example: || Case { status: 302, ..Case::new("MAX-AGE=60", &[]) },
    },
];

const THEIR_STATUSES: [u16; 14] =
    [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501];
