//! What people are told of how quotas stand.

use std::num::NonZeroU32;

use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_vault::{Person, QuotaFilter, QuotaFilterError};
use bursar_wire::people::{QuotaQuery, QuotaUse, QuotaUses};

use crate::support::broker::{Broker, served};
use crate::support::{Bed, Team, quota};

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
    let day = Window::Period(NonZeroU32::new(86_400).unwrap());
    let app = Subject::ServiceAccount("app".parse().unwrap());
    let mut quotas = [
        quota("each", Subject::EachUser, 100),
        quota("of-dora", Subject::User(dora.uid), 3),
        quota("of-app", app, 1_000),
        quota("of-github", Subject::Token(github.id), 500),
    ];
    quotas[3].window = day;
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
    assert_eq!(of_github.period_seconds, Some(86_400));
    assert_eq!(of_github.resets_time.unwrap().as_second() % 86_400, 0);
    assert_eq!(found.quotas[0].enforcement, "Enforce");
    assert_eq!(
        (found.quotas[0].period_seconds, found.quotas[0].resets_time),
        (None, None)
    );

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
