//! Tokens that were accepted before, and keys that change meanwhile.

#[path = "support/tokens.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use support::{AUDIENCE, ISSUER, claims, clock, header, issuer, key, sign, token, with};
use tower_keep_auth::{
    Algorithm, Issuer, KeySet, KeySource, Keys, LookAgain, Looked, Refusal, SigningKey, Verifier,
    Wanted,
};

fn trusting(source: impl KeySource) -> Issuer {
    Issuer::new(ISSUER).key_source(source).audience(AUDIENCE)
}

/// Claims whose reading is counted: it happens when a token is verified, and not when it is known.
#[derive(Debug)]
struct Counted;

static READ: AtomicUsize = AtomicUsize::new(0);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        READ.fetch_add(1, Ordering::Relaxed);
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[test]
fn verifies_a_token_once_and_again_when_its_key_has_left() {
    let (old, new) = (key(Algorithm::Es256), key(Algorithm::EdDsa));
    let both = || KeySet::from([old.verifying_key().clone(), new.verifying_key().clone()]);
    let keys = Keys::new(both());
    let verifier = Verifier::builder()
        .issuer(trusting(keys.clone()))
        .clock(clock())
        .typed::<Counted>()
        .build()
        .unwrap();
    let (by_old, by_new) = (token(&old, &claims()), token(&new, &claims()));
    let read = |token: &str| {
        let before = READ.load(Ordering::Relaxed);
        let result = verifier.verify_now(token).map(|_| ());
        (result, READ.load(Ordering::Relaxed) - before)
    };
    assert_eq!(read(&by_old), (Ok(()), 1));
    assert_eq!(read(&by_new), (Ok(()), 1));
    for _ in 0..3 {
        assert_eq!(read(&by_old), (Ok(()), 0));
        // A set that is fetched again and says the same changes nothing.
        keys.replace(both());
    }
    keys.replace(new.verifying_key().clone());
    assert_eq!(read(&by_old), (Err(Refusal::UnknownKey), 0));
    assert_eq!(read(&by_new), (Ok(()), 0));
    // A key that comes back is trusted again, but its tokens are verified again first.
    keys.replace(both());
    assert_eq!(read(&by_old), (Ok(()), 1));
    keys.forget();
    assert_eq!(read(&by_new), (Err(Refusal::KeysUnavailable), 0));
}

#[test]
fn a_remembered_token_says_nothing_for_others_with_its_signature() {
    let key = key(Algorithm::EdDsa);
    let verifier = Verifier::builder().issuer(issuer(&key)).clock(clock()).build().unwrap();
    let good = token(&key, &claims());
    assert!(verifier.verify_now(&good).is_ok());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let forged = support::encode(with(claims(), "sub", "admin").to_string());
    let refusal = verifier.verify_now(&format!("{head}.{forged}.{signature}")).unwrap_err();
    assert_eq!(refusal, Refusal::WrongSignature);
}

#[test]
fn many_tokens_push_each_other_out_and_are_all_accepted() {
    let key = key(Algorithm::Hs256);
    let verifier = Verifier::builder()
        .issuer(issuer(&key))
        .clock(clock())
        .remember(64 * 1024)
        .build()
        .unwrap();
    let tokens: Vec<_> =
        (0..500).map(|n| token(&key, &with(claims(), "jti", n.to_string()))).collect();
    for _ in 0..2 {
        for (n, token) in tokens.iter().enumerate() {
            let verified = verifier.verify_now(token).unwrap();
            assert_eq!(verified.claims().jti.as_deref(), Some(n.to_string().as_str()));
        }
    }
}

/// More tokens than there is room for, so that they push each other out while others look for them.
#[test]
fn many_threads_get_each_token_its_own_claims() {
    let key = key(Algorithm::Hs256);
    let verifier = Verifier::builder().issuer(issuer(&key)).clock(clock()).remember(64 * 1024);
    let verifier = verifier.build().unwrap();
    let tokens: Vec<_> =
        (0..200).map(|n| token(&key, &with(claims(), "jti", n.to_string()))).collect();
    std::thread::scope(|scope| {
        for first in 0..8 {
            let (verifier, tokens) = (&verifier, &tokens);
            scope.spawn(move || {
                for step in 0..1_000 {
                    // In another order on each thread; 200 has no factor in common with these.
                    let at = (step * [1, 3, 7, 9, 11, 13, 17, 19][first]) % tokens.len();
                    let verified = verifier.verify_now(&tokens[at]).unwrap();
                    assert_eq!(verified.claims().jti.as_deref(), Some(&*at.to_string()));
                }
            });
        }
    });
}

#[test]
fn keys_are_swapped_under_load_without_a_wrong_answer() {
    let (old, new) = (key(Algorithm::Es256), key(Algorithm::EdDsa));
    let set = |key: &SigningKey| KeySet::from(key.verifying_key().clone());
    let keys = Keys::new(set(&old));
    let verifier =
        Verifier::builder().issuer(trusting(keys.clone())).clock(clock()).build().unwrap();
    let (by_old, by_new) = (token(&old, &claims()), token(&new, &claims()));
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (verifier, stop) = (verifier.clone(), Arc::clone(&stop));
            let tokens = [by_old.clone(), by_new.clone()];
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for token in &tokens {
                        let result = verifier.verify_now(token).map(|_| ());
                        assert!(matches!(result, Ok(()) | Err(Refusal::UnknownKey)), "{result:?}");
                    }
                }
            })
        })
        .collect();
    for _ in 0..200 {
        keys.replace(set(&new));
        assert_eq!(verifier.verify_now(&by_old).unwrap_err(), Refusal::UnknownKey);
        assert!(verifier.verify_now(&by_new).is_ok());
        keys.replace(set(&old));
        assert_eq!(verifier.verify_now(&by_new).unwrap_err(), Refusal::UnknownKey);
        assert!(verifier.verify_now(&by_old).is_ok());
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
}

/// A source that has a second set to give, once it is asked.
struct Late {
    keys: Keys,
    next: KeySet,
    asked: Arc<AtomicUsize>,
}

impl KeySource for Late {
    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn look_again(&self, wanted: Wanted<'_>) -> Option<LookAgain> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (keys, next) = (self.keys.clone(), self.next.clone());
        let known = wanted.kid.is_none_or(|kid| next.keys().any(|key| key.kid() == Some(kid)));
        known.then(|| -> LookAgain {
            Box::pin(async move {
                tokio::task::yield_now().await;
                keys.replace(next);
                Looked::Asked
            })
        })
    }
}

#[tokio::test]
async fn waits_for_a_source_that_may_have_the_key_and_tries_once_more() {
    let (old, new) = (key(Algorithm::Es256), key(Algorithm::EdDsa));
    let asked = Arc::new(AtomicUsize::new(0));
    let source = || Late {
        keys: Keys::new(old.verifying_key().clone()),
        next: new.verifying_key().clone().into(),
        asked: Arc::clone(&asked),
    };
    let build = || Verifier::builder().issuer(trusting(source())).clock(clock()).build().unwrap();

    let verifier = build();
    assert!(verifier.verify(&token(&old, &claims())).await.is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert!(verifier.verify(&token(&new, &claims())).await.is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // Now the old key is gone, and its name nowhere to be had.
    let refusal = verifier.verify(&token(&old, &claims())).await.unwrap_err();
    assert_eq!((refusal, asked.load(Ordering::Relaxed)), (Refusal::UnknownKey, 2));

    // Without a name, a wrong signature may mean that the key is new.
    let nameless = with(header(&new), "kid", Value::Null).to_string();
    let nameless = sign(&new, nameless, claims().to_string());
    assert!(build().verify(&nameless).await.is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 3);

    // Nothing else is a reason to ask, and those who don't wait don't ask.
    let verifier = build();
    for claims in [with(claims(), "exp", 1), with(claims(), "aud", "x"), with(claims(), "iss", "x")]
    {
        assert!(verifier.verify(&token(&old, &claims)).await.is_err());
    }
    assert_eq!(verifier.verify_now(&token(&new, &claims())).unwrap_err(), Refusal::UnknownKey);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn tokens_are_refused_for_the_keys_sake_until_keys_are_known() {
    let key = key(Algorithm::EdDsa);
    let keys = Keys::unavailable();
    let verifier =
        Verifier::builder().issuer(trusting(keys.clone())).clock(clock()).build().unwrap();
    let token = token(&key, &claims());
    assert_eq!(verifier.verify(&token).await.unwrap_err(), Refusal::KeysUnavailable);
    keys.replace(key.verifying_key().clone());
    assert!(verifier.verify(&token).await.is_ok());
    keys.replace(KeySet::default());
    assert_eq!(verifier.verify(&token).await.unwrap_err(), Refusal::UnknownKey);
}

#[test]
fn tries_each_of_the_keys_that_a_token_may_be_of_within_a_bound() {
    let others: Vec<_> = (0..5).map(|_| SigningKey::generate(Algorithm::EdDsa).unwrap()).collect();
    let key = key(Algorithm::EdDsa);
    let set = |others: &[SigningKey], kid: &str| -> KeySet {
        let others = others.iter().map(|it| it.verifying_key().clone().with_kid(kid));
        others.chain([key.verifying_key().clone()]).collect()
    };
    let build = |set: KeySet| {
        let issuer = Issuer::new(ISSUER).keys(set).audience(AUDIENCE);
        Verifier::builder().issuer(issuer).clock(clock()).build().unwrap()
    };
    let nameless = with(header(&key), "kid", Value::Null).to_string();
    let nameless = sign(&key, nameless, claims().to_string());
    let named = token(&key, &claims());
    let few = build(set(&others[..3], "EdDSA"));
    assert!(few.verify_now(&nameless).is_ok() && few.verify_now(&named).is_ok());
    let many = build(set(&others, "EdDSA"));
    assert_eq!(many.verify_now(&nameless).unwrap_err(), Refusal::AmbiguousKey);
    assert_eq!(many.verify_now(&named).unwrap_err(), Refusal::AmbiguousKey);
    // With a name of its own, the key is found among any number.
    assert!(build(set(&others, "another")).verify_now(&named).is_ok());
    let unknown =
        sign(&key, json!({"alg": "EdDSA", "kid": "../../keys"}).to_string(), claims().to_string());
    assert_eq!(few.verify_now(&unknown).unwrap_err(), Refusal::UnknownKey);
}

#[test]
fn a_key_without_a_name_answers_to_any() {
    let key = SigningKey::hmac(Algorithm::Hs256, support::SECRET).unwrap();
    let verifier = Verifier::builder().issuer(issuer(&key)).clock(clock()).build().unwrap();
    let named = sign(&key, json!({"alg": "HS256", "kid": "x"}).to_string(), claims().to_string());
    assert!(verifier.verify_now(&named).is_ok());
}

#[test]
fn leeway_and_age_bound_what_is_told_of_the_end() {
    let key = key(Algorithm::EdDsa);
    let build = |issuer| Verifier::builder().issuer(issuer).clock(clock()).build().unwrap();
    let token = token(&key, &claims());
    let until = |issuer| {
        let verified = build(issuer).verify_now(&token).unwrap();
        verified.accepted_until().unwrap().as_secs() - support::NOW
    };
    assert_eq!(until(issuer(&key)), 660);
    assert_eq!(until(issuer(&key).leeway(Duration::ZERO)), 600);
    assert_eq!(until(issuer(&key).max_age(Duration::from_secs(30))), 90);
}
