//! The quotas of a tenant, as they lie in the database.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::integrity::IntegrityFailure;
use crate::names::QuotaId;
use crate::rows::{AuthenticatedRow, Quota, QuotaRow, QuotaSet, QuotaSetRow, raise};
use crate::tenant::Tenant;

/// What could be believed of them, and what not.
pub(crate) struct Stored {
    /// `None` when the list itself is not what the vault wrote.
    pub(crate) set: Option<QuotaSet>,
    /// Those of the list that are.
    pub(crate) quotas: Vec<Quota>,
    pub(crate) damaged: Vec<IntegrityFailure>,
    /// Which writing of the list it was, as Postgres tells them apart (`xmin`): whoever
    /// changes a quota writes the list anew.
    pub(crate) set_xmin: Option<String>,
}

impl Stored {
    /// List and rows of one snapshot: a row of the list that is not there was
    /// taken away by somebody else.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        tenant: &Tenant,
    ) -> Result<Self, sqlx::Error> {
        let found = sqlx::query!(
            r#"select s.xmin::text as "set_xmin!", s.tenant_id, s.quota_ids, s.epoch,
                      s.key_version, s.mac,
                      q.quota_id as "quota_id?", q.name as "name?",
                      q.subject_kind as "subject_kind?", q.subject as "subject?",
                      q.counter as "counter?", q.units as "units?", q.period_s as "period_s?",
                      q.enforcement as "enforcement?", q.epoch as "quota_epoch?",
                      q.key_version as "quota_key_version?", q.mac as "quota_mac?"
               from quota_set s
               left join quota q on q.tenant_id = s.tenant_id and q.quota_id = any(s.quota_ids)
               where s.tenant_id = $1"#,
            tenant.uuid(),
        )
        .fetch_all(connection)
        .await?;
        let mut set = None;
        let mut set_xmin = None;
        let mut rows = Vec::new();
        for row in found {
            let columns = (
                (row.quota_id, row.name, row.subject_kind, row.subject),
                (row.counter, row.units, row.enforcement),
                (row.quota_epoch, row.quota_key_version, row.quota_mac),
            );
            if let (
                (Some(quota_id), Some(name), Some(subject_kind), Some(subject)),
                (Some(counter), Some(units), Some(enforcement)),
                (Some(epoch), Some(key_version), Some(mac)),
            ) = columns
            {
                rows.push(QuotaRow {
                    tenant_id: row.tenant_id,
                    quota_id,
                    name,
                    subject_kind,
                    subject,
                    counter,
                    units,
                    period_s: row.period_s,
                    enforcement,
                    epoch,
                    key_version,
                    mac,
                });
            }
            set_xmin = Some(row.set_xmin);
            set = Some(QuotaSetRow {
                tenant_id: row.tenant_id,
                quota_ids: row.quota_ids,
                epoch: row.epoch,
                key_version: row.key_version,
                mac: row.mac,
            });
        }
        Ok(Self {
            set_xmin,
            ..Self::of(tenant, set, rows)
        })
    }

    /// The list, and the rows of those that are on it, as one snapshot has them.
    pub(crate) fn of(tenant: &Tenant, set: Option<QuotaSetRow>, rows: Vec<QuotaRow>) -> Self {
        let missing =
            |table: &'static str, key: String| IntegrityFailure::new(tenant.id(), table, key, &[]);
        let set = set
            .ok_or_else(|| missing(QuotaSetRow::TABLE, tenant.id().to_string()))
            .and_then(|row| row.verify(tenant.keys()));
        let mut damaged = Vec::new();
        let mut quotas = Vec::new();
        let mut found: Vec<QuotaId> = Vec::new();
        for row in rows {
            found.push(row.quota_id.into());
            match row.verify(tenant.keys()) {
                Ok(quota) => quotas.push(quota),
                Err(failure) => damaged.push(failure),
            }
        }
        let set = set.map_err(|failure| damaged.push(failure)).ok();
        let listed = set.iter().flat_map(|set| &set.ids);
        let gone = listed.filter(|id| !found.contains(id));
        damaged.extend(gone.map(|id| missing(QuotaRow::TABLE, id.to_string())));
        Self {
            set,
            quotas,
            damaged,
            set_xmin: None,
        }
    }

    /// The set as it is or, when it is damaged, as it must be: of the quotas that exist,
    /// and newer than whatever was granted.
    pub(crate) async fn believed(
        &self,
        connection: &mut PgConnection,
        tenant: &Tenant,
        existing: &BTreeSet<QuotaId>,
    ) -> Result<QuotaSet, sqlx::Error> {
        if let Some(set) = &self.set {
            return Ok(set.clone());
        }
        let epoch = sqlx::query_scalar!(
            r#"select greatest(
                   (select max(quota_epoch) from allowance where tenant_id = $1),
                   (select max(epoch) from quota where tenant_id = $1), 0) as "epoch!""#,
            tenant.uuid(),
        )
        .fetch_one(connection)
        .await?;
        Ok(QuotaSet {
            ids: existing.iter().copied().collect(),
            epoch: raise(epoch),
        })
    }

    /// All quotas and the epoch of the set, unless anything is not as it should be:
    /// nobody knows then whom a damaged quota was about.
    pub(crate) fn whole(self) -> Result<(Vec<Quota>, i64), Vec<IntegrityFailure>> {
        match self.set {
            Some(set) if self.damaged.is_empty() => Ok((self.quotas, set.epoch)),
            _ => Err(self.damaged),
        }
    }
}
