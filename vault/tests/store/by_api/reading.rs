//! Reading what is on record.

use std::time::Duration;

use bursar_vault::{AuditFilter, DatabaseError, Tenant, Vault, VaultConfig, VaultError};
use bursar_wire::people::AuditQuery;

use super::{of_outcome, person};
use crate::fixture::{Fixture, config, token};

#[tokio::test]
async fn what_a_person_did_is_on_record_with_the_names_of_all() {
    let fixture = Fixture::new("on_record").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    fixture
        .apply(&tenant, &token("github", &ana), "one")
        .await
        .unwrap();
    fixture.revoke(&tenant, None).await.unwrap();
    let by_user = AuditQuery {
        user: Some("ana".to_owned()),
        ..AuditQuery::default()
    };
    let page = fixture.audit(&tenant, by_user).await;
    let [revoked] = page.records.as_slice() else {
        panic!("{page:?}");
    };
    assert_eq!(revoked.outcome, "Revoked");
    assert_eq!(revoked.user.as_deref(), Some("ana"));
    assert_eq!(revoked.token.as_deref(), Some("github"));
    assert_eq!(revoked.version, Some(1));
    assert_eq!(revoked.service_account_name, "security/auditor");
    assert_eq!(revoked.person.as_deref(), Some("ana@example.com"));

    let queries = fixture.audit(&tenant, of_outcome("Queried")).await;
    let [queried] = queries.records.as_slice() else {
        panic!("{queries:?}");
    };
    assert_eq!(queried.purpose, "audit user");
    assert_eq!(queried.person.as_deref(), Some("ana@example.com"));
    // By which program is not known.
    assert_eq!(queried.app_name, "");
}

/// A record of `count` refusals, recorded at `time`, an SQL expression.
async fn denied(fixture: &Fixture, tenant: &Tenant, count: i32, time: &str) {
    let id = tenant.id();
    fixture
        .tamper(&format!(
            "insert into access_record (tenant_id, chain_id, record_no, recorded_time, outcome,
                 service_account_name, app_name, purpose, count, first_time, last_time,
                 decision_id, secret_version, mac)
             values ('{id}', gen_random_uuid(), 1, {time}, 'Denied', 'app',
                     'a', 'p', {count}, now(), now(), 'd', 1, sha256(''))"
        ))
        .await;
}

#[tokio::test]
async fn who_follows_misses_nothing_that_is_committed_late() {
    let fixture = Fixture::new("follow").await;
    let tenant = fixture.tenant("team").await;
    // `count` tells records apart; 1 to 6 are there, of the last seconds and a minute ago.
    let insert = async |count: i32, time: &str| denied(&fixture, &tenant, count, time).await;
    for count in 1..=3 {
        insert(count, &format!("now() - interval '{} s'", 60 - count)).await;
    }
    for count in 4..=6 {
        insert(count, "now()").await;
    }
    let mut query = AuditQuery {
        follow: true,
        limit: Some(2),
        ..of_outcome("Denied")
    };
    let mut found = Vec::new();
    for look in 0..4 {
        let page = fixture.audit(&tenant, query.clone()).await;
        found.extend(page.records.iter().map(|record| record.count));
        query.cursor = page.cursor;
        if look == 1 {
            // Its transaction began earlier than those that were read, and ended after.
            let before =
                "(select recorded_time - interval '1 s' from access_record where count = 4)";
            insert(7, before).await;
        }
    }
    assert_eq!(found.get(..3), Some([1, 2, 3].as_slice()));
    assert!(found.contains(&7), "{found:?}");
}

#[tokio::test]
async fn no_query_hides_behind_a_cursor_that_no_page_had() {
    let fixture = Fixture::new("made_up_cursor").await;
    let tenant = fixture.tenant("team").await;
    let cursor = |micros: i64| {
        let mac = "0".repeat(64);
        Some(format!(
            "{micros}.00000000-0000-0000-0000-000000000000.0.{mac}"
        ))
    };
    // The beginning of 2000, and of 2100.
    let (past, future) = (cursor(0), cursor(3_155_760_000_000_000));
    let made_up = [
        // Who looked; whether somebody read.
        AuditQuery {
            cursor: past.clone(),
            ..of_outcome("Queried")
        },
        AuditQuery {
            cursor: past.clone(),
            follow: true,
            ..of_outcome("Served")
        },
        // All before a time that is to come.
        AuditQuery {
            cursor: future,
            newest_first: true,
            ..of_outcome("Queried")
        },
    ];
    let recorded = "select count(*) from access_record where outcome = 'Queried'";
    for (before, query) in (0..).zip(made_up) {
        fixture.audit(&tenant, query).await;
        assert_eq!(fixture.count(recorded).await, before + 1);
    }
    // Who follows from a time long ago is on record once.
    let mut query = AuditQuery {
        cursor: past,
        follow: true,
        ..of_outcome("Served")
    };
    let before = fixture.count(recorded).await;
    for _ in 0..3 {
        query.cursor = fixture.audit(&tenant, query.clone()).await.cursor;
        assert_eq!(fixture.count(recorded).await, before + 1);
    }
}

#[tokio::test]
async fn who_follows_is_on_record_for_what_is_new_alone() {
    let fixture = Fixture::new("follow_on_record").await;
    let tenant = fixture.tenant("team").await;
    let recorded = "select count(*) from access_record where outcome = 'Queried'";
    let mut query = AuditQuery {
        follow: true,
        ..of_outcome("Denied")
    };
    let mut looks = 0;
    for happened in 1..=2 {
        // So late that no look of this test leaves it behind.
        denied(&fixture, &tenant, happened, "now() + interval '20 s'").await;
        looks += 1;
        for _ in 0..3 {
            let page = fixture.audit(&tenant, query.clone()).await;
            assert_eq!(page.records.len(), usize::try_from(happened).unwrap());
            query.cursor = page.cursor;
            assert_eq!(fixture.count(recorded).await, looks);
        }
    }
    // The vault's word for that is of no use to others, or for something else.
    let cursor = query.cursor.clone();
    let mut others = [person(), person(), person()];
    others[1].name = "bob@example.com".parse().unwrap();
    others[2].service_account_name = "other".parse().unwrap();
    for (person, query) in others.iter().zip([
        AuditQuery {
            app: Some("a".to_owned()),
            ..query.clone()
        },
        query.clone(),
        query.clone(),
    ]) {
        let filter = AuditFilter::try_from(query).unwrap();
        let page = fixture.vault.query_audit(&tenant, &filter, person).await;
        assert_eq!(page.unwrap().records.len(), 2);
        looks += 1;
        assert_eq!(fixture.count(recorded).await, looks);
    }
    // Nor is one that the vault did not give, at the same place.
    let (place, _) = cursor.as_deref().unwrap().rsplit_once('.').unwrap();
    query.cursor = Some(format!("{place}.{}", "0".repeat(64)));
    fixture.audit(&tenant, query).await;
    assert_eq!(fixture.count(recorded).await, looks + 1);
}

#[tokio::test]
async fn a_query_that_was_given_up_is_told_apart_from_a_database_that_is_away() {
    let fixture = Fixture::new("given_up").await;
    let mut connection = fixture.sql.acquire().await.unwrap();
    let mut slow = async |statement: &'static str| {
        let result = sqlx::raw_sql(statement).execute(&mut *connection).await;
        DatabaseError::from(result.unwrap_err())
    };
    let error = slow("set statement_timeout = 50; select pg_sleep(600)").await;
    assert!(error.took_too_long(), "{error}");
    let error = slow("select pg_terminate_backend(pg_backend_pid())").await;
    assert!(!error.took_too_long(), "{error}");
}

#[tokio::test]
async fn a_query_that_never_ends_is_given_up_and_leaves_no_record() {
    let (fixture, tenant, spec) = Fixture::with_token("never_ends").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture.revoke(&tenant, None).await.unwrap();
    for statement in [
        "alter table access_record rename to slow_record",
        "create view access_record as select * from slow_record where pg_sleep(600) is not null",
        "grant select on access_record to public",
    ] {
        fixture.tamper(statement).await;
    }
    let filter = AuditFilter::try_from(AuditQuery::default()).unwrap();
    let person = person();
    // As in a cluster, but sooner.
    let config = VaultConfig {
        query_limit: Duration::from_secs(1),
        ..config(&fixture.database.runtime_url)
    };
    let vault = Vault::open(config).await.unwrap();
    let query = vault.query_audit(&tenant, &filter, &person);
    let Err(VaultError::Database(error)) = query.await else {
        panic!("it was answered");
    };
    assert!(error.took_too_long(), "{error}");
    let queried = "select count(*) from slow_record where outcome = 'Queried'";
    assert_eq!(fixture.count(queried).await, 0);
}

#[tokio::test]
async fn a_query_is_given_up_while_it_reads_and_not_while_it_goes_on_record() {
    let fixture = Fixture::new("goes_on_record").await;
    let tenant = fixture.tenant("team").await;
    for statement in [
        "create table limits (statement_timeout text)",
        "create function note_limit() returns trigger language plpgsql security definer as $$
         begin insert into limits select current_setting('statement_timeout'); return null; end $$",
        "create trigger note_limit after insert on access_record
         for each row execute function note_limit()",
    ] {
        fixture.tamper(statement).await;
    }
    fixture.audit(&tenant, AuditQuery::default()).await;
    let person = person();
    let absent = fixture.vault.find_denial(&tenant, "d", &person).await;
    assert_eq!(absent.unwrap(), None);
    let limits: Vec<(String,)> = fixture.tamper_returning("table limits").await;
    assert_eq!(limits, [("0".to_owned(),), ("0".to_owned(),)]);
}

#[tokio::test]
async fn pages_hold_every_record_once_in_either_order() {
    let fixture = Fixture::new("pages").await;
    let tenant = fixture.tenant("team").await;
    // Some at the same moment, of several chains.
    fixture
        .tamper(&format!(
            "insert into access_record (tenant_id, chain_id, record_no, recorded_time, outcome,
                 service_account_name, app_name, purpose, count, first_time, last_time,
                 decision_id, secret_version, mac)
             select '{}', ('00000000-0000-0000-0000-00000000000' || n % 3)::uuid, n,
                    now() - interval '1 minute' + n / 4 * interval '1 s', 'Denied', 'app', 'a', 'p',
                    n, now(), now(), 'd' || n, 1, sha256('')
             from generate_series(1, 25) as n",
            tenant.id()
        ))
        .await;
    for newest_first in [false, true] {
        let mut query = AuditQuery {
            newest_first,
            limit: Some(4),
            ..of_outcome("Denied")
        };
        let mut counts = Vec::new();
        loop {
            let page = fixture.audit(&tenant, query.clone()).await;
            assert!(page.records.len() <= 4);
            assert!(page.records.is_sorted_by(|a, b| {
                (a.recorded_time <= b.recorded_time) != newest_first
                    || a.recorded_time == b.recorded_time
            }));
            counts.extend(page.records.iter().map(|record| record.count));
            if !page.more {
                break;
            }
            query.cursor = page.cursor;
        }
        counts.sort_unstable();
        assert_eq!(counts, (1..=25).collect::<Vec<_>>());
    }
    // What comes later is found behind the last page, and nothing is recorded for finding nothing.
    let all = fixture.audit(&tenant, of_outcome("Denied")).await;
    let later = AuditQuery {
        cursor: all.cursor,
        ..of_outcome("Denied")
    };
    let recorded = "select count(*) from access_record where outcome = 'Queried'";
    let before = fixture.count(recorded).await;
    let page = fixture.audit(&tenant, later).await;
    assert!(page.records.is_empty() && !page.more);
    assert_eq!(fixture.count(recorded).await, before);

    let found = fixture.vault.find_denial(&tenant, "d7", &person()).await;
    assert_eq!(found.unwrap().unwrap().count, 7);
    let absent = fixture.vault.find_denial(&tenant, "d70", &person()).await;
    assert_eq!(absent.unwrap(), None);
    assert_eq!(fixture.count(recorded).await, before + 2);
}
