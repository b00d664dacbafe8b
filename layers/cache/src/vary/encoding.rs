//! `Accept-Encoding` brought to one form, so that few variants serve many clients.
//!
//! Clients list the same codings in any order, with any weights and spaces. Of all that, what a
//! server may send is kept, and what it would rather send is not: a coding that one client of a
//! variant accepts, all accept. So the form consists of
//!
//! - the codings that are accepted, in order. The less known are among them, since a server may know
//!   them, and its response would go to clients who don't;
//! - or, where `*` accepts the rest, that and the codings that are refused;
//! - `identity;q=0` where the plain form is refused.
//!
//! Anything that is not understood is kept as it is.

use smallvec::SmallVec;
use tower_keep_compress::{Encoding, Member};

use crate::field;
use crate::key::Sink;

/// The well-known codings, in the order in which they are written.
const KNOWN: [Encoding; 4] = [Encoding::Brotli, Encoding::Deflate, Encoding::Gzip, Encoding::Zstd];

/// How many members are put in order; longer lists are kept as they are.
const MAX_MEMBERS: usize = 16;

/// Writes the form of the lines of the field, which are trimmed.
pub(super) fn write<'a, I>(lines: impl Fn() -> I, out: &mut impl Sink)
where
    I: Iterator<Item = &'a [u8]>,
{
    let mut codings = Codings::default();
    for line in lines() {
        // What the common browsers send needs no reading.
        match line {
            b"gzip, deflate, br, zstd" if codings.is_empty() => codings.accepted = [true; 4],
            b"gzip, deflate, br" if codings.is_empty() => {
                codings.accepted = [true, true, true, false];
            }
            _ => {
                for member in line.split(|byte| *byte == b',').map(field::trim) {
                    if !member.is_empty() && codings.add(member).is_none() {
                        return write_verbatim(lines(), out);
                    }
                }
            }
        }
    }
    codings.write(out);
}

/// Ambiguous or overlong: every spelling is a variant of its own. The comma in front keeps it apart
/// from all that is written otherwise.
fn write_verbatim<'a>(lines: impl Iterator<Item = &'a [u8]>, out: &mut impl Sink) {
    for line in lines {
        out.push(b",");
        out.push(line);
    }
}

#[derive(Debug, Default)]
struct Codings<'a> {
    accepted: [bool; 4],
    refused: [bool; 4],
    identity: Option<bool>,
    any: Option<bool>,
    /// Other codings, and whether they are accepted.
    others: SmallVec<[(&'a [u8], bool); 4]>,
}

impl<'a> Codings<'a> {
    fn is_empty(&self) -> bool {
        self.accepted == [false; 4]
            && self.refused == [false; 4]
            && self.identity.is_none()
            && self.any.is_none()
            && self.others.is_empty()
    }

    /// Adds a member; `None` when a coding is named twice, so that it isn't clear what holds.
    fn add(&mut self, member: &'a [u8]) -> Option<()> {
        let Member { text, coding, weight } = Member::parse(member);
        // One with anything but a well-formed weight is a coding of its own, as a whole.
        let (name, accepted) = weight.map_or((text, true), |weight| (coding, weight.accepts()));
        let known = Encoding::from_name(name);
        if let Some(known) = known.and_then(|it| KNOWN.iter().position(|known| *known == it)) {
            let yes = self.accepted.get_mut(known)?;
            let no = self.refused.get_mut(known)?;
            let seen = *yes || *no;
            *(if accepted { yes } else { no }) = true;
            return (!seen).then_some(());
        }
        if name == b"*" {
            return self.any.replace(accepted).is_none().then_some(());
        }
        if name.eq_ignore_ascii_case(b"identity") {
            return self.identity.replace(accepted).is_none().then_some(());
        }
        let seen = self.others.iter().any(|(other, _)| name.eq_ignore_ascii_case(other));
        self.others.push((name, accepted));
        (!seen && self.others.len() <= MAX_MEMBERS).then_some(())
    }

    fn write(mut self, out: &mut impl Sink) {
        let any = self.any == Some(true);
        let mut list = List { out, divider: b"" };
        if any {
            list.member(b"*", b"");
        }
        let (shown, weight): (_, &[u8]) =
            if any { (self.refused, b";q=0") } else { (self.accepted, b"") };
        for (coding, _) in KNOWN.iter().zip(shown).filter(|(_, shown)| *shown) {
            list.member(coding.name().as_bytes(), weight);
        }
        self.others.sort_unstable_by(|(one, _), (other, _)| {
            let lower = |name: &'a [u8]| name.iter().map(u8::to_ascii_lowercase);
            lower(one).cmp(lower(other))
        });
        for (coding, _) in self.others.iter().filter(|(_, accepted)| *accepted != any) {
            list.member(coding, weight);
        }
        // RFC 9110 §12.5.3: refused by name, or by `*` when not named.
        if self.identity.or(self.any) == Some(false) {
            list.member(b"identity", b";q=0");
        }
    }
}

struct List<'a, S> {
    out: &'a mut S,
    divider: &'static [u8],
}

impl<S: Sink> List<'_, S> {
    fn member(&mut self, coding: &[u8], weight: &[u8]) {
        self.out.push(std::mem::replace(&mut self.divider, b","));
        super::push_lowercase(coding, self.out);
        self.out.push(weight);
    }
}
