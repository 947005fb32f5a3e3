//! Who may write for the controllers.
//!
//! A leader takes the next term; each of its writes compares that term with the
//! database's in the same transaction, under a lock that makes the next leader
//! wait. So once a term has been taken, no older leader writes any more, however
//! late it learns of its end.

use std::fmt;

use sqlx::PgConnection;

use crate::error::{DatabaseError, VaultError};
use crate::vault::Vault;

/// One leader's time. Taken from the database.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Term(i64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Vault {
    /// Begins a new term and ends all older ones. Waits for writes of the older
    /// leader that are under way.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn take_term(&self) -> Result<Term, DatabaseError> {
        let mut transaction = self.begin().await?;
        // A share lock on the row lets further ones past whoever waits to change it, so that
        // a busy leader would go on for long; those who want the table line up.
        sqlx::query("lock table leader_term in exclusive mode")
            .execute(&mut *transaction)
            .await?;
        let term = sqlx::query_scalar!("update leader_term set term = term + 1 returning term")
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Term(term))
    }
}

impl Term {
    /// Refuses unless this is still the term; until the transaction ends nobody
    /// takes another.
    pub(crate) async fn hold(self, transaction: &mut PgConnection) -> Result<(), VaultError> {
        let held = sqlx::query_scalar!(
            "select term from leader_term where term = $1 for share",
            self.0,
        )
        .fetch_optional(transaction)
        .await?;
        self.found(held)
    }

    /// Refuses unless this is still the term, for a call that writes nothing.
    pub(crate) async fn check(self, connection: &mut PgConnection) -> Result<(), VaultError> {
        let held = sqlx::query_scalar!("select term from leader_term where term = $1", self.0)
            .fetch_optional(connection)
            .await?;
        self.found(held)
    }

    fn found(self, term: Option<i64>) -> Result<(), VaultError> {
        match term {
            Some(_) => Ok(()),
            None => Err(VaultError::TermSuperseded { term: self.0 }),
        }
    }
}
