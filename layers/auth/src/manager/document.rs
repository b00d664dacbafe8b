//! Public keys as a JWK Set.

use serde_json::{Map, Value, json};

use crate::key::{Key, KeySet, thumbprint};

pub(super) fn of(keys: &KeySet) -> String {
    let keys: Vec<Value> = keys.keys().filter_map(public).collect();
    json!({ "keys": keys }).to_string()
}

/// None of a secret.
fn public(key: &Key) -> Option<Value> {
    let members = thumbprint::members(key)?;
    let mut jwk: Map<String, Value> =
        members.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
    jwk.insert("use".into(), json!("sig"));
    // A key that is for several algorithms names none.
    let mut algorithms = key.algorithms().iter();
    if let (Some(algorithm), None) = (algorithms.next(), algorithms.next()) {
        jwk.insert("alg".into(), json!(algorithm.as_str()));
    }
    if let Some(kid) = key.kid() {
        jwk.insert("kid".into(), json!(kid));
    }
    Some(Value::Object(jwk))
}
