//! Which request fields select among the variants of a resource (RFC 9110 §12.5.5, RFC 9111 §4.1).

use std::collections::BTreeSet;

use http::header::{ACCEPT_ENCODING, VARY};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use crate::field::{Members, trim};
use crate::key::Sink;

/// A response that varies by more fields than this is taken to vary by everything.
const MAX_FIELDS: usize = 32;

/// The fields that responses of a resource vary by: lowercase, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VaryRule {
    fields: Vec<String>,
    any: bool,
}

impl VaryRule {
    /// What the `Vary` lines of a response say, all together.
    pub(crate) fn of(response: &HeaderMap) -> Self {
        let mut fields = BTreeSet::new();
        for line in response.get_all(VARY) {
            for member in Members::new(line.as_bytes()) {
                match HeaderName::from_bytes(member) {
                    // The name "*" is a valid token, too.
                    Ok(name) if name.as_str() != "*" && fields.len() < MAX_FIELDS => {
                        fields.insert(name.as_str().to_owned());
                    }
                    // `*`, what is no field name, or too many.
                    _ => return Self { fields: Vec::new(), any: true },
                }
            }
        }
        Self { fields: fields.into_iter().collect(), any: false }
    }

    /// Whether the response is the same for all requests.
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty() && !self.any
    }

    /// Whether the response is for one request alone.
    pub(crate) fn is_any(&self) -> bool {
        self.any
    }

    /// Whether `name` is among the fields.
    pub(crate) fn names(&self, name: &HeaderName) -> bool {
        self.fields.iter().any(|field| field == name.as_str())
    }

    /// Writes the values that a request has for the fields, such that two requests write the same
    /// bytes if and only if they select the same variant.
    pub(crate) fn write_variant(&self, request: &HeaderMap, out: &mut impl Sink) {
        for field in &self.fields {
            let mut lines = request.get_all(field).iter().peekable();
            if lines.peek().is_none() {
                // Absent is something else than empty.
                out.push(b"-");
                continue;
            }
            let value = if field == ACCEPT_ENCODING.as_str() {
                acceptable_codings(request)
            } else {
                // RFC 9111 §4.1: several lines are one list, and white space around them is nothing.
                lines.map(|line| trim(line.as_bytes())).collect::<Vec<_>>().join(&b", "[..])
            };
            // Its length first, so that no value can be mistaken for two.
            out.push(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.push(&value);
        }
    }
}

/// The content codings that a request accepts, as a sorted list: RFC 9111 §4.1 permits what
/// RFC 9110 §12.5.3 says to be equivalent to be treated so. The order of preference is dropped: a
/// variant that one client accepts, another that accepts the same codings accepts, too. Members
/// that cannot be read are kept as they are, so they never select what they don't mean.
fn acceptable_codings(request: &HeaderMap) -> Vec<u8> {
    let mut codings = BTreeSet::new();
    for line in request.get_all(ACCEPT_ENCODING) {
        for member in Members::new(line.as_bytes()) {
            let lower = member.to_ascii_lowercase();
            let mut parts = lower.split(|&byte| byte == b';').map(trim);
            let name = parts.next().unwrap_or_default().to_vec();
            let name = if name == b"x-gzip" { b"gzip".to_vec() } else { name };
            let weight = parts.next();
            let refused = weight.and_then(|weight| weight.strip_prefix(b"q=")).is_some_and(is_zero);
            match (refused, weight.is_none_or(|weight| weight.starts_with(b"q=")), parts.next()) {
                (false, true, None) => codings.insert(name),
                // Refusing a coding differs from not naming it only where something else would
                // admit it: `*` admits all, and nothing at all admits `identity`.
                (true, true, None) => codings.insert([&b"!"[..], &name].concat()),
                _ => codings.insert(lower),
            };
        }
    }
    if !codings.contains(&b"*"[..]) {
        codings.retain(|coding| {
            !coding.starts_with(b"!") || coding == b"!identity" || coding == b"!*"
        });
    }
    codings.into_iter().collect::<Vec<_>>().join(&b","[..])
}

/// Whether a weight is zero: "0", "0.", "0.0", and so on.
fn is_zero(weight: &[u8]) -> bool {
    weight.split_first().is_some_and(|(first, rest)| {
        *first == b'0' && rest.strip_prefix(b".").unwrap_or(rest).iter().all(|digit| *digit == b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
            })
            .collect()
    }

    fn rule(vary: &str) -> VaryRule {
        VaryRule::of(&headers(&[("vary", vary)]))
    }

    fn variant(rule: &VaryRule, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        rule.write_variant(&headers(fields), &mut out);
        out
    }

    #[test]
    fn rules_are_sorted_sets_of_names_over_all_lines() {
        let mut response = headers(&[("vary", "X-B, accept")]);
        response.append(VARY, HeaderValue::from_static("Accept,x-a"));
        assert_eq!(VaryRule::of(&response).fields, ["accept", "x-a", "x-b"]);
        assert!(VaryRule::of(&HeaderMap::new()).is_empty());
        assert!(rule("accept, *").is_any() && rule("b@d").is_any());
        let many: Vec<_> = (0..=MAX_FIELDS).map(|i| format!("x-{i}")).collect();
        assert!(rule(&many.join(",")).is_any());
    }

    #[test]
    fn equivalent_accept_encodings_are_one_variant() {
        let rule = rule("accept-encoding");
        let of = |value| variant(&rule, &[("accept-encoding", value)]);
        for same in ["br,gzip", "gzip;q=1.0, br;q=0.5", "BR , x-gzip", "gzip, br, zstd;q=0"] {
            assert_eq!(of("gzip, br"), of(same), "{same}");
        }
        for other in
            ["gzip", "gzip, br, *", "gzip, br, identity;q=0", "gzip, br;v=1", "", "gzip, br, *;q=0"]
        {
            assert_ne!(of("gzip, br"), of(other), "{other}");
        }
        assert_ne!(of("*, br;q=0"), of("*"));
        assert_ne!(of(""), variant(&rule, &[]));
    }

    proptest! {
        #[test]
        fn variants_differ_exactly_when_values_do(
            a in prop::collection::vec(prop::option::of("[a-c, ]{0,4}"), 2),
            b in prop::collection::vec(prop::option::of("[a-c, ]{0,4}"), 2),
        ) {
            let rule = rule("x-a, x-b");
            let [left, right] = [&a, &b].map(|values| {
                let mut request = HeaderMap::new();
                for (name, value) in ["x-a", "x-b"].into_iter().zip(values) {
                    if let Some(value) = value {
                        request.insert(name, value.parse().unwrap());
                    }
                }
                let mut out = Vec::new();
                rule.write_variant(&request, &mut out);
                out
            });
            let trimmed = |values: &[Option<String>]| -> Vec<Option<String>> {
                values.iter().map(|value| value.as_ref().map(|value| value.trim().to_owned())).collect()
            };
            prop_assert_eq!(left == right, trimmed(&a) == trimmed(&b));
        }

        #[test]
        fn nothing_in_accept_encoding_panics(value in "[ -~]{0,40}") {
            let request = headers(&[("accept-encoding", value.trim())]);
            rule("accept-encoding").write_variant(&request, &mut Vec::new());
        }
    }
}
