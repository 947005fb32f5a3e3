//! Forged, expired and foreign broker tokens: all refused, and with one answer.

use bursar_wire::v1alpha1::AttachRequest;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::Bed;
use crate::support::broker::Broker;
use crate::support::cluster::{Cluster, IssuerKey, Pod, issuer, now};
use crate::thread_log::ThreadLog;

/// A token that must be refused, and what is wrong with it.
type Forged = (&'static str, String);

#[tokio::test]
async fn no_forged_token_attaches() {
    let bed = Bed::new("forged").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let pod = Pod::new(&team, "app");
    let mut forged = wrong_signatures(&bed.cluster, &pod);
    forged.extend(wrong_headers(&bed.cluster, &pod));
    forged.extend(wrong_claims(&bed.cluster, &pod));
    forged.extend(wrong_shapes(&bed.cluster, &pod));
    assert!(forged.len() >= 40, "{}", forged.len());

    let broker = Broker::connect(&replica, &bed.authority).await;
    for (what, token) in forged {
        // Even if the API server were to be fooled.
        bed.cluster.vouch(&token, Ok(pod.reviewed()));
        let request = AttachRequest {
            protocol_min: 1,
            protocol_max: 1,
            service_account_token: token,
            previous: None,
        };
        let answer = broker.client.clone().attach(request).await;
        let refused = answer
            .err()
            .unwrap_or_else(|| panic!("attached with {what}"));
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}");
        assert!(refused.message().starts_with("not authenticated"), "{what}");
    }
    assert_eq!(bed.cluster.reviews(), 0);

    // Both of the issuer's keys sign good ones, also with clocks a little apart.
    for key in [bed.cluster.rsa, bed.cluster.ec] {
        let mut claims = pod.claims();
        claims["nbf"] = json!(now() + 3);
        let token = key.sign(&claims);
        bed.cluster.vouch(&token, Ok(pod.reviewed()));
        let mut broker = Broker::connect(&replica, &bed.authority).await;
        broker.attach(&token).await.unwrap();
    }
    replica.stop().await;
}

#[tokio::test]
async fn what_people_show_is_for_their_tools_and_has_not_expired() {
    let bed = Bed::new("forged_account").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut good = Pod::new(&team, "app").claims();
    good["aud"] = json!(["bursar-cli"]);
    let named = |claims: &Value| {
        let token = bed.cluster.ec.sign(claims);
        let account = replica.service.account_claims(&token, "bursar-cli");
        account.map(|account| account.service_account_name)
    };
    assert_eq!(named(&good), Some("app".to_owned()));
    for (what, claim, value) in [
        ("one that has expired", "exp", json!(now() - 60)),
        ("one that is not valid yet", "nbf", json!(now() + 60)),
        ("a broker's", "aud", json!(["bursar-vault"])),
        (
            "one for others too",
            "aud",
            json!(["bursar-cli", "bursar-vault"]),
        ),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        assert_eq!(named(&claims), None, "{what}");
    }
    replica.stop().await;
}

#[tokio::test]
async fn the_log_says_once_why_tokens_are_refused_and_never_what_they_are() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(|| ThreadLog)
        .init();
    let bed = Bed::new("forged_log").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut claims = Pod::new(&team, "app").claims();
    claims["exp"] = json!(now() - 60);
    let token = bed.cluster.ec.sign(&claims);
    let mut broker = Broker::connect(&replica, &bed.authority).await;
    for _ in 0..10 {
        assert!(broker.attach(&token).await.is_err());
    }
    replica.stop().await;

    let log = ThreadLog::take();
    let said: Vec<_> = log
        .lines()
        .filter(|line| line.contains("a broker's token was refused"))
        .collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains("it has expired"), "{log}");
    assert!(token.split('.').all(|part| !log.contains(part)), "{log}");
}

#[tokio::test]
async fn a_key_that_the_issuer_gives_up_signs_nothing_any_more() {
    let bed = Bed::new("forged_rotation").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let pod = Pod::new(&team, "app");
    let token = bed.cluster.token(&pod);
    let mut broker = Broker::connect(&replica, &bed.authority).await;
    broker.attach(&token).await.unwrap();
    let (mut events, _) = broker.watch().await;

    // Nonsense changes nothing.
    let mut nonsense = issuer([bed.cluster.rsa]);
    nonsense.jwks = "{}".to_owned();
    bed.cluster.issuer.send_replace(nonsense);
    assert!(broker.attach(&token).await.unwrap().resumed);
    bed.cluster.issuer.send_replace(issuer([bed.cluster.ec]));
    let told = events.new_issuer().await;
    assert!(told.jwks.contains("\"ec\"") && !told.jwks.contains("\"rsa\""));

    let refused = broker.attach(&token).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let renewed = bed.cluster.ec.sign(&pod.claims());
    assert!(broker.attach(&renewed).await.unwrap().resumed);
    replica.stop().await;
}

fn wrong_signatures(cluster: &Cluster, pod: &Pod) -> Vec<Forged> {
    let claims = pod.claims();
    let good = cluster.rsa.sign(&claims);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = cluster.rsa.sign(&json!({"sub": "other"}));
    let (_, other_signature) = other.rsplit_once('.').unwrap();
    let another_key = IssuerKey::rsa("rsa");
    let another_curve_key = IssuerKey::ec("ec");
    let public = serde_json::to_vec(&cluster.rsa.jwk()).unwrap();
    let hmac = |secret: &[u8]| {
        let header = Header {
            kid: Some("rsa".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let payload = good.split('.').nth(1).unwrap();
    let none = |header: Value| format!("{}.{payload}.", base64url(header.to_string().as_bytes()));
    vec![
        (
            "a key of the same id that is another",
            another_key.sign(&claims),
        ),
        (
            "a curve key of the same id that is another",
            another_curve_key.sign(&claims),
        ),
        (
            "the signature of another token",
            format!("{message}.{other_signature}"),
        ),
        (
            "a cut signature",
            format!("{message}.{}", &signature[..signature.len() - 2]),
        ),
        ("no signature", format!("{message}.")),
        ("HS256 with an empty secret", hmac(b"")),
        ("HS256 with the public key as secret", hmac(&public)),
        (
            "alg none",
            none(json!({"alg": "none", "kid": "rsa", "typ": "JWT"})),
        ),
        ("alg None", none(json!({"alg": "None", "kid": "rsa"}))),
        (
            "RS256 and no signature",
            none(json!({"alg": "RS256", "kid": "rsa"})),
        ),
    ]
}

fn wrong_headers(cluster: &Cluster, pod: &Pod) -> Vec<Forged> {
    let claims = pod.claims();
    let sign = |change: &dyn Fn(&mut Header)| {
        let mut header = cluster.rsa.header();
        change(&mut header);
        encode(&header, &claims, &cluster.rsa.key).unwrap()
    };
    let attacker = IssuerKey::rsa("rsa");
    let brought_along = |change: &dyn Fn(&mut Header, Jwk)| {
        let mut header = attacker.header();
        change(&mut header, attacker.jwk());
        encode(&header, &claims, &attacker.key).unwrap()
    };
    let url = || Some("https://attacker.test/keys".to_owned());
    vec![
        ("no key id", sign(&|header| header.kid = None)),
        (
            "an unknown key id",
            sign(&|header| header.kid = Some("other".into())),
        ),
        (
            "the key id of the other key",
            sign(&|header| header.kid = Some("ec".into())),
        ),
        (
            "another algorithm of the family",
            sign(&|header| header.alg = Algorithm::RS512),
        ),
        ("PSS padding", sign(&|header| header.alg = Algorithm::PS256)),
        (
            "another type",
            sign(&|header| header.typ = Some("at+jwt".into())),
        ),
        (
            "crit",
            sign(&|header| header.crit = Some(vec!["exp".into()])),
        ),
        ("jku", sign(&|header| header.jku = url())),
        ("x5u", sign(&|header| header.x5u = url())),
        (
            "x5c",
            sign(&|header| header.x5c = Some(vec!["AA==".into()])),
        ),
        (
            "a header we do not know",
            sign(&|header| header.extras.insert("x", 1)),
        ),
        (
            "a key brought along",
            brought_along(&|header, key| header.jwk = Some(key)),
        ),
        (
            "the place of a key brought along",
            brought_along(&|header, _| header.jku = url()),
        ),
    ]
}

fn wrong_claims(cluster: &Cluster, pod: &Pod) -> Vec<Forged> {
    let with = |path: &str, value: Value| {
        let mut claims = pod.claims();
        *claims.pointer_mut(path).unwrap() = value;
        cluster.rsa.sign(&claims)
    };
    let without = |parent: &str, name: &str| {
        let mut claims = pod.claims();
        let parent = claims.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(name).unwrap();
        cluster.rsa.sign(&claims)
    };
    let now = now();
    vec![
        ("an hour past its end", with("/exp", json!(now - 3600))),
        ("a little past its end", with("/exp", json!(now - 6))),
        (
            "an end that is text",
            with("/exp", json!((now + 3600).to_string())),
        ),
        ("a fractional end", with("/exp", json!(1e300))),
        ("a negative end", with("/exp", json!(-1))),
        ("no end", without("", "exp")),
        ("a beginning in the future", with("/nbf", json!(now + 60))),
        ("a beginning that is text", with("/nbf", json!("0"))),
        (
            "another issuer",
            with("/iss", json!("https://attacker.test")),
        ),
        ("no issuer", without("", "iss")),
        ("the workload's audience", with("/aud", json!(["bursar"]))),
        (
            "an audience beside ours",
            with("/aud", json!(["bursar-vault", "bursar"])),
        ),
        (
            "an audience like ours",
            with("/aud", json!(["bursar-vault2"])),
        ),
        ("an empty audience", with("/aud", json!([]))),
        ("no audience", without("", "aud")),
        ("no subject", without("", "sub")),
        (
            "another subject",
            with("/sub", json!("system:serviceaccount:team:other")),
        ),
        ("a user for a subject", with("/sub", json!("system:admin"))),
        ("no pod", without("/kubernetes.io", "pod")),
        ("no Kubernetes claims", without("", "kubernetes.io")),
        ("no pod UID", without("/kubernetes.io/pod", "uid")),
        (
            "an empty pod UID",
            with("/kubernetes.io/pod/uid", json!("")),
        ),
        (
            "a pod UID that is a number",
            with("/kubernetes.io/pod/uid", json!(1)),
        ),
        (
            "no service account",
            without("/kubernetes.io", "serviceaccount"),
        ),
        (
            "another namespace",
            with("/kubernetes.io/namespace", json!("other")),
        ),
    ]
}

fn wrong_shapes(cluster: &Cluster, pod: &Pod) -> Vec<Forged> {
    let good = cluster.rsa.sign(&pod.claims());
    let mut long = pod.claims();
    long["padding"] = json!("x".repeat(8 * 1024));
    let claims = pod.claims().to_string();
    let twice = claims.replacen('{', "{\"sub\":\"system:serviceaccount:team:other\",", 1);
    let header = good.split('.').next().unwrap();
    vec![
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("four parts", format!("{good}.x")),
        ("a bearer prefix", format!("Bearer {good}")),
        ("a line break", format!("{good}\n")),
        ("more than 8 KiB", cluster.rsa.sign(&long)),
        (
            "claims that were replaced",
            format!("{header}.{}.x", base64url(twice.as_bytes())),
        ),
    ]
}

/// Base64 of RFC 4648, section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for place in 0..=chunk.len() {
            let index = (group >> (18 - 6 * place)) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}
