//! What bears on a grant, in one snapshot: read in one round trip, without a lock.

use sqlx::PgConnection;
use uuid::Uuid;

use super::reader::AccountRows;
use super::watchers::WatcherId;
use crate::db_time::DbTime;
use crate::names::{TokenName, UserName};
use crate::rows::{
    ConsumerRow, IncarnationRow, QuotaRow, QuotaSetRow, TenantRow, TokenRow, UserRow, VersionRow,
    WorkloadRow,
};

/// Rows as they lie in the database: nothing here is verified.
pub(crate) struct Snapshot {
    /// The database's clock.
    pub(crate) now: DbTime,
    pub(crate) tenant: Option<TenantRow>,
    pub(crate) incarnation: IncarnationRow,
    pub(crate) fenced: bool,
    pub(crate) last_request_no: i64,
    /// The allowance that the last request was answered with, if it was granted one.
    pub(crate) last_allowance_id: Option<Uuid>,
    pub(crate) user: Option<UserRow>,
    pub(crate) workloads: Vec<WorkloadRow>,
    pub(crate) tokens: Vec<TokenRow>,
    pub(crate) consumers: Vec<ConsumerRow>,
    pub(crate) quota_set: Option<QuotaSetRow>,
    pub(crate) quotas: Vec<QuotaRow>,
    /// The newest version of the token that is named or, if none is, of the user's only one.
    /// Not of all of them: each has a value of up to 32 KiB.
    pub(crate) version: Option<VersionRow>,
}

impl Snapshot {
    /// Reads it; `None` when there is no such incarnation.
    ///
    /// Each `row` has the columns in the order of the struct's fields.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        id: WatcherId,
        user: &UserName,
        token: Option<&TokenName>,
    ) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"with
                one_user as (
                    select * from token_user
                    where tenant_id = $1 and name = $3 and deleted_time is null),
                own_token as (
                    select * from token
                    where tenant_id = $1 and user_uid = (select user_uid from one_user)
                      and deleted_time is null)
            select
                now() as "now!: DbTime",
                (select row(n.tenant_id, n.shard, n.cluster_id, n.namespace, n.namespace_uid,
                            n.retired_time, n.key_version, n.mac)
                 from tenant n where n.tenant_id = i.tenant_id) as "tenant: TenantRow",
                row(i.tenant_id, i.incarnation_id, i.pod_uid, i.pod_name, i.service_account_name,
                    i.service_account_uid, i.review_due_time, i.key_version, i.mac)
                    as "incarnation!: IncarnationRow",
                i.fenced_time is not null as "fenced!",
                i.last_request_no,
                i.last_allowance_id,
                (select row(u.tenant_id, u.user_uid, u.name, u.email, u.role, u.suspended, u.epoch,
                            u.deleted_time, u.key_version, u.mac)
                 from one_user u) as "user: UserRow",
                array(select row(w.tenant_id, w.user_uid, w.service_account_name, w.access,
                                 w.key_version, w.mac)
                      from workload w
                      where w.tenant_id = $1 and w.user_uid = (select user_uid from one_user)
                      order by w.service_account_name) as "workloads!: Vec<WorkloadRow>",
                array(select row(t.tenant_id, t.token_id, t.name, t.user_uid, t.provider,
                                 t.expiration_time, t.narrowed, t.through_version, t.api_through_version,
                                 t.newest_version, t.deletion_policy, t.epoch, t.deleted_time,
                                 t.key_version, t.mac)
                      from own_token t order by t.token_id) as "tokens!: Vec<TokenRow>",
                array(select row(c.tenant_id, c.token_id, c.service_account_name, c.purposes,
                                 c.key_version, c.mac)
                      from consumer c
                      where c.tenant_id = $1
                        and c.token_id in (select token_id from own_token where narrowed))
                    as "consumers!: Vec<ConsumerRow>",
                (select row(s.tenant_id, s.quota_ids, s.epoch, s.key_version, s.mac)
                 from quota_set s where s.tenant_id = $1) as "quota_set: QuotaSetRow",
                array(select row(q.tenant_id, q.quota_id, q.name, q.subject_kind, q.subject,
                                 q.counter, q.units, q.period_s, q.enforcement, q.epoch,
                                 q.key_version, q.mac)
                      from quota_set s
                      join quota q on q.tenant_id = s.tenant_id and q.quota_id = any(s.quota_ids)
                      where s.tenant_id = $1) as "quotas!: Vec<QuotaRow>",
                (select row(v.tenant_id, v.token_id, v.version, v.state, v.origin,
                            v.secret_version, v.fingerprint, v.version_time, v.shred_time,
                            v.wrapped_key, v.ciphertext, v.key_version, v.mac)
                 from own_token t
                 join token_version v on v.tenant_id = t.tenant_id and v.token_id = t.token_id
                                     and v.version = t.newest_version
                 where t.name = $4
                    or $4::text is null and (select count(*) from own_token) = 1
                 limit 1) as "version: VersionRow"
            from incarnation i
            where i.tenant_id = $1 and i.incarnation_id = $2"#,
            id.tenant.as_uuid(),
            id.incarnation,
            user.as_str(),
            token.map(TokenName::as_str),
        )
        .fetch_optional(connection)
        .await
    }

    /// Those of them that say what a service account may see of the user.
    pub(crate) fn take_account(&mut self) -> AccountRows {
        AccountRows {
            user: self.user.take(),
            workloads: std::mem::take(&mut self.workloads),
            tokens: std::mem::take(&mut self.tokens),
            consumers: std::mem::take(&mut self.consumers),
        }
    }
}
