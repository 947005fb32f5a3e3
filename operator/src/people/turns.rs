//! Whose call is worked on at the database, so that none of them keeps others from theirs:
//! what people read has connections of its own, and what they revoke does not wait for that.

use std::time::Duration;

use bursar_seal::TenantId;
use bursar_vault::Namespace;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::identity::Account;
use super::places::{Place, Places};
use super::problem::{Code, Problem};

/// Queries at once.
const QUERIES: usize = 4;
/// Queries about one namespace at once.
const QUERIES_OF_NAMESPACE: usize = 2;
/// Verifications at once. With the queries, the connections that the vault has for reading.
const VERIFICATIONS: usize = 2;
/// Revocations, and looks at how far they have come, at once.
const REVOCATIONS: usize = 2;
/// How long a turn is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Turns of people's calls.
pub(super) struct Turns {
    queries: Semaphore,
    of_account: Places<String>,
    of_namespace: Places<Namespace>,
    verifications: Semaphore,
    of_tenant: Places<TenantId>,
    revocations: Semaphore,
    patience: Duration,
}

/// The right to query.
pub(super) struct QueryTurn<'a> {
    _all: SemaphorePermit<'a>,
    _of_account: Place<String>,
    _of_namespace: Place<Namespace>,
}

/// The right to verify.
pub(super) struct VerificationTurn<'a> {
    _all: SemaphorePermit<'a>,
    _of_tenant: Place<TenantId>,
}

impl Turns {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            queries: Semaphore::new(QUERIES),
            of_account: Places::new(1),
            of_namespace: Places::new(QUERIES_OF_NAMESPACE),
            verifications: Semaphore::new(VERIFICATIONS),
            of_tenant: Places::new(1),
            revocations: Semaphore::new(REVOCATIONS),
            patience,
        }
    }

    /// A turn to query the records of a namespace: one for each service account, two for each
    /// namespace.
    pub(super) async fn query(
        &self,
        account: &Account,
        namespace: &Namespace,
    ) -> Result<QueryTurn<'_>, Problem> {
        let of_account = self.of_account.take(account.full_name());
        let of_account = of_account.ok_or_else(|| {
            crowded("this service account has a query under way: wait for it, or use another")
        })?;
        let of_namespace = self.of_namespace.take(namespace.clone());
        let of_namespace = of_namespace
            .ok_or_else(|| crowded("two queries about this namespace are under way; try again"))?;
        Ok(QueryTurn {
            _all: self
                .one_of(&self.queries, "too many queries are under way; try again")
                .await?,
            _of_account: of_account,
            _of_namespace: of_namespace,
        })
    }

    /// A turn to verify: one for each tenant.
    pub(super) fn verification(&self, tenant: TenantId) -> Result<VerificationTurn<'_>, Problem> {
        let of_tenant = self.of_tenant.take(tenant);
        let of_tenant = of_tenant
            .ok_or_else(|| crowded("the records of this namespace are being verified already"))?;
        // It may take long, so it is not waited for.
        let all = self.verifications.try_acquire();
        let all = all.map_err(|_| crowded("others' records are being verified; try again"))?;
        Ok(VerificationTurn {
            _all: all,
            _of_tenant: of_tenant,
        })
    }

    /// A turn to revoke, or to look how far that has come.
    pub(super) async fn revocation(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.one_of(&self.revocations, "too many revoke at once; try again")
            .await
    }

    /// First come, first served.
    async fn one_of<'a>(
        &self,
        turns: &'a Semaphore,
        crowd: &str,
    ) -> Result<SemaphorePermit<'a>, Problem> {
        let turn = tokio::time::timeout(self.patience, turns.acquire()).await;
        // The semaphores are never closed.
        turn.ok().and_then(Result::ok).ok_or_else(|| crowded(crowd))
    }
}

fn crowded(detail: &str) -> Problem {
    Problem::new(Code::TooManyRequests, detail)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bursar_seal::TenantId;
    use bursar_vault::Namespace;
    use uuid::Uuid;

    use super::{Account, Code, Turns};

    fn ns(name: &str) -> Namespace {
        Namespace::try_from(name).unwrap()
    }

    fn account(namespace: &str, name: &str) -> Account {
        Account::of_test(ns(namespace), name.try_into().unwrap())
    }

    fn is_crowded<T>(turn: Result<T, super::Problem>) -> bool {
        turn.is_err_and(|problem| problem.code == Code::TooManyRequests)
    }

    #[tokio::test]
    async fn who_reads_keeps_nobody_else_from_reading_and_nobody_from_revoking() {
        let turns = Turns::new(Duration::ZERO);
        let (a, b) = (ns("a"), ns("b"));
        let first = turns.query(&account("a", "one"), &a).await.unwrap();
        assert!(is_crowded(turns.query(&account("a", "one"), &b).await));
        let second = turns.query(&account("a", "two"), &a).await.unwrap();
        assert!(is_crowded(turns.query(&account("a", "three"), &a).await));
        let others = [
            turns.query(&account("b", "one"), &b).await.unwrap(),
            turns.query(&account("b", "two"), &b).await.unwrap(),
        ];
        let elsewhere = account("c", "one");
        assert!(is_crowded(turns.query(&elsewhere, &ns("c")).await));
        assert!(turns.revocation().await.is_ok());
        assert!(turns.verification(Uuid::from_u128(1).into()).is_ok());
        drop((first, second));
        assert!(turns.query(&elsewhere, &ns("c")).await.is_ok());
        drop(others);
    }

    #[tokio::test]
    async fn each_tenant_is_verified_once_at_a_time_and_two_at_all() {
        let turns = Turns::new(Duration::ZERO);
        let tenant = |number| TenantId::from(Uuid::from_u128(number));
        let first = turns.verification(tenant(1)).unwrap();
        assert!(is_crowded(turns.verification(tenant(1))));
        let _second = turns.verification(tenant(2)).unwrap();
        assert!(is_crowded(turns.verification(tenant(3))));
        drop(first);
        assert!(turns.verification(tenant(3)).is_ok());
    }
}
