//! One run of one broker process, and how a call proves that it comes from it.
//!
//! A broker shows its incarnation's id and proof as metadata. Nothing of it is
//! cached: each call reads the row anyway, most of them under its lock, so that
//! a fence set by another replica holds from its commit on.

use std::fmt;
use std::str::FromStr;

use bursar_wire::metadata::{INCARNATION_ID, INCARNATION_PROOF};
use sqlx::PgConnection;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::VaultService;
use super::error::CallError;
use super::watchers::WatcherId;
use crate::db_time::DbTime;
use crate::rows::{Incarnation, IncarnationRow};
use crate::tenant::Tenant;

/// The id of an incarnation on the wire: `TENANT.INCARNATION`.
///
/// The tenant comes with it because every key of the schema begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IncarnationId(pub(crate) WatcherId);

impl fmt::Display for IncarnationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.tenant, self.0.incarnation)
    }
}

impl FromStr for IncarnationId {
    type Err = CallError;

    fn from_str(text: &str) -> Result<Self, CallError> {
        let (tenant, incarnation) = text.split_once('.').ok_or(CallError::Unauthenticated)?;
        let uuid = |text: &str| Uuid::parse_str(text).map_err(|_| CallError::Unauthenticated);
        Ok(Self(WatcherId {
            tenant: uuid(tenant)?.into(),
            incarnation: uuid(incarnation)?,
        }))
    }
}

/// Who a call says it comes from. Nothing is proven before its row was read.
pub(crate) struct Claimed {
    pub(crate) id: WatcherId,
    pub(crate) tenant: Tenant,
    pub(crate) proof: Vec<u8>,
}

impl Claimed {
    /// Whether the proof was made for this incarnation and pod. Only its row says
    /// under which version of the tenant's key, and whether it still lives.
    pub(crate) fn is_proven_for(&self, pod_uid: &str) -> bool {
        let mut keys = self.tenant.keys().all();
        keys.any(|key| {
            key.verify_incarnation_proof(self.id.incarnation, pod_uid, &self.proof)
                .is_ok()
        })
    }
}

/// A proven, live incarnation. Its row is locked if it was read in a transaction.
pub(crate) struct Running {
    pub(crate) incarnation: Incarnation,
    pub(crate) last_report_seq: i64,
    pub(crate) last_report_digest: Option<Vec<u8>>,
    pub(crate) last_request_no: i64,
    /// The allowance that the last request was answered with, if it was granted one.
    pub(crate) last_allowance: Option<Uuid>,
    /// The database's clock.
    pub(crate) now: DbTime,
}

/// The id and the proof that a call shows.
pub(crate) fn shown(metadata: &MetadataMap) -> Result<(WatcherId, Vec<u8>), CallError> {
    let id = metadata.get(INCARNATION_ID).and_then(|id| id.to_str().ok());
    let proof = metadata
        .get_bin(INCARNATION_PROOF)
        .and_then(|proof| proof.to_bytes().ok());
    let (Some(id), Some(proof)) = (id, proof) else {
        return Err(CallError::Unauthenticated);
    };
    let IncarnationId(id) = id.parse()?;
    Ok((id, proof.to_vec()))
}

impl VaultService {
    /// Finds the tenant of who a call says it comes from.
    pub(crate) async fn claim(&self, id: WatcherId, proof: Vec<u8>) -> Result<Claimed, CallError> {
        let tenant = self.vault().tenant_by_id(id.tenant).await?;
        let tenant = tenant.ok_or(CallError::Unauthenticated)?;
        Ok(Claimed { id, tenant, proof })
    }

    /// Reads the incarnation's row and locks it until the transaction ends.
    ///
    /// # Errors
    /// Those of [`Self::lock_late`], and [`CallError::Overdue`] unless it was
    /// reviewed in time.
    pub(crate) async fn lock(
        &self,
        connection: &mut PgConnection,
        claimed: &Claimed,
    ) -> Result<Running, CallError> {
        let running = self.lock_late(connection, claimed).await?;
        self.in_time(&running)?;
        Ok(running)
    }

    /// Refuses unless it was reviewed in time.
    pub(crate) fn in_time(&self, running: &Running) -> Result<(), CallError> {
        let due = running.incarnation.review_due_time;
        if due.after(self.settings().review_grace) < running.now {
            return Err(CallError::Overdue);
        }
        Ok(())
    }

    /// The same however late its review is.
    ///
    /// # Errors
    /// [`CallError::Unauthenticated`] unless it exists, proves itself, and was
    /// not fenced; [`CallError::Damaged`] when the row is not ours.
    pub(crate) async fn lock_late(
        &self,
        connection: &mut PgConnection,
        claimed: &Claimed,
    ) -> Result<Running, CallError> {
        let row = sqlx::query!(
            r#"select tenant_id, incarnation_id, pod_uid, pod_name, service_account_name,
                      service_account_uid, review_due_time as "review_due_time: DbTime",
                      key_version, mac, last_report_seq, last_report_digest, last_request_no,
                      last_allowance_id, now() as "now!: DbTime",
                      fenced_time is not null as "fenced!"
               from incarnation
               where tenant_id = $1 and incarnation_id = $2
               for no key update"#,
            claimed.id.tenant.as_uuid(),
            claimed.id.incarnation,
        )
        .fetch_optional(connection)
        .await?
        .ok_or(CallError::Unauthenticated)?;
        let authenticated = IncarnationRow {
            tenant_id: row.tenant_id,
            incarnation_id: row.incarnation_id,
            pod_uid: row.pod_uid,
            pod_name: row.pod_name,
            service_account_name: row.service_account_name,
            service_account_uid: row.service_account_uid,
            review_due_time: row.review_due_time,
            key_version: row.key_version,
            mac: row.mac,
        };
        let incarnation = proven(claimed, authenticated, row.fenced)?;
        Ok(Running {
            incarnation,
            last_report_seq: row.last_report_seq,
            last_report_digest: row.last_report_digest,
            last_request_no: row.last_request_no,
            last_allowance: row.last_allowance_id,
            now: row.now,
        })
    }
}

/// The incarnation of a row, if the call comes from it and it is not over.
///
/// # Errors
/// [`CallError::Unauthenticated`] if not; [`CallError::Damaged`] when the row is
/// not ours.
pub(crate) fn proven(
    claimed: &Claimed,
    row: IncarnationRow,
    fenced: bool,
) -> Result<Incarnation, CallError> {
    let (version, keys) = (row.key_version, claimed.tenant.keys());
    let incarnation = row.verify(keys).map_err(CallError::Damaged)?;
    let proven = keys.of_version(version).is_some_and(|key| {
        key.verify_incarnation_proof(incarnation.id, &incarnation.pod_uid, &claimed.proof)
            .is_ok()
    });
    if !proven || fenced {
        return Err(CallError::Unauthenticated);
    }
    Ok(incarnation)
}
