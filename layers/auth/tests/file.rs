//! Keys in files that change.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use base64::Engine as _;
use serde_json::json;
use support::{encode, fresh, jwks, key, keys, trusting, until};
use tower_keep_auth::{
    Algorithm, FileKeys, FileKeysBuilder, Issuer, KeySource, Refusal, SigningKey, Verifier,
};

const PUBLIC: &str = include_str!("keys/ed25519-public.pem");

fn build(builder: FileKeysBuilder) -> FileKeys {
    builder.interval(Duration::from_millis(10)).build().unwrap()
}

async fn accepts(verifier: &Verifier, key: &SigningKey) {
    until("the key is there", || verifier.verify_now(&fresh(key)).is_ok()).await;
}

async fn refuses(verifier: &Verifier, key: &SigningKey) {
    until("the key is gone", || verifier.verify_now(&fresh(key)).is_err()).await;
}

#[tokio::test]
async fn keys_are_read_in_each_form() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let signing = key(Algorithm::EdDsa);
    let lines: String = PUBLIC.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(lines).unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": encode(&der[12..])});
    let sets = json!({"keys": [jwk]}).to_string();
    let forms: [(FileKeysBuilder, Vec<u8>); 5] = [
        (FileKeys::pem(&path, Algorithm::EdDsa), PUBLIC.into()),
        (FileKeys::der(&path, Algorithm::EdDsa).kid("EdDSA"), der.clone()),
        (FileKeys::jwk(&path), jwk.to_string().into()),
        (FileKeys::jwks(&path), sets.clone().into()),
        (FileKeys::secret_jwks(&path), sets.into()),
    ];
    for (builder, content) in forms {
        fs::write(&path, content).unwrap();
        let source = builder.build().unwrap();
        let health = source.health();
        assert!(health.is_usable() && health.age.is_some() && health.failure.is_none());
        assert!(trusting(source).verify_now(&fresh(&signing)).is_ok());
    }
}

#[tokio::test]
async fn secrets_are_read_from_files_of_secrets_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let secret =
        json!({"kty": "oct", "alg": "HS256", "kid": "HS256", "k": encode(support::SECRET)});
    fs::write(&path, json!({"keys": [secret]}).to_string()).unwrap();
    let error = FileKeys::jwks(&path).build().unwrap_err().to_string();
    assert!(error.contains("secret"), "{error}");
    let issuer = Issuer::new(support::ISSUER)
        .key_source(FileKeys::secret_jwks(&path).build().unwrap())
        .algorithms([Algorithm::Hs256])
        .audience(support::AUDIENCE);
    let verifier = Verifier::builder().issuer(issuer).clock(support::clock()).build().unwrap();
    assert!(verifier.verify_now(&fresh(&key(Algorithm::Hs256))).is_ok());
}

#[tokio::test]
async fn however_a_file_is_changed_its_keys_are_used_and_those_before_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let new = dir.path().join("new");
    let [a, b, c, d] = &keys();
    fs::write(&path, jwks(&[a])).unwrap();
    let source = build(FileKeys::jwks(&path));
    let verifier = trusting(source.clone());
    let seen = fresh(a);
    assert!(verifier.verify_now(&seen).is_ok());
    // In place, and of the same length.
    fs::write(&path, jwks(&[b])).unwrap();
    accepts(&verifier, b).await;
    assert_eq!(verifier.verify_now(&seen).unwrap_err(), Refusal::UnknownKey);
    // As editors do.
    fs::write(&new, jwks(&[b, c])).unwrap();
    fs::rename(&new, &path).unwrap();
    accepts(&verifier, c).await;
    assert!(verifier.verify_now(&fresh(b)).is_ok());
    // As Kubernetes does.
    fs::create_dir(dir.path().join("v2")).unwrap();
    fs::write(dir.path().join("v2/jwks.json"), jwks(&[d])).unwrap();
    symlink("v2/jwks.json", &new).unwrap();
    fs::rename(&new, &path).unwrap();
    accepts(&verifier, d).await;
    refuses(&verifier, b).await;
    assert!(source.error().is_none());
}

#[tokio::test]
async fn a_file_that_is_missing_or_damaged_changes_nothing_and_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let [a, b] = keys();
    let whole = jwks(&[&a]);
    fs::write(&path, &whole).unwrap();
    let source = build(FileKeys::jwks(&path));
    let verifier = trusting(source.clone());
    let large = format!("{}{whole}", " ".repeat(256 * 1024));
    for (content, why) in [
        (Some(""), "JSON"),
        (Some(&whole[..whole.len() / 2]), "JSON"),
        (Some(&whole[..whole.len() - 1]), "JSON"),
        (None, "not found"),
        (Some("{}"), "`keys`"),
        (Some(&large), "256 KiB"),
    ] {
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let told = || source.error().is_some_and(|error| error.to_string().contains(why));
        until(why, told).await;
        let error = source.error().unwrap().to_string();
        assert!(error.contains("jwks.json"), "{error}");
        assert!(verifier.verify_now(&fresh(&a)).is_ok());
        let health = source.health();
        assert!(health.stale && health.is_usable() && health.failure.is_some(), "{health:?}");
    }
    fs::write(&path, jwks(&[&b])).unwrap();
    accepts(&verifier, &b).await;
    until("all is well", || source.error().is_none()).await;
}

#[tokio::test]
async fn a_pem_file_holds_the_old_key_and_the_new_one_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.pem");
    let old = key(Algorithm::EdDsa);
    fs::write(&path, PUBLIC).unwrap();
    let verifier = trusting(build(FileKeys::pem(&path, Algorithm::EdDsa)));
    let other = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    fs::write(&path, format!("{other}{PUBLIC}")).unwrap();
    let keys = verifier.health().next().unwrap().1.keys;
    assert_eq!(keys, Some(1));
    until("both", || verifier.health().all(|(_, health)| health.keys == Some(2))).await;
    assert!(verifier.verify_now(&fresh(&old)).is_ok());
    fs::write(&path, other).unwrap();
    refuses(&verifier, &old).await;
}

#[tokio::test]
async fn a_file_is_read_no_more_when_nobody_has_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    fs::write(&path, PUBLIC).unwrap();
    let source = build(FileKeys::pem(&path, Algorithm::EdDsa));
    let keys = source.keys().clone();
    drop(source);
    fs::write(&path, PUBLIC.repeat(2)).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(keys.len(), Some(1));
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_the_fix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let fix = |builder: FileKeysBuilder| builder.build().unwrap_err().to_string();
    assert!(fix(FileKeys::jwks(&path)).contains("give the path"));
    fs::write(&path, include_str!("keys/ed25519.pem")).unwrap();
    assert!(fix(FileKeys::pem(&path, Algorithm::EdDsa)).contains("openssl pkey -pubout"));
    fs::write(&path, "{\"keys\":[]}").unwrap();
    assert!(fix(FileKeys::jwks(&path)).contains("no key"));
    assert!(fix(FileKeys::jwks(&path).kid("a")).contains("leave it out"));
    fs::write(&path, PUBLIC).unwrap();
    let builder = FileKeys::pem(&path, Algorithm::EdDsa);
    let outside = std::thread::spawn(move || builder.build().unwrap_err().to_string());
    assert!(outside.join().unwrap().contains("runtime"));
}
