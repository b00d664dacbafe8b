//! The JOSE header (RFC 7515 §4): what of it counts, and what makes a token refused.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use crate::algorithm::Algorithm;
use crate::json::{self, Fault, Faults, Names, Text, Walk};
use crate::refusal::{Part, Refusal};

/// The most bytes that `kid` may have. It is compared with names of keys, and nothing else.
pub(crate) const MAX_KID_LEN: usize = 256;

/// The most bytes of `typ`: what is longer is none that anybody registered.
const MAX_TYP_LEN: usize = 128;

/// What counts of a header. `jwk`, `jku`, `x5u` and `x5c` don't: a key that a token brings itself
/// proves nothing (RFC 8725 §3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header<'t> {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<Cow<'t, str>>,
    pub(crate) typ: Option<Cow<'t, str>>,
}

impl<'t> Header<'t> {
    pub(crate) fn read(text: &'t str) -> Result<Self, Refusal> {
        let faults = Faults::default();
        let raw = json::read(text, &faults, Members(&faults)).map_err(|fault| match fault {
            Some(Fault::TooDeep) => Refusal::TooDeep(Part::Header),
            Some(Fault::DuplicateMember) => Refusal::DuplicateMember(Part::Header),
            Some(Fault::Member(name)) => Refusal::InvalidHeader(name),
            None => Refusal::Json(Part::Header),
        })?;
        if let Some(obstacle) = raw.obstacle {
            return Err(obstacle);
        }
        let name = raw.algorithm.ok_or(Refusal::MissingAlgorithm)?;
        let algorithm = Algorithm::from_name(&name).ok_or_else(|| {
            if name.eq_ignore_ascii_case("none") {
                Refusal::Unsigned
            } else {
                Refusal::UnknownAlgorithm
            }
        })?;
        if raw.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_LEN) {
            return Err(Refusal::InvalidHeader("kid"));
        }
        if raw.typ.as_ref().is_some_and(|typ| typ.len() > MAX_TYP_LEN) {
            return Err(Refusal::InvalidHeader("typ"));
        }
        Ok(Self { algorithm, kid: raw.kid, typ: raw.typ })
    }
}

#[derive(Debug, Default)]
struct Raw<'t> {
    algorithm: Option<Cow<'t, str>>,
    kid: Option<Cow<'t, str>>,
    typ: Option<Cow<'t, str>>,
    /// The first of the parameters that make a token something else than is read here.
    obstacle: Option<Refusal>,
}

struct Members<'f>(&'f Faults);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Raw<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JOSE header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
        let Self(faults) = self;
        let mut raw = Raw::default();
        let mut names = Names::default();
        while let Some(name) = map.next_key_seed(Text)? {
            if !names.insert(name.clone()) {
                return Err(faults.raise(Fault::DuplicateMember));
            }
            let slot = match &*name {
                "alg" => Some((&mut raw.algorithm, "alg")),
                "kid" => Some((&mut raw.kid, "kid")),
                "typ" => Some((&mut raw.typ, "typ")),
                _ => None,
            };
            if let Some((slot, name)) = slot {
                let text = map.next_value_seed(Text);
                *slot = Some(text.inspect_err(|_| faults.note(Fault::Member(name)))?);
                continue;
            }
            let obstacle = match &*name {
                // §4.1.11: no extension is understood, and an empty list is not allowed either.
                "crit" => Some(Refusal::CriticalExtension),
                "b64" => Some(Refusal::UnencodedPayload),
                "zip" => Some(Refusal::Compressed),
                "enc" => Some(Refusal::Encrypted),
                _ => None,
            };
            raw.obstacle = raw.obstacle.or(obstacle);
            map.next_value_seed(Walk::member(faults))?;
        }
        Ok(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_counts_and_passes_over_the_rest() {
        let text = r#"{"typ":"JWT","alg":"RS256","kid":"a\u002fb","jku":"http://e","x":{"y":[1]}}"#;
        let header = Header::read(text).unwrap();
        assert_eq!(header.algorithm, Algorithm::Rs256);
        assert_eq!(header.kid.as_deref(), Some("a/b"));
        assert_eq!(header.typ.as_deref(), Some("JWT"));
    }

    #[test]
    fn refuses_each_fault_for_its_own_reason() {
        let long = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(MAX_KID_LEN + 1));
        let cases = [
            ("[]", Refusal::Json(Part::Header)),
            ("\"alg\"", Refusal::Json(Part::Header)),
            (r#"{"alg":"HS256""#, Refusal::Json(Part::Header)),
            (r#"{"alg":"HS256","alg":"none"}"#, Refusal::DuplicateMember(Part::Header)),
            (r#"{"alg":"HS256","x":[{"a":1,"a":1}]}"#, Refusal::DuplicateMember(Part::Header)),
            (r#"{"alg":256}"#, Refusal::InvalidHeader("alg")),
            (r#"{"alg":null}"#, Refusal::InvalidHeader("alg")),
            (r#"{"alg":"HS256","kid":7}"#, Refusal::InvalidHeader("kid")),
            (r#"{"alg":"HS256","typ":["JWT"]}"#, Refusal::InvalidHeader("typ")),
            (&long, Refusal::InvalidHeader("kid")),
            (r#"{"alg":"HS256","crit":["exp"]}"#, Refusal::CriticalExtension),
            (r#"{"alg":"HS256","crit":[]}"#, Refusal::CriticalExtension),
            (r#"{"alg":"HS256","b64":false}"#, Refusal::UnencodedPayload),
            (r#"{"alg":"HS256","zip":"DEF"}"#, Refusal::Compressed),
            (r#"{"alg":"dir","enc":"A128GCM"}"#, Refusal::Encrypted),
            ("{}", Refusal::MissingAlgorithm),
            (r#"{"alg":"none"}"#, Refusal::Unsigned),
            (r#"{"alg":"nOnE"}"#, Refusal::Unsigned),
            (r#"{"alg":"none "}"#, Refusal::UnknownAlgorithm),
            (r#"{"alg":""}"#, Refusal::UnknownAlgorithm),
            (r#"{"alg":"hs256"}"#, Refusal::UnknownAlgorithm),
        ];
        for (text, refusal) in cases {
            assert_eq!(Header::read(text), Err(refusal), "{text}");
        }
    }
}
