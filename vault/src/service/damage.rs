//! Rows that are not what the vault wrote: put on record, once the transaction
//! that met them has ended.

use std::slice;

use sqlx::PgExecutor;

use super::VaultService;
use super::error::CallError;
use crate::error::VaultError;
use crate::integrity::IntegrityFailure;

impl VaultService {
    /// The same result; with a damaged row put on record.
    pub(crate) async fn on_record<T>(&self, result: Result<T, CallError>) -> Result<T, CallError> {
        if let Err(CallError::Damaged(failure) | CallError::Store(VaultError::Integrity(failure))) =
            &result
        {
            self.record_failures(slice::from_ref(failure)).await;
        }
        result
    }

    /// Puts rows that are not ours on record. Failing to do so is logged: the
    /// answer does not depend on it.
    pub(crate) async fn record_failures(&self, failures: &[IntegrityFailure]) {
        for failure in failures {
            self.record_failure(self.vault().pool(), failure).await;
        }
    }

    /// The same over a connection that the caller holds.
    pub(crate) async fn record_failure(
        &self,
        connection: impl PgExecutor<'_>,
        failure: &IntegrityFailure,
    ) {
        if let Err(error) = failure.record(connection).await {
            tracing::error!(%error, %failure, "an integrity failure could not be recorded");
        }
    }
}
