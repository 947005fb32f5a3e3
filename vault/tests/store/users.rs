//! Users, and who may act as them.

use bursar_vault::rows::Role;
use bursar_vault::{Change, Serving, UserSpec};

use crate::fixture::{Fixture, token, user};

const LIVE_USERS: &str = "select count(*) from token_user where deleted_time is null";
const WORKLOADS: &str = "select count(*) from workload";

#[tokio::test]
async fn applying_the_same_spec_again_writes_nothing() {
    let fixture = Fixture::new("same_user").await;
    let tenant = fixture.tenant("team").await;
    let mut ana = user("ana");
    ana.email = Some(" Ana@Example.org".try_into().unwrap());
    ana.workloads = vec![
        "app".parse().unwrap(),
        "cron".parse().unwrap(),
        "app".parse().unwrap(),
    ];
    fixture.controllers.apply_user(&tenant, &ana).await.unwrap();
    assert_eq!(fixture.count(WORKLOADS).await, 2);

    let before = fixture.everything().await;
    ana.workloads.reverse();
    let state = fixture.controllers.apply_user(&tenant, &ana).await.unwrap();
    assert!(!state.email_taken && state.damaged.is_empty());
    assert_eq!(before, fixture.everything().await, "something was written");
}

#[tokio::test]
async fn narrowing_recalls_every_token_and_widening_forgets_denials() {
    let fixture = Fixture::new("user_changes").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let bo = fixture.user(&tenant, "bo").await;
    let (github, slack) = (token("github", &ana), token("slack", &ana));
    for spec in [&github, &slack, &token("bo-github", &bo)] {
        fixture
            .apply(&tenant, spec, spec.name.as_str())
            .await
            .unwrap();
    }
    let mut recalls = vec![Change::Recall(github.id), Change::Recall(slack.id)];
    recalls.sort_by_key(|change| match change {
        Change::Recall(token) => *token,
        _ => unreachable!(),
    });
    let widened = vec![Change::Widen];
    let both = [recalls.clone(), widened.clone()].concat();

    type Edit = fn(&mut UserSpec);
    let steps: [(&str, Edit, Vec<Change>); 7] = [
        (
            "a workload more",
            |spec| spec.workloads.push("cron".parse().unwrap()),
            widened.clone(),
        ),
        (
            "a workload less",
            |spec| drop(spec.workloads.pop()),
            recalls.clone(),
        ),
        (
            "another workload",
            |spec| spec.workloads = vec!["web".parse().unwrap()],
            both,
        ),
        ("suspended", |spec| spec.suspended = true, recalls),
        ("not suspended", |spec| spec.suspended = false, widened),
        ("another role", |spec| spec.role = Role::Chief, vec![]),
        (
            "an address",
            |spec| spec.email = Some("ana@example.org".try_into().unwrap()),
            vec![],
        ),
    ];
    let mut spec = ana;
    for (step, edit, expected) in steps {
        let head = fixture.head(&tenant).await;
        edit(&mut spec);
        fixture
            .controllers
            .apply_user(&tenant, &spec)
            .await
            .unwrap();
        assert_eq!(fixture.changes(&tenant, head).await, expected, "{step}");
    }
}

#[tokio::test]
async fn every_change_of_who_may_read_raises_the_epoch() {
    let fixture = Fixture::new("epoch").await;
    let tenant = fixture.tenant("team").await;
    let mut ana = fixture.user(&tenant, "ana").await;
    let epoch = "select epoch from token_user";
    assert_eq!(fixture.count(epoch).await, 1);
    ana.suspended = true;
    fixture.controllers.apply_user(&tenant, &ana).await.unwrap();
    assert_eq!(fixture.count(epoch).await, 2);
    ana.workloads.clear();
    fixture.controllers.apply_user(&tenant, &ana).await.unwrap();
    assert_eq!(fixture.count(epoch).await, 3);
}

#[tokio::test]
async fn the_user_who_has_an_address_keeps_it() {
    let fixture = Fixture::new("email").await;
    let tenant = fixture.tenant("team").await;
    let mut ana = user("ana");
    ana.email = Some("ana@example.org".try_into().unwrap());
    fixture.controllers.apply_user(&tenant, &ana).await.unwrap();

    let mut other = user("other");
    other.email = Some("ANA@example.org".try_into().unwrap());
    for suspended in [false, true] {
        other.suspended = suspended;
        let state = fixture
            .controllers
            .apply_user(&tenant, &other)
            .await
            .unwrap();
        assert!(state.email_taken);
    }
    let suspended = "select count(*) from token_user where name = 'other' and suspended";
    assert_eq!(
        fixture.count(suspended).await,
        1,
        "the rest of the spec was not applied"
    );
    assert!(
        !fixture
            .controllers
            .apply_user(&tenant, &ana)
            .await
            .unwrap()
            .email_taken
    );

    fixture
        .controllers
        .delete_user(&tenant, ana.uid)
        .await
        .unwrap();
    assert!(
        !fixture
            .controllers
            .apply_user(&tenant, &other)
            .await
            .unwrap()
            .email_taken
    );

    // Another tenant is another world.
    let elsewhere = fixture.tenant("elsewhere").await;
    let mut twin = user("twin");
    twin.email = other.email;
    assert!(
        !fixture
            .controllers
            .apply_user(&elsewhere, &twin)
            .await
            .unwrap()
            .email_taken
    );
}

#[tokio::test]
async fn a_deleted_users_tokens_are_dead_and_deleting_twice_is_nothing() {
    let fixture = Fixture::new("delete_user").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let spec = token("github", &ana);
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();

    let head = fixture.head(&tenant).await;
    fixture
        .controllers
        .delete_user(&tenant, ana.uid)
        .await
        .unwrap();
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(spec.id)]
    );
    assert_eq!(fixture.count(LIVE_USERS).await, 0);
    assert_eq!(fixture.count(WORKLOADS).await, 0);
    let live = "select count(*) from token_version where state = 'Live'";
    assert_eq!(fixture.count(live).await, 0);

    let head = fixture.head(&tenant).await;
    fixture
        .controllers
        .delete_user(&tenant, ana.uid)
        .await
        .unwrap();
    fixture
        .controllers
        .delete_user(&tenant, user("nobody").uid)
        .await
        .unwrap();
    assert_eq!(fixture.changes(&tenant, head).await, []);
}

#[tokio::test]
async fn a_recreated_user_starts_empty() {
    let fixture = Fixture::new("recreated_user").await;
    let tenant = fixture.tenant("team").await;
    let old = fixture.user(&tenant, "ana").await;
    let spec = token("github", &old);
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();

    // The old object's deletion was missed.
    let head = fixture.head(&tenant).await;
    let new = fixture.user(&tenant, "ana").await;
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(spec.id), Change::Widen]
    );
    assert_eq!(fixture.count(LIVE_USERS).await, 1);
    let old_workloads = format!("{WORKLOADS} where user_uid = '{}'", old.uid);
    assert_eq!(fixture.count(&old_workloads).await, 0);

    // The same value is a new version for the new user, never the old one again.
    let mut spec = spec;
    spec.user_uid = new.uid;
    let state = fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    assert_eq!(state.serving, Serving::Serving);
    assert_eq!(state.newest_version, Some(crate::fixture::version(2)));
    let dead = "select count(*) from token_version where version = 1 and state = 'Dead'";
    assert_eq!(fixture.count(dead).await, 1);
}
