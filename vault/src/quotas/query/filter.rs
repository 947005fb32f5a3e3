//! Which quotas are asked about.

use bursar_wire::people::{LARGEST_PAGE, QuotaQuery};

use crate::names::{NameError, QuotaName, UserName};

/// Which quotas, and how much of them.
#[derive(Clone, Debug)]
pub struct QuotaFilter {
    pub(super) name: Option<QuotaName>,
    pub(super) user: Option<UserName>,
    /// Users of a quota for each user.
    pub(super) limit: usize,
}

/// What is wrong with a query.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QuotaFilterError {
    /// A name that nothing can have.
    #[error("{0}: {1}")]
    Name(&'static str, NameError),
    /// No answer is that long.
    #[error("limit is 1 to {LARGEST_PAGE}")]
    Limit,
}

impl TryFrom<QuotaQuery> for QuotaFilter {
    type Error = QuotaFilterError;

    fn try_from(query: QuotaQuery) -> Result<Self, QuotaFilterError> {
        let limit = query.limit.unwrap_or(LARGEST_PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(QuotaFilterError::Limit);
        }
        let name = query.name.as_deref().map(QuotaName::try_from).transpose();
        let user = query.user.as_deref().map(UserName::try_from).transpose();
        Ok(Self {
            name: name.map_err(|error| QuotaFilterError::Name("name", error))?,
            user: user.map_err(|error| QuotaFilterError::Name("user", error))?,
            limit: limit as usize,
        })
    }
}

impl QuotaFilter {
    /// What was asked by, without what was asked for: that goes on record.
    pub(super) fn kinds(&self) -> String {
        let kinds = [
            self.name.as_ref().map(|_| "name"),
            self.user.as_ref().map(|_| "user"),
        ];
        std::iter::once("quotas")
            .chain(kinds.into_iter().flatten())
            .collect::<Vec<_>>()
            .join(" ")
    }
}
