//! Which parameters of a query count, and in which order.
//!
//! The origin decodes names before it compares them, and frameworks do more: some ignore case, some
//! take `a.b` for `a_b`, or `a[0]` for `a`, and some divide at `;`. A parameter that the origin reads
//! and the key leaves out lets one client choose what all others get ("parameter cloaking"). So what
//! could be meant for a name that counts is kept, and only what is surely one that doesn't is left
//! out.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::error::ConfigError;

/// The longest query that is put in order, in bytes. No key holds a longer one.
const MAX_SORTED: usize = 8 * 1024;

/// What of a query is a part of the key.
#[derive(Clone, Debug, Default)]
pub(super) struct QueryRule {
    pub(super) params: Params,
    pub(super) sorted: bool,
}

/// Which parameters count.
#[derive(Clone, Debug, Default)]
pub(super) enum Params {
    /// All of them.
    #[default]
    All,
    /// These.
    Only(Vec<Pattern>),
    /// All but these.
    Except(Vec<Pattern>),
    /// None: there is no query.
    None,
}

/// A name, or with a `*` at its end what names begin with.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    is_prefix: bool,
}

impl Pattern {
    pub(super) fn new(text: String) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self { text: prefix.to_owned(), is_prefix: true },
            None => Self { text, is_prefix: false },
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let plain = is_comparable(&self.text) && !self.text.contains(['&', '=', '*', '#']);
        if plain && (self.is_prefix || !self.text.is_empty()) {
            return Ok(());
        }
        let star = if self.is_prefix { "*" } else { "" };
        Err(ConfigError::new(format!(
            "`{}{star}` is not the name of a query parameter: give it as it is sent, in ASCII, \
             without `%`, `+`, `;`, `&`, `=`, and with a `*` at its end only",
            self.text.escape_debug()
        )))
    }

    /// Whether it is that name, byte for byte.
    fn is(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.text) } else { name == self.text }
    }

    /// Whether some framework might take the one name for the other.
    fn may_be(&self, name: &str) -> bool {
        let own = folded(&self.text, b"[");
        // `a.b` is `a_b` to some, and a part of `a` to others.
        [&b"["[..], b"[."].iter().any(|ends| {
            let mut name = folded(name, ends);
            let begins = own.clone().all(|byte| name.next() == Some(byte));
            begins && (self.is_prefix || name.next().is_none())
        })
    }
}

/// A name in the coarsest form that a framework brings it to: up to a bracket, in lower case, and
/// with everything else than letters and digits as `_`.
fn folded<'a>(name: &'a str, ends: &'static [u8]) -> impl Iterator<Item = u8> + Clone + 'a {
    name.bytes()
        .take_while(move |byte| !ends.contains(byte))
        .map(|byte| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' })
}

/// The name of a parameter.
fn name_of(parameter: &str) -> &str {
    parameter.split_once('=').map_or(parameter, |(name, _)| name)
}

/// Whether a name is to the origin what it is here.
fn is_comparable(name: &str) -> bool {
    name.is_ascii() && !name.starts_with('[') && !name.contains(['%', '+', ';'])
}

impl QueryRule {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match &self.params {
            Params::Only(patterns) | Params::Except(patterns) => {
                patterns.iter().try_for_each(Pattern::check)
            }
            Params::All | Params::None => Ok(()),
        }
    }

    /// What counts of a query; `None` if nothing of it does.
    pub(super) fn apply<'a>(&self, query: &'a str) -> Option<Cow<'a, str>> {
        if matches!(self.params, Params::None) {
            return None;
        }
        if matches!(self.params, Params::All) && !self.sorted {
            return Some(Cow::Borrowed(query));
        }
        let parameters = query.split('&').filter(|parameter| self.counts(parameter));
        let mut kept: SmallVec<[&str; 16]> = parameters.collect();
        if kept.is_empty() {
            // As if it had never been there: `/a?utm_source=x` is `/a`. An empty query stays: it
            // has one parameter, without a name.
            return None;
        }
        if self.sorted && query.len() <= MAX_SORTED {
            sort(&mut kept);
        }
        Some(Cow::Owned(kept.join("&")))
    }

    fn counts(&self, parameter: &str) -> bool {
        let name = name_of(parameter);
        // A semicolon may divide it in two, the second of which is something else.
        if parameter.contains(';') || !is_comparable(name) {
            return true;
        }
        match &self.params {
            Params::All => true,
            Params::None => false,
            Params::Only(patterns) => patterns.iter().any(|pattern| pattern.may_be(name)),
            Params::Except(patterns) => !patterns.iter().any(|pattern| pattern.is(name)),
        }
    }
}

/// Puts parameters in the order of their names. Those of one name, or of what may be one name to the
/// origin, stay in their order: `a=1&a=2` means something else than `a=2&a=1`. Where a name isn't as
/// plain as names mostly are, none is moved.
fn sort(parameters: &mut [&str]) {
    let base = |parameter| folded(name_of(parameter), b"[");
    let is_plain = |parameter: &&str| {
        let name = name_of(parameter).split('[').next().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !parameter.contains(';') && is_comparable(name_of(parameter)) && name.bytes().all(plain)
    };
    if parameters.iter().all(is_plain) {
        // The sort is stable.
        parameters.sort_by(|one, other| base(one).cmp(base(other)));
    }
}

#[cfg(test)]
mod tests;
