//! Whether responses say what the cache did, and how much of it.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};

use crate::cache_status::CACHE_STATUS;

/// What responses say of the cache in `Cache-Status` (RFC 9211).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheStatusField {
    /// Whether they are a hit, or why they are not.
    #[default]
    On,
    /// That, and the key under which the cache looked (RFC 9211 §2.7): host and target, then, where it
    /// is known, what chooses the variant. What isn't printable is shown as `%` and two digits. Only for
    /// those who may know how keys are made, since that is what attacks by poisoned caches begin with
    /// (RFC 9211 §6).
    WithKey,
    /// Nothing. What earlier caches have said stays.
    Off,
}

/// What remains to be done to the field of a response.
#[derive(Clone, Debug)]
pub(crate) enum Finish {
    Leave,
    Remove,
    AddKey(Box<str>),
}

impl Finish {
    pub(crate) fn of(field: CacheStatusField, key: &[u8]) -> Self {
        match field {
            CacheStatusField::On => Self::Leave,
            CacheStatusField::Off => Self::Remove,
            CacheStatusField::WithKey => Self::AddKey(string(key).into()),
        }
    }

    /// As [`of`](Self::of), where there is no key.
    pub(crate) fn without_key(field: CacheStatusField) -> Self {
        match field {
            CacheStatusField::On | CacheStatusField::WithKey => Self::Leave,
            CacheStatusField::Off => Self::Remove,
        }
    }

    /// Ours is the last line of the field.
    #[inline]
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        if !matches!(self, Self::Leave) {
            self.change(headers);
        }
    }

    #[cold]
    fn change(&self, headers: &mut HeaderMap) {
        let mut lines: Vec<HeaderValue> = headers.get_all(CACHE_STATUS).iter().cloned().collect();
        let own = lines.pop();
        headers.remove(CACHE_STATUS);
        for line in lines {
            headers.append(CACHE_STATUS, line);
        }
        if let (Self::AddKey(key), Some(own)) = (self, own) {
            let with_key = [own.as_bytes(), b"; key=", key.as_bytes()].concat();
            headers.append(CACHE_STATUS, HeaderValue::from_bytes(&with_key).unwrap_or(own));
        }
    }
}

/// A structured-field string (RFC 9651 §3.3.3) that shows these bytes.
fn string(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (CACHE_STATUS, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn only_our_own_line_is_touched() {
        let finished = |finish: Finish| {
            let mut headers = headers(&["cdn; fwd=miss", "tower-keep; hit"]);
            finish.apply(&mut headers);
            headers
        };
        let on = finished(Finish::of(CacheStatusField::On, b"k"));
        assert_eq!(on, headers(&["cdn; fwd=miss", "tower-keep; hit"]));
        let off = finished(Finish::of(CacheStatusField::Off, b"k"));
        assert_eq!(off, headers(&["cdn; fwd=miss"]));
        let with = finished(Finish::of(CacheStatusField::WithKey, b"h/a?\"b\"\n\xff"));
        let expected = r#"tower-keep; hit; key="h/a?\"b\"%0A%FF""#;
        assert_eq!(with, headers(&["cdn; fwd=miss", expected]));
    }

    proptest! {
        #[test]
        fn any_key_is_a_string(key: Vec<u8>) {
            let text = string(&key);
            prop_assert!(sfv::Parser::new(&text).parse::<sfv::Item>().is_ok(), "{}", text);
        }
    }
}
