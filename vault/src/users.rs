//! TokenUsers and the workloads that may act as them.
//!
//! What these rows say follows from the spec alone, so a damaged one is written
//! anew from it, after it was put on record; until then it denied.

use std::collections::BTreeSet;

use bursar_seal::TokenId;
use sqlx::PgConnection;

use crate::changes::{self, Change};
use crate::controllers::Controllers;
use crate::db_time::db_now;
use crate::error::VaultError;
use crate::integrity::{self, IntegrityFailure};
use crate::names::{Email, ServiceAccountName, UserName, UserUid};
use crate::rows::{Role, TokenRow, User, UserRow, Workload, WorkloadRow, raise};
use crate::tenant::Tenant;
use crate::tokens::kill_versions;

/// A TokenUser's spec.
#[derive(Clone, Debug)]
pub struct UserSpec {
    /// `metadata.uid`.
    pub uid: UserUid,
    /// `metadata.name`.
    pub name: UserName,
    /// At most one user of a tenant has it.
    pub email: Option<Email>,
    /// What the user may do.
    pub role: Role,
    /// True: nothing is served in this user's name.
    pub suspended: bool,
    /// The service accounts that may act as this user.
    pub workloads: Vec<ServiceAccountName>,
}

/// What became of a user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserState {
    /// True when another user of the tenant has the e-mail address. This user
    /// was stored without one.
    pub email_taken: bool,
    /// Damaged rows that this call found; they are on record, decided nothing,
    /// and were written anew from the spec.
    pub damaged: Vec<IntegrityFailure>,
}

impl Controllers {
    /// Makes the vault's rows say what the spec says. Narrowing (a workload less,
    /// suspension) recalls what brokers hold; widening makes them forget denials.
    /// A live user of the same name and another UID is gone: it is deleted first.
    ///
    /// # Errors
    /// [`VaultError::TermSuperseded`], [`VaultError::TenantRetired`],
    /// [`VaultError::Integrity`] for the tenant's own row, or the database.
    pub async fn apply_user(
        &self,
        tenant: &Tenant,
        spec: &UserSpec,
    ) -> Result<UserState, VaultError> {
        let mut snapshot = self.snapshot().await?;
        let stored = Stored::read(&mut snapshot, tenant, spec).await?;
        snapshot.commit().await?;
        integrity::record_all(self.vault(), &stored.damaged).await?;
        let plan = stored.plan(spec);
        if plan.is_empty() {
            return Ok(stored.state());
        }

        let (mut transaction, tenant) = self.begin_in(tenant.id()).await?;
        let tenant = &tenant;
        let stored = Stored::read(&mut transaction, tenant, spec).await?;
        let plan = stored.plan(spec);
        for failure in &stored.damaged {
            failure.record(&mut *transaction).await?;
        }

        let mut changes = Vec::new();
        if let Some(gone) = stored.rival {
            changes.extend(end_user(&mut transaction, tenant, gone).await?);
        }
        if let Some(user) = &plan.user {
            user.to_row(tenant.keys()).write(&mut transaction).await?;
        }
        for name in &plan.removed {
            WorkloadRow::delete(&mut transaction, tenant.uuid(), spec.uid, name).await?;
        }
        for workload in &plan.added {
            workload
                .to_row(tenant.keys())
                .write(&mut transaction)
                .await?;
        }
        if plan.narrows {
            let tokens = TokenRow::of_user(&mut transaction, tenant.uuid(), spec.uid).await?;
            changes.extend(
                tokens
                    .iter()
                    .map(|token| Change::Recall(token.token_id.into())),
            );
        }
        if plan.widens {
            changes.push(Change::Widen);
        }
        changes::append(&mut transaction, tenant.shard(), tenant.id(), &changes).await?;
        transaction.commit().await?;
        Ok(stored.state())
    }

    /// Ends a user: nothing is served in its name again, and the versions of its
    /// tokens are dead. The tokens stay, and serve the next user of that name
    /// once they are applied with its UID. Nothing happens when it is gone
    /// already.
    ///
    /// # Errors
    /// As [`Controllers::apply_user`].
    pub async fn delete_user(&self, tenant: &Tenant, uid: UserUid) -> Result<(), VaultError> {
        let mut snapshot = self.snapshot().await?;
        let row = UserRow::by_uid(&mut snapshot, tenant.uuid(), uid).await?;
        snapshot.commit().await?;
        if row.is_none_or(|row| row.deleted_time.is_some()) {
            return Ok(());
        }

        let (mut transaction, tenant) = self.begin_in(tenant.id()).await?;
        let tenant = &tenant;
        let changes = end_user(&mut transaction, tenant, uid).await?;
        changes::append(&mut transaction, tenant.shard(), tenant.id(), &changes).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Deletes a user, damaged or not: this only denies. Gives what its brokers
/// must hear.
async fn end_user(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    uid: UserUid,
) -> Result<Vec<Change>, VaultError> {
    let row = UserRow::by_uid(transaction, tenant.uuid(), uid).await?;
    let Some(row) = row.filter(|row| row.deleted_time.is_none()) else {
        return Ok(Vec::new());
    };
    let now = db_now(transaction).await?;
    row.into_deleted(now, tenant.keys())
        .write(transaction)
        .await?;
    WorkloadRow::delete_all(transaction, tenant.uuid(), uid).await?;
    let mut changes = Vec::new();
    for token in TokenRow::of_user(transaction, tenant.uuid(), uid).await? {
        let id = TokenId::from(token.token_id);
        kill_versions(transaction, tenant, id, None).await?;
        changes.push(Change::Recall(id));
    }
    Ok(changes)
}

/// What the vault has of a user.
struct Stored {
    /// `None` when there is none, or none to be believed.
    user: Option<User>,
    /// The epoch of the row, believed or not.
    epoch: i64,
    workloads: Vec<Workload>,
    /// The service accounts in damaged rows.
    unverified: Vec<String>,
    /// A live user of the same name and another UID.
    rival: Option<UserUid>,
    email_taken: bool,
    damaged: Vec<IntegrityFailure>,
}

impl Stored {
    async fn read(
        connection: &mut PgConnection,
        tenant: &Tenant,
        spec: &UserSpec,
    ) -> Result<Self, VaultError> {
        let mut damaged = Vec::new();
        let row = UserRow::by_uid(connection, tenant.uuid(), spec.uid).await?;
        let epoch = row.as_ref().map_or(0, |row| row.epoch);
        let user = row.and_then(|row| {
            row.verify(tenant.keys())
                .map_err(|failure| damaged.push(failure))
                .ok()
        });

        let (mut workloads, mut unverified) = (Vec::new(), Vec::new());
        for row in WorkloadRow::of_user(connection, tenant.uuid(), spec.uid).await? {
            let name = row.service_account_name.clone();
            match row.verify(tenant.keys()) {
                Ok(workload) => workloads.push(workload),
                Err(failure) => {
                    damaged.push(failure);
                    unverified.push(name);
                }
            }
        }

        let rival = UserRow::by_name(connection, tenant.uuid(), &spec.name)
            .await?
            .filter(|row| row.user_uid != spec.uid.as_uuid());
        if let Some(Err(failure)) = rival.clone().map(|row| row.verify(tenant.keys())) {
            damaged.push(failure);
        }
        let email_taken = email_taken(connection, tenant, spec).await?;
        Ok(Self {
            user,
            epoch,
            workloads,
            unverified,
            rival: rival.map(|row| row.user_uid.into()),
            email_taken,
            damaged,
        })
    }

    fn state(&self) -> UserState {
        UserState {
            email_taken: self.email_taken,
            damaged: self.damaged.clone(),
        }
    }

    /// What has to be written.
    fn plan(&self, spec: &UserSpec) -> Plan {
        let wanted: BTreeSet<_> = spec.workloads.iter().collect();
        let had: BTreeSet<_> = self
            .workloads
            .iter()
            .map(|workload| &workload.service_account_name)
            .collect();
        let live = self.user.as_ref().filter(|user| user.is_live());
        let damaged = !self.damaged.is_empty();

        let narrows = damaged
            || live.is_some_and(|user| spec.suspended && !user.suspended)
            || had.difference(&wanted).next().is_some();
        let widens = damaged
            || live.is_none_or(|user| user.suspended && !spec.suspended)
            || wanted.difference(&had).next().is_some();

        let email = if self.email_taken {
            None
        } else {
            spec.email.clone()
        };
        let epoch = if narrows || widens {
            raise(self.epoch)
        } else {
            self.epoch
        };
        let user = User {
            uid: spec.uid,
            name: spec.name.clone(),
            email,
            role: spec.role,
            suspended: spec.suspended,
            epoch,
            deleted_time: None,
        };
        let gone = had.difference(&wanted).map(|name| name.to_string());
        let missing = wanted.difference(&had).map(|name| Workload {
            user_uid: spec.uid,
            service_account_name: ServiceAccountName::clone(name),
        });
        Plan {
            user: (self.user.as_ref() != Some(&user)).then_some(user),
            removed: gone.chain(self.unverified.iter().cloned()).collect(),
            added: missing.collect(),
            narrows,
            widens,
        }
    }
}

async fn email_taken(
    connection: &mut PgConnection,
    tenant: &Tenant,
    spec: &UserSpec,
) -> Result<bool, sqlx::Error> {
    let Some(email) = &spec.email else {
        return Ok(false);
    };
    // A user of the same name is this one, or one that is gone.
    sqlx::query_scalar!(
        r#"select exists (
               select from token_user
               where tenant_id = $1 and email = $2 and name <> $3 and user_uid <> $4
                 and deleted_time is null
           ) as "exists!""#,
        tenant.uuid(),
        email.as_str(),
        spec.name.as_str(),
        spec.uid.as_uuid(),
    )
    .fetch_one(connection)
    .await
}

/// What has to be written so that the rows say what the spec says.
struct Plan {
    user: Option<User>,
    /// Service accounts whose rows go.
    removed: Vec<String>,
    /// Rows that come, perhaps in the place of a damaged one.
    added: Vec<Workload>,
    /// Somebody who might have read may not any more.
    narrows: bool,
    /// Somebody who was denied may read now.
    widens: bool,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.user.is_none() && self.removed.is_empty() && self.added.is_empty()
    }
}
