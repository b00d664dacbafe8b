//! Fields of a request that tell the origin that it was asked for something else.

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{VaryRule, push_lowercase, write_field};
use crate::field::{Members, is_alike, trim};
use crate::key::{KeyPolicy, Sink};

/// Those by which a client could deceive the origin, unless the settings say otherwise.
pub(crate) static UNTRUSTED: [HeaderName; 16] = [
    FORWARDED,
    HeaderName::from_static("front-end-https"),
    X_FORWARDED_HOST,
    HeaderName::from_static("x-forwarded-path"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-url-scheme"),
];

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Stands in a rule for what `Forwarded` says of host and scheme. The rest of that field is about the
/// client, and no two of them would share a variant.
pub(super) const FORWARDED_TARGET: HeaderName = HeaderName::from_static("forwarded.host-proto");

/// Behind the name of a field, stands in a rule for that field and for all that some servers take for it. To
/// name each of them as it is spelled would make names without end, and a rule has only so many.
const ANY_SPELLING: &str = ".any";

/// The field that a name in a rule stands for in all its spellings, if it does.
pub(super) fn in_any_spelling(name: &HeaderName) -> Option<HeaderName> {
    name.as_str().strip_suffix(ANY_SPELLING)?.parse().ok()
}

/// Writes what a request says by a field in all its spellings, a line for each.
pub(super) fn write_spellings(
    name: &HeaderName,
    field: &HeaderName,
    request: &HeaderMap,
    out: &mut impl Sink,
) {
    for spelling in request.keys().filter(|it| is_alike(it, field) || *it == name) {
        for part in [name.as_str(), ":", spelling.as_str(), ":"] {
            out.push(part.as_bytes());
        }
        write_field(spelling, &request.get_all(spelling), out);
        out.push(b"\n");
    }
}

impl VaryRule {
    /// The rule by which a response is told apart by these fields, too, as far as the request has
    /// them, they say anything, and the key doesn't have them already.
    pub(crate) fn and_untrusted(
        self,
        fields: &[HeaderName],
        key: Option<&KeyPolicy>,
        request: &HeaderMap,
    ) -> Self {
        let says = |name: &HeaderName| {
            let says_nothing = *name == X_FORWARDED_HOST && is_the_host(request)
                || key.is_some_and(|key| key.names(name));
            !says_nothing
        };
        let said = fields.iter().filter_map(|field| {
            if *field == FORWARDED {
                let says = says(field) && request.get_all(FORWARDED).iter().any(has_target);
                return says.then_some(FORWARDED_TARGET);
            }
            let said = request.keys().any(|name| is_alike(name, field) && says(name));
            said.then(|| format!("{field}{ANY_SPELLING}").parse().ok()).flatten()
        });
        let mut rule = self;
        for name in said {
            rule = match rule {
                Self::Any => return Self::Any,
                Self::None => Self::Fields(Box::new([name])),
                Self::Fields(names) if names.contains(&name) => Self::Fields(names),
                Self::Fields(names) => Self::of_names(names.into_iter().chain([name])),
            };
        }
        rule
    }
}

/// Whether `X-Forwarded-Host` says what `Host` does.
fn is_the_host(request: &HeaderMap) -> bool {
    let mut said = request.get_all(X_FORWARDED_HOST).iter();
    let (said, more) = (said.next(), said.next());
    let host = request.get(HOST);
    more.is_none()
        && said
            .zip(host)
            .is_some_and(|(said, host)| trim(said.as_bytes()).eq_ignore_ascii_case(host.as_bytes()))
}

fn has_target(line: &HeaderValue) -> bool {
    let mut said = Vec::new();
    write_target([line.as_bytes()].into_iter(), &mut said);
    !said.is_empty()
}

/// Writes what lines of `Forwarded` (RFC 7239 §4) say of host and scheme, in order; a line that can't
/// be read as it is.
pub(super) fn write_target<'a>(lines: impl Iterator<Item = &'a [u8]>, out: &mut impl Sink) {
    for line in lines {
        let mut elements = Members::new(line);
        let mut pairs = Vec::new();
        for element in &mut elements {
            // Neither a host nor a scheme has a semicolon, so whatever a quoted one divides is
            // something else, or as it should not be.
            for pair in element.split(|byte| *byte == b';').map(trim) {
                let is = |name: &[u8]| {
                    pair.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                };
                if is(b"host") || is(b"proto") {
                    pairs.push(pair);
                }
            }
        }
        if elements.unbalanced() {
            out.push(b",");
            out.push(line);
            continue;
        }
        for pair in pairs {
            push_lowercase(pair, out);
            out.push(b";");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn rule(fields: &[(&str, &str)]) -> String {
        VaryRule::parse([&b"accept"[..]])
            .and_untrusted(&UNTRUSTED, None, &request(fields))
            .to_string()
    }

    fn variant_by(rule: &str, fields: &[(&str, &str)]) -> String {
        let mut out = Vec::new();
        VaryRule::parse([rule.as_bytes()]).write_variant(&request(fields), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn variant(fields: &[(&str, &str)]) -> String {
        variant_by("forwarded.host-proto", fields)
    }

    #[test]
    fn what_a_request_has_is_added() {
        assert_eq!(rule(&[("x-request-id", "1"), ("x-forwarded-for", "1.2.3.4")]), "accept");
        assert_eq!(rule(&[("x-forwarded-proto", "https")]), "accept,x-forwarded-proto.any");
        let both = [("x-rewrite-url", "/admin"), ("x-host", "evil")];
        assert_eq!(rule(&both), "accept,x-host.any,x-rewrite-url.any");
        // To some origins, these are the same.
        let disguised = [("x_host", "evil"), ("X-Forwarded_Proto", "https"), ("x_hosts", "a")];
        assert_eq!(rule(&disguised), "accept,x-forwarded-proto.any,x-host.any");
        let any = VaryRule::Any.and_untrusted(&UNTRUSTED, None, &request(&both));
        assert!(any.is_any());
        let key = KeyPolicy::new().header(HeaderName::from_static("x-host"));
        let keyed = [("x-host", "evil"), ("x_host", "evil")];
        let rest = VaryRule::None.and_untrusted(&UNTRUSTED, Some(&key), &request(&keyed));
        assert_eq!(rest.to_string(), "x-host.any");
        let none = VaryRule::None.and_untrusted(&UNTRUSTED, None, &request(&[]));
        assert!(none.is_empty());
        let all: Vec<_> = UNTRUSTED.iter().map(|name| (name.as_str(), "host=a")).collect();
        let all = VaryRule::None.and_untrusted(&UNTRUSTED, None, &request(&all));
        // It comes back from the second tier as it was.
        assert_eq!(VaryRule::from(String::from(all.clone())), all);
    }

    #[test]
    fn all_spellings_of_a_field_are_one_name_and_each_is_told_apart() {
        let spelled = ["x-host", "x_host", "x.host", "x!host", "x~host"];
        let variants: std::collections::HashSet<_> = spelled
            .iter()
            .flat_map(|name| ["a", "b", "a:x_host:b"].map(|value| (*name, value)))
            .map(|field| {
                assert_eq!(rule(&[field]), "accept,x-host.any", "{field:?}");
                variant_by("x-host.any", &[field, ("x-other", "c")])
            })
            .chain([variant_by("x-host.any", &[("x-other", "c")])])
            .chain([variant_by("x-host.any", &[("x-host", "a"), ("x_host", "b")])])
            .collect();
        assert_eq!(variants.len(), spelled.len() * 3 + 2, "{variants:?}");
    }

    #[test]
    fn a_forwarded_host_that_is_the_host_says_nothing() {
        let host = ("host", "Example.com");
        assert_eq!(rule(&[host, ("x-forwarded-host", "example.com")]), "accept");
        let twice = [("x-forwarded-host", "example.com"), ("x-forwarded-host", "evil")];
        for fields in [&[host, twice[1]][..], &[twice[0]], &[host, twice[0], twice[1]]] {
            assert_eq!(rule(fields), "accept,x-forwarded-host.any");
        }
    }

    #[test]
    fn of_forwarded_only_host_and_scheme_count() {
        assert_eq!(rule(&[("forwarded", "for=1.2.3.4;by=\"host\"")]), "accept");
        let says = [("forwarded", "for=1.2.3.4; Host=Evil, for=5;PROTO=http")];
        assert_eq!(rule(&says), "accept,forwarded.host-proto");
        assert_eq!(variant(&says), "forwarded.host-proto:host=evil;proto=http;\n");
        let other_client = [("forwarded", "for=9;host=evil"), ("forwarded", "proto=http")];
        assert_eq!(variant(&other_client), variant(&says));
        assert_eq!(variant(&[("forwarded", "for=1")]), "forwarded.host-proto:\n");
        assert_eq!(variant(&[]), "forwarded.host-proto\n");
        let open = [("forwarded", "for=\"x;host=evil")];
        assert_eq!(variant(&open), "forwarded.host-proto:,for=\"x;host=evil\n");
    }
}
