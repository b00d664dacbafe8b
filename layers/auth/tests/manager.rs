//! Tokens that are issued here, and keys that follow each other.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{AUDIENCE, ISSUER, NOW, clock, decode, key, with};
use tower_keep_auth::{
    Algorithm, Grant, IssueError, Issuer, JwtManager, JwtManagerBuilder, KeySet, Keys, NumericDate,
    Refusal, SigningKey, Verifier,
};

const MINUTE: Duration = Duration::from_secs(60);

fn builder(key: SigningKey) -> JwtManagerBuilder {
    JwtManager::builder(ISSUER).key(key).audience(AUDIENCE)
}

fn parts(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| serde_json::from_slice(&decode(part)));
    (parts.next().unwrap().unwrap(), parts.next().unwrap().unwrap())
}

#[test]
fn issues_what_it_is_told_to_by_any_algorithm() {
    for algorithm in [
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Ps384,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ] {
        let manager = builder(key(algorithm)).clock(clock()).build().unwrap();
        let grant = Grant::new("user:1")
            .scope("read")
            .scope("write admin")
            .client("web")
            .claims(&json!({"tenant": 7, "roles": ["clerk"]}));
        let issued = manager.issue(grant).unwrap();
        let (header, claims) = parts(&issued.token);
        assert_eq!(
            header,
            json!({"alg": algorithm.as_str(), "typ": "JWT", "kid": algorithm.as_str()})
        );
        let expected = json!({
            "iss": ISSUER, "sub": "user:1", "aud": AUDIENCE, "client_id": "web",
            "iat": NOW, "nbf": NOW, "exp": NOW + 900, "jti": issued.id,
            "scope": "read write admin", "tenant": 7, "roles": ["clerk"],
        });
        assert_eq!(claims, expected);
        assert_eq!(issued.expires_at, NumericDate::from_secs(NOW + 900));
        let verified = manager.verify(&issued.token).unwrap();
        assert!(verified.claims().has_scope("admin") && verified.claims().has_role("clerk"));
        assert_eq!(verified.claim("tenant"), Some(&json!(7)));
    }
}

#[test]
fn no_two_tokens_have_one_name() {
    let manager = builder(key(Algorithm::Hs256)).build().unwrap();
    let issue = || manager.issue(Grant::new("user:1")).unwrap();
    let (one, other) = (issue(), issue());
    assert_ne!(one.id, other.id);
    assert_ne!(one.token, other.token);
    assert!(!format!("{one:?}").contains(&one.token));
}

#[test]
fn grants_cannot_take_what_is_not_theirs() {
    let manager = builder(key(Algorithm::EdDsa)).max_ttl(60 * MINUTE).build().unwrap();
    let error = |grant: Grant| manager.issue(grant).unwrap_err();
    assert_eq!(error(Grant::new("a").ttl(61 * MINUTE)), IssueError::TtlTooLong);
    assert!(manager.issue(Grant::new("a").ttl(60 * MINUTE)).is_ok());
    for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "client_id", "sid"] {
        let claims = with(json!({}), name, 1);
        assert_eq!(error(Grant::new("a").claims(&claims)), IssueError::Reserved(name));
    }
    assert_eq!(error(Grant::new("a").claims(&"text")), IssueError::Claims);
    assert_eq!(error(Grant::new("a").claims(&vec![1])), IssueError::Claims);
}

#[test]
fn tokens_for_others_are_not_accepted_here() {
    let manager = builder(key(Algorithm::EdDsa)).build().unwrap();
    let issued = manager.issue(Grant::new("a").audience("billing").audience("mail")).unwrap();
    assert_eq!(parts(&issued.token).1["aud"], json!(["billing", "mail"]));
    assert_eq!(manager.verify(&issued.token).unwrap_err(), Refusal::WrongAudience);
}

/// What another service would do, that fetches the keys as often as it is told to.
struct Other {
    keys: Keys,
    verifier: Verifier,
    fetched: NumericDate,
}

impl Other {
    fn new(manager: &JwtManager, clock: &tower_keep_auth::Clock) -> Self {
        let keys = Keys::new(KeySet::from_jwks(manager.jwks()).unwrap());
        let issuer = Issuer::new(ISSUER).key_source(keys.clone()).audience(AUDIENCE);
        let verifier = Verifier::builder().issuer(issuer).clock(clock.clone()).build().unwrap();
        Self { keys, verifier, fetched: clock.now() }
    }

    fn fetch(&mut self, manager: &JwtManager, now: NumericDate) {
        if now.saturating_since(self.fetched) >= manager.jwks_max_age() {
            self.keys.replace(KeySet::from_jwks(manager.jwks()).unwrap());
            self.fetched = now;
        }
    }
}

#[test]
fn keys_follow_each_other_without_a_token_refused() {
    let clock = clock();
    let first = SigningKey::generate(Algorithm::Es256).unwrap();
    let manager = builder(first.clone()).clock(clock.clone()).build().unwrap();
    let mut other = Other::new(&manager, &clock);
    let mut alive: Vec<(String, NumericDate)> = Vec::new();
    let mut signed_by = Vec::new();
    // Three hours, in which the key is changed every half an hour.
    for minute in 0..180 {
        if minute % 30 == 10 {
            manager.rotate(SigningKey::generate(Algorithm::EdDsa).unwrap()).unwrap();
        }
        other.fetch(&manager, clock.now());
        let issued = manager.issue(Grant::new("user:1")).unwrap();
        let kid = parts(&issued.token).0["kid"].as_str().unwrap().to_owned();
        if signed_by.last() != Some(&kid) {
            signed_by.push(kid);
        }
        alive.retain(|(_, until)| clock.now() < *until);
        alive.push((issued.token, issued.expires_at));
        for (token, _) in &alive {
            assert!(manager.verify(token).is_ok());
            assert!(other.verifier.verify_now(token).is_ok(), "minute {minute}");
        }
        let set = KeySet::from_jwks(manager.jwks()).unwrap();
        assert!(set.keys().len() <= 3, "old keys leave");
        clock.advance(MINUTE);
    }
    assert_eq!(signed_by.len(), 7);
    assert_eq!(Some(signed_by[0].as_str()), first.kid());
    assert!(!manager.jwks().contains(&signed_by[0]));
}

#[test]
fn a_stolen_key_is_out_at_once() {
    let clock = clock();
    let (stolen, next) = (key(Algorithm::Es256), key(Algorithm::EdDsa));
    let manager = builder(stolen.clone()).clock(clock).build().unwrap();
    let token = manager.issue(Grant::new("user:1")).unwrap().token;
    assert!(manager.verify(&token).is_ok());
    assert!(!manager.revoke_key("ES256"), "there is no other that could sign");
    manager.rotate(next).unwrap();
    assert!(manager.revoke_key("ES256"));
    assert_eq!(manager.verify(&token).unwrap_err(), Refusal::UnknownKey);
    assert!(!manager.jwks().contains("ES256"));
    let token = manager.issue(Grant::new("user:1")).unwrap().token;
    assert_eq!(parts(&token).0["kid"], "EdDSA");
    assert!(!manager.revoke_key("ES256"));
}

#[test]
fn keys_need_names_that_no_other_has() {
    let manager =
        builder(key(Algorithm::Es256)).trust(key(Algorithm::EdDsa).verifying_key().clone());
    let manager = manager.build().unwrap();
    for kid in ["ES256", "EdDSA"] {
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap().with_kid(kid);
        assert_eq!(manager.rotate(key).unwrap_err(), IssueError::KeyName);
    }
    let nameless = SigningKey::hmac(Algorithm::Hs256, support::SECRET).unwrap();
    assert_eq!(manager.rotate(nameless).unwrap_err(), IssueError::KeyName);
}

#[test]
fn publishes_public_members_alone_and_no_secret() {
    let trust = |algorithm| key(algorithm).verifying_key().clone();
    let manager = builder(key(Algorithm::Hs256))
        .trust(trust(Algorithm::Rs256))
        .trust(trust(Algorithm::Es384))
        .trust(trust(Algorithm::EdDsa))
        .build()
        .unwrap();
    let set: Value = serde_json::from_str(&manager.jwks()).unwrap();
    let members: Vec<Vec<_>> = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key.as_object().unwrap().keys().map(String::as_str).collect())
        .collect();
    assert_eq!(
        members,
        [
            vec!["alg", "e", "kid", "kty", "n", "use"],
            vec!["alg", "crv", "kid", "kty", "use", "x", "y"],
            vec!["alg", "crv", "kid", "kty", "use", "x"],
        ]
    );
    // Others read it, and can verify by it.
    assert_eq!(KeySet::from_jwks(manager.jwks()).unwrap().keys().len(), 3);
}

#[test]
fn settings_that_cannot_work_fail_with_the_fix() {
    let fix = |builder: JwtManagerBuilder| builder.build().unwrap_err().to_string();
    let key = || key(Algorithm::EdDsa);
    assert!(fix(JwtManager::builder(ISSUER).audience("a")).contains("`key`"));
    assert!(fix(JwtManager::builder(ISSUER).key(key())).contains("`audience`"));
    assert!(fix(builder(key()).ttl(Duration::ZERO)).contains("`ttl`"));
    assert!(fix(builder(key()).max_ttl(MINUTE)).contains("`max_ttl`"));
    assert!(fix(builder(key()).ttl(Duration::MAX)).contains("100 years"));
    let nameless = SigningKey::hmac(Algorithm::Hs256, support::SECRET).unwrap();
    let several = builder(nameless).trust(key().verifying_key().clone());
    assert!(fix(several).contains("`with_kid`"));
}
