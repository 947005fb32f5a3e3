//! The bare server does what is asked of it, and no less.

use std::error::Error;
use std::path::Path;

use bursar_bench::answer::Answer;
use bursar_bench::bare::Bare;
use bursar_bench::workload::Connection;
use http::{HeaderMap, HeaderValue, StatusCode};

const BODY: &str = r#"{"user_id":"ana","app_name":"bench","purpose":"load"}"#;

async fn bare(folder: &Path) -> Result<Bare, Box<dyn Error>> {
    let mut headers = HeaderMap::new();
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    let answer = Answer::of(StatusCode::OK, &headers, br#"{"token":"made-up"}"#.to_vec())?;
    let program = Path::new(env!("CARGO_BIN_EXE_bare"));
    Ok(Bare::start(program, folder, &answer).await?)
}

#[tokio::test]
async fn the_bare_server_gives_the_answer_it_was_told_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let bare = bare(folder.path()).await.unwrap();
    let mut connection = Connection::open(bare.address()).await.unwrap();
    let response = connection.access("jwt", BODY).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.headers["cache-control"], "no-store");
    assert_eq!(response.body, r#"{"token":"made-up"}"#);
}

#[tokio::test]
async fn the_bare_server_reads_the_whole_request() {
    let folder = tempfile::tempdir().unwrap();
    let bare = bare(folder.path()).await.unwrap();
    let mut connection = Connection::open(bare.address()).await.unwrap();
    let response = connection
        .access("jwt", r#"{"user_id":"ana"}"#)
        .await
        .unwrap();
    assert_eq!(response.status, StatusCode::BAD_REQUEST);
}
