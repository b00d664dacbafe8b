//! Reads names of roles or groups out of whatever form an issuer gives them, and checks the rest.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::json::{Fault, Faults, Names, Text, Walk};

/// A string, or a list of strings and of objects whose `value` is one (RFC 9068 §2.2.3.1, by RFC 7643
/// §4.1.2). What has another form is walked through, and gives nothing.
pub(super) struct Granted<'f, 'c> {
    faults: &'f Faults,
    walk: Walk<'f>,
    into: &'c mut Vec<Box<str>>,
    place: Place,
}

/// Where a value stands, and so which forms of it count.
#[derive(Clone, Copy)]
enum Place {
    Claim,
    Element,
    /// The `value` of an element.
    Value,
}

impl<'f, 'c> Granted<'f, 'c> {
    pub(super) fn new(faults: &'f Faults, into: &'c mut Vec<Box<str>>) -> Self {
        Self { faults, walk: Walk::member(faults), into, place: Place::Claim }
    }
}

impl<'de> DeserializeSeed<'de> for Granted<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Granted<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names")
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

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        self.into.push(Box::from(name));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if !matches!(self.place, Place::Claim) {
            return self.walk.visit_seq(seq);
        }
        let Self { faults, into, .. } = self;
        let walk = self.walk.deeper()?;
        while seq
            .next_element_seed(Granted { faults, walk, into, place: Place::Element })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if !matches!(self.place, Place::Element) {
            return self.walk.visit_map(map);
        }
        let Self { faults, into, .. } = self;
        let walk = self.walk.deeper()?;
        let mut names = Names::default();
        while let Some(name) = map.next_key_seed(Text)? {
            if !names.insert(name.clone()) {
                return Err(faults.raise(Fault::DuplicateMember));
            }
            if name == "value" {
                map.next_value_seed(Granted { faults, walk, into, place: Place::Value })?;
            } else {
                map.next_value_seed(walk)?;
            }
        }
        Ok(())
    }
}
