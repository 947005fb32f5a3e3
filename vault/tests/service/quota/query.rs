//! What people are told of how quotas stand.

use std::num::NonZeroU32;
use std::time::Duration;

use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_vault::{DatabaseError, Person, QuotaFilter, QuotaFilterError, VaultError};
use bursar_wire::people::{QuotaQuery, QuotaUse, QuotaUses, QuotaWindow};

use crate::support::broker::{Broker, served};
use crate::support::{Bed, Team, quota};

/// No test runs when one of these ends.
const LONG: Window = Window::Period(NonZeroU32::MAX);

fn person() -> Person {
    Person {
        namespace: "team".parse().unwrap(),
        service_account_name: "bursar-auditor".parse().unwrap(),
        name: "ana@example.com".parse().unwrap(),
    }
}

async fn asked(bed: &Bed, team: &Team, query: QuotaQuery) -> QuotaUses {
    let filter = QuotaFilter::try_from(query).unwrap();
    let vault = bed.vault().await;
    let found = vault.query_quotas(&team.tenant, &filter, &person()).await;
    found.unwrap()
}

fn of_user(name: &str) -> QuotaQuery {
    QuotaQuery {
        user: Some(name.to_owned()),
        ..QuotaQuery::default()
    }
}

/// Name, subject, user, and what is used, held and left.
fn lines(found: &QuotaUses) -> Vec<(&str, &str, &str, [u64; 3])> {
    let line = |it: &'_ QuotaUse| [it.used, it.held, it.remaining];
    let quotas = found.quotas.iter();
    quotas
        .map(|it| {
            let user = it.user.as_deref().unwrap_or("");
            (it.name.as_str(), it.subject.as_str(), user, line(it))
        })
        .collect()
}

/// Reads once as a user, and closes the allowance.
async fn read(broker: &mut Broker, user: &str, token: &str) {
    let granted = broker.granted(user, token).await;
    let closed = vec![granted.allowance_id.clone()];
    let report = broker.report(vec![served(&granted, 1)], closed);
    report.await.unwrap();
}

#[tokio::test]
async fn who_used_and_who_holds_how_much_of_which_quota_is_told() {
    let bed = Bed::new("quota_query").await;
    let replica = bed.replica().await;
    let (team, _, github) = bed.team_with_token().await;
    let bo = bed.user(&team, "bo").await;
    bed.token(&team, &bo, "chat").await;
    let dora = bed.user(&team, "dora").await;
    bed.token(&team, &dora, "mail").await;
    bed.user(&team, "idle").await;
    let app = Subject::ServiceAccount("app".parse().unwrap());
    let mut quotas = [
        quota("each", Subject::EachUser, 100),
        quota("of-dora", Subject::User(dora.uid), 3),
        quota("of-app", app, 1_000),
        quota("of-github", Subject::Token(github.id), 500),
    ];
    quotas[3].window = LONG;
    quotas[3].enforcement = Enforcement::Warn;
    let ids: Vec<_> = quotas.iter().map(|quota| quota.id).collect();
    for (number, quota) in (1..).zip(&quotas) {
        bed.apply_quota_of(&team, quota, &ids[..number]).await;
    }

    let nobody = asked(&bed, &team, QuotaQuery::default()).await;
    assert_eq!(
        lines(&nobody),
        [
            ("each", "each user", "", [0, 0, 100]),
            ("of-app", "serviceaccount/app", "", [0, 0, 1_000]),
            ("of-dora", "user/dora", "dora", [0, 0, 3]),
            ("of-github", "token/github", "ana", [0, 0, 500]),
        ]
    );

    let mut broker = bed.broker(&replica, &team, "app").await;
    read(&mut broker, "bo", "chat").await;
    read(&mut broker, "dora", "mail").await;
    let granted = broker.granted("ana", "github").await;
    let report = broker.report(vec![served(&granted, 1)], vec![]);
    report.await.unwrap();
    let units = u64::from(granted.units);
    assert!(units > 1);

    let found = asked(&bed, &team, QuotaQuery::default()).await;
    assert_eq!(
        lines(&found),
        [
            ("each", "each user", "ana", [units, units - 1, 100 - units]),
            ("each", "each user", "bo", [1, 0, 99]),
            (
                "of-app",
                "serviceaccount/app",
                "",
                [units + 2, units - 1, 998 - units]
            ),
            ("of-dora", "user/dora", "dora", [1, 0, 2]),
            (
                "of-github",
                "token/github",
                "ana",
                [units, units - 1, 500 - units]
            ),
        ]
    );
    assert!(!found.more && !found.damaged);
    let of_github = &found.quotas[4];
    assert_eq!(of_github.enforcement, "Warn");
    let period_seconds = u32::MAX.into();
    assert_eq!(of_github.window, QuotaWindow::Period { period_seconds });
    let resets = of_github.resets_time.unwrap();
    assert_eq!(resets.as_second(), i64::from(u32::MAX));
    assert_eq!(found.quotas[0].enforcement, "Enforce");
    assert_eq!(found.quotas[0].window, QuotaWindow::Lifetime);
    assert_eq!(found.quotas[0].resets_time, None);

    // As brokers tell it to applications.
    let told = broker.quotas("ana").await.unwrap();
    let each = told.iter().find(|quota| quota.name == "each").unwrap();
    assert_eq!(each.used, units);

    for (user, names) in [
        ("ana", &["each", "of-github"][..]),
        ("bo", &["each"]),
        // Her own has taken the place of the default.
        ("dora", &["of-dora"]),
        ("idle", &["each"]),
        ("nobody", &[]),
    ] {
        let found = asked(&bed, &team, of_user(user)).await;
        let told: Vec<&str> = found.quotas.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(told, names, "{user}");
        assert!(
            found
                .quotas
                .iter()
                .all(|it| it.user.as_deref() == Some(user))
        );
    }

    let most = QuotaQuery {
        name: Some("each".to_owned()),
        limit: Some(1),
        ..QuotaQuery::default()
    };
    let most = asked(&bed, &team, most).await;
    assert!(most.more);
    assert_eq!(
        lines(&most),
        [("each", "each user", "ana", [units, units - 1, 100 - units])]
    );
    replica.stop().await;
}

#[tokio::test]
async fn quotas_on_one_count_tell_the_same_of_it() {
    let bed = Bed::new("quota_query_shared").await;
    let replica = bed.replica().await;
    let (team, _, _) = bed.team_with_token().await;
    let hard = quota("hard", Subject::EachUser, 1_000);
    let mut soft = quota("soft", Subject::EachUser, 800);
    soft.enforcement = Enforcement::Warn;
    bed.apply_quota_of(&team, &hard, &[hard.id]).await;
    bed.apply_quota_of(&team, &soft, &[hard.id, soft.id]).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let units = u64::from(broker.granted("ana", "github").await.units);
    let found = asked(&bed, &team, QuotaQuery::default()).await;
    assert_eq!(
        lines(&found),
        [
            ("hard", "each user", "ana", [units, units, 1_000 - units]),
            ("soft", "each user", "ana", [units, units, 800 - units]),
        ]
    );
    replica.stop().await;
}

#[tokio::test]
async fn what_was_granted_in_the_window_before_is_not_held_in_this_one() {
    let bed = Bed::new("quota_query_window").await;
    let replica = bed.replica().await;
    let (team, ana, _) = bed.team_with_token().await;
    let mut daily = quota("limit", Subject::User(ana.uid), 100);
    daily.window = LONG;
    bed.apply_quota(&team, &daily).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let units = u64::from(broker.granted("ana", "github").await.units);
    let found = asked(&bed, &team, QuotaQuery::default()).await;
    let told = [("limit", "user/ana", "ana", [units, units, 100 - units])];
    assert_eq!(lines(&found), told);
    // A period passes.
    for table in ["quota_window", "allowance_charge"] {
        bed.tamper(&format!("update {table} set window_no = window_no - 1"))
            .await;
    }
    let found = asked(&bed, &team, QuotaQuery::default()).await;
    assert_eq!(lines(&found), [("limit", "user/ana", "ana", [0, 0, 100])]);
    replica.stop().await;
}

#[tokio::test]
async fn those_who_used_most_of_a_quota_for_each_come_first_whoever_else_there_is() {
    let bed = Bed::new("quota_query_most").await;
    let (team, _, _) = bed.team_with_token().await;
    let each = quota("each", Subject::EachUser, 100);
    bed.apply_quota(&team, &each).await;
    let replica = bed.replica().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    for (reads, name) in [(2, "bo"), (3, "cy"), (1, "dora"), (3, "al")] {
        let user = bed.user(&team, name).await;
        let token = format!("of-{name}");
        bed.token(&team, &user, &token).await;
        for _ in 0..reads {
            read(&mut broker, name, &token).await;
        }
    }
    // More than are looked up at a time.
    bed.tamper(
        "insert into token_user (tenant_id, user_uid, name, role, suspended, epoch, key_version, mac)
         select tenant_id, gen_random_uuid(), 'user-' || n, role, false, 1, key_version, mac
         from token_user, generate_series(1, 2500) n where name = 'ana'",
    )
    .await;
    let most = QuotaQuery {
        limit: Some(3),
        ..QuotaQuery::default()
    };
    let found = asked(&bed, &team, most).await;
    let used: Vec<(&str, u64)> = found
        .quotas
        .iter()
        .map(|it| (it.user.as_deref().unwrap(), it.used))
        .collect();
    assert_eq!(used, [("al", 3), ("cy", 3), ("bo", 2)]);
    assert!(found.more);
    let found = asked(&bed, &team, QuotaQuery::default()).await;
    assert_eq!((found.quotas.len(), found.more), (4, false));
    replica.stop().await;
}

#[tokio::test]
async fn of_what_was_deleted_the_name_is_told_and_no_count_of_its_own() {
    let bed = Bed::new("quota_query_deleted").await;
    let replica = bed.replica().await;
    let (team, ana, github) = bed.team_with_token().await;
    let bo = bed.user(&team, "bo").await;
    let quotas = [
        quota("each", Subject::EachUser, 100),
        quota("of-bo", Subject::User(bo.uid), 50),
        quota("of-github", Subject::Token(github.id), 50),
    ];
    let ids: Vec<_> = quotas.iter().map(|quota| quota.id).collect();
    for (number, quota) in (1..).zip(&quotas) {
        bed.apply_quota_of(&team, quota, &ids[..number]).await;
    }
    let mut broker = bed.broker(&replica, &team, "app").await;
    read(&mut broker, "ana", "github").await;
    let deleted = "update token_user set deleted_time = now()";
    bed.tamper(deleted).await;
    bed.tamper("update token set deleted_time = now()").await;
    let found = asked(&bed, &team, QuotaQuery::default()).await;
    assert_eq!(
        lines(&found),
        [
            ("each", "each user", "", [0, 0, 100]),
            ("of-bo", "user/bo", "bo", [0, 0, 50]),
            ("of-github", "token/github", "ana", [1, 0, 49]),
        ]
    );
    for name in [ana.name.as_str(), "bo"] {
        let found = asked(&bed, &team, of_user(name)).await;
        assert_eq!(found.quotas, [], "{name}");
    }
    replica.stop().await;
}

#[tokio::test]
async fn a_list_of_quotas_that_somebody_changed_is_told_of() {
    let bed = Bed::new("quota_query_no_list").await;
    let (team, _, _) = bed.team_with_token().await;
    bed.apply_quota(&team, &quota("each", Subject::EachUser, 9))
        .await;
    bed.tamper("update quota_set set epoch = epoch + 1").await;
    let found = asked(&bed, &team, QuotaQuery::default()).await;
    assert!(found.damaged);
    // What can be believed by itself is told.
    assert_eq!(lines(&found), [("each", "each user", "", [0, 0, 9])]);
    let noticed = "select count(*) from integrity_failure where table_name = 'quota_set'";
    assert_eq!(bed.count(noticed).await, 1);
}

#[tokio::test]
async fn a_quota_that_somebody_changed_is_told_of_and_not_believed() {
    let bed = Bed::new("quota_query_damaged").await;
    let (team, ana, github) = bed.team_with_token().await;
    let of_ana = quota("of-ana", Subject::User(ana.uid), 9);
    let of_github = quota("of-github", Subject::Token(github.id), 9);
    bed.apply_quota_of(&team, &of_ana, &[of_ana.id]).await;
    bed.apply_quota_of(&team, &of_github, &[of_ana.id, of_github.id])
        .await;
    let changed = bed
        .tamper("update quota set units = 1000 where name = 'of-ana'")
        .await;
    assert_eq!(changed, 1);
    let found = asked(&bed, &team, QuotaQuery::default()).await;
    assert!(found.damaged);
    assert_eq!(
        lines(&found),
        [("of-github", "token/github", "ana", [0, 0, 9])]
    );
    let noticed = "select count(*) from integrity_failure where table_name = 'quota'";
    assert_eq!(bed.count(noticed).await, 1);
}

#[tokio::test]
async fn many_statements_that_take_too_long_together_are_given_up_and_nothing_is_on_record() {
    let bed = Bed::new("quota_query_long").await;
    let replica = bed.replica().await;
    let (team, _, _) = bed.team_with_token().await;
    let (mut ids, mut longest) = (Vec::new(), u32::MAX);
    for number in 0..8 {
        let mut each = quota(&format!("each-{number}"), Subject::EachUser, 100);
        each.window = Window::Period(NonZeroU32::new(longest).unwrap());
        longest -= 1;
        ids.push(each.id);
        bed.apply_quota_of(&team, &each, &ids).await;
    }
    let mut broker = bed.broker(&replica, &team, "app").await;
    read(&mut broker, "ana", "github").await;
    for statement in [
        "alter table quota_window rename to quickly",
        "create view quota_window as select * from quickly where pg_sleep(0.3) is not null",
        "grant select on quota_window to public",
    ] {
        bed.tamper(statement).await;
    }
    let vault = bed.vault_with_query_limit(Duration::from_secs(1)).await;
    let filter = QuotaFilter::try_from(QuotaQuery::default()).unwrap();
    let told = vault.query_quotas(&team.tenant, &filter, &person()).await;
    let Err(VaultError::Database(error)) = told else {
        panic!("it was answered");
    };
    assert!(matches!(error, DatabaseError::TookTooLong), "{error}");
    assert!(error.took_too_long());
    let queried = "select count(*) from access_record where outcome = 'Queried'";
    assert_eq!(bed.count(queried).await, 0);
    // The next one is answered.
    bed.tamper("drop view quota_window").await;
    bed.tamper("alter table quickly rename to quota_window")
        .await;
    let told = vault.query_quotas(&team.tenant, &filter, &person()).await;
    assert_eq!(told.unwrap().quotas.len(), 8);
    replica.stop().await;
}

#[tokio::test]
async fn who_asks_how_quotas_stand_is_on_record_with_what_was_asked_by() {
    let bed = Bed::new("quota_query_recorded").await;
    let (team, _, _) = bed.team_with_token().await;
    asked(&bed, &team, QuotaQuery::default()).await;
    let query = QuotaQuery {
        name: Some("each".to_owned()),
        ..of_user("ana")
    };
    asked(&bed, &team, query).await;
    let recorded = "select concat_ws(' | ', purpose, person, service_account_name)
                    from access_record where outcome = 'Queried' order by record_no";
    assert_eq!(
        bed.texts(recorded).await,
        [
            "quotas | ana@example.com | team/bursar-auditor",
            "quotas name user | ana@example.com | team/bursar-auditor",
        ]
    );
    let vault = bed.vault().await;
    bed.tamper("alter table access_record rename to records_away")
        .await;
    let filter = QuotaFilter::try_from(QuotaQuery::default()).unwrap();
    let told = vault.query_quotas(&team.tenant, &filter, &person()).await;
    assert!(told.is_err(), "told without a record");
}

#[test]
fn a_query_for_what_cannot_be_is_refused() {
    let refused = |query| QuotaFilter::try_from(query).unwrap_err();
    for limit in [0, 1_001] {
        let query = QuotaQuery {
            limit: Some(limit),
            ..QuotaQuery::default()
        };
        assert_eq!(refused(query), QuotaFilterError::Limit);
    }
    let named = refused(of_user("Ana"));
    assert!(named.to_string().starts_with("user: "), "{named}");
    let query = QuotaQuery {
        name: Some("a b".to_owned()),
        ..QuotaQuery::default()
    };
    assert!(refused(query).to_string().starts_with("name: "));
}
