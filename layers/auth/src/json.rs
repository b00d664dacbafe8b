//! Walks JSON that isn't trusted: every value is looked at once, no deeper than [`MAX_DEPTH`], and an
//! object with two members of one name is refused, wherever it is.
//!
//! serde's own derived code would keep the last of two such members, or the first, depending on the
//! type they are read into, so that two programs could read one token in two ways.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;

/// How deeply objects and arrays may be nested, the outermost counted. Claims that identity providers
/// make are four or five deep.
pub(crate) const MAX_DEPTH: u8 = 16;

/// What a walk met that is JSON, but not to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    TooDeep,
    DuplicateMember,
    /// A member that has a meaning here, of the wrong type.
    Member(&'static str),
}

/// Where a walk notes its [`Fault`], since serde's errors are text.
#[derive(Debug, Default)]
pub(crate) struct Faults(Cell<Option<Fault>>);

impl Faults {
    pub(crate) fn get(&self) -> Option<Fault> {
        self.0.get()
    }

    /// Notes `fault`, unless one was noted further in.
    pub(crate) fn note(&self, fault: Fault) {
        if self.0.get().is_none() {
            self.0.set(Some(fault));
        }
    }

    /// Notes `fault`, and makes the error that ends the walk.
    pub(crate) fn raise<E: Error>(&self, fault: Fault) -> E {
        self.note(fault);
        E::custom("refused")
    }
}

/// The names of the members of one object so far.
#[derive(Debug, Default)]
pub(crate) struct Names<'de> {
    few: SmallVec<[Cow<'de, str>; 12]>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Names<'de> {
    /// Whether `name` is new. A hash table only takes over where comparing with each would take long.
    pub(crate) fn insert(&mut self, name: Cow<'de, str>) -> bool {
        if self.few.contains(&name) || self.many.contains(&name) {
            return false;
        }
        if self.few.len() < self.few.inline_size() {
            self.few.push(name);
            true
        } else {
            self.many.insert(name)
        }
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }
}

/// Any value, whose content is walked through and forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'f> {
    faults: &'f Faults,
    /// How many objects and arrays are around this value.
    depth: u8,
}

impl<'f> Walk<'f> {
    pub(crate) fn whole(faults: &'f Faults) -> Self {
        Self { faults, depth: 0 }
    }

    /// For the values of an outermost object.
    pub(crate) fn member(faults: &'f Faults) -> Self {
        Self { faults, depth: 1 }
    }

    /// For what is within an object or array that is this value.
    pub(crate) fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.faults.raise(Fault::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut names = Names::default();
        while let Some(name) = map.next_key_seed(Text)? {
            if !names.insert(name) {
                return Err(self.faults.raise(Fault::DuplicateMember));
            }
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// Reads all of `text` by `seed`. The error is the fault that ended it; none if it isn't JSON.
pub(crate) fn read<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    faults: &Faults,
    seed: S,
) -> Result<S::Value, Option<Fault>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut reader).map_err(|error| {
        // Text that breaks off within a member is no JSON, whatever the member should have been.
        if error.is_data() { faults.get() } else { None }
    })?;
    reader.end().map_err(|_| None)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(text: &str) -> Result<(), Option<Fault>> {
        let faults = Faults::default();
        read(text, &faults, Walk::whole(&faults))
    }

    #[test]
    fn accepts_each_kind_of_value() {
        let text = r#"{"a":[1,-2,3.5,1e9,true,null,"\u00e9",{}],"b":{"a":{"a":[]}}}"#;
        assert_eq!(walk(text), Ok(()));
    }

    #[test]
    fn refuses_what_is_no_json_or_more_than_one() {
        for text in
            ["", "{", "{}{}", "{} x", r#"{"a":1,}"#, "NaN", "1e999", "{'a':1}", "\u{feff}{}"]
        {
            assert_eq!(walk(text), Err(None), "{text}");
        }
    }

    #[test]
    fn refuses_duplicates_at_any_depth_and_behind_escapes() {
        for text in
            [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#, r#"{"x":[{"y":{"a":1,"b":2,"a":3}}]}"#]
        {
            assert_eq!(walk(text), Err(Some(Fault::DuplicateMember)), "{text}");
        }
        let many: Vec<_> = (0..100).map(|n| format!("\"{n}\":0,")).collect();
        let many = many.concat();
        assert_eq!(walk(&format!("{{{many}\"x\":0}}")), Ok(()));
        assert_eq!(walk(&format!("{{{many}\"99\":0}}")), Err(Some(Fault::DuplicateMember)));
    }

    #[test]
    fn goes_as_deep_as_it_may_and_no_deeper() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(walk(&nested(usize::from(MAX_DEPTH))), Ok(()));
        assert_eq!(walk(&nested(usize::from(MAX_DEPTH) + 1)), Err(Some(Fault::TooDeep)));
        assert_eq!(walk(&nested(100_000)), Err(Some(Fault::TooDeep)));
    }
}
