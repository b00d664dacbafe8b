//! How a response is validated, and what a 304 makes of it.

use super::super::Aspect::{Conditions, Fields, Updated};
use super::super::Way::{Laxer, Other, Stricter};
use super::super::case::Case;
use super::{Exception, lines};

pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        name: "a validation has the cache's conditions alone",
        aspect: Conditions,
        way: Other,
        why: "RFC 9111 §4.3.2: \"the cache MAY combine the received list with a list of entity tags \
              from its own stored set\". What is fetched is for all who wait, so the client's \
              conditions are left out of it, and are evaluated here. Theirs sends both.",
        applies: |case| lines(&case.later, "if-none-match").count() > 0,
        example: || {
            let case = Case::new("max-age=60", &[("etag", "\"a\"")]);
            case.then(70, &[("if-none-match", "\"z\"")])
        },
    },
    Exception {
        name: "only validators that are ones are sent",
        aspect: Conditions,
        way: Other,
        why: "RFC 9110 §8.8.3: \"ETag = entity-tag\", and §8.8.2: \"Last-Modified = HTTP-date\". What \
              is neither is nothing that an origin could compare. Theirs sends what it got.",
        applies: |case| {
            let odd_tag = case.lines("etag").next().is_some_and(|it| !it.ends_with('"'));
            odd_tag || case.lines("last-modified").next() == Some("yesterday")
        },
        example: || Case::new("max-age=60", &[("etag", "unquoted")]),
    },
    Exception {
        name: "a 304 without a validator to compare is about what was asked",
        aspect: Updated,
        way: Laxer,
        why: "RFC 9111 §4.3.4 says by which validators a 304 selects, and §4.3.3 that it \"indicates that \
              the stored response can be updated and reused\". RFC 9110 §15.4.5 requires ETag in it; \
              where an origin leaves out what we asked by, its answer is taken to be to our question. \
              Theirs fetches again.",
        applies: |case| !shares_validator(case),
        example: || Case::new("max-age=60", &[("etag", "\"a\"")]),
    },
    Exception {
        name: "a 304 by what is no validator: not about it",
        aspect: Updated,
        way: Stricter,
        why: NO_VALIDATOR,
        applies: has_odd_validator,
        example: || {
            let at = |date| [("etag", "unquoted"), ("last-modified", date)];
            let case = Case::new("max-age=60", &at("Sun, 06 Nov 1994 08:41:17 GMT"));
            case.validated(&at("Sun, 06 Nov 1994 08:41:18 GMT"))
        },
    },
    Exception {
        name: "a 304 by what is no validator: about it",
        aspect: Updated,
        way: Laxer,
        why: NO_VALIDATOR,
        applies: has_odd_validator,
        example: || {
            let modified = ("last-modified", "Sun, 06 Nov 1994 08:41:17 GMT");
            let case = Case::new("max-age=60", &[modified]);
            case.validated(&[("etag", "unquoted"), modified])
        },
    },
    Exception {
        name: "a 304 adds fields, and keeps all their lines",
        aspect: Fields,
        way: Other,
        why: "RFC 9111 §3.2: \"the cache MUST add each header field in the provided response to the \
              stored response, replacing field values that are already present\". Theirs adds none, \
              and keeps one line of each.",
        applies: agrees_on_single_fields,
        example: || Case::new("max-age=60", &[]).validated(&[("x-new", "1")]),
    },
    Exception {
        name: "a 304 leaves the entity tag",
        aspect: Fields,
        way: Other,
        why: "RFC 9110 §8.8.1: a weak validator \"might not change for every change to the \
              representation data\". A 304 with a strong one must not make a strong one of it.",
        applies: |case| {
            let tagged = lines(&case.validation, "etag").count() > 0 && case.has("etag");
            tagged && agrees_on_single_fields(case)
        },
        example: || Case::new("max-age=60", &[("etag", "W/\"a\"")]).validated(&[("etag", "\"a\"")]),
    },
];

const NO_VALIDATOR: &str = "RFC 9110 §8.8.3: \"ETag = entity-tag\", and §8.8.2: \"Last-Modified = \
    HTTP-date\". What is neither identifies nothing; theirs compares it as it is.";

/// Whether the fields after a 304 are the same, without those that it adds, that have more lines
/// than one, and the entity tag.
fn agrees_on_single_fields(case: &Case) -> bool {
    let single =
        |name: &str| case.lines(name).count() == 1 && lines(&case.validation, name).count() <= 1;
    let relevant = |fields: Vec<(String, String)>| -> Vec<_> {
        fields.into_iter().filter(|(name, _)| name != "etag" && single(name)).collect()
    };
    relevant(case.ours().fields) == relevant(case.theirs().fields)
}

/// Whether the 304 has a validator that rules the response in or out.
fn shares_validator(case: &Case) -> bool {
    let valid = |fields, name| lines(fields, name).next().filter(|it| !is_odd(name, it));
    let both =
        |name| valid(&case.validation, name).is_some() && valid(&case.response, name).is_some();
    let strong = valid(&case.validation, "etag").is_some_and(|etag| !etag.starts_with("W/"));
    strong || both("etag") || both("last-modified")
}

fn has_odd_validator(case: &Case) -> bool {
    let odd = |name| {
        let first = |fields| lines(fields, name).next().is_some_and(|it| is_odd(name, it));
        first(&case.response) || first(&case.validation)
    };
    odd("etag") || odd("last-modified")
}

fn is_odd(name: &str, value: &str) -> bool {
    if name == "etag" { !value.ends_with('"') } else { value == "yesterday" }
}
