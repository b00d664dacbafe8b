//! The second part of a key: the fields of a request that `Vary` names (RFC 9111 §4.1).

mod encoding;
mod untrusted;

use std::fmt;

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, FORWARDED, GetAll, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use self::untrusted::FORWARDED_TARGET;
pub(crate) use self::untrusted::UNTRUSTED;
use crate::field::{self, Members};
use crate::key::Sink;

/// How many names a rule may have. A response that varies on more would hardly ever be a hit.
const MAX_NAMES: usize = 32;

/// Which fields of a request choose among the variants of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub(crate) enum VaryRule {
    /// None: there is one variant.
    #[default]
    None,
    /// These, in the order of their names, each once.
    Fields(Box<[HeaderName]>),
    /// `*`, or what comes to the same: no request can be matched.
    Any,
}

impl VaryRule {
    /// Reads the rule of a response.
    pub(crate) fn of(response: &HeaderMap) -> Self {
        Self::parse(response.get_all(VARY).iter().map(HeaderValue::as_bytes))
    }

    /// Reads lines of `Vary`, or what [`Display`](fmt::Display) wrote.
    pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut names = Vec::new();
        for member in lines.into_iter().flat_map(Members::new) {
            if member == b"*" {
                return Self::Any;
            }
            // What is no name might have been meant for any.
            let Ok(name) = HeaderName::from_bytes(member) else { return Self::Any };
            if !names.contains(&name) {
                names.push(name);
            }
            if names.len() > MAX_NAMES {
                return Self::Any;
            }
        }
        if names.is_empty() { Self::None } else { Self::of_names(names) }
    }

    /// The rule of these names, each of which is there once.
    fn of_names(names: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        if names.len() > MAX_NAMES {
            return Self::Any;
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        Self::Fields(names.into())
    }

    /// Whether there is one variant.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::None
    }

    /// Whether no request can be matched.
    pub(crate) fn is_any(&self) -> bool {
        *self == Self::Any
    }

    /// Whether the field chooses among the variants.
    pub(crate) fn names(&self, field: &HeaderName) -> bool {
        matches!(self, Self::Fields(names) if names.contains(field))
    }

    /// Whether every field that `other` names chooses here, too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::None) => true,
            (Self::Fields(_), Self::Fields(names)) => names.iter().all(|name| self.names(name)),
            _ => false,
        }
    }

    /// The rule by which responses with either rule can be told apart; `other` alone if the two
    /// together have too many names.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let text = format!("{self},{other}");
        match Self::parse([text.as_bytes()]) {
            Self::Any => other.clone(),
            both => both,
        }
    }

    /// Appends what chooses the variant for a request: under one rule equal bytes mean equal
    /// normalised values, and under different rules they are never equal.
    ///
    /// Each field is `name:value` or, when the request doesn't have it, `name`, and ends in a line
    /// feed, which neither names nor values can contain.
    pub(crate) fn write_variant(&self, request: &HeaderMap, out: &mut impl Sink) {
        let Self::Fields(names) = self else { return };
        for name in names {
            if let Some(field) = untrusted::in_any_spelling(name) {
                untrusted::write_spellings(name, &field, request, out);
            }
            out.push(name.as_str().as_bytes());
            // Not `Forwarded` as a whole.
            let field = if *name == FORWARDED_TARGET { &FORWARDED } else { name };
            let lines = request.get_all(field);
            if lines.iter().next().is_some() {
                out.push(b":");
                write_field(name, &lines, out);
            }
            out.push(b"\n");
        }
    }
}

/// Writes the rule as the value of one line of `Vary`.
impl fmt::Display for VaryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Any => f.write_str("*"),
            Self::Fields(names) => names.iter().enumerate().try_for_each(|(at, name)| {
                f.write_str(if at == 0 { "" } else { "," })?;
                f.write_str(name.as_str())
            }),
        }
    }
}

impl From<VaryRule> for String {
    fn from(rule: VaryRule) -> Self {
        rule.to_string()
    }
}

impl From<String> for VaryRule {
    fn from(line: String) -> Self {
        Self::parse([line.as_bytes()])
    }
}

/// Appends the value of a field, normalised as far as it is known how.
pub(crate) fn write_field(name: &HeaderName, lines: &GetAll<'_, HeaderValue>, out: &mut impl Sink) {
    let lines = || lines.iter().map(|line| field::trim(line.as_bytes()));
    if *name == ACCEPT_ENCODING {
        encoding::write(lines, out);
    } else if *name == FORWARDED_TARGET {
        untrusted::write_target(lines(), out);
    } else if *name == ACCEPT || *name == ACCEPT_LANGUAGE {
        let fold_case = *name == ACCEPT_LANGUAGE;
        let mut divider: &[u8] = b"";
        for member in lines().flat_map(Members::new) {
            out.push(std::mem::replace(&mut divider, b","));
            write_member(member, fold_case, out);
        }
    } else {
        // How others may be normalised is not known, beyond that their lines make one list (RFC 9110
        // §5.3); of cookies they make one string (RFC 9113 §8.2.3).
        let comma: &[u8] = if *name == COOKIE { b"; " } else { b", " };
        let mut divider: &[u8] = b"";
        for line in lines() {
            out.push(std::mem::replace(&mut divider, comma));
            out.push(line);
        }
    }
}

/// Writes a member of a list without the whitespace around its semicolons, where it means nothing
/// (RFC 9110 §5.6.6), and a range of languages in lower case (RFC 4647 §2).
fn write_member(member: &[u8], fold_case: bool, out: &mut impl Sink) {
    let changes = |byte: &u8| match byte {
        b' ' | b'\t' => true,
        _ => fold_case && byte.is_ascii_uppercase(),
    };
    // Whitespace inside quotes counts.
    if member.contains(&b'"') || !member.iter().any(changes) {
        return out.push(member);
    }
    let mut divider: &[u8] = b"";
    for part in member.split(|byte| *byte == b';') {
        out.push(std::mem::replace(&mut divider, b";"));
        let part = field::trim(part);
        if fold_case {
            push_lowercase(part, out);
        } else {
            out.push(part);
        }
    }
}

/// Appends `bytes` with `A` to `Z` in lower case.
pub(crate) fn push_lowercase(bytes: &[u8], out: &mut impl Sink) {
    // All of them, which takes less than to stop at the first.
    if !bytes.iter().fold(false, |any, byte| any | byte.is_ascii_uppercase()) {
        return out.push(bytes);
    }
    let mut buffer = [0; 64];
    for chunk in bytes.chunks(buffer.len()) {
        if let Some(lower) = buffer.get_mut(..chunk.len()) {
            lower.copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            out.push(lower);
        }
    }
}

#[cfg(test)]
mod tests;
