//! Why an attempt at one object failed, and what its author gets to read.

use bursar_crds::reasons::{ReadyReason, UsableReason};
use bursar_vault::{Category, VaultError};

use crate::metrics::Outcome;
use crate::object::{Said, Verdict};

/// Attempts at a token whose user is on its way to the vault, before its author reads of that. When
/// both are created at once, each step of the user's wakes the token, all within a second.
const PATIENCE_WITH_USER: u32 = 4;

/// Why an attempt at one object failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The vault did not store it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The Kubernetes API did not answer or refused.
    #[error("the Kubernetes API: {0}")]
    Kubernetes(#[source] Box<kube::Error>),
    /// The object's namespace is not in the list of namespaces, or as another that is gone.
    #[error("namespace {0}, as it is now, is not listed yet: its objects wait until it is")]
    NamespaceNotListed(String),
    /// An object with a name or a UID that Kubernetes does not give.
    #[error("the object's metadata.name or metadata.uid is none that Kubernetes gives")]
    ForeignMetadata,
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Kubernetes(Box::new(error))
    }
}

impl Failure {
    /// The metric's label.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Vault(VaultError::UserNotFound { .. }) | Self::NamespaceNotListed(_) => {
                Outcome::Waiting
            }
            Self::Vault(_) => Outcome::VaultError,
            Self::Kubernetes(_) | Self::ForeignMetadata => Outcome::KubernetesError,
        }
    }

    /// Whether another process reconciles now, and this one must not.
    pub(crate) fn is_superseded(&self) -> bool {
        matches!(self, Self::Vault(error) if error.category() == Category::Superseded)
    }

    /// What to write on the object, if anything, after it failed so many times in a row.
    ///
    /// What may pass by itself is written when it has not passed by the second attempt: a short
    /// outage of the database does not touch every object's status twice. A user that is not in the
    /// vault yet is given longer.
    pub(crate) fn verdict(&self, failures: u32) -> Option<Verdict> {
        let persists = failures > 1;
        let error = match self {
            Self::Vault(error) => error,
            Self::Kubernetes(error) if persists => {
                return refusal(error).map(|refusal| {
                    let message = format!(
                        "The API server does not let bursar-operator write its finalizer to this \
                         object, so changes wait until an administrator clears the way: {refusal}"
                    );
                    ready(ReadyReason::VaultUnavailable, &message)
                });
            }
            _ => return None,
        };
        match error {
            VaultError::TermSuperseded { .. } => None,
            VaultError::RowRolledBack { .. } => Some(both(
                ReadyReason::RowRolledBack,
                UsableReason::RowRolledBack,
                error,
            )),
            VaultError::Integrity(_) => Some(both(
                ReadyReason::IntegrityFailure,
                UsableReason::IntegrityFailure,
                error,
            )),
            VaultError::UserNotFound { .. } => (failures > PATIENCE_WITH_USER).then(|| {
                let message = "The TokenUser exists, and is not in the vault yet: its own \
                               conditions say why.";
                ready(ReadyReason::UserNotFound, message)
            }),
            VaultError::Database(_) if error.category() == Category::Unavailable => {
                persists.then(|| {
                    let message = "The vault's database cannot be reached, so changes wait; \
                                   bursar-operator goes on trying, and its log says more.";
                    ready(ReadyReason::VaultUnavailable, message)
                })
            }
            _ => Some(ready(
                ReadyReason::VaultUnavailable,
                "The vault could not store this; bursar-operator goes on trying, and its log \
                 says why.",
            )),
        }
    }
}

/// What the API server forbids or finds invalid: trying again does not help, a person does.
fn refusal(error: &kube::Error) -> Option<&str> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 403 | 422) => Some(&status.message),
        _ => None,
    }
}

fn ready(reason: ReadyReason, message: &str) -> Verdict {
    Verdict {
        ready: Said::new(reason, message),
        usable: None,
    }
}

fn both(ready: ReadyReason, usable: UsableReason, error: &VaultError) -> Verdict {
    let message = error.to_string();
    Verdict {
        ready: Said::new(ready, message.as_str()),
        usable: Some(Said::new(usable, message)),
    }
}

#[cfg(test)]
mod tests {
    use bursar_crds::reasons::ReadyReason;
    use bursar_seal::TokenId;
    use bursar_vault::{UserUid, VaultError};
    use uuid::Uuid;

    use super::Failure;

    #[test]
    fn a_user_on_its_way_to_the_vault_is_said_only_when_that_persists() {
        let failure = Failure::Vault(VaultError::UserNotFound {
            token: TokenId::from(Uuid::nil()),
            user: UserUid::from(Uuid::nil()),
        });
        for few in 1..=4 {
            assert_eq!(failure.verdict(few), None);
        }
        let ready = failure.verdict(5).unwrap().ready;
        assert_eq!(ready.reason, ReadyReason::UserNotFound);
    }
}
