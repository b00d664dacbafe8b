//! Tokens that must not be accepted, each refused for its own reason.
#![allow(clippy::unwrap_used)]

#[path = "support/tokens.rs"]
mod support;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use support::{NOW, claims, clock, decode, encode, header, issuer, key, sign, token, with};
use tower_keep_auth::{Algorithm, Issuer, Key, Part, Refusal, SigningKey, Verifier};

fn verifier(issuer: Issuer) -> Verifier {
    Verifier::builder().issuer(issuer).clock(clock()).build().unwrap()
}

/// Verifies twice, since what was refused must not be remembered as accepted.
fn refusal(verifier: &Verifier, token: impl AsRef<[u8]>) -> Refusal {
    let refusal = verifier.verify_now(&token).unwrap_err();
    assert_eq!(verifier.verify_now(&token).unwrap_err(), refusal);
    refusal
}

/// `token` with another signature.
fn resigned(token: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = decode(signature);
    change(&mut signature);
    format!("{signed}.{}", encode(signature))
}

#[test]
fn unsigned_tokens() {
    let key = key(Algorithm::Rs256);
    let verifier = verifier(issuer(&key));
    let signed = token(&key, &claims());
    let signature = signed.rsplit_once('.').unwrap().1;
    for alg in ["none", "None", "NONE", "nOnE"] {
        let head = encode(json!({"alg": alg, "typ": "JWT"}).to_string());
        let body = encode(claims().to_string());
        for signature in ["", signature] {
            assert_eq!(refusal(&verifier, format!("{head}.{body}.{signature}")), Refusal::Unsigned);
        }
    }
    for (alg, expected) in [
        (json!("none\0"), Refusal::UnknownAlgorithm),
        (json!(" none"), Refusal::UnknownAlgorithm),
        (json!(""), Refusal::UnknownAlgorithm),
        (json!(["RS256"]), Refusal::InvalidHeader("alg")),
        (json!(false), Refusal::InvalidHeader("alg")),
    ] {
        let head = json!({"alg": alg}).to_string();
        assert_eq!(refusal(&verifier, sign(&key, head, claims().to_string())), expected);
    }
    let headless = sign(&key, "{}", claims().to_string());
    assert_eq!(refusal(&verifier, headless), Refusal::MissingAlgorithm);
    // Signed rightly, and cut off.
    let (unsigned, _) = signed.rsplit_once('.').unwrap();
    assert_eq!(refusal(&verifier, format!("{unsigned}.")), Refusal::WrongSignature);
    assert_eq!(refusal(&verifier, unsigned), Refusal::NotThreeParts);
}

#[test]
fn public_keys_taken_for_secrets() {
    let key = key(Algorithm::Rs256);
    let pem = include_str!("keys/rsa2048-public.pem");
    let forge = |secret: &[u8]| {
        let forger = SigningKey::hmac(Algorithm::Hs256, secret).unwrap();
        sign(&forger, json!({"alg": "HS256", "kid": "RS256"}).to_string(), claims().to_string())
    };
    // As the attack of RFC 8725 §2.1 has it, with the key in each form that servers kept it in.
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes()] {
        let strict = verifier(issuer(&key));
        assert_eq!(refusal(&strict, forge(secret)), Refusal::AlgorithmNotAllowed);
        // Also where somebody allowed both.
        let both = issuer(&key).algorithms([Algorithm::Rs256, Algorithm::Hs256]);
        assert_eq!(refusal(&verifier(both), forge(secret)), Refusal::KeyMismatch);
    }
    // The other way round, and between algorithms of one family.
    for (given, allowed) in [
        (Algorithm::Rs256, Algorithm::Rs512),
        (Algorithm::Rs256, Algorithm::Ps256),
        (Algorithm::Es256, Algorithm::Es384),
    ] {
        let (key, other) = (support::key(allowed), support::key(given).with_kid(allowed.as_str()));
        let both = || issuer(&key).algorithms([given, allowed]);
        assert_eq!(refusal(&verifier(both()), token(&other, &claims())), Refusal::KeyMismatch);
        // Said to be what the key is for, though signed by another algorithm.
        let lied = sign(&other, header(&key).to_string(), claims().to_string());
        assert_eq!(refusal(&verifier(both()), lied), Refusal::WrongSignature);
    }
}

#[test]
fn keys_that_tokens_bring_or_point_to_themselves() {
    let (own, trusted) = (SigningKey::generate(Algorithm::EdDsa).unwrap(), key(Algorithm::EdDsa));
    let verifier = verifier(issuer(&trusted));
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "own", "x": encode([7; 32])});
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://attacker.example/jwks.json")),
        ("x5u", json!("https://attacker.example/chain.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5t#S256", json!("AAAA")),
    ] {
        for kid in [json!("own"), json!(trusted.kid())] {
            let head = with(json!({"alg": "EdDSA", "kid": kid}), name, value.clone());
            let forged = sign(&own, head.to_string(), claims().to_string());
            let expected = if kid == "own" { Refusal::UnknownKey } else { Refusal::WrongSignature };
            assert_eq!(refusal(&verifier, forged), expected);
            // They don't hurt where the key is the right one.
            let head = with(header(&trusted), name, value.clone()).to_string();
            assert!(verifier.verify_now(&sign(&trusted, head, claims().to_string())).is_ok());
        }
    }
}

#[test]
fn names_of_keys_that_are_no_names() {
    let key = key(Algorithm::EdDsa);
    let verifier = verifier(issuer(&key));
    for kid in [
        "../../../../dev/null",
        "/proc/self/environ",
        "' UNION SELECT 'key'; --",
        "EdDSA\0",
        "eddsa",
        "",
        "$(id)",
        "EdDSA/../EdDSA",
    ] {
        let head = with(header(&key), "kid", kid).to_string();
        let refused = refusal(&verifier, sign(&key, head, claims().to_string()));
        assert_eq!(refused, Refusal::UnknownKey, "{kid:?}");
    }
    for kid in [json!(1), json!(["EdDSA"]), json!({}), json!("k".repeat(257))] {
        let head = with(header(&key), "kid", kid).to_string();
        let refused = refusal(&verifier, sign(&key, head, claims().to_string()));
        assert_eq!(refused, Refusal::InvalidHeader("kid"));
    }
}

#[test]
fn forms_that_are_no_signed_token() {
    let key = key(Algorithm::EdDsa);
    let verifier = verifier(issuer(&key));
    let good = token(&key, &claims());
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let pad = |text: &str| format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
    let of = |head: &str, body: &str| sign(&key, head, body);
    let ok = r#"{"alg":"EdDSA"}"#;
    let cases = [
        (String::new(), Refusal::NotThreeParts),
        ("..".to_owned(), Refusal::Json(Part::Header)),
        (format!("{good}."), Refusal::NotThreeParts),
        (format!(".{good}"), Refusal::NotThreeParts),
        (format!("{good}.x.y"), Refusal::Encrypted),
        (good.repeat(100), Refusal::TooLong),
        (format!("{good}{}", "A".repeat(8192)), Refusal::TooLong),
        // JSON serialization (RFC 7515 §7.2).
        (
            json!({"payload": body, "protected": head, "signature": signature}).to_string(),
            Refusal::NotThreeParts,
        ),
        (format!("Bearer {good}"), Refusal::Base64(Part::Header)),
        (format!(" {good}"), Refusal::Base64(Part::Header)),
        (format!("{good}\n"), Refusal::Base64(Part::Signature)),
        (format!("{good}\0"), Refusal::Base64(Part::Signature)),
        (format!("{good}="), Refusal::Base64(Part::Signature)),
        (format!("{good}=="), Refusal::Base64(Part::Signature)),
        (format!("{head}.{}=.{signature}", pad(body)), Refusal::Base64(Part::Claims)),
        (format!("{head}.{body} .{signature}"), Refusal::Base64(Part::Claims)),
        (format!("{head}.{body}+/.{signature}"), Refusal::Base64(Part::Claims)),
        (format!("{head}.{body}\u{e9}.{signature}"), Refusal::Base64(Part::Claims)),
        (of("[]", "{}"), Refusal::Json(Part::Header)),
        (of("\"EdDSA\"", "{}"), Refusal::Json(Part::Header)),
        (of("{\"alg\":\"EdDSA\"} {}", "{}"), Refusal::Json(Part::Header)),
        (of(ok, "null"), Refusal::Json(Part::Claims)),
        (of(ok, "[]"), Refusal::Json(Part::Claims)),
        (of(ok, "{\"iss\":"), Refusal::Json(Part::Claims)),
        (of(ok, ""), Refusal::Json(Part::Claims)),
        (of(&nested(16), "{}"), Refusal::TooDeep(Part::Header)),
        (of(ok, &nested(16)), Refusal::TooDeep(Part::Claims)),
        (of(ok, &nested(2000)), Refusal::TooDeep(Part::Claims)),
        (of(r#"{"alg":"EdDSA","alg":"EdDSA"}"#, "{}"), Refusal::DuplicateMember(Part::Header)),
        (of(r#"{"alg":"none","alg":"EdDSA"}"#, "{}"), Refusal::DuplicateMember(Part::Header)),
        (
            of(r#"{"alg":"EdDSA","kid":"a","kid":"b"}"#, "{}"),
            Refusal::DuplicateMember(Part::Header),
        ),
        (of(ok, r#"{"sub":"a","sub":"b"}"#), Refusal::DuplicateMember(Part::Claims)),
        (of(ok, r#"{"sub":"a","\u0073ub":"b"}"#), Refusal::DuplicateMember(Part::Claims)),
        (of(ok, r#"{"exp":1,"x":{"y":1,"y":2}}"#), Refusal::DuplicateMember(Part::Claims)),
        (of(r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#, "{}"), Refusal::CriticalExtension),
        (of(r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#, "{}"), Refusal::CriticalExtension),
        (of(r#"{"alg":"EdDSA","b64":false}"#, "{}"), Refusal::UnencodedPayload),
        (of(r#"{"alg":"EdDSA","zip":"DEF"}"#, "{}"), Refusal::Compressed),
        (of(r#"{"alg":"dir","enc":"A256GCM"}"#, "{}"), Refusal::Encrypted),
        // A token within a token (RFC 7519 §5.2).
        (of(r#"{"alg":"EdDSA","cty":"JWT"}"#, &good), Refusal::Json(Part::Claims)),
    ];
    for (token, expected) in cases {
        assert_eq!(refusal(&verifier, &token), expected, "{token:.200}");
    }
    for (part, bytes) in
        [(Part::Header, &b"{\"alg\":\"\xff\"}"[..]), (Part::Claims, b"{\"\xc3\":1}")]
    {
        let token = match part {
            Part::Header => sign(&key, bytes, "{}"),
            _ => sign(&key, ok, bytes),
        };
        assert_eq!(refusal(&verifier, token), Refusal::Json(part));
    }
    assert_eq!(refusal(&verifier, b"\xff.\xff.\xff"), Refusal::Base64(Part::Header));
}

/// Each part has characters whose last bits no byte takes: written with them, it says the same.
#[test]
fn other_ways_to_write_the_same_bytes() {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let key = key(Algorithm::Rs256);
    let verifier = verifier(issuer(&key));
    let good = token(&key, &with(claims(), "sub", "user:12"));
    let parts: Vec<_> = good.split('.').collect();
    let mut tried = 0;
    for (index, part) in [Part::Header, Part::Claims, Part::Signature].into_iter().enumerate() {
        let free = match parts[index].len() % 4 {
            2 => 16,
            3 => 4,
            _ => continue,
        };
        let last = alphabet.find(parts[index].chars().last().unwrap()).unwrap();
        for bits in 1..free {
            let mut parts: Vec<_> = parts.iter().map(ToString::to_string).collect();
            parts[index].pop();
            parts[index].push_str(&alphabet[last + bits..=last + bits]);
            assert_eq!(refusal(&verifier, parts.join(".")), Refusal::Base64(part));
            tried += 1;
        }
    }
    assert!(tried > 0);
    assert!(verifier.verify_now(&good).is_ok());
}

#[test]
fn signatures_that_are_not_the_keys() {
    for algorithm in [
        Algorithm::Hs256,
        Algorithm::Rs256,
        Algorithm::Ps384,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ] {
        let key = key(algorithm);
        let verifier = verifier(issuer(&key));
        let good = token(&key, &claims());
        let wrong = [
            resigned(&good, Vec::clear),
            resigned(&good, |it| it.fill(0)),
            resigned(&good, |it| it.fill(0xff)),
            resigned(&good, |it| it.truncate(it.len() - 1)),
            resigned(&good, |it| it.push(0)),
            resigned(&good, |it| it.insert(0, 0)),
            resigned(&good, |it| it.reverse()),
            resigned(&good, |it| it.extend_from_within(..)),
            token(&key, &with(claims(), "sub", "other"))
                .rsplit_once('.')
                .map(|(_, signature)| format!("{}.{signature}", good.rsplit_once('.').unwrap().0))
                .unwrap(),
        ];
        for token in wrong {
            assert_eq!(refusal(&verifier, token), Refusal::WrongSignature, "{algorithm}");
        }
        assert!(verifier.verify_now(&good).is_ok());
    }
}

/// CVE-2022-21449, and numbers that are none of the curve's.
#[test]
fn signatures_of_zeros_and_of_the_order_itself() {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap()).collect();
    let key = key(Algorithm::Es256);
    let verifier = verifier(issuer(&key));
    let good = token(&key, &claims());
    for half in [vec![0; 32], order] {
        for range in [0..32, 32..64] {
            let token = resigned(&good, |it| it[range].copy_from_slice(&half));
            assert_eq!(refusal(&verifier, token), Refusal::WrongSignature);
        }
        let token = resigned(&good, |it| *it = half.repeat(2));
        assert_eq!(refusal(&verifier, token), Refusal::WrongSignature);
    }
}

/// RFC 7518 §3.4 wants both numbers as they are; what other formats write is refused.
#[test]
fn ecdsa_signatures_in_der() {
    let key = key(Algorithm::Es256);
    let pem = include_str!("keys/p256.pem");
    let der = {
        use base64::Engine;
        let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        base64::engine::general_purpose::STANDARD.decode(lines).unwrap()
    };
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &random).unwrap();
    let good = token(&key, &claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    let signature = pair.sign(&random, signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", encode(signature.as_ref()));
    assert_eq!(refusal(&verifier(issuer(&key)), token), Refusal::WrongSignature);
}

/// Ed25519's `S` plus the order of its group would be the same number (RFC 8032 §8.4).
#[test]
fn ed25519_signatures_that_were_added_to() {
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10_u8,
    ];
    let key = key(Algorithm::EdDsa);
    let token = resigned(&token(&key, &claims()), |signature| {
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = carry.to_le_bytes()[0];
            carry >>= 8;
        }
    });
    assert_eq!(refusal(&verifier(issuer(&key)), token), Refusal::WrongSignature);
}

/// A point that isn't on edwards25519 can be found out only by trying.
#[test]
fn tokens_for_a_key_that_is_no_point() {
    let x = [2; 32];
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": encode(x)}).to_string();
    let signer = key(Algorithm::EdDsa);
    if let Ok(key) = Key::from_jwk(jwk) {
        let issuer = Issuer::new(support::ISSUER).keys(key).audience(support::AUDIENCE);
        let refused = refusal(&verifier(issuer), token(&signer, &claims()));
        assert_eq!(refused, Refusal::WrongSignature);
    }
}

#[test]
fn claims_that_do_not_hold() {
    let key = key(Algorithm::EdDsa);
    let verifier = verifier(issuer(&key));
    let now = NOW;
    let invalid = Refusal::InvalidClaim;
    for (name, value, expected) in [
        ("iss", Value::Null, Refusal::MissingClaim("iss".into())),
        ("iss", json!("https://id.example.com/"), Refusal::UnknownIssuer),
        ("iss", json!("HTTPS://ID.EXAMPLE.COM"), Refusal::UnknownIssuer),
        ("iss", json!(""), Refusal::UnknownIssuer),
        ("iss", json!(["https://id.example.com"]), invalid("iss")),
        ("aud", Value::Null, Refusal::WrongAudience),
        ("aud", json!([]), Refusal::WrongAudience),
        ("aud", json!("billing"), Refusal::WrongAudience),
        ("aud", json!(["billing", "ORDERS"]), Refusal::WrongAudience),
        ("aud", json!({"orders": 1}), invalid("aud")),
        ("aud", json!(["orders", 1]), invalid("aud")),
        ("exp", Value::Null, Refusal::MissingClaim("exp".into())),
        ("exp", json!(now - 60), Refusal::Expired),
        ("exp", json!(0), Refusal::Expired),
        ("exp", json!(-1), Refusal::Expired),
        ("exp", json!((now + 600).to_string()), invalid("exp")),
        ("exp", json!("never"), invalid("exp")),
        ("exp", json!(i64::MAX), invalid("exp")),
        ("exp", json!(u64::MAX), invalid("exp")),
        ("exp", json!(1e300), invalid("exp")),
        ("exp", json!(true), invalid("exp")),
        ("nbf", json!(now + 61), Refusal::NotYetValid),
        ("nbf", json!("tomorrow"), invalid("nbf")),
        ("nbf", json!(i64::MIN), invalid("nbf")),
        ("iat", json!([now]), invalid("iat")),
        ("sub", json!(1), invalid("sub")),
        ("jti", json!(1), invalid("jti")),
        ("scope", json!({}), invalid("scope")),
    ] {
        let token = token(&key, &with(claims(), name, value.clone()));
        assert_eq!(refusal(&verifier, token), expected, "{name}: {value}");
    }
    for number in
        ["1e999", "0x10", "01", "+1", "NaN", "Infinity", "1.", "99999999999999999999999999999"]
    {
        let body = claims().to_string().replace(&(now + 600).to_string(), number);
        let refused = refusal(&verifier, sign(&key, header(&key).to_string(), body));
        let expected =
            if number.starts_with("99") { invalid("exp") } else { Refusal::Json(Part::Claims) };
        assert_eq!(refused, expected, "{number}");
    }
}

#[test]
fn what_is_refused_for_its_key_says_nothing_of_its_claims() {
    // Expired, for somebody else, and not signed by the issuer: the last comes first.
    let (own, trusted) = (SigningKey::generate(Algorithm::EdDsa).unwrap(), key(Algorithm::EdDsa));
    let claims = with(with(claims(), "exp", 1), "aud", "x");
    let forged = sign(&own, header(&trusted).to_string(), claims.to_string());
    assert_eq!(refusal(&verifier(issuer(&trusted)), forged), Refusal::WrongSignature);
}
