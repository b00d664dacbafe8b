//! What is accepted, and what is told of it.

#[path = "support/tokens.rs"]
mod support;

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use support::{AUDIENCE, ISSUER, NOW, claims, clock, header, issuer, key, sign, token, with};
use tower_keep_auth::{Algorithm, BuildError, Issuer, Key, Keys, NumericDate, Refusal, Verifier};

const ALL: [Algorithm; 12] = [
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

#[test]
fn accepts_tokens_of_each_algorithm_again_and_again() {
    for algorithm in ALL {
        let key = key(algorithm);
        let verifier = Verifier::builder().issuer(issuer(&key)).clock(clock()).build().unwrap();
        let token = token(&key, &claims());
        for _ in 0..3 {
            let verified = verifier.verify_now(&token).unwrap();
            assert_eq!(verified.algorithm(), algorithm);
            assert_eq!(verified.kid(), Some(algorithm.as_str()));
            assert_eq!(verified.issuer(), ISSUER);
            assert_eq!(verified.subject(), Some("user:1"));
        }
    }
}

/// RFC 7515 §A.1, with the key and claims that are there.
#[test]
fn accepts_the_token_of_the_rfc() {
    let key = Key::from_jwk(
        r#"{"kty":"oct","alg":"HS256","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
    )
    .unwrap();
    let clock = clock();
    clock.set(NumericDate::from_secs(1_300_819_379));
    let verifier = Verifier::builder()
        .issuer(Issuer::new("joe").keys(key).algorithms([Algorithm::Hs256]).any_audience())
        .clock(clock)
        .build()
        .unwrap();
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
                 .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
                 .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let verified = verifier.verify_now(token).unwrap();
    assert_eq!(verified.claim("http://example.com/is_root"), Some(&Value::Bool(true)));
}

#[test]
fn reads_claims_as_a_type_of_ones_own_and_one_by_one() {
    #[derive(Debug, Deserialize)]
    struct Account {
        tenant: u64,
        #[serde(default)]
        plan: Option<String>,
    }
    let key = key(Algorithm::EdDsa);
    let verifier =
        Verifier::builder().issuer(issuer(&key)).clock(clock()).typed::<Account>().build().unwrap();
    let mine = with(with(claims(), "tenant", 7), "plan", "gold");
    let verified = verifier.verify_now(&token(&key, &mine)).unwrap();
    assert_eq!((verified.extra().tenant, verified.extra().plan.as_deref()), (7, Some("gold")));
    assert_eq!(verified.claim("plan"), Some(&json!("gold")));
    assert_eq!(verified.claim("none"), None);
    assert_eq!(verified.parse::<Value>().unwrap(), mine);
    let other = with(claims(), "tenant", "seven");
    let refusal = verifier.verify_now(&token(&key, &other)).unwrap_err();
    assert_eq!(refusal, Refusal::ClaimsMismatch);
}

#[test]
fn judges_each_token_by_the_rules_of_its_own_issuer() {
    let (one, other) = (key(Algorithm::Es256), key(Algorithm::EdDsa));
    let verifier = Verifier::builder()
        .issuer(issuer(&one))
        .issuer(
            Issuer::new("https://other.example.com")
                .keys(other.verifying_key().clone())
                .audience("billing"),
        )
        .clock(clock())
        .build()
        .unwrap();
    let others = with(with(claims(), "iss", "https://other.example.com"), "aud", "billing");
    assert!(verifier.verify_now(&token(&one, &claims())).is_ok());
    assert!(verifier.verify_now(&token(&other, &others)).is_ok());
    // Either one's key is no good for the other's name.
    let refusal = verifier.verify_now(&token(&other, &claims())).unwrap_err();
    assert_eq!(refusal, Refusal::AlgorithmNotAllowed);
    let refusal = verifier.verify_now(&token(&one, &others)).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownKey);
    let refusal = verifier.verify_now(&token(&other, &with(others, "aud", AUDIENCE))).unwrap_err();
    assert_eq!(refusal, Refusal::WrongAudience);
}

#[test]
fn accepts_one_of_several_audiences_on_either_side() {
    let key = key(Algorithm::EdDsa);
    let issuer = issuer(&key).audience("shipping");
    let verifier = Verifier::builder().issuer(issuer).clock(clock()).build().unwrap();
    for audience in [json!("orders"), json!("shipping"), json!(["x", "shipping"])] {
        assert!(verifier.verify_now(&token(&key, &with(claims(), "aud", audience))).is_ok());
    }
    for audience in [json!([]), json!("order"), json!("orders shipping"), json!(["Orders"])] {
        let refusal = verifier.verify_now(&token(&key, &with(claims(), "aud", audience)));
        assert_eq!(refusal.unwrap_err(), Refusal::WrongAudience);
    }
}

#[test]
fn goes_by_the_clock_to_the_second_with_the_leeway_on_both_sides() {
    let key = key(Algorithm::EdDsa);
    // With tokens remembered and without: the same answers.
    for remember in [0, 1 << 20] {
        for leeway in [0, 60] {
            let clock = clock();
            let verifier = Verifier::builder()
                .issuer(issuer(&key).leeway(Duration::from_secs(leeway)))
                .remember(remember)
                .clock(clock.clone())
                .build()
                .unwrap();
            let leeway = i64::try_from(leeway).unwrap();
            let token = token(&key, &with(claims(), "nbf", NOW + 100));
            let at = |second: i64| {
                clock.set(NumericDate::from_secs(second));
                verifier.verify_now(&token).map(|_| ())
            };
            assert_eq!(at(NOW + 100 - leeway - 1), Err(Refusal::NotYetValid));
            assert_eq!(at(NOW + 100 - leeway), Ok(()));
            assert_eq!(at(NOW + 600 + leeway - 1), Ok(()));
            assert_eq!(at(NOW + 600 + leeway), Err(Refusal::Expired));
            // A clock that is set back finds it valid again, as RFC 7519 has it, and not too early.
            assert_eq!(at(NOW + 100), Ok(()));
            assert_eq!(at(NOW), if leeway < 100 { Err(Refusal::NotYetValid) } else { Ok(()) });
        }
    }
}

#[test]
fn bounds_the_age_of_tokens_by_when_they_were_issued() {
    let key = key(Algorithm::EdDsa);
    let clock = clock();
    let verifier = Verifier::builder()
        .issuer(issuer(&key).max_age(Duration::from_secs(300)).leeway(Duration::from_secs(10)))
        .clock(clock.clone())
        .build()
        .unwrap();
    let token = |iat: Value| token(&key, &with(claims(), "iat", iat));
    assert!(verifier.verify_now(&token(json!(NOW))).is_ok());
    assert!(verifier.verify_now(&token(json!(NOW + 10))).is_ok());
    let refusal = verifier.verify_now(&token(json!(NOW + 11))).unwrap_err();
    assert_eq!(refusal, Refusal::IssuedInFuture);
    let refusal = verifier.verify_now(&token(Value::Null)).unwrap_err();
    assert_eq!(refusal, Refusal::MissingClaim("iat".into()));
    clock.advance(Duration::from_secs(309));
    assert!(verifier.verify_now(&token(json!(NOW))).is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(verifier.verify_now(&token(json!(NOW))).unwrap_err(), Refusal::TooOld);
}

#[test]
fn requires_the_claims_that_it_is_told_to() {
    let key = key(Algorithm::EdDsa);
    let issuer = issuer(&key).require("tenant").require("jti");
    let verifier = Verifier::builder().issuer(issuer).clock(clock()).build().unwrap();
    let complete = with(with(claims(), "jti", "1"), "tenant", 7);
    assert!(verifier.verify_now(&token(&key, &complete)).is_ok());
    let mut nothing = complete.clone();
    nothing["tenant"] = Value::Null;
    for claims in [nothing, with(complete, "tenant", Value::Null)] {
        let refusal = verifier.verify_now(&token(&key, &claims)).unwrap_err();
        assert_eq!(refusal, Refusal::MissingClaim("tenant".into()));
    }
}

#[test]
fn tokens_without_end_must_be_asked_for() {
    let key = key(Algorithm::EdDsa);
    let endless = token(&key, &with(claims(), "exp", Value::Null));
    let verifier = |issuer| Verifier::builder().issuer(issuer).clock(clock()).build().unwrap();
    let refusal = verifier(issuer(&key)).verify_now(&endless).unwrap_err();
    assert_eq!(refusal, Refusal::MissingClaim("exp".into()));
    let verified = verifier(issuer(&key).never_expires()).verify_now(&endless).unwrap();
    assert_eq!(verified.accepted_until(), None);
}

#[test]
fn takes_types_of_access_tokens_alone_unless_told_which() {
    let key = key(Algorithm::EdDsa);
    let with_typ =
        |typ: Value| sign(&key, with(header(&key), "typ", typ).to_string(), claims().to_string());
    let default = Verifier::builder().issuer(issuer(&key)).clock(clock()).build().unwrap();
    let explicit =
        Verifier::builder().issuer(issuer(&key).typ("at+jwt")).clock(clock()).build().unwrap();
    let wrong = Err(Refusal::WrongType);
    for (typ, by_default, explicitly) in [
        (Value::Null, Ok(()), wrong.clone()),
        (json!("JWT"), Ok(()), wrong.clone()),
        (json!("jwt"), Ok(()), wrong.clone()),
        (json!("at+jwt"), Ok(()), Ok(())),
        (json!("application/AT+JWT"), Ok(()), Ok(())),
        (json!("logout+jwt"), wrong.clone(), wrong.clone()),
        (json!("dpop+jwt"), wrong.clone(), wrong.clone()),
        (json!("application/x/at+jwt"), wrong.clone(), wrong.clone()),
        (json!(""), wrong.clone(), wrong.clone()),
    ] {
        let token = with_typ(typ.clone());
        assert_eq!(default.verify_now(&token).map(|_| ()), by_default, "{typ}");
        assert_eq!(explicit.verify_now(&token).map(|_| ()), explicitly, "{typ}");
    }
}

#[test]
fn settings_that_cannot_work_fail_with_the_fix() {
    let key = key(Algorithm::Hs256);
    let named = || Issuer::new(ISSUER).keys(key.verifying_key().clone());
    let hs256 = [Algorithm::Hs256];
    let build =
        |issuer: Issuer| Verifier::builder().issuer(issuer).build().unwrap_err().to_string();
    for (error, fix) in [
        (Verifier::builder().build().unwrap_err().to_string(), "VerifierBuilder::issuer"),
        (build(Issuer::new(ISSUER).audience("a")), "`keys`"),
        (build(named().algorithms(hs256)), "`audience`"),
        (build(named().audience("a")), "`algorithms`"),
        (build(named().algorithms([]).audience("a")), "`algorithms`"),
        (build(named().algorithms(hs256).audience("a").any_audience()), "exclude"),
        (build(issuer(&key).leeway(Duration::from_secs(601))), "10 minutes"),
        (build(issuer(&key).max_age(Duration::ZERO)), "`max_age`"),
        (build(issuer(&key).require("")), "`require`"),
        (build(Issuer::new("").keys(key.verifying_key().clone()).any_audience()), "`iss`"),
    ] {
        assert!(error.contains(fix), "{error}");
    }
    let twice = Verifier::builder().issuer(issuer(&key)).issuer(issuer(&key)).build();
    assert_eq!(twice.unwrap_err(), BuildError::DuplicateIssuer(ISSUER.to_owned()));
    let settings = [
        Verifier::builder().issuer(issuer(&key)).max_len(10),
        Verifier::builder().issuer(issuer(&key)).remember(10),
    ];
    for builder in settings {
        assert!(matches!(builder.build(), Err(BuildError::Setting(_))));
    }
    // Keys that aren't known yet may be of any kind.
    let unknown = Issuer::new(ISSUER).key_source(Keys::unavailable()).audience("a");
    assert!(Verifier::builder().issuer(unknown).build().is_ok());
}
