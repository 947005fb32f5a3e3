//! What people do by the API.

mod reading;
mod revoking;

use bursar_vault::{AuditFilter, Person, RevokeError, Revoked, Tenant, TokenName};
use bursar_wire::people::{AuditPage, AuditQuery};

use crate::fixture::{Fixture, ns, version};

fn person() -> Person {
    Person {
        namespace: ns("security"),
        service_account_name: "auditor".parse().unwrap(),
        name: "ana@example.com".parse().unwrap(),
    }
}

fn github() -> TokenName {
    "github".parse().unwrap()
}

impl Fixture {
    /// Without a version all that there are, as a person does who has looked.
    async fn revoke(&self, tenant: &Tenant, through: Option<u32>) -> Result<Revoked, RevokeError> {
        let through = match through {
            Some(through) => version(through),
            None => self.vault.drain_of(tenant, &github()).await?.0,
        };
        self.vault
            .revoke_token(tenant, &github(), through, &person())
            .await
    }

    async fn audit(&self, tenant: &Tenant, query: AuditQuery) -> AuditPage {
        let filter = AuditFilter::try_from(query).unwrap();
        self.vault
            .query_audit(tenant, &filter, &person())
            .await
            .unwrap()
    }
}

fn of_outcome(outcome: &str) -> AuditQuery {
    AuditQuery {
        outcome: Some(outcome.to_owned()),
        ..AuditQuery::default()
    }
}
