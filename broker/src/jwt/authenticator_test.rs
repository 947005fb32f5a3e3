//! Which tokens pass, with nothing remembered and with the real one remembered.

use bursar_wire::v1alpha1::WorkloadIssuer;
use serde_json::{Value, json};

use super::forgeries::{NOW_SECONDS, forged, with};
use super::issuer::{
    ISSUER, Issuer, NAMESPACE, POD_NAME, POD_UID, SERVICE_ACCOUNT, Signature, good_claims,
};
use super::scene::authenticator;
use super::{Authenticated, Authenticator, JwtError, PodIdentity};
use crate::clock::UnixMillis;

const NOW: UnixMillis = UnixMillis(NOW_SECONDS * 1_000);

#[test]
fn no_forged_token_passes_with_nothing_remembered() {
    let issuer = Issuer::new();
    let forged = forged(&issuer);
    assert!(forged.len() >= 40, "{}", forged.len());
    for (name, token) in forged {
        let result = authenticator(&issuer).authenticate(token.as_bytes(), NOW);
        assert!(result.is_err(), "{name}");
    }
}

#[test]
fn no_forged_token_passes_while_the_real_one_is_remembered() {
    let issuer = Issuer::new();
    let mut authenticator = authenticator(&issuer);
    let real = issuer.token(&good_claims(NOW_SECONDS));
    assert_eq!(
        authenticator.authenticate(real.as_bytes(), NOW),
        Ok(Authenticated::Verified)
    );
    for (name, token) in forged(&issuer) {
        for _ in 0..2 {
            assert!(
                authenticator.authenticate(token.as_bytes(), NOW).is_err(),
                "{name}"
            );
        }
        assert_eq!(
            authenticator.authenticate(real.as_bytes(), NOW),
            Ok(Authenticated::Remembered),
            "{name}"
        );
    }
}

#[test]
fn real_tokens_of_either_key_pass() {
    let issuer = Issuer::new();
    let claims = good_claims(NOW_SECONDS);
    let ec = json!({"alg": "ES256", "kid": "ec"});
    let typed = json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"});
    let tokens = [
        issuer.token(&claims),
        issuer.token(&with("/aud", Some(json!("bursar")))),
        issuer.token(&with("/aud", Some(json!(["other", "bursar"])))),
        issuer.sign(Signature::Es256, &ec, &claims),
        issuer.sign(Signature::Rs256, &typed, &claims),
    ];
    for token in tokens {
        assert_eq!(
            authenticator(&issuer).authenticate(token.as_bytes(), NOW),
            Ok(Authenticated::Verified)
        );
    }
}

#[test]
fn a_token_is_remembered_until_it_expires_and_good_for_five_seconds_more() {
    let issuer = Issuer::new();
    let mut authenticator = authenticator(&issuer);
    let token = issuer.token(&good_claims(NOW_SECONDS));
    let at = |seconds: i64, millis: i64| UnixMillis((NOW_SECONDS + seconds) * 1_000 + millis);
    assert_eq!(
        authenticator.authenticate(token.as_bytes(), NOW),
        Ok(Authenticated::Verified)
    );
    for (now, expected) in [
        (at(0, 0), Ok(Authenticated::Remembered)),
        (at(3_599, 999), Ok(Authenticated::Remembered)),
        (at(3_600, 0), Ok(Authenticated::Verified)),
        (at(3_604, 999), Ok(Authenticated::Verified)),
        (at(3_605, 0), Err(JwtError::Expired)),
        (at(7_200, 0), Err(JwtError::Expired)),
    ] {
        assert_eq!(
            authenticator.authenticate(token.as_bytes(), now),
            expected,
            "{now:?}"
        );
    }
}

#[test]
fn clocks_may_differ_by_five_seconds() {
    let issuer = Issuer::new();
    for (nbf, expected) in [
        (5, Ok(Authenticated::Verified)),
        (6, Err(JwtError::NotYetValid)),
    ] {
        let token = issuer.token(&with("/nbf", Some(json!(NOW_SECONDS + nbf))));
        assert_eq!(
            authenticator(&issuer).authenticate(token.as_bytes(), NOW),
            expected
        );
    }
}

#[test]
fn a_reason_is_given_only_to_those_with_a_good_signature() {
    let issuer = Issuer::new();
    let reason = |issuer_of_token: &Issuer, pointer, value: Value| {
        let token = issuer_of_token.token(&with(pointer, Some(value)));
        authenticator(&issuer)
            .authenticate(token.as_bytes(), NOW)
            .unwrap_err()
    };
    let other = Issuer::new();
    for (pointer, value, expected) in [
        ("/exp", json!(NOW_SECONDS - 100), JwtError::Expired),
        ("/aud", json!(["other"]), JwtError::WrongAudience),
        (
            "/kubernetes.io/pod/uid",
            json!("other"),
            JwtError::NotThisPod,
        ),
        ("/kubernetes.io/pod", Value::Null, JwtError::NotBound),
    ] {
        assert_eq!(reason(&issuer, pointer, value.clone()), expected);
        assert_eq!(reason(&other, pointer, value), JwtError::Invalid);
    }
}

#[test]
fn the_memory_for_tokens_is_bounded() {
    let issuer = Issuer::new();
    let mut authenticator = authenticator(&issuer);
    let ec = json!({"alg": "ES256", "kid": "ec"});
    for n in 0..600 {
        let claims = with("/jti", Some(json!(n.to_string())));
        let token = issuer.sign(Signature::Es256, &ec, &claims);
        assert_eq!(
            authenticator.authenticate(token.as_bytes(), NOW),
            Ok(Authenticated::Verified)
        );
        assert_eq!(
            authenticator.authenticate(token.as_bytes(), NOW),
            Ok(Authenticated::Remembered)
        );
        assert!(authenticator.remembered() <= 256);
    }
}

#[test]
fn an_issuer_or_pod_that_is_not_known_is_refused() {
    let issuer = Issuer::new();
    let pod = |uid: &str| PodIdentity {
        namespace: NAMESPACE.to_owned(),
        name: POD_NAME.to_owned(),
        uid: uid.to_owned(),
        service_account_name: SERVICE_ACCOUNT.to_owned(),
    };
    let wire = |url: &str, jwks: &str| WorkloadIssuer {
        issuer: url.into(),
        jwks: jwks.into(),
    };
    assert!(Authenticator::new(&wire(ISSUER, &issuer.jwks()), pod(POD_UID)).is_ok());
    assert!(Authenticator::new(&wire(ISSUER, &issuer.jwks()), pod("")).is_err());
    assert!(Authenticator::new(&wire("", &issuer.jwks()), pod(POD_UID)).is_err());
    assert!(Authenticator::new(&wire(ISSUER, "{\"keys\":[]}"), pod(POD_UID)).is_err());
}
