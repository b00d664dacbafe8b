//! What backends are told of a token's claims, and what clients are kept from telling them.

use std::collections::HashSet;

use http::header::{AUTHORIZATION, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::Value;
use tower_keep::auth::Identity;
use tower_keep::compress::field::members;

use crate::config::Jwt;

/// What the backends of a route are told.
#[derive(Debug)]
pub(crate) struct Told {
    fields: Vec<(HeaderName, String)>,
    forward_token: bool,
}

impl Told {
    pub(crate) fn by(jwt: &Jwt) -> Self {
        Self { fields: jwt.claims.clone(), forward_token: jwt.forward_token }
    }

    /// A response that depends on what was told depends on the token, which the cache sees, and clients
    /// have.
    pub(crate) fn vary(&self, headers: &mut HeaderMap) {
        let depends = members(headers, &VARY).any(|member| {
            let named = |(field, _): &(HeaderName, _)| {
                member.trim_ascii().eq_ignore_ascii_case(field.as_str().as_bytes())
            };
            self.fields.iter().any(named)
        });
        if depends {
            headers.append(VARY, HeaderValue::from_static("authorization"));
        }
    }

    /// Behind the cache, which has to see the token to know that the request is somebody's.
    pub(crate) fn tell<B>(&self, request: &mut Request<B>) {
        let Some(identity) = Identity::of(request.extensions()).cloned() else { return };
        let headers = request.headers_mut();
        for (field, claim) in &self.fields {
            if let Some(value) = identity.claim(claim).and_then(value) {
                headers.insert(field, value);
            }
        }
        if !self.forward_token {
            headers.remove(AUTHORIZATION);
        }
    }
}

/// A claim as it stands in a field: text as it is, all else as JSON. None where a reader might take
/// it for another one.
fn value(claim: &Value) -> Option<HeaderValue> {
    match claim {
        Value::Null => None,
        Value::String(text) if text.is_empty() || text.trim() != text => None,
        Value::String(text) => HeaderValue::from_bytes(text.as_bytes()).ok(),
        other => HeaderValue::try_from(other.to_string()).ok(),
    }
}

/// Fields in which backends are told something, and no client may say anything.
#[derive(Debug, Default)]
pub(crate) struct OurFields(HashSet<String>);

impl OurFields {
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        Self(names.into_iter().map(as_variable).collect())
    }

    /// Those of claims, by any route: whichever way a client comes.
    pub(crate) fn of<'a>(jwts: impl IntoIterator<Item = &'a Jwt>) -> Self {
        Self::new(jwts.into_iter().flat_map(|jwt| &jwt.claims).map(|(name, _)| name))
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(crate) fn remove_from(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let spoofed = headers.keys().filter(|name| self.0.contains(&as_variable(name)));
        for name in spoofed.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
    }
}

/// What a field is called by those who read it as CGI does, to some of whom `x-user`, `x_user` and `x.user`
/// are one.
pub(crate) fn as_variable(name: &HeaderName) -> String {
    name.as_str().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_told_in_one_way_or_not_at_all() {
        let told = |claim: Value| value(&claim).map(|it| it.as_bytes().to_vec());
        assert_eq!(told(json!("user:1")), Some(b"user:1".to_vec()));
        assert_eq!(told(json!("Zoë")), Some("Zoë".into()));
        assert_eq!(told(json!(42)), Some(b"42".to_vec()));
        assert_eq!(told(json!(true)), Some(b"true".to_vec()));
        // One role with a comma in its name isn't two.
        assert_eq!(told(json!(["a,admin", "b"])), Some(br#"["a,admin","b"]"#.to_vec()));
        for claim in [json!(null), json!(""), json!(" admin"), json!("a\r\nx-role: admin")] {
            assert_eq!(told(claim.clone()), None, "{claim}");
        }
    }

    #[test]
    fn clients_can_not_say_our_fields_in_any_spelling() {
        let ours = OurFields(HashSet::from(["x-user-id".to_owned()]));
        let mut headers = HeaderMap::new();
        for name in ["x-user-id", "x_user_id", "X-User_ID", "x.user!id", "x-user", "x-user-id-2"] {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("evil"));
        }
        ours.remove_from(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-user", "x-user-id-2"]);
    }
}
