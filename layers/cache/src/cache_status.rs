//! `Cache-Status`: what the cache did with a request (RFC 9211).

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::error::ConfigError;
use crate::field::with_digits;

/// The field.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The `detail` of what stands in for an origin that failed.
pub(crate) const STALE_IF_ERROR: &str = "stale-if-error";

/// The `detail` of what is stored, but was not served: this node hasn't heard for too long what the
/// others invalidate.
pub(crate) const OUT_OF_STEP: &str = "out-of-step";

/// What a cache calls itself, as it stands in the field: a structured-field token or string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheName {
    text: String,
    /// Tells it from all others of this process.
    number: u64,
}

impl CacheName {
    pub(crate) fn new(name: &str) -> Result<Self, ConfigError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        if name.is_empty() || !name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(ConfigError::new(
                "the name of a cache is one or more visible ASCII characters or spaces",
            ));
        }
        Ok(Self { text: item(name), number: NUMBER.fetch_add(1, Ordering::Relaxed) })
    }
}

/// A text as a token if it can be one, else as a string (RFC 9651 §3.3.3, §3.3.4). The text is
/// printable ASCII.
fn item(text: &str) -> String {
    let is_token = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
    if is_token {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// Why a request went towards the origin (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fwd {
    /// The cache was configured, or has reason, not to handle the request.
    Bypass,
    /// The method has a meaning that asks for it.
    Method,
    /// Nothing is stored for the target.
    UriMiss,
    /// Something is stored, but no variant that the request selects.
    VaryMiss,
    /// The request's own directives ask for it.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored is a part of what is asked for.
    Partial,
}

impl Fwd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// What became of a request that was not simply a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheStatus {
    fwd: Option<Fwd>,
    fwd_status: Option<StatusCode>,
    stored: bool,
    collapsed: bool,
    detail: Option<&'static str>,
}

impl CacheStatus {
    /// It went towards the origin.
    pub(crate) fn forwarded(fwd: Fwd) -> Self {
        Self { fwd: Some(fwd), ..Self::generated() }
    }

    /// It was answered by the cache itself, from nothing.
    pub(crate) fn generated() -> Self {
        Self { fwd: None, fwd_status: None, stored: false, collapsed: false, detail: None }
    }

    /// What the origin answered.
    pub(crate) fn fwd_status(self, status: StatusCode) -> Self {
        Self { fwd_status: Some(status), ..self }
    }

    /// The response is stored, or will be once it is complete.
    pub(crate) fn stored(self) -> Self {
        Self { stored: true, ..self }
    }

    /// It was answered together with another request.
    pub(crate) fn collapsed(self) -> Self {
        Self { collapsed: true, ..self }
    }

    /// More, for people; a token.
    pub(crate) fn detail(self, detail: &'static str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// The member that says so.
    pub(crate) fn to_value(self, name: &CacheName) -> HeaderValue {
        let mut text = name.text.clone();
        // Writing to a string cannot fail.
        if let Some(fwd) = self.fwd {
            let _ = write!(text, "; fwd={}", fwd.as_str());
        }
        if let Some(status) = self.fwd_status {
            let _ = write!(text, "; fwd-status={}", status.as_u16());
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            let _ = write!(text, "; detail={detail}");
        }
        value(text.into_bytes())
    }
}

/// How many members each thread remembers.
const REMEMBERED: usize = 64;

thread_local! {
    /// Those that were made last, each at a place of its own: entries that are hits at about the same
    /// time are mostly for one of a few times still fresh.
    static RECENT: RefCell<[Option<(u64, i64, HeaderValue)>; REMEMBERED]> =
        const { RefCell::new([const { None }; REMEMBERED]) };
}

/// The member for a response that came from the store, `ttl` seconds fresh (or, negative, stale).
pub(crate) fn hit_value(name: &CacheName, ttl: i64) -> HeaderValue {
    let remembered = RECENT.try_with(|recent| {
        let mut recent = recent.try_borrow_mut().ok()?;
        let at = ttl.cast_unsigned().wrapping_add(name.number) % REMEMBERED as u64;
        let place = recent.get_mut(usize::try_from(at).ok()?)?;
        if let Some((number, at, value)) = place
            && (*number, *at) == (name.number, ttl)
        {
            return Some(value.clone());
        }
        let value = new_hit_value(name, ttl);
        *place = Some((name.number, ttl, value.clone()));
        Some(value)
    });
    // Not at the end of a thread.
    remembered.ok().flatten().unwrap_or_else(|| new_hit_value(name, ttl))
}

fn new_hit_value(name: &CacheName, ttl: i64) -> HeaderValue {
    const HIT: &[u8] = b"; hit; ttl=";
    let sign: &[u8] = if ttl < 0 { b"-" } else { b"" };
    with_digits(ttl.unsigned_abs(), |digits| {
        // Of exactly the size needed, the vector becomes the value without another allocation.
        value([name.text.as_bytes(), HIT, sign, digits].concat())
    })
}

/// The same of a stale response that stands in for an origin which has failed lately.
pub(crate) fn hit_in_need_value(name: &CacheName, ttl: i64) -> HeaderValue {
    let hit = hit_value(name, ttl);
    value([hit.as_bytes(), b"; detail=", STALE_IF_ERROR.as_bytes()].concat())
}

fn value(text: Vec<u8>) -> HeaderValue {
    // Names, details and digits are printable ASCII.
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_as_the_rfc_has_them() {
        let name = CacheName::new("tower-keep").unwrap();
        assert_eq!(hit_value(&name, 60), "tower-keep; hit; ttl=60");
        assert_eq!(hit_value(&name, -5), "tower-keep; hit; ttl=-5");
        assert_eq!(hit_in_need_value(&name, -5), "tower-keep; hit; ttl=-5; detail=stale-if-error");
        let status =
            CacheStatus::forwarded(Fwd::UriMiss).fwd_status(StatusCode::OK).stored().collapsed();
        assert_eq!(
            status.to_value(&name),
            "tower-keep; fwd=uri-miss; fwd-status=200; stored; collapsed"
        );
        let status = CacheStatus::forwarded(Fwd::Bypass).detail("upgrade");
        assert_eq!(status.to_value(&name), "tower-keep; fwd=bypass; detail=upgrade");
        let status = CacheStatus::generated().detail("only-if-cached");
        assert_eq!(status.to_value(&name), "tower-keep; detail=only-if-cached");
    }

    #[test]
    fn names_are_tokens_or_strings_or_refused() {
        assert_eq!(CacheName::new("edge:1").unwrap().text, "edge:1");
        assert_eq!(CacheName::new("my \"edge\"").unwrap().text, r#""my \"edge\"""#);
        assert_eq!(CacheName::new("1st").unwrap().text, "\"1st\"");
        assert!(
            CacheName::new("").is_err()
                && CacheName::new("é").is_err()
                && CacheName::new("\n").is_err()
        );
    }
}
