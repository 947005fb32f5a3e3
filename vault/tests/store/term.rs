//! Only the present leader's controllers write.

use bursar_vault::rows::DeletionPolicy;
use bursar_vault::{Category, VaultError};

use crate::fixture::{Fixture, ns, ns_uid, token};

#[tokio::test]
async fn an_older_leader_writes_nothing_any_more() {
    let fixture = Fixture::new("term").await;
    let tenant = fixture.tenant_with_uid("team", "uid-1").await;
    let ana = fixture.user(&tenant, "ana").await;
    let spec = token("github", &ana);
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();

    let newer = fixture.vault.take_term().await.unwrap();
    assert!(newer > fixture.controllers.term());
    let before = fixture.everything().await;
    let old = &fixture.controllers;
    let mut wider = ana.clone();
    wider.workloads.push("other".parse().unwrap());
    let refused = [
        old.ensure_tenant(&ns("team"), &ns_uid("uid-1"))
            .await
            .map(drop),
        old.ensure_tenant(&ns("new"), &ns_uid("uid-2"))
            .await
            .map(drop),
        old.apply_user(&tenant, &ana).await.map(drop),
        old.apply_user(&tenant, &wider).await.map(drop),
        old.delete_user(&tenant, ana.uid).await,
        fixture.apply(&tenant, &spec, "hunter2").await.map(drop),
        fixture.apply(&tenant, &spec, "new value").await.map(drop),
        old.delete_token(&tenant, spec.id, Some(DeletionPolicy::Shred))
            .await,
    ];
    for (call, result) in refused.into_iter().enumerate() {
        let error = result.unwrap_err();
        assert!(
            matches!(error, VaultError::TermSuperseded { .. }),
            "call {call}: {error}"
        );
        assert_eq!(error.category(), Category::Superseded);
    }
    assert_eq!(
        before,
        fixture.everything().await,
        "an older leader wrote something"
    );

    let new = fixture.vault.controllers(newer);
    new.apply_user(&tenant, &wider).await.unwrap();
}

#[tokio::test]
async fn a_new_leader_waits_for_the_write_of_the_older_one_that_is_under_way() {
    let (fixture, tenant, spec) = Fixture::with_token("term_waits").await;

    let gate = fixture.hold_writes(&tenant).await;
    let stored = "select count(*) from token_version";
    let (written, seen, ()) = tokio::join!(
        fixture.apply(&tenant, &spec, "hunter2"),
        async {
            fixture.until_waiting(1).await;
            let newer = fixture.vault.take_term().await.unwrap();
            assert!(newer > fixture.controllers.term());
            fixture.count(stored).await
        },
        async {
            // The write for the tenant, the new leader for the write.
            fixture.until_waiting(2).await;
            gate.commit().await.unwrap();
        },
    );
    written.unwrap();
    assert_eq!(seen, 1, "the new leader began before the write was there");
}
