//! Tokens that must not pass.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::MOST_BYTES;
use super::issuer::{ISSUER, Issuer, Signature, base64url, good_claims};

/// The time at which they are shown.
pub(super) const NOW_SECONDS: i64 = 1_800_000_000;

/// The good claims with the member at `pointer` (RFC 6901) changed or removed.
pub(super) fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut claims = good_claims(NOW_SECONDS);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(name.replace("~1", "/"), value),
        None => parent.remove(name),
    };
    claims
}

/// Signed by one of the issuer's keys, but not good for this pod, now, here.
fn wrong_claims(issuer: &Issuer) -> Vec<(String, String)> {
    let changes = [
        ("/iss", None),
        ("/iss", Some(json!("https://elsewhere.example.com"))),
        ("/iss", Some(json!([ISSUER]))),
        ("/iss", Some(json!(format!("{ISSUER}/")))),
        ("/sub", None),
        ("/sub", Some(json!("system:serviceaccount:team-a:other"))),
        ("/sub", Some(json!("system:serviceaccount:team-b:worker"))),
        ("/sub", Some(json!("ana"))),
        ("/aud", None),
        ("/aud", Some(json!([]))),
        ("/aud", Some(json!(["bursar-vault"]))),
        ("/aud", Some(json!("bursar-vault"))),
        ("/aud", Some(json!("bursar,bursar-vault"))),
        ("/aud", Some(json!(["Bursar"]))),
        ("/aud", Some(json!({"bursar": true}))),
        ("/aud", Some(json!(["bursar", 7]))),
        ("/exp", None),
        ("/exp", Some(json!(null))),
        ("/exp", Some(json!("1900000000"))),
        ("/exp", Some(json!(1_900_000_000.5))),
        ("/exp", Some(json!(u64::MAX))),
        ("/exp", Some(json!(NOW_SECONDS - 5))),
        ("/exp", Some(json!(-1))),
        ("/nbf", None),
        ("/nbf", Some(json!("0"))),
        ("/nbf", Some(json!(NOW_SECONDS + 6))),
        ("/iat", None),
        ("/iat", Some(json!("0"))),
        ("/kubernetes.io", None),
        ("/kubernetes.io", Some(json!("pod"))),
        ("/kubernetes.io/namespace", None),
        ("/kubernetes.io/namespace", Some(json!("team-b"))),
        ("/kubernetes.io/pod", None),
        ("/kubernetes.io/pod/uid", None),
        (
            "/kubernetes.io/pod/uid",
            Some(json!("6e2d9b63-0000-4000-8000-000000000000")),
        ),
        ("/kubernetes.io/pod/uid", Some(json!(""))),
        ("/kubernetes.io/pod/name", Some(json!("worker-1"))),
        ("/kubernetes.io/serviceaccount", None),
        ("/kubernetes.io/serviceaccount/name", Some(json!("other"))),
        ("/kubernetes.io/serviceaccount/uid", None),
        ("/kubernetes.io/serviceaccount/uid", Some(json!(""))),
    ];
    changes
        .into_iter()
        .map(|(pointer, value)| {
            (
                format!("claim {pointer} = {value:?}"),
                issuer.token(&with(pointer, value)),
            )
        })
        .collect()
}

/// With a header that asks for another key, algorithm or rule.
fn wrong_headers(issuer: &Issuer, other: &Issuer) -> Vec<(String, String)> {
    let claims = good_claims(NOW_SECONDS);
    let signed = |signature, header: Value| {
        (
            format!("header {header}, signed {signature:?}"),
            issuer.sign(signature, &header, &claims),
        )
    };
    let mut tokens = vec![
        signed(Signature::Rs384, json!({"alg": "RS384", "kid": "rsa"})),
        signed(Signature::Rs512, json!({"alg": "RS512", "kid": "rsa"})),
        signed(Signature::Ps256, json!({"alg": "PS256", "kid": "rsa"})),
        signed(Signature::Rs256, json!({"alg": "RS256", "kid": "ec"})),
        signed(Signature::Es256, json!({"alg": "ES256", "kid": "rsa"})),
        signed(Signature::Rs256, json!({"alg": "ES256", "kid": "ec"})),
        signed(Signature::Rs256, json!({"alg": "EdDSA", "kid": "rsa"})),
        signed(Signature::Rs256, json!({"alg": "rs256", "kid": "rsa"})),
        signed(Signature::Rs256, json!({"alg": ["RS256"], "kid": "rsa"})),
        signed(Signature::Rs256, json!({"kid": "rsa"})),
        signed(Signature::Rs256, json!({"alg": "RS256"})),
        signed(Signature::Rs256, json!({"alg": "RS256", "kid": "unknown"})),
        signed(Signature::Rs256, json!({"alg": "RS256", "kid": ""})),
        signed(Signature::Rs256, json!({"alg": "RS256", "kid": null})),
        signed(
            Signature::Rs256,
            json!({"alg": "RS256", "kid": "rsa", "typ": "at+jwt"}),
        ),
        signed(
            Signature::Rs256,
            json!({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}),
        ),
        signed(
            Signature::Rs256,
            json!({"alg": "RS256", "kid": "rsa", "b64": true}),
        ),
        signed(
            Signature::Rs256,
            json!({"alg": "RS256", "kid": "rsa", "zip": "DEF"}),
        ),
        signed(
            Signature::Rs256,
            json!({"alg": "RS256", "kid": "rsa", "x5c": []}),
        ),
        signed(
            Signature::Rs256,
            json!({"alg": "RS256", "kid": "rsa", "jku": "https://example.com/jwks"}),
        ),
        signed(
            Signature::Rs256,
            json!({"alg": "RS256", "kid": "rsa", "x5u": "https://example.com/x5u"}),
        ),
    ];
    // Another cluster's key under our key's name, plain and brought along.
    tokens.push(("another issuer".into(), other.token(&claims)));
    let brought = json!({"alg": "RS256", "kid": "rsa", "jwk": other.rsa_jwk()});
    tokens.push((
        "its own jwk".into(),
        other.sign(Signature::Rs256, &brought, &claims),
    ));
    let ec = json!({"alg": "ES256", "kid": "ec"});
    tokens.push((
        "another issuer's ec".into(),
        other.sign(Signature::Es256, &ec, &claims),
    ));
    let twice = r#"{"alg":"RS256","alg":"RS256","kid":"rsa"}"#;
    let claims = claims.to_string();
    tokens.push((
        "alg twice".into(),
        issuer.sign_text(Signature::Rs256, twice, claims.as_bytes()),
    ));
    tokens
}

/// Not signed, or "signed" with what everyone knows.
fn unsigned(issuer: &Issuer) -> Vec<(String, String)> {
    let claims = base64url(good_claims(NOW_SECONDS).to_string().as_bytes());
    let real = issuer.token(&good_claims(NOW_SECONDS));
    let real_signature = real.rsplit_once('.').unwrap().1;
    let mut tokens = Vec::new();
    for alg in ["none", "None", "NONE", ""] {
        let header = base64url(json!({"alg": alg, "kid": "rsa"}).to_string().as_bytes());
        tokens.push((format!("alg {alg:?}"), format!("{header}.{claims}.")));
        tokens.push((
            format!("alg {alg:?} with a signature"),
            format!("{header}.{claims}.{real_signature}"),
        ));
    }
    let jwk = issuer.rsa_jwk();
    let public_keys = [
        jwk.to_string(),
        jwk["n"].as_str().unwrap().to_owned(),
        issuer.jwks(),
    ];
    for (alg, algorithm) in [
        ("HS256", hmac::HMAC_SHA256),
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
    ] {
        let header = base64url(json!({"alg": alg, "kid": "rsa"}).to_string().as_bytes());
        let message = format!("{header}.{claims}");
        for public_key in &public_keys {
            let key = hmac::Key::new(algorithm, public_key.as_bytes());
            let signature = base64url(hmac::sign(&key, message.as_bytes()).as_ref());
            tokens.push((
                format!("{alg} with a public key"),
                format!("{message}.{signature}"),
            ));
        }
    }
    tokens
}

/// A real token, damaged.
fn damaged(issuer: &Issuer) -> Vec<(String, String)> {
    let real = issuer.token(&good_claims(NOW_SECONDS));
    let parts: Vec<&str> = real.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    // 256 bytes leave 4 unused bits in the last letter; another of the 16
    // letters with the same value is a second spelling of the same bytes.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet
        .find(signature.chars().next_back().unwrap())
        .unwrap();
    let respelled = &alphabet[last + 1..last + 2];
    let other_claims = base64url(with("/jti", Some(json!("other"))).to_string().as_bytes());
    let other_header = base64url(br#"{"kid":"rsa","alg":"RS256"}"#);
    let token = |name: &str, token: String| (name.to_owned(), token);
    vec![
        token(
            "flipped",
            format!("{header}.{claims}.{flipped}{}", &signature[1..]),
        ),
        token("cut", real[..real.len() - 4].to_owned()),
        token(
            "respelled",
            format!("{}{respelled}", &real[..real.len() - 1]),
        ),
        token("no signature", format!("{header}.{claims}.")),
        token("no third part", format!("{header}.{claims}")),
        token("one part", header.to_owned()),
        token("dots", "..".to_owned()),
        token("empty", String::new()),
        token("a fourth part", format!("{real}.{signature}")),
        token(
            "five parts",
            format!("{header}.{claims}.{claims}.{claims}.{signature}"),
        ),
        token("padding", format!("{real}==")),
        token("a space", format!("{header}. {claims}.{signature}")),
        token(
            "other claims",
            format!("{header}.{other_claims}.{signature}"),
        ),
        token(
            "other header",
            format!("{other_header}.{claims}.{signature}"),
        ),
        token(
            "no JSON",
            issuer.sign_text(Signature::Rs256, r#"{"alg":"RS256","kid":"rsa"}"#, b"7"),
        ),
        token(
            "no UTF-8",
            issuer.sign_text(Signature::Rs256, r#"{"alg":"RS256","kid":"rsa"}"#, b"\xff"),
        ),
        token("exp twice", {
            let claims = good_claims(NOW_SECONDS).to_string();
            let twice = claims.replacen('{', r#"{"exp":9999999999,"#, 1);
            issuer.sign_text(
                Signature::Rs256,
                r#"{"alg":"RS256","kid":"rsa"}"#,
                twice.as_bytes(),
            )
        }),
        token("over 8 KiB", {
            issuer.token(&with("/jti", Some(json!("j".repeat(MOST_BYTES)))))
        }),
    ]
}

/// All of them, each with what is wrong.
pub(super) fn forged(issuer: &Issuer) -> Vec<(String, String)> {
    let other = Issuer::new();
    [
        wrong_claims(issuer),
        wrong_headers(issuer, &other),
        unsigned(issuer),
        damaged(issuer),
    ]
    .concat()
}
