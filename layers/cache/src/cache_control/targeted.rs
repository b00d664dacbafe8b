//! Targeted cache control (RFC 9213): fields that speak to some caches only, such as
//! `CDN-Cache-Control`. Unlike `Cache-Control` they are structured fields (RFC 9651).

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::directive::MAX_LEN;
use super::{CacheControl, Scope};
use crate::field::{MAX_DELTA_SECONDS, joined};

impl CacheControl {
    /// The directives for a cache that listens to the fields `targets`, the first of which that is
    /// there counts alone (RFC 9213 §2.2); without one, those of `Cache-Control`.
    pub(crate) fn for_targets(headers: &HeaderMap, targets: &[HeaderName]) -> Self {
        let targeted = targets.iter().find_map(|name| targeted(headers, name));
        targeted.unwrap_or_else(|| Self::of(headers))
    }
}

/// One targeted field. One that is empty, or can't be parsed, is as good as absent (RFC 9213 §2.1).
fn targeted(headers: &HeaderMap, name: &HeaderName) -> Option<CacheControl> {
    let Some(field) = joined(headers, name, MAX_LEN) else {
        // What is said beyond it could forbid anything.
        return Some(CacheControl { targeted: true, ..CacheControl::no_store() });
    };
    let members: Dictionary = Parser::new(&field).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut read = CacheControl { targeted: true, ..CacheControl::default() };
    for (name, value) in &members {
        let value = match value {
            ListEntry::Item(item) => Some(&item.bare_item),
            ListEntry::InnerList(_) => None,
        };
        read.add_member(name.as_str(), value);
    }
    Some(read)
}

impl CacheControl {
    // As in Cache-Control: a value of the wrong type does not loosen what restricts, but voids what
    // permits.
    fn add_member(&mut self, name: &str, value: Option<&BareItem>) {
        let is_false = matches!(value, Some(BareItem::Boolean(false)));
        let is_true = matches!(value, Some(BareItem::Boolean(true)));
        let seconds = match value {
            Some(BareItem::Integer(secs)) => {
                let secs = i64::from(*secs).clamp(0, MAX_DELTA_SECONDS.into());
                u32::try_from(secs).unwrap_or(MAX_DELTA_SECONDS)
            }
            _ => 0,
        };
        let whole = |scope: &mut Scope| {
            if !is_false {
                *scope = Scope::Whole;
            }
        };
        match name {
            "public" => self.public = is_true,
            // Their qualified forms are treated like the whole response, here and there.
            "private" => whole(&mut self.private),
            "no-cache" => whole(&mut self.no_cache),
            "no-store" => self.no_store = !is_false,
            "max-age" => self.max_age = Some(seconds),
            "s-maxage" => self.s_maxage = Some(seconds),
            "stale-while-revalidate" => self.stale_while_revalidate = Some(seconds),
            "stale-if-error" => self.stale_if_error = Some(seconds),
            "must-revalidate" => self.must_revalidate = !is_false,
            "proxy-revalidate" => self.proxy_revalidate = !is_false,
            "must-understand" => self.must_understand = is_true,
            "no-transform" => self.no_transform = !is_false,
            "immutable" => self.immutable = is_true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use http::header::CACHE_CONTROL;
    use proptest::prelude::*;

    use super::*;

    const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");
    const OURS: HeaderName = HeaderName::from_static("keep-cache-control");

    fn read(fields: &[(HeaderName, &str)]) -> CacheControl {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().unwrap());
        }
        CacheControl::for_targets(&headers, &[OURS, CDN])
    }

    fn aimed(control: CacheControl) -> CacheControl {
        CacheControl { targeted: true, ..control }
    }

    #[test]
    fn the_first_target_that_speaks_counts_alone() {
        let plain = (CACHE_CONTROL, "no-store");
        let minute = aimed(CacheControl::default().max_age(Duration::from_secs(60)));
        assert_eq!(read(&[plain.clone(), (CDN, "max-age=60")]), minute);
        assert_eq!(read(&[plain.clone(), (CDN, "no-store"), (OURS, "max-age=60")]), minute);
        // The last of several members counts (RFC 9651 §4.2.2), over all lines.
        assert_eq!(read(&[(CDN, "max-age=1"), (CDN, "max-age=60;why=x")]), minute);
        for nothing in ["", " ", "max-age=", "Max-Age=60", "max-age=60,", "max-age==1"] {
            let read = read(&[plain.clone(), (CDN, nothing)]);
            assert_eq!(read, CacheControl::no_store(), "{nothing:?}");
        }
    }

    #[test]
    fn members_mean_what_directives_mean() {
        let read = |member: &str| read(&[(CDN, member)]);
        let all = "public, private, no-store, no-cache, must-revalidate, proxy-revalidate, \
                   must-understand, no-transform, immutable, s-maxage=1, \
                   stale-while-revalidate=2, stale-if-error=3, other=\"x\"";
        let read_all = read(all);
        assert!(read_all.public && read_all.no_store && read_all.immutable);
        assert!(read_all.must_revalidate && read_all.proxy_revalidate && read_all.must_understand);
        assert_eq!((&read_all.private, &read_all.no_cache), (&Scope::Whole, &Scope::Whole));
        assert_eq!(read_all.s_maxage, Some(1));
        assert_eq!((read_all.stale_while_revalidate, read_all.stale_if_error), (Some(2), Some(3)));

        assert_eq!(read("private=\"set-cookie\"").private, Scope::Whole);
        assert!(read("no-store=x").no_store && !read("no-store=?0").no_store);
        assert!(!read("public=1").public);
        for (wrong, secs) in
            [("\"60\"", 0), ("60.5", 0), ("-1", 0), ("(60)", 0), ("999999999999", 1 << 31)]
        {
            assert_eq!(read(&format!("max-age={wrong}")).max_age, Some(secs), "{wrong}");
        }
        assert!(read(&format!("a={}", "1".repeat(15)).repeat(600)).no_store);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(field: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&field) {
                let headers = [(CDN, value)].into_iter().collect();
                let _ = CacheControl::for_targets(&headers, &[CDN]);
            }
        }
    }
}
