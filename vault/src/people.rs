//! Who asks for people: a service account that was verified, and a name that was not.

use crate::names::{Namespace, PersonName, ServiceAccountName};

/// A person, as far as the vault can tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Person {
    /// The namespace of the service account; perhaps not the tenant's.
    pub namespace: Namespace,
    /// The service account whose token was shown.
    pub service_account_name: ServiceAccountName,
    /// Who showed it, in their own words: a claim.
    pub name: PersonName,
}

impl Person {
    /// The service account as records have it.
    #[must_use]
    pub fn account(&self) -> String {
        format!("{}/{}", self.namespace, self.service_account_name)
    }
}
