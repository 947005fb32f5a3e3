//! The writes of the controllers, in the leader's term.
//!
//! Each public call is one transaction (`ensure_tenant`, which may retire
//! another tenant first, is one for each tenant). Locks are taken in this order,
//! by these and by all other writes of the vault, so that no two ever wait for each
//! other in a circle; each takes what it needs of them:
//!
//! 1. `leader_term`, shared: no other leader begins before the commit;
//! 2. the row of `tenant`: the writes of a tenant happen one after another, so
//!    that what is read below stays as it was read;
//! 3. rows of users, tokens and versions, in any order: whoever writes some of a
//!    tenant has locked the tenant, also where revoking a value ends versions of
//!    other tokens;
//! 4. for brokers and the sweep, which take none of the above: the row of
//!    `incarnation`, then `denial_told`, `idempotency_key`, `allowance`,
//!    `quota_window` in the order of its key, and `slow_start`;
//! 5. where something is recorded, the table `access_record`, then the row of
//!    `audit_chain`; retention takes the whole table, after 1 alone;
//! 6. `change_head`, last and shortest.
//!
//! A call first reads in one snapshot without locks, and writes nothing at all
//! when the rows already are what the spec says.

use bursar_seal::TenantId;
use sqlx::{Postgres, Transaction};

use crate::error::VaultError;
use crate::tenant::Tenant;
use crate::term::Term;
use crate::vault::Vault;

/// What the leader's controllers may do to the vault. Made anew for each term.
#[derive(Clone)]
pub struct Controllers {
    vault: Vault,
    term: Term,
}

impl Vault {
    /// The controllers' side of the vault, in `term`.
    #[must_use]
    pub fn controllers(&self, term: Term) -> Controllers {
        Controllers {
            vault: self.clone(),
            term,
        }
    }
}

impl Controllers {
    /// The vault behind.
    #[must_use]
    pub const fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The term in which these controllers write.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// A transaction that ends in this term or not at all.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, VaultError> {
        let mut transaction = self.vault.begin().await?;
        self.term.hold(&mut transaction).await?;
        Ok(transaction)
    }

    /// The same, with a live tenant locked for it.
    pub(crate) async fn begin_in(
        &self,
        tenant: TenantId,
    ) -> Result<(Transaction<'static, Postgres>, Tenant), VaultError> {
        self.vault.lock_tenant(self.begin().await?, tenant).await
    }

    /// One snapshot for several reads.
    pub(crate) async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, VaultError> {
        let begin = "begin isolation level repeatable read read only";
        let mut transaction = self.vault.begin_with(begin).await?;
        self.term.check(&mut transaction).await?;
        Ok(transaction)
    }
}
