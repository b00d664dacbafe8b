//! Reads the registered claims in one walk over the payload, which checks all the rest as well.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Claims;
use super::granted::Granted;
use crate::json::{self, Fault, Faults, Names, Text, Walk};
use crate::refusal::{Part, Refusal};
use crate::time::Date;

/// The claims in `payload`, which must be one JSON object.
pub(crate) fn of_payload(payload: &str) -> Result<Claims, Refusal> {
    let faults = Faults::default();
    json::read(payload, &faults, Members(&faults)).map_err(|fault| match fault {
        Some(Fault::TooDeep) => Refusal::TooDeep(Part::Claims),
        Some(Fault::DuplicateMember) => Refusal::DuplicateMember(Part::Claims),
        Some(Fault::Member(name)) => Refusal::InvalidClaim(name),
        None => Refusal::Json(Part::Claims),
    })
}

struct Members<'f>(&'f Faults);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Claims;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Claims, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let Self(faults) = self;
        let mut claims = Claims::default();
        let mut names = Names::default();
        while let Some(name) = map.next_key_seed(Text)? {
            if !names.insert(name.clone()) {
                return Err(faults.raise(Fault::DuplicateMember));
            }
            let (name, read) = match &*name {
                "iss" => ("iss", text(&mut map, &mut claims.iss)),
                "sub" => ("sub", text(&mut map, &mut claims.sub)),
                "jti" => ("jti", text(&mut map, &mut claims.jti)),
                "client_id" => ("client_id", text(&mut map, &mut claims.client_id)),
                "sid" => ("sid", text(&mut map, &mut claims.sid)),
                "exp" => ("exp", map.next_value_seed(Date).map(|it| claims.exp = Some(it))),
                "nbf" => ("nbf", map.next_value_seed(Date).map(|it| claims.nbf = Some(it))),
                "iat" => ("iat", map.next_value_seed(Date).map(|it| claims.iat = Some(it))),
                "aud" => ("aud", map.next_value_seed(List::whole(&mut claims.aud))),
                "scope" => ("scope", map.next_value_seed(List::words(&mut claims.scopes))),
                "scp" => ("scp", map.next_value_seed(List::words(&mut claims.scopes))),
                "roles" => {
                    map.next_value_seed(Granted::new(faults, &mut claims.roles))?;
                    continue;
                }
                "groups" => {
                    map.next_value_seed(Granted::new(faults, &mut claims.groups))?;
                    continue;
                }
                _ => {
                    map.next_value_seed(Walk::member(faults))?;
                    continue;
                }
            };
            read.inspect_err(|_| faults.note(Fault::Member(name)))?;
        }
        Ok(claims)
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A, into: &mut Option<Box<str>>) -> Result<(), A::Error> {
    *into = Some(map.next_value_seed(Text)?.into());
    Ok(())
}

/// A string, or a list of nothing but strings.
struct List<'c> {
    into: &'c mut Vec<Box<str>>,
    /// Whether a string is a list of words (RFC 6749 §3.3) rather than one of them.
    words: bool,
}

impl<'c> List<'c> {
    fn whole(into: &'c mut Vec<Box<str>>) -> Self {
        Self { into, words: false }
    }

    fn words(into: &'c mut Vec<Box<str>>) -> Self {
        Self { into, words: true }
    }
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.words {
            let words = text.split(' ').filter(|word| !word.is_empty());
            self.into.extend(words.map(Box::from));
        } else {
            self.into.push(Box::from(text));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(text) = seq.next_element_seed(Text)? {
            self.into.push(text.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::NumericDate;

    fn list(items: &[Box<str>]) -> Vec<&str> {
        items.iter().map(|it| &**it).collect()
    }

    #[test]
    fn reads_every_registered_claim() {
        let claims = of_payload(
            r#"{"iss":"i","sub":"s","aud":["a","b"],"exp":3,"nbf":1.5,"iat":2,"jti":"j",
                "client_id":"c","sid":"z","scope":"read  write","scp":["admin"],"roles":["r"],
                "groups":[{"value":"g","display":"G"},{"display":"none"},7],"other":{"x":[1]}}"#,
        )
        .unwrap();
        assert_eq!(claims.iss.as_deref(), Some("i"));
        assert_eq!(claims.sub.as_deref(), Some("s"));
        assert_eq!(list(&claims.aud), ["a", "b"]);
        assert_eq!(claims.exp, Some(NumericDate::from_secs(3)));
        assert_eq!(claims.nbf, Some(NumericDate::from_millis(1500)));
        assert_eq!(claims.iat, Some(NumericDate::from_secs(2)));
        assert_eq!(claims.jti.as_deref(), Some("j"));
        assert_eq!(claims.client_id.as_deref(), Some("c"));
        assert_eq!(claims.sid.as_deref(), Some("z"));
        assert_eq!(list(&claims.scopes), ["read", "write", "admin"]);
        assert_eq!(list(&claims.roles), ["r"]);
        assert_eq!(list(&claims.groups), ["g"]);
        assert!(claims.has_scope("write") && !claims.has_scope("wri"));
        assert!(claims.has_role("r") && claims.has_group("g") && !claims.has_group("none"));
    }

    #[test]
    fn takes_a_single_audience_as_a_list_of_one() {
        assert_eq!(list(&of_payload(r#"{"aud":"a b"}"#).unwrap().aud), ["a b"]);
    }

    #[test]
    fn grants_nothing_by_roles_that_it_cannot_read() {
        for roles in
            ["7", "null", "{\"value\":\"admin\"}", "[[\"admin\"]]", "[{\"value\":[\"admin\"]}]"]
        {
            let claims = of_payload(&format!(r#"{{"roles":{roles},"groups":{roles}}}"#)).unwrap();
            assert_eq!((claims.roles.len(), claims.groups.len()), (0, 0), "{roles}");
        }
    }

    #[test]
    fn refuses_a_claim_of_the_wrong_type_required_or_not() {
        for (name, values) in [
            ("iss", ["null", "7", "[\"i\"]"]),
            ("sub", ["null", "true", "{}"]),
            ("aud", ["null", "[1]", "{\"a\":\"b\"}"]),
            ("exp", ["null", "\"3\"", "1e300"]),
            ("nbf", ["\"never\"", "[]", "9223372036854775807"]),
            ("iat", ["{}", "false", "99999999999999999999"]),
            ("jti", ["7", "null", "[]"]),
            ("client_id", ["7", "null", "[]"]),
            ("sid", ["7", "null", "[]"]),
            ("scope", ["7", "[null]", "{}"]),
            ("scp", ["7", "[[]]", "null"]),
        ] {
            for value in values {
                let refusal = of_payload(&format!(r#"{{"{name}":{value}}}"#)).unwrap_err();
                assert_eq!(refusal, Refusal::InvalidClaim(name), "{value}");
            }
        }
    }

    #[test]
    fn refuses_duplicates_depth_and_what_is_no_object() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(16), "]".repeat(16));
        for (payload, refusal) in [
            (r#"{"sub":"a","sub":"b"}"#, Refusal::DuplicateMember(Part::Claims)),
            (r#"{"sub":"a","s\u0075b":"a"}"#, Refusal::DuplicateMember(Part::Claims)),
            (r#"{"x":{"a":1,"a":1}}"#, Refusal::DuplicateMember(Part::Claims)),
            (r#"{"groups":[{"a":1,"a":1}]}"#, Refusal::DuplicateMember(Part::Claims)),
            (&deep, Refusal::TooDeep(Part::Claims)),
            (&deep.replace("\"a\"", "\"roles\""), Refusal::TooDeep(Part::Claims)),
            ("[]", Refusal::Json(Part::Claims)),
            ("\"x\"", Refusal::Json(Part::Claims)),
            (r#"{"exp":1"#, Refusal::Json(Part::Claims)),
            (r#"{"exp":1e999}"#, Refusal::Json(Part::Claims)),
            (r#"{"sub":"\ud800"}"#, Refusal::Json(Part::Claims)),
            ("", Refusal::Json(Part::Claims)),
        ] {
            assert_eq!(of_payload(payload).unwrap_err(), refusal, "{payload}");
        }
    }
}
