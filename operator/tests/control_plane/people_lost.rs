//! Answers that are lost: on the way to the command, or behind it because nobody reads them.

use std::net::Ipv4Addr;

use bursar_crds::StoredToken;
use bursar_crds::reasons::ConditionType;
use serde_json::Value;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::logs::PLANTED;
use crate::people::{change_record, database, with_token};
use crate::team::Team;

async fn revocations(team: &Team, database: &PgPool) -> i64 {
    let count = "select count(*) from access_record join tenant using (tenant_id)
                 where namespace = $1 and outcome = 'Revoked'";
    sqlx::query_scalar(count)
        .bind(&team.namespace)
        .fetch_one(database)
        .await
        .unwrap()
}

/// Carries connections to the vault; the first that is answered after a revocation was committed
/// is cut before the answer, and there is a new value before the next one is carried.
async fn lose_one_answer(team: &Team, listener: TcpListener, database: PgPool) {
    let mut is_lost = false;
    loop {
        let (from, _) = listener.accept().await.unwrap();
        let port = team.operator.people_port();
        let to = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let (mut from_read, mut from_write) = from.into_split();
        let (mut to_read, mut to_write) = to.unwrap().into_split();
        let there = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut from_read, &mut to_write).await;
        });
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = to_read.read(&mut bytes).await {
            if !is_lost && revocations(team, &database).await > 0 {
                is_lost = true;
                there.abort();
                team.secret("github", &format!("{PLANTED}other")).await;
                team.serving("github", 2).await;
                break;
            }
            if from_write.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_revocation_whose_answer_is_lost_takes_no_version_that_came_later() {
    let team = with_token().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let database = database(&team).await;
    let printed = tokio::select! {
        printed = team.bursar_at(port, &["revoke", "github"]) => printed.unwrap(),
        () = lose_one_answer(&team, listener, database.clone()) => unreachable!(),
    };
    assert_eq!(revocations(&team, &database).await, 2, "no answer was lost");
    for part in [
        "all versions up to 1 are revoked, as they were before",
        "version 2 is the newest, and goes on being served",
    ] {
        assert!(printed.out.contains(part), "{part}: {}", printed.out);
    }
    let token: StoredToken = team.get("github").await.unwrap();
    let usable = crate::team::said(&token, ConditionType::Usable);
    assert_eq!(usable, "True Serving");
    let out = team.bursar(&["audit", "--outcome", "Revoked", "-o", "json"]);
    let records: Vec<Value> = serde_json::from_str(&out.await.unwrap().out).unwrap();
    assert!(records.iter().all(|record| record["version"] == 1));
}

#[tokio::test]
async fn who_reads_no_more_than_the_first_line_gets_the_same_exit_code() {
    let team = with_token().await;
    team.bursar(&["revoke", "github"]).await.unwrap();
    let verify = ["audit", "verify"];
    assert!(team.bursar_unread(&verify).await.unwrap());
    change_record(&team).await;
    assert!(!team.bursar_unread(&verify).await.unwrap());
}
