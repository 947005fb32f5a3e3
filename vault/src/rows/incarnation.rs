//! `incarnation`: one run of one broker process.
//!
//! The MAC covers who it is and how long the API server's word for it counts.
//! What moves with every call (report and request numbers, the stored answer) is
//! not under it. Nor is `fenced_time`: whoever can write here may end any run,
//! and may let one that was ended go on, until its next review is due.

use bursar_seal::RowWriter;
use uuid::Uuid;

use super::{AuthenticatedRow, authentic, authenticate, mac_columns};
use crate::db_time::DbTime;
use crate::integrity::IntegrityFailure;
use crate::names::ServiceAccountName;
use crate::tenant_keys::TenantKeys;

/// The authenticated columns of a row of `incarnation` as they lie in the
/// database.
#[derive(Clone, Debug, sqlx::FromRow, sqlx::Type)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct IncarnationRow {
    pub tenant_id: Uuid,
    pub incarnation_id: Uuid,
    pub pod_uid: String,
    pub pod_name: String,
    pub service_account_name: String,
    pub service_account_uid: String,
    pub review_due_time: DbTime,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

/// A verified incarnation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incarnation {
    /// Issued at attach.
    pub id: Uuid,
    /// `metadata.uid` of its pod.
    pub pod_uid: String,
    /// Its pod's name.
    pub pod_name: String,
    /// Its pod's service account.
    pub service_account_name: ServiceAccountName,
    /// The UID of that service account.
    pub service_account_uid: String,
    /// When the API server has to vouch for the pod again.
    pub review_due_time: DbTime,
    /// The tenant key under which its row and its proof were made.
    pub key_version: i32,
}

impl Incarnation {
    pub(crate) fn to_row(&self, keys: &TenantKeys) -> IncarnationRow {
        let key = keys.of_version(self.key_version);
        let row = IncarnationRow {
            tenant_id: keys.tenant().as_uuid(),
            incarnation_id: self.id,
            pod_uid: self.pod_uid.clone(),
            pod_name: self.pod_name.clone(),
            service_account_name: self.service_account_name.to_string(),
            service_account_uid: self.service_account_uid.clone(),
            review_due_time: self.review_due_time,
            key_version: 0,
            mac: Vec::new(),
        };
        authenticate(row, key.unwrap_or_else(|| keys.newest()))
    }
}

impl IncarnationRow {
    /// The incarnation, if the row is what the vault wrote.
    ///
    /// # Errors
    /// The failure to record, if not.
    pub fn verify(self, keys: &TenantKeys) -> Result<Incarnation, IntegrityFailure> {
        let row = authentic(self, keys)?;
        row.parse().ok_or_else(|| IntegrityFailure::of(&row))
    }

    fn parse(&self) -> Option<Incarnation> {
        Some(Incarnation {
            id: self.incarnation_id,
            pod_uid: self.pod_uid.clone(),
            pod_name: self.pod_name.clone(),
            service_account_name: self.service_account_name.parse().ok()?,
            service_account_uid: self.service_account_uid.clone(),
            review_due_time: self.review_due_time,
            key_version: self.key_version,
        })
    }
}

impl AuthenticatedRow for IncarnationRow {
    const TABLE: &'static str = "incarnation";
    mac_columns!();

    fn row_key(&self) -> String {
        format!("{}", self.incarnation_id)
    }

    fn content(&self) -> RowWriter {
        RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .uuid(self.incarnation_id)
            .text(&self.pod_uid)
            .text(&self.pod_name)
            .text(&self.service_account_name)
            .text(&self.service_account_uid)
            .i64(self.review_due_time.micros())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;

    #[test]
    fn who_it_is_and_until_when_is_under_the_mac() {
        let keys = TenantKeys::for_tests();
        let due = DbTime::from(Timestamp::UNIX_EPOCH);
        let incarnation = Incarnation {
            id: Uuid::from_u128(1),
            pod_uid: "pod-uid".to_owned(),
            pod_name: "pod".to_owned(),
            service_account_name: "app".parse().unwrap(),
            service_account_uid: "account-uid".to_owned(),
            review_due_time: due,
            key_version: keys.newest().version().into(),
        };
        let row = incarnation.to_row(&keys);
        assert_eq!(row.clone().verify(&keys), Ok(incarnation));

        let changes: [fn(&mut IncarnationRow); 9] = [
            |row| row.tenant_id = Uuid::from_u128(2),
            |row| row.incarnation_id = Uuid::from_u128(2),
            |row| row.pod_uid.push('x'),
            |row| row.pod_name.push('x'),
            |row| row.service_account_name.push('x'),
            |row| row.service_account_uid.push('x'),
            |row| row.review_due_time = row.review_due_time.after(Duration::from_micros(1)),
            |row| row.key_version += 1,
            |row| row.mac[0] ^= 1,
        ];
        for (column, change) in changes.into_iter().enumerate() {
            let mut changed = row.clone();
            change(&mut changed);
            assert!(changed.verify(&keys).is_err(), "column {column}");
        }
        assert!(
            row.verify(&TenantKeys::for_tests()).is_err(),
            "another tenant"
        );
    }
}
