//! Reading the `Cache-Control` of a response.
//!
//! Where a directive is malformed, repeated or contradicted, the reading that restricts most holds:
//! serving something old that should not have been kept is worse than asking the origin once more,
//! and RFC 9111 §4.2.1 encourages it.

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::directive::Argument;
use super::{CacheControl, Directive, Scope, each_directive};
use crate::field::Members;

/// How many field names a qualified `private` or `no-cache` may list before it covers everything.
const MAX_FIELDS: usize = 32;

impl CacheControl {
    /// Reads the field of a response.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self::parse(headers.get_all(CACHE_CONTROL))
    }

    /// Reads the lines of the field.
    pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let mut read = Self::default();
        if each_directive(lines, |directive| read.add(directive)).is_err() {
            read.no_store = true;
            // It would lift that.
            read.must_understand = false;
        }
        read
    }

    fn add(&mut self, directive: &Directive<'_>) {
        // An argument where none belongs does not loosen what restricts, but voids what permits.
        let bare = directive.is_bare();
        let seconds = directive.seconds().unwrap_or(0);
        match directive.name() {
            b"public" => self.public |= bare,
            b"private" => self.private.add(directive.argument),
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache.add(directive.argument),
            b"max-age" => least(&mut self.max_age, seconds),
            b"s-maxage" => least(&mut self.s_maxage, seconds),
            b"stale-while-revalidate" => {
                least(&mut self.stale_while_revalidate, seconds);
            }
            b"stale-if-error" => {
                least(&mut self.stale_if_error, seconds);
            }
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand |= bare,
            b"no-transform" => self.no_transform = true,
            b"immutable" => self.immutable |= bare,
            // RFC 9111 §5.2.3: a cache ignores what it does not know.
            _ => {}
        }
    }
}

/// Keeps the smaller of two numbers of seconds.
///
/// RFC 9111 §4.2.1 has a repeated directive read as its first occurrence, or the response as stale.
/// The smallest lies between the two, and doesn't depend on the order in which proxies join lines.
fn least(kept: &mut Option<u32>, seen: u32) {
    *kept = Some(kept.map_or(seen, |kept| kept.min(seen)));
}

impl Scope {
    fn add(&mut self, argument: Argument<'_>) {
        let names = match argument {
            Argument::None => None,
            Argument::Token(names) | Argument::Quoted(names) => field_names(names),
        };
        match (&mut *self, names) {
            (Self::Absent, Some(names)) => *self = Self::Fields(names),
            (Self::Fields(kept), Some(names)) if kept.len() + names.len() <= MAX_FIELDS => {
                kept.extend(names);
            }
            _ => *self = Self::Whole,
        }
    }
}

/// Fields without which the rest of a response means something else. Where a qualified directive
/// names one, it is about the whole, as it is to caches that don't know its qualified form.
const ESSENTIAL: [HeaderName; 6] =
    [CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, VARY];

/// The names in the argument of a qualified directive, unless there is none, one is malformed, or
/// the response would make no sense without it.
fn field_names(list: &[u8]) -> Option<Vec<HeaderName>> {
    let names = Members::new(list)
        .take(MAX_FIELDS + 1)
        .map(|name| HeaderName::from_bytes(name).ok().filter(|name| !ESSENTIAL.contains(name)))
        .collect::<Option<Vec<_>>>()?;
    (1..=MAX_FIELDS).contains(&names.len()).then_some(names)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn parse(lines: &[&str]) -> CacheControl {
        let lines: Vec<_> = lines.iter().map(|l| HeaderValue::from_str(l).unwrap()).collect();
        CacheControl::parse(&lines)
    }

    #[test]
    fn names_ignore_case_and_lines_combine() {
        let read = parse(&["Max-Age=60, PUBLIC", "", "no-Transform,,unknown=\"a, no-store\""]);
        let built = CacheControl::public().max_age(Duration::from_secs(60)).no_transform();
        assert_eq!(read, built);
    }

    #[test]
    fn arguments_may_be_quoted() {
        assert_eq!(parse(&["max-age=\"60\""]).max_age, Some(60));
    }

    #[test]
    fn malformed_freshness_is_no_freshness() {
        for wrong in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1.5",
            "max-age='60'",
            "max-age= 60",
            "max-age =60",
            "max-age=60s",
            "max-age=\"6\\0\"",
        ] {
            assert_eq!(parse(&[wrong]).max_age, Some(0), "{wrong}");
        }
        assert_eq!(parse(&["max-age=99999999999"]).max_age, Some(1 << 31));
    }

    #[test]
    fn of_a_repeated_directive_the_strictest_counts() {
        assert_eq!(parse(&["max-age=60, max-age=10", "max-age=30"]).max_age, Some(10));
        assert_eq!(parse(&["max-age=60, max-age=x"]).max_age, Some(0));
    }

    #[test]
    fn qualified_forms_are_kept() {
        let read = parse(&["private=\"X-User, Set-Cookie\", no-cache=x-a"]);
        assert_eq!(read.to_string(), "private=\"x-user, set-cookie\", no-cache=\"x-a\"");
        assert_eq!(parse(&["private=\"\""]).private, Scope::Whole);
        assert_eq!(parse(&["no-cache=\"x, vary\""]).no_cache, Scope::Whole);
        assert_eq!(parse(&["private=\"b@d\""]).private, Scope::Whole);
        assert_eq!(parse(&["private=\"a\", private"]).private, Scope::Whole);
        let many = format!("no-cache=\"{}\"", "a,".repeat(40));
        assert_eq!(parse(&[&many]).no_cache, Scope::Whole);
    }

    #[test]
    fn a_stray_argument_voids_permission_only() {
        let read = parse(&["public=x, no-store=x, must-revalidate=x, must-understand=1"]);
        assert!(!read.public && !read.must_understand);
        assert!(read.no_store && read.must_revalidate);
    }

    #[test]
    fn what_cannot_be_read_is_not_stored() {
        assert!(parse(&["max-age=60, x=\"open, public"]).no_store);
        assert!(parse(&[&"a,".repeat(5000)]).no_store);
        let lines = ["max-age=60"; 1000];
        assert!(parse(&lines).no_store);
        assert!(!parse(&["must-understand, max-age=60", "x=\"open"]).must_understand);
    }

    prop_compose! {
        fn built()(
            start in 0..4,
            flags: [bool; 6],
            spans in proptest::array::uniform4(proptest::option::of(0u64..1 << 33)),
        ) -> CacheControl {
            let mut it = match start {
                0 => CacheControl::public(),
                1 => CacheControl::private(),
                2 => CacheControl::no_store(),
                _ => CacheControl::no_cache(),
            };
            let setters: [fn(CacheControl) -> CacheControl; 6] = [
                CacheControl::must_revalidate,
                CacheControl::proxy_revalidate,
                CacheControl::must_understand,
                CacheControl::no_transform,
                CacheControl::immutable,
                CacheControl::with_no_cache,
            ];
            for (set, on) in setters.into_iter().zip(flags) {
                if on { it = set(it) }
            }
            let setters: [fn(CacheControl, Duration) -> CacheControl; 4] = [
                CacheControl::max_age,
                CacheControl::s_maxage,
                CacheControl::stale_while_revalidate,
                CacheControl::stale_if_error,
            ];
            for (set, span) in setters.into_iter().zip(spans) {
                if let Some(secs) = span { it = set(it, Duration::from_secs(secs)) }
            }
            it
        }
    }

    proptest! {
        #[test]
        fn what_is_built_reads_back(built in built()) {
            prop_assert_eq!(CacheControl::parse([&built.to_header_value()]), built);
        }

        #[test]
        fn any_bytes_are_read_and_reading_is_stable(
            lines in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..60)
                    .prop_filter_map("not a value", |b| HeaderValue::from_bytes(&b).ok()),
                0..4,
            )
        ) {
            let read = CacheControl::parse(&lines);
            prop_assert_eq!(CacheControl::parse([&read.to_header_value()]), read);
        }

        #[test]
        fn text_that_looks_right_is_read_and_reading_is_stable(
            text in "((private|no-cache|max-age|public|s-maxage|x)(=\"?[a-z0-9, \\\\]{0,6}\"?)?,? ?){0,8}"
        ) {
            let read = parse(&[&text]);
            prop_assert_eq!(CacheControl::parse([&read.to_header_value()]), read);
        }
    }
}
