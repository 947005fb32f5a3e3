//! A tenant with everything in it that can be damaged.

use bursar_vault::rows::{Consumer, ConsumerRow, TokenRow, UserRow, VersionRow, WorkloadRow};
use bursar_vault::{
    Controllers, Serving, Source, Tenant, TenantKeys, TokenSpec, UserSpec, VaultError,
};

use crate::fixture::{Fixture, ns, ns_uid, token, user, value_of};

/// A tenant with two users, each with a token, and their specs.
pub(crate) struct Team {
    pub(crate) namespace: String,
    pub(crate) tenant: Tenant,
    pub(crate) ana: UserSpec,
    pub(crate) github: TokenSpec,
    pub(crate) bo: UserSpec,
    pub(crate) slack: TokenSpec,
}

impl Team {
    pub(crate) async fn new(fixture: &Fixture, namespace: &str) -> Self {
        let tenant = fixture.tenant_with_uid(namespace, namespace).await;
        let (mut ana, bo) = (user("ana"), user("bo"));
        ana.workloads.push("cron".parse().unwrap());
        let purposes = vec!["deploy".parse().unwrap()];
        let mut github = token("github", &ana);
        github.consumers = Some(vec![
            Consumer::new("app".parse().unwrap(), Some(purposes)),
            Consumer::new("cron".parse().unwrap(), None),
        ]);
        let slack = token("slack", &bo);
        let team = Self {
            namespace: namespace.to_owned(),
            tenant,
            ana,
            github,
            bo,
            slack,
        };
        for user in [&team.ana, &team.bo] {
            fixture
                .controllers
                .apply_user(&team.tenant, user)
                .await
                .unwrap();
        }
        for token in [&team.github, &team.slack] {
            fixture
                .apply(&team.tenant, token, token.name.as_str())
                .await
                .unwrap();
        }
        team
    }

    /// The one row of ana's that is changed.
    pub(crate) fn row(&self, table: &str) -> String {
        let tenant = format!("tenant_id = '{}'", self.tenant.id());
        let user = format!("{tenant} and user_uid = '{}'", self.ana.uid);
        let token = format!("{tenant} and token_id = '{}'", self.github.id);
        match table {
            "tenant" | "tenant_key" => tenant,
            "tenant_secret" => format!("{tenant} and purpose = 'fingerprint'"),
            "token_user" => user,
            "workload" => format!("{user} and service_account_name = 'app'"),
            "token" | "token_version" => token,
            "consumer" => format!("{token} and service_account_name = 'app'"),
            other => panic!("no row of {other}"),
        }
    }

    /// Applies all there is of one user, as a controller does. Gives whether the
    /// token is served then.
    pub(crate) async fn apply(
        &self,
        controllers: &Controllers,
        (user, token): (&UserSpec, &TokenSpec),
    ) -> Result<Serving, VaultError> {
        let tenant = controllers
            .ensure_tenant(&ns(&self.namespace), &ns_uid(&self.namespace))
            .await?;
        controllers.apply_user(&tenant, user).await?;
        let value = value_of(token.name.as_str());
        let state = controllers
            .apply_token(&tenant, token, Source::SecretKeyRef(&value))
            .await?;
        Ok(state.serving)
    }
}

/// Whether each row that a statement gives is authentic.
pub(crate) async fn authentic(
    fixture: &Fixture,
    table: &str,
    statement: String,
    keys: &TenantKeys,
) -> Vec<bool> {
    macro_rules! verified {
        ($row:ty) => {{
            let rows: Vec<$row> = fixture.tamper_returning(&statement).await;
            rows.into_iter()
                .map(|row| row.verify(keys).is_ok())
                .collect()
        }};
    }
    match table {
        "token_user" => verified!(UserRow),
        "workload" => verified!(WorkloadRow),
        "token" => verified!(TokenRow),
        "consumer" => verified!(ConsumerRow),
        "token_version" => verified!(VersionRow),
        other => panic!("no rows of {other}"),
    }
}

/// The tables of the failures on record, oldest first.
pub(crate) async fn records(fixture: &Fixture) -> Vec<String> {
    sqlx::query_scalar("select table_name from integrity_failure order by found_time")
        .fetch_all(&fixture.sql)
        .await
        .unwrap()
}

pub(crate) async fn fixture_with(hint: &str) -> Fixture {
    let fixture = Fixture::new(hint).await;
    // Who writes the database can drop what only the schema holds.
    fixture
        .tamper("alter table workload drop constraint workload_access_check")
        .await;
    fixture
}
