//! Tokens and how they get versions.

use bursar_vault::rows::{Consumer, DeletionPolicy};
use bursar_vault::{
    Change, Format, GenerateSpec, Serving, Source, Tenant, TokenSpec, TokenState, VaultError,
};

use crate::fixture::{Fixture, token, user, version};

async fn unavailable(fixture: &Fixture, tenant: &Tenant, spec: &TokenSpec) -> TokenState {
    fixture
        .controllers
        .apply_token(tenant, spec, Source::Unavailable)
        .await
        .unwrap()
}

async fn fixture_with_token(hint: &str) -> (Fixture, Tenant, TokenSpec) {
    let fixture = Fixture::new(hint).await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let spec = token("github", &ana);
    (fixture, tenant, spec)
}

#[tokio::test]
async fn the_first_value_is_version_one() {
    let (fixture, tenant, spec) = fixture_with_token("first").await;
    let head = fixture.head(&tenant).await;
    let state = fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    assert_eq!(state.newest_version, Some(version(1)));
    assert_eq!(state.serving, Serving::Serving);
    assert!(state.stored_new_version && state.refused.is_none() && state.damaged.is_empty());
    assert!(state.version_time.is_some());
    assert_eq!(fixture.changes(&tenant, head).await, [Change::Widen]);
}

#[tokio::test]
async fn an_unchanged_value_writes_nothing_at_all() {
    let (fixture, tenant, mut spec) = fixture_with_token("unchanged").await;
    spec.consumers = Some(vec![Consumer::new("app".parse().unwrap(), None)]);
    spec.expiration_time = Some("2100-01-01T00:00:00.123456789Z".parse().unwrap());
    let first = fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    let before = fixture.everything().await;
    let again = fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    assert!(!again.stored_new_version);
    assert_eq!(
        (again.newest_version, again.version_time),
        (first.newest_version, first.version_time)
    );
    unavailable(&fixture, &tenant, &spec).await;
    assert_eq!(before, fixture.everything().await, "something was written");
}

#[tokio::test]
async fn another_value_is_the_next_version_also_when_it_was_there_before() {
    let (fixture, tenant, spec) = fixture_with_token("next").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    let head = fixture.head(&tenant).await;
    let second = fixture.apply(&tenant, &spec, "two").await.unwrap();
    assert_eq!(second.newest_version, Some(version(2)));
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Supersede(spec.id)]
    );
    let third = fixture.apply(&tenant, &spec, "one").await.unwrap();
    assert_eq!(third.newest_version, Some(version(3)));
}

#[tokio::test]
async fn a_source_that_cannot_be_read_leaves_the_newest_version_served() {
    let (fixture, tenant, spec) = fixture_with_token("unavailable").await;
    let state = unavailable(&fixture, &tenant, &spec).await;
    assert_eq!(
        (state.newest_version, state.serving),
        (None, Serving::NoVersion)
    );
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    let state = unavailable(&fixture, &tenant, &spec).await;
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(1)), Serving::Serving)
    );
}

#[tokio::test]
async fn a_generated_value_is_made_once() {
    let (fixture, tenant, mut spec) = fixture_with_token("generate").await;
    let generate = GenerateSpec::new(Format::Base62, 40, "tok_".to_owned()).unwrap();
    let source = || Source::Generate(&generate);
    let first = fixture
        .controllers
        .apply_token(&tenant, &spec, source())
        .await
        .unwrap();
    assert_eq!(
        (first.newest_version, first.serving),
        (Some(version(1)), Serving::Serving)
    );
    let before = fixture.everything().await;
    let again = fixture
        .controllers
        .apply_token(&tenant, &spec, source())
        .await
        .unwrap();
    assert!(!again.stored_new_version);
    assert_eq!(before, fixture.everything().await, "something was written");

    spec.through_version = Some(version(1));
    let renewed = fixture
        .controllers
        .apply_token(&tenant, &spec, source())
        .await
        .unwrap();
    assert_eq!(
        (renewed.newest_version, renewed.serving),
        (Some(version(2)), Serving::Serving)
    );
    let distinct = "select count(distinct fingerprint) from token_version";
    assert_eq!(fixture.count(distinct).await, 2);
}

#[tokio::test]
async fn a_token_without_its_user_is_refused() {
    let (fixture, tenant, _) = fixture_with_token("no_user").await;
    let nobody = user("nobody");
    let error = fixture
        .apply(&tenant, &token("lost", &nobody), "x")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::UserNotFound { user, .. } if user == nobody.uid));

    fixture
        .controllers
        .apply_user(&tenant, &nobody)
        .await
        .unwrap();
    fixture
        .controllers
        .delete_user(&tenant, nobody.uid)
        .await
        .unwrap();
    let error = fixture
        .apply(&tenant, &token("lost", &nobody), "x")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::UserNotFound { .. }));
}

#[tokio::test]
async fn why_a_token_cannot_be_read_is_told() {
    let (fixture, tenant, mut spec) = fixture_with_token("serving").await;
    spec.expiration_time = Some("2001-01-01T00:00:00Z".parse().unwrap());
    let state = fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    assert_eq!(state.serving, Serving::Expired);

    spec.expiration_time = None;
    let mut ana = user("ana");
    ana.uid = spec.user_uid;
    ana.suspended = true;
    fixture.controllers.apply_user(&tenant, &ana).await.unwrap();
    let state = fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    assert_eq!(state.serving, Serving::UserSuspended);
}

#[tokio::test]
async fn what_is_taken_away_is_recalled_and_what_is_given_forgets_denials() {
    let (fixture, tenant, spec) = fixture_with_token("changes").await;
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    let (recall, supersede) = (Change::Recall(spec.id), Change::Supersede(spec.id));

    type Edit = fn(&mut TokenSpec);
    fn consumers(spec: &mut TokenSpec, list: &[(&str, Option<&[&str]>)]) {
        let parse = |purposes: &[&str]| purposes.iter().map(|text| text.parse().unwrap()).collect();
        let consumer = |(name, purposes): &(&str, Option<&[&str]>)| {
            Consumer::new(name.parse().unwrap(), purposes.map(parse))
        };
        spec.consumers = Some(list.iter().map(consumer).collect());
    }
    fn expires(spec: &mut TokenSpec, time: &str) {
        spec.expiration_time = Some(time.parse().unwrap());
    }
    let steps: [(&str, Edit, &[Change]); 13] = [
        (
            "narrowed",
            |spec| consumers(spec, &[("app", None)]),
            &[recall],
        ),
        (
            "one more",
            |spec| consumers(spec, &[("app", None), ("web", None)]),
            &[supersede, Change::Widen],
        ),
        (
            "purposes",
            |spec| consumers(spec, &[("app", Some(&["a", "b"])), ("web", None)]),
            &[recall],
        ),
        (
            "in another order",
            |spec| consumers(spec, &[("web", None), ("app", Some(&["b", "a", "a"]))]),
            &[],
        ),
        (
            "a purpose more",
            |spec| consumers(spec, &[("app", Some(&["a", "b", "c"])), ("web", None)]),
            &[supersede, Change::Widen],
        ),
        (
            "another purpose",
            |spec| consumers(spec, &[("app", Some(&["a", "d"])), ("web", None)]),
            &[recall, Change::Widen],
        ),
        (
            "one less",
            |spec| consumers(spec, &[("web", None)]),
            &[recall],
        ),
        ("nobody", |spec| consumers(spec, &[]), &[recall]),
        (
            "everybody",
            |spec| spec.consumers = None,
            &[supersede, Change::Widen],
        ),
        (
            "an end",
            |spec| expires(spec, "2100-01-01T00:00:00Z"),
            &[recall],
        ),
        (
            "a later end",
            |spec| expires(spec, "2101-01-01T00:00:00Z"),
            &[supersede, Change::Widen],
        ),
        (
            "no end",
            |spec| spec.expiration_time = None,
            &[supersede, Change::Widen],
        ),
        (
            "deletion policy",
            |spec| spec.deletion_policy = DeletionPolicy::Shred,
            &[],
        ),
    ];
    let mut spec = spec;
    let mut epoch = 1;
    for (step, edit, expected) in steps {
        let head = fixture.head(&tenant).await;
        edit(&mut spec);
        fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
        assert_eq!(fixture.changes(&tenant, head).await, expected, "{step}");
        epoch += i64::from(!expected.is_empty());
        assert_eq!(
            fixture.count("select epoch from token").await,
            epoch,
            "{step}"
        );
    }
}

#[tokio::test]
async fn a_recreated_token_starts_at_one_and_the_old_one_is_retained() {
    let (fixture, tenant, old) = fixture_with_token("recreated_token").await;
    fixture.apply(&tenant, &old, "one").await.unwrap();
    fixture.apply(&tenant, &old, "two").await.unwrap();

    let mut new = old.clone();
    new.id = token("x", &user("x")).id;
    let head = fixture.head(&tenant).await;
    let state = fixture.apply(&tenant, &new, "two").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(1)), Serving::Serving)
    );
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(old.id), Change::Widen]
    );
    let retained = format!(
        "select count(*) from token_version
         where token_id = '{}' and state = 'Dead' and shred_time > now() + interval '6 days'",
        old.id
    );
    assert_eq!(fixture.count(&retained).await, 2);
}

#[tokio::test]
async fn changes_are_numbered_without_gaps_in_the_order_of_their_commits() {
    let (fixture, tenant, spec) = fixture_with_token("numbers").await;
    let users: Vec<_> = (0..8).map(|n| user(&format!("user-{n}"))).collect();
    let applied = users
        .iter()
        .map(|user| fixture.controllers.apply_user(&tenant, user));
    for result in futures::future::join_all(applied).await {
        result.unwrap();
    }
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    let read = bursar_vault::read_after(&fixture.sql, tenant.shard(), 0, 1000)
        .await
        .unwrap();
    let numbers: Vec<i64> = read.iter().map(|change| change.seq).collect();
    let head = fixture.head(&tenant).await;
    assert_eq!(numbers, (1..=head).collect::<Vec<_>>());
    assert_eq!(head, 10);
}
