//! Every reason a condition of ours can have, in one table per condition.
//!
//! A reason decides the condition's status, so a condition can never say `True` for a failure.

use std::fmt;

/// The conditions of every kind of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConditionType {
    /// The spec is realised. Deployment tools wait for this one.
    Ready,
    /// A read would succeed now. A deliberate revocation makes this false, and leaves `Ready` true.
    Usable,
}

impl ConditionType {
    /// The condition's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Usable => "Usable",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The `status` of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody has looked yet.
    Unknown,
}

impl ConditionStatus {
    /// The condition's `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reason of one condition: [`ReadyReason`] or [`UsableReason`].
pub trait Reason: Copy + fmt::Display {
    /// The condition it belongs to.
    const TYPE: ConditionType;
    /// The condition's `reason`, in CamelCase.
    fn as_str(self) -> &'static str;
    /// The status that follows from it.
    fn status(self) -> ConditionStatus;
}

/// One line per reason: its name, the status that follows, and when it is given.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident of $type:ident {
        $($(#[$reason_doc:meta])+ $reason:ident => $status:ident,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name {
            $($(#[$reason_doc])+ $reason,)+
        }

        impl $name {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$reason),+];
        }

        impl Reason for $name {
            const TYPE: ConditionType = ConditionType::$type;

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => stringify!($reason),)+
                }
            }

            fn status(self) -> ConditionStatus {
                match self {
                    $(Self::$reason => ConditionStatus::$status,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Reasons of the condition `Ready`.
    ReadyReason of Ready {
        /// No controller has looked at the object yet.
        Pending => Unknown,
        /// The vault holds what the spec says.
        Reconciled => True,
        /// StoredToken, TokenQuota: no TokenUser of the name in `userRef` exists in the namespace.
        UserNotFound => False,
        /// TokenQuota: no StoredToken of the name in `tokenRef` exists in the namespace.
        TokenNotFound => False,
        /// StoredToken: the Secret in `secretKeyRef` does not exist.
        SourceNotFound => False,
        /// StoredToken: the Secret lacks the label `bursar.dev/source: "true"`.
        SourceNotLabelled => False,
        /// StoredToken: the Secret's type is neither Opaque nor basic-auth.
        SourceTypeNotAllowed => False,
        /// StoredToken: the Secret has no such key.
        SourceKeyNotFound => False,
        /// StoredToken: the value is empty.
        SourceEmpty => False,
        /// StoredToken: the value is longer than 32,768 bytes.
        SourceTooLarge => False,
        /// StoredToken: the value is not UTF-8.
        SourceNotText => False,
        /// StoredToken: the value was revoked before, so it is refused from any source.
        RevokedValueReused => False,
        /// The operator may not read Secrets in this namespace.
        NamespaceNotOnboarded => False,
        /// TokenUser: an older TokenUser in the namespace has this email.
        EmailTaken => False,
        /// The vault cannot store what the spec says: its database is away, or the API server
        /// refuses the operator's finalizer. The operator goes on trying.
        VaultUnavailable => False,
        /// A row of this object in the database is not what the vault wrote.
        IntegrityFailure => False,
        /// The database has an older state than this status: it went back in time.
        RowRolledBack => False,
        /// The object cannot be read as its kind, though the API server accepted it.
        Undecodable => False,
    }
}

reasons! {
    /// Reasons of the condition `Usable`.
    UsableReason of Usable {
        /// No controller has looked at the object yet.
        Pending => Unknown,
        /// StoredToken: the newest version is served to those who may read it.
        Serving => True,
        /// TokenUser: the user's tokens can be read by the listed workloads.
        Active => True,
        /// TokenQuota: the limit is not reached.
        Within => True,
        /// TokenQuota: the limit is exceeded, and only warned about.
        Exceeded => True,
        /// TokenQuota: the limit is reached; more is refused until the window ends.
        /// StoredToken: so is one that all its readers share.
        Exhausted => False,
        /// StoredToken: no version was stored yet, or the value of the newest was revoked on
        /// another version or token; `Ready` says why.
        NoVersion => False,
        /// StoredToken: the newest version is dead by `revocation.throughVersion`.
        RevokedBySpec => False,
        /// StoredToken: a person revoked the newest version beside the spec.
        RevokedByAPI => False,
        /// StoredToken: `expirationTime` has passed.
        Expired => False,
        /// StoredToken: a version could be served, and no service account may read it: the user has
        /// no workload, or none of them is among the `consumers`.
        NoReader => False,
        /// TokenUser: no service account is listed in `workloads`, so none can read the user's tokens.
        NoWorkload => False,
        /// The user is suspended.
        UserSuspended => False,
        /// StoredToken, TokenQuota: its user does not exist.
        UserNotFound => False,
        /// TokenQuota: its token does not exist.
        TokenNotFound => False,
        /// StoredToken: the newest version belongs to an earlier user of the same name.
        UserReplaced => False,
        /// A row of this object in the database is not what the vault wrote.
        IntegrityFailure => False,
        /// The database has an older state than this status: it went back in time.
        RowRolledBack => False,
        /// The object is being deleted; its versions are dead.
        Deleted => False,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_good_reasons_make_a_condition_true() {
        let ready = ReadyReason::ALL
            .iter()
            .filter(|r| r.status() == ConditionStatus::True);
        let usable = UsableReason::ALL
            .iter()
            .filter(|r| r.status() == ConditionStatus::True);
        assert_eq!(ready.collect::<Vec<_>>(), [&ReadyReason::Reconciled]);
        assert_eq!(
            usable.collect::<Vec<_>>(),
            [
                &UsableReason::Serving,
                &UsableReason::Active,
                &UsableReason::Within,
                &UsableReason::Exceeded,
            ]
        );
    }

    #[test]
    fn only_pending_leaves_a_condition_unknown() {
        let ready = ReadyReason::ALL
            .iter()
            .filter(|r| r.status() == ConditionStatus::Unknown);
        let usable = UsableReason::ALL
            .iter()
            .filter(|r| r.status() == ConditionStatus::Unknown);
        assert_eq!(ready.collect::<Vec<_>>(), [&ReadyReason::Pending]);
        assert_eq!(usable.collect::<Vec<_>>(), [&UsableReason::Pending]);
    }
}
