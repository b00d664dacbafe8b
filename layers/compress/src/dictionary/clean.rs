//! Which responses may be dictionaries: those that are for everybody, and that clients keep.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use sfv::{BareItem, Dictionary as Members, ListEntry, Parser};

use super::pattern::Pattern;
use super::{FOR_EVER, USE_AS_DICTIONARY};
use crate::field::{has_member, members};

/// What a response says of itself as a dictionary (RFC 9842 §2.1); `None` if it is none that can be used.
pub(super) fn pattern(response: &HeaderMap) -> Option<Pattern> {
    let mut lines = response.get_all(USE_AS_DICTIONARY).iter();
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let members: Members = Parser::new(line.as_bytes()).parse().ok()?;
    let value = |name: &str| match members.get(name) {
        Some(ListEntry::Item(item)) => Some(&item.bare_item),
        _ => None,
    };
    // §2.1.4: there is no other type.
    let is_raw = match value("type") {
        None => !members.contains_key("type"),
        Some(BareItem::Token(kind)) => kind.as_str() == "raw",
        Some(_) => false,
    };
    let Some(BareItem::String(pattern)) = value("match").filter(|_| is_raw) else { return None };
    Pattern::parse(pattern.as_str())
}

/// For how long clients keep a response that anybody may have; `None` if it isn't for everybody, or if
/// nobody keeps it.
///
/// It is stricter than what a shared cache may store (RFC 9111 §3): a difference tells something of
/// what it was made from (RFC 9842 §9.2).
pub(super) fn lifetime(response: &HeaderMap, with_credentials: bool) -> Option<Duration> {
    if is_personal(response) {
        return None;
    }
    let (mut is_public, mut fresh, mut stale) = (false, None::<u64>, 0);
    for directive in members(response, &CACHE_CONTROL) {
        let (name, value) = match directive.iter().position(|byte| *byte == b'=') {
            Some(at) => directive.split_at_checked(at)?,
            None => (directive, &[][..]),
        };
        let seconds = || {
            let digits = std::str::from_utf8(value.get(1..)?).ok()?.trim_matches('"');
            digits.parse::<u64>().ok()
        };
        match &*name.to_ascii_lowercase() {
            // What names single fields is no less somebody's.
            b"private" | b"no-store" | b"no-cache" => return None,
            b"public" => is_public = true,
            // Of two, the shorter; one that can't be read is none (RFC 9111 §4.2.1).
            b"max-age" => fresh = Some(seconds()?.min(fresh.unwrap_or(u64::MAX))),
            b"stale-while-revalidate" => stale = seconds().unwrap_or(0),
            _ => {}
        }
    }
    let fresh = fresh.filter(|_| is_public || !with_credentials)?;
    // What is allowed to be served stale can still be used (RFC 9842 §2.2.1).
    let all = Duration::from_secs(fresh.saturating_add(stale)).min(FOR_EVER);
    (!all.is_zero()).then_some(all)
}

/// For how long clients keep what a 304 is about, of which it was said `before` for how long.
pub(super) fn renewal(
    not_modified: &HeaderMap,
    with_credentials: bool,
    before: Duration,
) -> Option<Duration> {
    // RFC 9111 §3.2: what it doesn't say is as it was.
    if not_modified.contains_key(CACHE_CONTROL) {
        lifetime(not_modified, with_credentials)
    } else {
        (!is_personal(not_modified)).then_some(before)
    }
}

fn is_personal(response: &HeaderMap) -> bool {
    response.contains_key(SET_COOKIE)
        || ["*", "cookie", "authorization"].iter().any(|name| has_member(response, &VARY, name))
}

#[cfg(test)]
pub(super) mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    pub(in super::super) fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        lines.collect()
    }

    #[test]
    fn only_what_is_for_everybody_and_is_kept_is_a_dictionary() {
        let of = |lines: &[(&'static str, &str)], credentials| {
            lifetime(&fields(lines), credentials).map(|time| time.as_secs())
        };
        let control = |text| of(&[("cache-control", text)], false);
        assert_eq!(control("max-age=60"), Some(60));
        assert_eq!(control("Max-Age=\"60\", stale-while-revalidate=30"), Some(90));
        assert_eq!(control("max-age=60, max-age=50"), Some(50));
        for none in [
            "",
            "public",
            "max-age=0",
            "max-age=x",
            "max-age",
            "s-maxage=60",
            "max-age=60, private",
            "max-age=60, private=\"x\"",
            "max-age=60, No-Store",
            "max-age=60, no-cache",
        ] {
            assert_eq!(control(none), None, "{none}");
        }
        for personal in
            [("set-cookie", "a=b"), ("vary", "cookie"), ("vary", "x, Authorization"), ("vary", "*")]
        {
            assert_eq!(of(&[("cache-control", "public, max-age=60"), personal], false), None);
        }
        assert_eq!(of(&[("cache-control", "max-age=60")], true), None);
        assert_eq!(of(&[("cache-control", "max-age=60, public")], true), Some(60));
    }

    #[test]
    fn the_field_is_a_structured_one() {
        let of = |line| pattern(&fields(&[("use-as-dictionary", line)]));
        let path = Pattern::parse_path("/app/*").ok();
        assert_eq!(of(r#"match="/app/*""#), path);
        assert_eq!(of(r#"match="/app/*", match-dest=("script"), id="1", type=raw"#), path);
        for none in [
            "",
            "match=/app/*",
            "match=\"\"",
            "id=\"x\"",
            r#"match="/app/*", type=other"#,
            r#"match="/app/*", type="raw""#,
            r#"match="/app/*", type=(raw)"#,
            r#"match="/a(b)""#,
            "match=(\"/app/*\")",
            r#"match="/app/*",,"#,
        ] {
            assert_eq!(of(none), None, "{none}");
        }
        let twice = ("use-as-dictionary", r#"match="/app/*""#);
        assert_eq!(pattern(&fields(&[twice, twice])), None);
    }
}
