//! What a request must look like, byte by byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use support::http::{Answer, request, send};
use support::{Scene, scene};

const PATH: &str = "/v1/tokens/access";
const BODY: &str = r#"{"user_id":"ana","app_name":"ci","purpose":"sync"}"#;

/// A good request's headers, with those of the same name replaced.
fn headers<'a>(bearer: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![
        ("Host", "localhost:9440"),
        ("Content-Type", "application/json"),
        ("Authorization", bearer),
    ];
    for (name, _) in changes {
        headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }
    headers.extend(changes);
    headers
}

async fn post(scene: &Scene, changes: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {}", scene.jwt);
    send(
        scene.address,
        &request("POST", PATH, &headers(&bearer, changes), BODY),
    )
    .await
}

#[tokio::test]
async fn a_request_from_elsewhere_is_refused_although_its_jwt_is_good() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(post(scene, &[]).await.status, 200);
        let traces: &[&[(&str, &str)]] = &[
            &[("Host", "example.com")],
            &[("Host", "example.com:9440")],
            &[("Host", "localhost"), ("host", "localhost")],
            &[("Origin", "http://localhost:9440")],
            &[("Origin", "null")],
            &[("Sec-Fetch-Site", "same-origin")],
            &[("Sec-Fetch-Site", "none")],
            &[("Forwarded", "for=127.0.0.1")],
            &[("Via", "1.1 proxy")],
            &[("X-Forwarded-For", "127.0.0.1")],
            &[("x-forwarded-proto", "https")],
        ];
        for trace in traces {
            let answer = post(scene, trace).await;
            assert_eq!(
                (answer.status, &*answer.code()),
                (400, "NotLocal"),
                "{trace:?}"
            );
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            let field = answer.json()["field"].as_str().unwrap().to_lowercase();
            assert_eq!(field, trace[0].0.to_lowercase());
        }
    })
    .await;
}

#[tokio::test]
async fn transport_comes_before_everything_else() {
    scene(async |scene| {
        // No such call, no JWT, no JSON: what is seen is the origin alone.
        let origin = [("Host", "localhost"), ("Origin", "https://example.com")];
        for (method, path) in [("POST", PATH), ("GET", "/unknown"), ("DELETE", PATH)] {
            let answer = send(scene.address, &request(method, path, &origin, "{")).await;
            assert_eq!(answer.code(), "NotLocal");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_without_a_token_is_told_where_it_is() {
    scene(async |scene| {
        let origin = [("Host", "localhost"), ("Content-Type", "application/json")];
        let answer = send(scene.address, &request("POST", PATH, &origin, BODY)).await;
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"bursar\"")
        );
        assert!(answer.detail().contains("Authorization: Bearer"));
        assert!(answer.detail().contains("BURSAR_TOKEN_FILE"));
    })
    .await;
}

#[tokio::test]
async fn a_proxy_request_is_refused() {
    scene(async |scene| {
        for target in [
            "http://example.com/v1/tokens/access",
            "http://localhost/v1/tokens/access",
        ] {
            let bearer = format!("Bearer {}", scene.jwt);
            let answer = send(
                scene.address,
                &request("POST", target, &headers(&bearer, &[]), BODY),
            )
            .await;
            assert_eq!(answer.code(), "NotLocal");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_without_host_is_refused() {
    scene(async |scene| {
        for text in [
            "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ] {
            assert_eq!(
                send(scene.address, text.as_bytes()).await.code(),
                "NotLocal"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn other_paths_methods_and_types_are_refused_and_told_what_there_is() {
    scene(async |scene| {
        let bearer = format!("Bearer {}", scene.jwt);
        for path in [
            "/",
            "/v1/tokens",
            "/v1/tokens/access/",
            "/v1//tokens/access",
            "/metrics",
        ] {
            let answer = send(
                scene.address,
                &request("POST", path, &headers(&bearer, &[]), BODY),
            )
            .await;
            assert_eq!(
                (answer.status, &*answer.code()),
                (404, "NotFound"),
                "{path}"
            );
            for call in ["POST /v1/tokens/access", "GET /v1/tokens/status/{user_id}"] {
                assert!(answer.detail().contains(call), "{}", answer.detail());
            }
        }
        for (method, path, allowed) in [
            ("GET", PATH, "POST"),
            ("PUT", PATH, "POST"),
            ("OPTIONS", PATH, "POST"),
            ("POST", "/v1/tokens/status/ana", "GET"),
            ("DELETE", "/v1/tokens/status/ana", "GET"),
        ] {
            let answer = send(
                scene.address,
                &request(method, path, &headers(&bearer, &[]), BODY),
            )
            .await;
            assert_eq!((answer.status, &*answer.code()), (405, "MethodNotAllowed"));
            assert_eq!(answer.header("allow"), Some(allowed));
            let detail = format!("this call takes {allowed}");
            assert_eq!(answer.json()["detail"], detail);
        }
        let answer = post(scene, &[("Content-Type", "text/plain")]).await;
        assert_eq!(
            (answer.status, &*answer.code()),
            (415, "UnsupportedMediaType")
        );
        assert!(answer.detail().contains("Content-Type: application/json"));
        let query = format!("{PATH}?token=s3cret");
        let answer = send(
            scene.address,
            &request("POST", &query, &headers(&bearer, &[]), BODY),
        )
        .await;
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (400, Some("query"))
        );
        assert!(!String::from_utf8(answer.body).unwrap().contains("s3cret"));
        assert_eq!(scene.vault.calls("Grant"), 0);
    })
    .await;
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused_announced_or_not() {
    scene(async |scene| {
        let large = "x".repeat(64 * 1024 + 1);
        let bearer = format!("Bearer {}", scene.jwt);
        let announced = request("POST", PATH, &headers(&bearer, &[]), &large);
        let answer = send(scene.address, &announced).await;
        assert_eq!(answer.status, 413);
        assert!(answer.detail().contains("at most 65536 bytes"));
        let mut chunked = format!("POST {PATH} HTTP/1.1\r\nConnection: close\r\n");
        for (name, value) in headers(&bearer, &[("Transfer-Encoding", "chunked")]) {
            chunked += &format!("{name}: {value}\r\n");
        }
        chunked += &format!("\r\n{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
        assert_eq!(send(scene.address, chunked.as_bytes()).await.status, 413);
    })
    .await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    scene(async |scene| {
        let large = "x".repeat(64 * 1024);
        assert_eq!(post(scene, &[("X-Large", &large)]).await.status, 431);
        // And a token over 8 KiB is none.
        let bearer = format!("Bearer {}", "x".repeat(8 * 1024 + 1));
        let answer = post(scene, &[("Authorization", &bearer)]).await;
        assert_eq!((answer.status, &*answer.code()), (401, "Unauthenticated"));
    })
    .await;
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_refusals_between_them() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        let bearer = format!("Bearer {}", scene.jwt);
        let keep = |body: &str| {
            let text = request("POST", PATH, &headers(&bearer, &[]), body);
            String::from_utf8(text)
                .unwrap()
                .replace("Connection: close\r\n", "")
                .into_bytes()
        };
        let mut stream = TcpStream::connect(scene.address).await.unwrap();
        for (body, status) in [(BODY, "200"), ("{}", "400"), (BODY, "200")] {
            stream.write_all(&keep(body)).await.unwrap();
            let mut answer = vec![0; 4096];
            let length = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut answer));
            let length = length.await.unwrap().unwrap();
            let text = String::from_utf8_lossy(&answer[..length]);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        }
    })
    .await;
}
