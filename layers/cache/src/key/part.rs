//! The parts of a key beside the target: fields, cookies, and what settings derive from a request.
//!
//! A part is a tab, which no target has; a letter that says what it is, and its name; and for each
//! value `=`, its length, `:` and its bytes. So keys can be read from left to right in one way only,
//! whatever is in the values, and whichever parts a layer is set to: an absent value is no empty
//! one, and nothing can be moved from one part to the next.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;

use super::Sink;
use super::cookie::{Given, each_value};
use crate::field::with_digits;
use crate::head::RequestHead;
use crate::vary::write_field;

type Derive = dyn Fn(&RequestHead<'_>, &mut dyn FnMut(&[u8])) + Send + Sync;

/// A part that a policy asks for.
#[derive(Clone)]
pub(super) enum Part {
    /// A field, normalised as for `Vary`.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// What a function yields.
    Derived {
        name: String,
        /// Whether it tells users apart.
        identity: bool,
        derive: Arc<Derive>,
    },
}

impl Part {
    pub(super) fn derived<T: AsRef<[u8]>>(
        name: String,
        identity: bool,
        derive: impl Fn(&RequestHead<'_>) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        let derive = move |head: &RequestHead<'_>, read: &mut dyn FnMut(&[u8])| {
            if let Some(value) = derive(head) {
                read(value.as_ref());
            }
        };
        Self::Derived { name, identity, derive: Arc::new(derive) }
    }

    /// Writes what a request says of it. Returns whether that tells its user from others.
    pub(super) fn write(&self, head: &RequestHead<'_>, out: &mut impl Sink) -> bool {
        let mut tells_apart = false;
        match self {
            Self::Header(name) => write_header(name, head, out),
            Self::Cookie(name) => {
                begin(b'k', name.as_bytes(), out);
                each_value(head.headers(), name.as_bytes(), |given| match given {
                    Given::Value(value) => push_value(value, out),
                    Given::Bare => out.push(b"=-"),
                    Given::Ambiguous(line) => {
                        out.push(b"=~");
                        push_value(line, out);
                    }
                });
            }
            Self::Derived { name, identity, derive } => {
                begin(if *identity { b'i' } else { b'x' }, name.as_bytes(), out);
                derive(head, &mut |value| {
                    // An empty name is nobody's.
                    tells_apart = *identity && !value.is_empty();
                    push_value(value, out);
                });
            }
        }
        tells_apart
    }
}

/// Writes a field as a part.
pub(super) fn write_header(name: &HeaderName, head: &RequestHead<'_>, out: &mut impl Sink) {
    begin(b'h', name.as_str().as_bytes(), out);
    let lines = head.headers().get_all(name);
    if lines.iter().next().is_some() {
        let mut value = Vec::new();
        write_field(name, &lines, &mut value);
        push_value(&value, out);
    }
}

/// Begins a part.
pub(super) fn begin(kind: u8, name: &[u8], out: &mut impl Sink) {
    out.push(&[b'\t', kind, b':']);
    out.push(name);
}

/// Adds a value to a part.
pub(super) fn push_value(value: &[u8], out: &mut impl Sink) {
    out.push(b"=");
    with_digits(value.len() as u64, |digits| out.push(digits));
    out.push(b":");
    out.push(value);
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => f.debug_tuple("Header").field(name).finish(),
            Self::Cookie(name) => f.debug_tuple("Cookie").field(name).finish(),
            Self::Derived { name, identity: true, .. } => {
                f.debug_tuple("Identity").field(name).finish()
            }
            Self::Derived { name, .. } => f.debug_tuple("Part").field(name).finish(),
        }
    }
}
