//! What the operator still waits for, if anything.
//!
//! Readiness undoes itself: a part that was ready and no longer is says so here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tokio::sync::watch;

/// A part of the operator that has to be there before it is any use.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Part {
    /// The Kubernetes API.
    Kubernetes,
    /// Postgres, with the vault in it.
    Database,
    /// The certificate that brokers verify.
    Certificate,
    /// The keys that sign service account tokens.
    Issuer,
    /// The port that brokers connect to.
    Listener,
    /// The lists of our objects.
    Caches,
    /// The process itself, which is not ready any more when it ends.
    Process,
}

impl Part {
    /// The word for it in logs and on `/readyz`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Database => "database",
            Self::Certificate => "certificate",
            Self::Issuer => "issuer",
            Self::Listener => "listener",
            Self::Caches => "caches",
            Self::Process => "process",
        }
    }
}

type Reasons = BTreeMap<Part, Cow<'static, str>>;

/// What is missing, by part.
#[derive(Debug)]
pub(crate) struct Readiness {
    missing: watch::Sender<Reasons>,
}

impl Readiness {
    /// Waits for all of `parts`.
    pub(crate) fn waiting_for(parts: &[Part]) -> Self {
        let starting = |part: &Part| (*part, Cow::Borrowed("not looked at yet"));
        let missing = parts.iter().map(starting).collect();
        Self {
            missing: watch::Sender::new(missing),
        }
    }

    /// The part is there.
    pub(crate) fn ready(&self, part: Part) {
        let changed = self
            .missing
            .send_if_modified(|missing| missing.remove(&part).is_some());
        if changed {
            tracing::debug!(part = part.as_str(), "ready");
        }
    }

    /// The part is not there, and why. Logged when the reason is a new one.
    pub(crate) fn not_ready(&self, part: Part, why: impl Into<Cow<'static, str>>) {
        let why = why.into();
        let changed = self.missing.send_if_modified(|missing| {
            missing
                .insert(part, why.clone())
                .is_none_or(|before| before != why)
        });
        if changed {
            tracing::warn!(part = part.as_str(), "not ready: {why}");
        }
    }

    /// Whether this part is there.
    pub(crate) fn is_ready(&self, part: Part) -> bool {
        !self.missing.borrow().contains_key(&part)
    }

    /// One line per missing part; empty when all is there.
    pub(crate) fn report(&self) -> String {
        let missing = self.missing.borrow();
        missing
            .iter()
            .map(|(part, why)| format!("{}: {why}\n", part.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Readiness};

    #[test]
    fn readiness_undoes_itself_and_says_why() {
        let readiness = Readiness::waiting_for(&[Part::Database, Part::Caches]);
        assert_eq!(
            readiness.report(),
            "database: not looked at yet\ncaches: not looked at yet\n"
        );
        readiness.ready(Part::Caches);
        readiness.ready(Part::Database);
        assert_eq!(readiness.report(), "");
        readiness.not_ready(Part::Database, "no answer");
        assert_eq!(readiness.report(), "database: no answer\n");
        assert!(readiness.is_ready(Part::Caches));
        assert!(!readiness.is_ready(Part::Database));
    }
}
