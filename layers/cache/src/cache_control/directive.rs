//! Directives of `Cache-Control`, as requests and responses share them: names with arguments.

use http::HeaderValue;

use crate::field::{self, Members};

/// How much of the field, all its lines together, is read. Nobody writes a longer one honestly, and
/// reading must stay cheap whoever wrote it (a directive beyond the end could forbid anything, so
/// the whole field is then unreadable).
pub(super) const MAX_LEN: usize = 8 * 1024;

/// The longest name that is known, `stale-while-revalidate`, and a bit.
const MAX_NAME: usize = 24;

/// The field cannot be read: what it forbids is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// One directive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directive<'a> {
    /// What follows the name.
    pub(super) argument: Argument<'a>,
    name: [u8; MAX_NAME],
    name_len: usize,
}

/// The argument of a directive. Both forms are to be accepted (RFC 9111 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    /// There is none.
    None,
    /// A token, or something malformed that stands where a token should.
    Token(&'a [u8]),
    /// What stands between the quotes, its quoted pairs as they are.
    Quoted(&'a [u8]),
}

impl<'a> Directive<'a> {
    fn read(member: &'a [u8]) -> Option<Self> {
        let mut parts = member.splitn(2, |byte| *byte == b'=');
        let written = parts.next().unwrap_or_default();
        let argument = match parts.next() {
            None => Argument::None,
            Some([b'"', inner @ .., b'"']) => Argument::Quoted(inner),
            // Whitespace beside `=` is not allowed. The directive may restrict, so it counts, but
            // its argument does not.
            Some(_) if written.last().is_some_and(|byte| matches!(byte, b' ' | b'\t')) => {
                Argument::Token(b"")
            }
            Some(token) => Argument::Token(token),
        };
        let written = field::trim(written);
        let mut name = [0; MAX_NAME];
        // A longer name is none that is known, and unknown ones are ignored (RFC 9111 §5.2.3).
        let lower = name.get_mut(..written.len())?;
        lower.copy_from_slice(written);
        lower.make_ascii_lowercase();
        Some(Self { argument, name, name_len: written.len() })
    }

    /// The name, in lower case (RFC 9111 §5.2: names are case-insensitive).
    pub(crate) fn name(&self) -> &[u8] {
        self.name.get(..self.name_len).unwrap_or_default()
    }

    /// Whether there is no argument.
    pub(crate) fn is_bare(&self) -> bool {
        self.argument == Argument::None
    }

    /// The argument as a number of seconds, if it is one.
    pub(crate) fn seconds(&self) -> Option<u32> {
        match self.argument {
            Argument::None => None,
            Argument::Token(digits) | Argument::Quoted(digits) => field::delta_seconds(digits),
        }
    }
}

/// Runs `visit` on each directive of the field, whose lines are one list (RFC 9110 §5.3).
pub(crate) fn each_directive<'a>(
    lines: impl IntoIterator<Item = &'a HeaderValue>,
    mut visit: impl FnMut(&Directive<'a>),
) -> Result<(), Unreadable> {
    let mut left = MAX_LEN;
    for line in lines {
        left = left.checked_sub(line.len()).ok_or(Unreadable)?;
        let mut members = Members::new(line.as_bytes());
        for member in members.by_ref() {
            if let Some(directive) = Directive::read(member) {
                visit(&directive);
            }
        }
        // The quoted string may have swallowed any directive.
        if members.unbalanced() {
            return Err(Unreadable);
        }
    }
    Ok(())
}
