//! Values of the file: what they are read as, and what is said where they can't be.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::DeValue;
use tower_keep::auth::Algorithm;
use tower_keep::compress::Encoding;
use tower_keep_balance::proxy::IpNet;

use super::problem::Problems;
use super::table::Value;

/// A bound that may be left to somebody else to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bound<T> {
    #[default]
    Unsaid,
    /// By a value, or `"none"`.
    Said(Option<T>),
}

impl<T> Bound<T> {
    /// What holds, where `other` does if nothing is said.
    pub(crate) fn unwrap_or(self, other: Option<T>) -> Option<T> {
        match self {
            Self::Unsaid => other,
            Self::Said(bound) => bound,
        }
    }
}

/// What can be read from a value.
pub(crate) trait Read: Sized {
    /// Notes a problem if it can't be.
    fn read(value: &Value<'_>, path: &str, problems: &Problems) -> Option<Self>;
}

/// Notes that a value is of another kind than `expected`, or can't be read as that.
pub(crate) fn wrong(value: &Value<'_>, path: &str, expected: &str, problems: &Problems) {
    let found = match value.get_ref() {
        DeValue::String(_) => "this text",
        DeValue::Integer(number) => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    let label = format!("expected {expected}, found {found}");
    problems.add(value.span(), format!("`{path}` can't be read"), label);
}

/// A kind of value that is read by one function, or not.
macro_rules! read {
    ($($type:ty, $expected:expr, $read:expr;)*) => {$(
        impl Read for $type {
            fn read(value: &Value<'_>, path: &str, problems: &Problems) -> Option<Self> {
                let read: fn(&DeValue<'_>) -> Option<Self> = $read;
                let read = read(value.get_ref());
                if read.is_none() {
                    wrong(value, path, $expected, problems);
                }
                read
            }
        }
    )*};
}

fn number<T: TryFrom<i128>>(value: &DeValue<'_>) -> Option<T> {
    let number = value.as_integer()?;
    T::try_from(i128::from_str_radix(number.as_str(), number.radix()).ok()?).ok()
}

fn parsed<T: std::str::FromStr>(value: &DeValue<'_>) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn float(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => number.as_str().parse().ok(),
        _ => None,
    }
}

/// `200-299`, or one.
fn statuses(value: &DeValue<'_>) -> Option<std::ops::RangeInclusive<u16>> {
    let range = if value.is_integer() {
        number(value).map(|status| status..=status)?
    } else {
        let (first, last) = value.as_str()?.split_once('-')?;
        first.trim().parse().ok()?..=last.trim().parse().ok()?
    };
    let is_status = |status: &u16| (100..=599).contains(status);
    (is_status(range.start()) && is_status(range.end()) && !range.is_empty()).then_some(range)
}

/// The same in JSON, which has no dates, and only numbers that are some.
fn json(value: &DeValue<'_>) -> Option<Json> {
    Some(match value {
        DeValue::String(text) => Json::from(&**text),
        DeValue::Boolean(is_true) => Json::from(*is_true),
        DeValue::Integer(_) => Json::from(number::<i64>(value)?),
        DeValue::Float(_) => Json::Number(serde_json::Number::from_f64(float(value)?)?),
        DeValue::Datetime(_) => return None,
        DeValue::Array(elements) => {
            elements.iter().map(|it| json(it.get_ref())).collect::<Option<_>>()?
        }
        DeValue::Table(entries) => {
            let members = entries.iter();
            let members =
                members.map(|(name, it)| Some((name.get_ref().to_string(), json(it.get_ref())?)));
            Json::Object(members.collect::<Option<_>>()?)
        }
    })
}

read! {
    bool, "true or false", |value| value.as_bool();
    i32, "a whole number", number;
    u8, "a whole number up to 255", number;
    u16, "a whole number up to 65535", number;
    u32, "a whole number up to 4294967295", number;
    usize, "a whole number", number;
    f64, "a number", float;
    String, "text in quotes", |value| value.as_str().map(str::to_owned);
    Duration, "a time such as \"30s\", \"500ms\" or \"1h 30m\"", |value| {
        humantime::parse_duration(value.as_str()?).ok()
    };
    ByteSize, "a size such as \"64KiB\", or a number of bytes", |value| match value {
        DeValue::Integer(_) => number(value).map(ByteSize::b),
        _ => parsed(value),
    };
    SocketAddr, "an IP address and a port, such as \"0.0.0.0:80\" or \"[::]:443\"", parsed;
    PathBuf, "a path in quotes", |value| value.as_str().filter(|path| !path.is_empty()).map(PathBuf::from);
    HeaderName, "the name of a field, such as \"x-request-id\"", parsed;
    HeaderValue, "the value of a field, in quotes", |value| HeaderValue::from_str(value.as_str()?).ok();
    Method, "a method in capitals, such as \"GET\"", |value| {
        value.as_str()?.parse().ok().filter(|method: &Method| !method.as_str().contains(char::is_lowercase))
    };
    StatusCode, "a status, from 200 to 599", |value| {
        number(value).filter(|status: &u16| (200..=599).contains(status)).and_then(|it| StatusCode::from_u16(it).ok())
    };
    IpNet, "a network such as \"10.0.0.0/8\"", parsed;
    Encoding, "a content coding: zstd, br, gzip or deflate", |value| {
        Encoding::from_name(value.as_str()?.as_bytes())
    };
    Algorithm, "an algorithm such as \"RS256\", \"ES256\" or \"EdDSA\"", |value| {
        Algorithm::from_name(value.as_str()?)
    };
    Json, "a text, a number, true, false, an array or a table", json;
    std::ops::RangeInclusive<u16>, "a status or a range, such as 204 or \"200-299\"", statuses;
}

/// With its place, for what is checked later.
impl<T: Read> Read for Spanned<T> {
    fn read(value: &Value<'_>, path: &str, problems: &Problems) -> Option<Self> {
        Some(Self::new(value.span(), T::read(value, path, problems)?))
    }
}

/// A text, or several in an array.
pub(crate) struct OneOrMore(pub(crate) Vec<String>);

impl Read for OneOrMore {
    fn read(value: &Value<'_>, path: &str, problems: &Problems) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => Some(Self(vec![text.to_string()])),
            _ => Vec::read(value, path, problems).map(Self),
        }
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(value: &Value<'_>, path: &str, problems: &Problems) -> Option<Self> {
        let DeValue::Array(elements) = value.get_ref() else {
            wrong(value, path, "an array, in square brackets", problems);
            return None;
        };
        // Each bad one is told, rather than the first.
        let read: Vec<_> = elements.iter().map(|it| T::read(it, path, problems)).collect();
        read.into_iter().collect()
    }
}
