//! Whose call is worked on, so that none of them keeps others from theirs: the API server is
//! asked about the right of each only so often, what people read has connections of its own, and
//! what they revoke does not wait for that.

use std::time::Duration;

use bursar_seal::TenantId;
use bursar_vault::{Namespace, Place, Places};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::identity::Account;
use super::pace::Pace;
use super::problem::{Code, Problem};

/// Questions about the right of one service account, at once and in a second.
const RIGHTS_OF_ACCOUNT: u8 = 10;
/// And in a second about all service accounts of one namespace, of which anyone there may make
/// many.
const RIGHTS_OF_NAMESPACE: u8 = 40;
/// How long a question may wait. It keeps a connection meanwhile, perhaps a stranger's.
const RIGHTS_PATIENCE: Duration = Duration::from_secs(2);
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
    rights_of_account: Pace<String>,
    rights_of_namespace: Pace<Namespace>,
    rights_at_once: Places<String>,
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
            rights_of_account: Pace::new(RIGHTS_OF_ACCOUNT.into(), RIGHTS_PATIENCE),
            rights_of_namespace: Pace::new(RIGHTS_OF_NAMESPACE.into(), RIGHTS_PATIENCE),
            rights_at_once: Places::new(RIGHTS_OF_ACCOUNT.into()),
            queries: Semaphore::new(QUERIES),
            of_account: Places::new(1),
            of_namespace: Places::new(QUERIES_OF_NAMESPACE),
            verifications: Semaphore::new(VERIFICATIONS),
            of_tenant: Places::new(1),
            revocations: Semaphore::new(REVOCATIONS),
            patience,
        }
    }

    /// A turn to ask what a service account may do: only others of its own are waited for.
    pub(super) async fn right(&self, account: &Account) -> Result<Place<String>, Problem> {
        let name = account.full_name();
        let turn = async {
            self.rights_of_account.turn(name.clone()).await?;
            let namespace = account.namespace.clone();
            self.rights_of_namespace.turn(namespace).await?;
            self.rights_at_once.take(name)
        };
        turn.await.ok_or_else(|| {
            crowded("this service account, or its namespace, asks too often; try again")
        })
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

    #[tokio::test(start_paused = true)]
    async fn who_asks_too_often_keeps_others_of_no_namespace_but_its_own() {
        let turns = Turns::new(Duration::ZERO);
        // At once as many as the pace has saved up, and no more at once after it.
        let one = account("a", "one");
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(turns.right(&one).await.unwrap());
        }
        assert!(is_crowded(turns.right(&one).await));
        assert!(turns.right(&account("a", "two")).await.is_ok());
        drop(held);
        assert!(turns.right(&one).await.is_ok());

        // Many accounts of one namespace: none waits long, and together they are not many.
        let start = tokio::time::Instant::now();
        let many = (0..1_000).map(|number| {
            let account = account("b", &format!("account-{number}"));
            let turns = &turns;
            async move { turns.right(&account).await.is_ok() }
        });
        let asked = futures::future::join_all(many).await;
        let asked = asked.into_iter().filter(|asked| *asked).count();
        assert_eq!(asked, 40 + 2 * 40);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        assert!(turns.right(&account("c", "one")).await.is_ok());
        assert_eq!(start.elapsed(), Duration::from_secs(2));
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
