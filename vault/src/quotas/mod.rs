//! Quotas: how much of something may be used in a window of time.
//!
//! What is used is counted per usage ([`UsageId`]): a counter, a subject, windows
//! of one length. A quota is a limit on such a count. Making a quota anew, or
//! another one on the same, does not begin at zero.
//!
//! A row that somebody takes away must not give more. So the ids of all quotas of
//! a tenant stand in one authenticated row, and while one of them is missing or is
//! not what the vault wrote, nothing is granted in the tenant: whom it was about is
//! not known. The controllers write it anew from the object.

mod exhausted;
mod held;
mod query;
mod stored;
mod usage;
mod used_up;
mod uses;

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::changes::{self, Change};
use crate::controllers::Controllers;
use crate::db_time::DbTime;
use crate::error::VaultError;
use crate::integrity::{self, IntegrityFailure};
use crate::names::{Counter, QuotaId, QuotaName};
use crate::rows::{Enforcement, Quota, QuotaRow, QuotaSet, Subject, Window, raise};
use crate::tenant::Tenant;

pub use query::{QuotaFilter, QuotaFilterError};
pub(crate) use stored::Stored;
pub use usage::UsageId;
pub(crate) use usage::{Charge, Concern, User, charges, concerning, concerning_counter, limiting};
pub(crate) use used_up::used_up;
pub(crate) use uses::{Use, uses};

/// A TokenQuota's spec.
#[derive(Clone, Debug)]
pub struct QuotaSpec {
    /// `metadata.uid`.
    pub id: QuotaId,
    /// `metadata.name`.
    pub name: QuotaName,
    /// Whose uses count.
    pub subject: Subject,
    /// What is counted.
    pub counter: Counter,
    /// How many units there are in a window; not negative.
    pub limit: i64,
    /// When it begins anew.
    pub window: Window,
    /// What becomes of a use beyond it.
    pub enforcement: Enforcement,
}

/// How a quota stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuotaState {
    /// Units charged in the present window; `None` for a default, which has a
    /// count for each user.
    pub used: Option<i64>,
    /// When the present window ends; `None` when it does not.
    pub window_end_time: Option<DbTime>,
    /// False while brokers hold allowances from before the quota was as strict as
    /// it is.
    pub enforced: bool,
    /// True when this call changed the quota, and only so that it gives more.
    pub eased: bool,
    /// Damaged rows that this call found; they are on record, and this quota's
    /// was written anew.
    pub damaged: Vec<IntegrityFailure>,
}

impl Controllers {
    /// Makes the vault's rows say what the spec says. A quota that is new or
    /// stricter recalls what the tenant's brokers hold; one that gives more makes
    /// them forget denials. `existing` are the TokenQuotas that the namespace has:
    /// when the list of them is damaged, it is made anew from these.
    ///
    /// # Errors
    /// As [`Controllers::apply_user`].
    pub async fn apply_quota(
        &self,
        tenant: &Tenant,
        spec: &QuotaSpec,
        existing: &BTreeSet<QuotaId>,
    ) -> Result<QuotaState, VaultError> {
        let mut snapshot = self.snapshot().await?;
        let stored = Stored::read(&mut snapshot, tenant).await?;
        let set = stored.believed(&mut snapshot, tenant, existing).await?;
        let plan = Plan::of(spec, &stored, set);
        if !plan.differs {
            let state = state(&mut snapshot, tenant, &plan, stored.damaged).await?;
            snapshot.commit().await?;
            integrity::record_all(self.vault(), &state.damaged).await?;
            return Ok(state);
        }
        snapshot.commit().await?;
        integrity::record_all(self.vault(), &stored.damaged).await?;

        let (mut transaction, tenant) = self.begin_in(tenant.id()).await?;
        let tenant = &tenant;
        let stored = Stored::read(&mut transaction, tenant).await?;
        let set = stored.believed(&mut transaction, tenant, existing).await?;
        let plan = Plan::of(spec, &stored, set);
        plan.quota
            .to_row(tenant.keys())
            .write(&mut transaction)
            .await?;
        plan.set
            .to_row(tenant.keys())
            .write(&mut transaction)
            .await?;
        write_all(&mut transaction, tenant, &plan.defaults).await?;
        let mut changes = Vec::new();
        if plan.stricter && plan.on_accesses {
            // Whom a quota concerns shows at the next grant.
            changes.extend(changes::recall_all(&mut transaction, tenant.id()).await?);
        }
        if plan.looser && plan.on_accesses {
            changes.push(Change::Widen);
        }
        let state = state(&mut transaction, tenant, &plan, stored.damaged).await?;
        changes::append(&mut transaction, tenant.shard(), tenant.id(), &changes).await?;
        transaction.commit().await?;
        Ok(state)
    }

    /// Ends a quota. What was used stays counted. A default that concerns a user again
    /// recalls what the tenant's brokers hold, as a new quota does. Nothing happens when
    /// it is gone already.
    ///
    /// # Errors
    /// As [`Controllers::apply_user`].
    pub async fn delete_quota(
        &self,
        tenant: &Tenant,
        id: QuotaId,
        existing: &BTreeSet<QuotaId>,
    ) -> Result<(), VaultError> {
        let mut snapshot = self.snapshot().await?;
        let stored = Stored::read(&mut snapshot, tenant).await?;
        snapshot.commit().await?;
        if stored.set.is_some_and(|set| !set.ids.contains(&id)) {
            return Ok(());
        }

        let (mut transaction, tenant) = self.begin_in(tenant.id()).await?;
        let tenant = &tenant;
        let stored = Stored::read(&mut transaction, tenant).await?;
        let mut set = stored.believed(&mut transaction, tenant, existing).await?;
        set.ids.retain(|other| *other != id);
        let defaults = defaults_again(&stored.quotas, id, &mut set);
        set.to_row(tenant.keys()).write(&mut transaction).await?;
        write_all(&mut transaction, tenant, &defaults).await?;
        QuotaRow::delete(&mut transaction, tenant.uuid(), id).await?;
        let mut changes = Vec::new();
        if !defaults.is_empty() {
            changes.extend(changes::recall_all(&mut transaction, tenant.id()).await?);
        }
        changes.push(Change::Widen);
        changes::append(&mut transaction, tenant.shard(), tenant.id(), &changes).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// The defaults on accesses that concern a user again without this quota, in a new epoch
/// of the set. Of a damaged quota nobody knows whom it was about.
fn defaults_again(quotas: &[Quota], ended: QuotaId, set: &mut QuotaSet) -> Vec<Quota> {
    let old = quotas.iter().find(|quota| quota.id == ended);
    let gave_way = |quota: &&Quota| {
        quota.id != ended
            && quota.subject == Subject::EachUser
            && !quota.counter.is_own()
            && old.is_none_or(|old| old.replaces(quota))
    };
    let mut defaults: Vec<Quota> = quotas.iter().filter(gave_way).cloned().collect();
    if !defaults.is_empty() {
        set.epoch = raise(set.epoch);
    }
    for default in &mut defaults {
        default.epoch = set.epoch;
    }
    defaults
}

async fn write_all(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    quotas: &[Quota],
) -> Result<(), sqlx::Error> {
    for quota in quotas {
        quota.to_row(tenant.keys()).write(transaction).await?;
    }
    Ok(())
}

/// What has to be written so that the rows say what the spec says.
struct Plan {
    quota: Quota,
    /// Defaults that concern a user again, since the quota is about something else now.
    defaults: Vec<Quota>,
    set: QuotaSet,
    /// Something is to be written.
    differs: bool,
    /// Somebody may use less than before.
    stricter: bool,
    /// Somebody may use more than before.
    looser: bool,
    /// It is, or was, about accesses. Of other counters brokers hold nothing.
    on_accesses: bool,
}

impl Plan {
    fn of(spec: &QuotaSpec, stored: &Stored, mut set: QuotaSet) -> Self {
        let old = stored.quotas.iter().find(|quota| quota.id == spec.id);
        let quota = Quota {
            id: spec.id,
            name: spec.name.clone(),
            subject: spec.subject.clone(),
            counter: spec.counter.clone(),
            units: spec.limit,
            window: spec.window,
            enforcement: spec.enforcement,
            epoch: 0,
        };
        let same_count = |old: &Quota| {
            (&old.subject, &old.counter, old.window)
                == (&quota.subject, &quota.counter, quota.window)
        };
        let stricter = old.is_none_or(|old| {
            !same_count(old)
                || quota.units < old.units
                || (quota.enforcement, old.enforcement) == (Enforcement::Enforce, Enforcement::Warn)
        });
        let looser = old.is_some_and(|old| {
            !same_count(old)
                || quota.units > old.units
                || (quota.enforcement, old.enforcement) == (Enforcement::Warn, Enforcement::Enforce)
        });
        if let Err(place) = set.ids.binary_search(&spec.id) {
            set.ids.insert(place, spec.id);
        }
        let defaults = match old {
            Some(old) if !same_count(old) => defaults_again(&stored.quotas, old.id, &mut set),
            _ => Vec::new(),
        };
        let on_accesses = !quota.counter.is_own() || old.is_some_and(|old| !old.counter.is_own());
        let epoch = match old {
            Some(old) if !stricter => old.epoch,
            _ if !on_accesses => set.epoch,
            _ => {
                set.epoch = raise(set.epoch);
                set.epoch
            }
        };
        let quota = Quota { epoch, ..quota };
        Self {
            differs: old != Some(&quota) || stored.set.as_ref() != Some(&set),
            quota,
            defaults,
            set,
            stricter,
            looser,
            on_accesses,
        }
    }
}

async fn state(
    connection: &mut PgConnection,
    tenant: &Tenant,
    plan: &Plan,
    damaged: Vec<IntegrityFailure>,
) -> Result<QuotaState, sqlx::Error> {
    let quota = &plan.quota;
    let concern = Concern::new(quota, quota.subject.clone());
    let usage = concern.usage;
    let uses = uses(connection, tenant, &[concern]).await?;
    let present = uses.get(&usage).copied().unwrap_or_default();
    let enforced = sqlx::query_scalar!(
        r#"select $3 or not exists (
               select from allowance
               where tenant_id = $1 and state = 'Open' and quota_epoch < $2) as "enforced!""#,
        tenant.uuid(),
        quota.epoch,
        // Nothing of it is handed out ahead.
        quota.counter.is_own(),
    )
    .fetch_one(connection)
    .await?;
    Ok(QuotaState {
        used: (quota.subject != Subject::EachUser).then_some(present.used),
        window_end_time: present.window_end_time,
        enforced,
        eased: plan.looser && !plan.stricter,
        damaged,
    })
}
