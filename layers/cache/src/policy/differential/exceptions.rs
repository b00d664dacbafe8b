//! Where we differ from `http-cache-semantics`, and why.
//!
//! An exception excuses one way to differ in one aspect, for the cases that it applies to. Its
//! example must show the difference: one that is gone fails the test, and then the exception goes.

mod reading;
mod reusing;
mod storing;
mod validating;

use super::case::{Case, Fields};
use super::{Aspect, Way};

/// One difference.
pub(super) struct Exception {
    pub(super) name: &'static str,
    pub(super) aspect: Aspect,
    pub(super) way: Way,
    /// The sentence that decides; or what leaves the choice, and why we chose ours.
    pub(super) why: &'static str,
    pub(super) applies: fn(&Case) -> bool,
    pub(super) example: fn() -> Case,
}

pub(super) fn exceptions() -> impl Iterator<Item = &'static Exception> {
    let all =
        [storing::EXCEPTIONS, reading::EXCEPTIONS, reusing::EXCEPTIONS, validating::EXCEPTIONS];
    all.into_iter().flatten()
}

impl Case {
    /// A GET without fields, answered by 200 with this `Cache-Control` and these other fields.
    pub(super) fn new(control: &str, others: &[(&'static str, &str)]) -> Self {
        let control = [("cache-control", control)];
        let response = control.iter().chain(others).filter(|(_, value)| !value.is_empty());
        Self {
            shared: true,
            method: http::Method::GET,
            status: 200,
            request: Fields::new(),
            response: response.map(|(name, value)| (*name, (*value).to_owned())).collect(),
            delay: 0,
            later_method: http::Method::GET,
            later: Fields::new(),
            elapsed: 0,
            validation: Fields::new(),
        }
    }

    /// Then asked again with these fields, so many seconds later.
    pub(super) fn then(self, elapsed: u64, fields: &[(&'static str, &str)]) -> Self {
        Self { elapsed, later: owned(fields), ..self }
    }

    /// Then validated by a 304 with these fields.
    pub(super) fn validated(self, fields: &[(&'static str, &str)]) -> Self {
        Self { validation: owned(fields), ..self }
    }

    fn has(&self, name: &str) -> bool {
        self.lines(name).next().is_some()
    }

    /// The lines of a field of the response.
    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        lines(&self.response, name)
    }

    /// Whether the response says this in `Cache-Control`, by its name in any case.
    fn says(&self, name: &str) -> bool {
        directives(&self.response).any(|(said, _)| said.eq_ignore_ascii_case(name))
    }

    /// The same without an argument.
    fn says_bare(&self, name: &str) -> bool {
        directives(&self.response)
            .any(|(said, argument)| said.eq_ignore_ascii_case(name) && argument.is_none())
    }

    /// Whether the later request does.
    fn asks(&self, name: &str) -> bool {
        directives(&self.later).any(|(said, _)| said.eq_ignore_ascii_case(name))
    }
}

fn owned(fields: &[(&'static str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn lines<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a str> {
    fields.iter().filter(move |(it, _)| *it == name).map(|(_, value)| value.as_str())
}

/// Names and arguments; good enough for what is generated.
fn directives(fields: &Fields) -> impl Iterator<Item = (&str, Option<&str>)> {
    let members = lines(fields, "cache-control").flat_map(|line| line.split(", "));
    members.map(|member| match member.split_once('=') {
        Some((name, argument)) => (name, Some(argument)),
        None => (member, None),
    })
}

/// Whether some name occurs with different arguments, or not only in lower case.
fn repeat(fields: &Fields) -> bool {
    directives(fields).any(|(name, argument)| {
        directives(fields)
            .any(|(other, another)| other.eq_ignore_ascii_case(name) && argument != another)
    })
}

fn is_mixed_case(fields: &Fields) -> bool {
    directives(fields).any(|(name, _)| name.bytes().any(|byte| byte.is_ascii_uppercase()))
}
