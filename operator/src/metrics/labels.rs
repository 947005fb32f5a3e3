//! The labels of metrics: each from a fixed set.

use bursar_crds::Enforcement;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// A kind of ours.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
pub(crate) enum Kind {
    /// A person or team.
    TokenUser,
    /// A token of one.
    StoredToken,
    /// A limit on how often something may be done.
    TokenQuota,
}

/// How an attempt at one object ended.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
pub(crate) enum Outcome {
    /// The vault holds what the spec says.
    Reconciled,
    /// The spec cannot be realised as it is; a condition says why.
    Refused,
    /// The object waits for something that is expected to come by itself.
    Waiting,
    /// The object is gone, and its rows are dead.
    Deleted,
    /// The vault could not do it.
    VaultError,
    /// The Kubernetes API could not do it.
    KubernetesError,
    /// The object cannot be read.
    Undecodable,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct ReconcileLabels {
    pub(super) kind: Kind,
    pub(super) result: Outcome,
}

/// Whether anything is refused because of a quota.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Enforced {
    /// What is beyond the limit is.
    Enforce,
    /// Nothing is.
    Warn,
}

impl Enforced {
    pub(super) const ALL: [Self; 2] = [Self::Enforce, Self::Warn];
}

impl From<Enforcement> for Enforced {
    fn from(enforcement: Enforcement) -> Self {
        match enforcement {
            Enforcement::Enforce => Self::Enforce,
            Enforcement::Warn => Self::Warn,
        }
    }
}

/// How much of a quota is used.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum QuotaUse {
    /// Less than half.
    BelowHalf,
    /// Half or more.
    Half,
    /// Nine tenths or more.
    Most,
    /// All.
    Exhausted,
}

impl QuotaUse {
    pub(super) const ALL: [Self; 4] = [Self::BelowHalf, Self::Half, Self::Most, Self::Exhausted];

    /// So much of a limit.
    pub(crate) fn of(used: i64, limit: i64) -> Self {
        let (used, limit) = (i128::from(used), i128::from(limit));
        if used >= limit {
            Self::Exhausted
        } else if used * 10 >= limit * 9 {
            Self::Most
        } else if used * 2 >= limit {
            Self::Half
        } else {
            Self::BelowHalf
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct QuotaLabels {
    pub(super) enforcement: Enforced,
    pub(super) usage: QuotaUse,
}

/// What a person asked for.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
pub(crate) enum PeopleCall {
    /// Which records there are.
    Audit,
    /// How quotas stand.
    Quotas,
    /// Why a request was refused.
    Why,
    /// Whether the records are as written.
    Verify,
    /// To revoke a token.
    Revoke,
    /// How far that has come.
    Progress,
    /// Nothing that there is.
    Unknown,
}

impl PeopleCall {
    pub(super) const ALL: [Self; 7] = [
        Self::Audit,
        Self::Quotas,
        Self::Why,
        Self::Verify,
        Self::Revoke,
        Self::Progress,
        Self::Unknown,
    ];
}

/// The classes of status that people are answered with.
pub(super) const STATUSES: [&str; 3] = ["2xx", "4xx", "5xx"];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct PeopleLabels {
    pub(super) call: PeopleCall,
    pub(super) status: &'static str,
}
