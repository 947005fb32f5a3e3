//! Whether anybody may read a token: the user's workloads, narrowed by the token's consumers. Pure.

use bursar_crds::StoredToken;

/// Who may read a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Readers {
    /// All service accounts that are listed for it.
    AllListed,
    /// Some of the consumers: the sentence names the others.
    SomeListed(String),
    /// No service account: the sentence says which list to change.
    Nobody(String),
}

/// Compares the lists of both objects; without the user's, the vault goes by what it has.
pub(super) fn readers(token: &StoredToken, workloads: Option<&[String]>) -> Readers {
    let user = &token.spec.user_ref.name;
    let Some(workloads) = workloads else {
        return Readers::AllListed;
    };
    if workloads.is_empty() {
        return Readers::Nobody(format!(
            "Nobody can read this token, because TokenUser {user} has no workloads: list the \
             service accounts that may in spec.workloads of TokenUser {user}."
        ));
    }
    let consumers: Vec<&str> = token
        .spec
        .consumers
        .iter()
        .flatten()
        .map(|consumer| consumer.service_account_name.as_str())
        .collect();
    let is_workload = |name: &str| workloads.iter().any(|workload| workload == name);
    let strangers: Vec<&str> = consumers
        .iter()
        .copied()
        .filter(|consumer| !is_workload(consumer))
        .collect();
    let names = strangers.join(", ");
    if strangers.is_empty() {
        Readers::AllListed
    } else if strangers.len() < consumers.len() {
        Readers::SomeListed(format!(
            "Of its consumers, these are not among {user}'s workloads, so they cannot read it: \
             {names}. List them in spec.workloads of TokenUser {user}, or take them out of \
             spec.consumers of this StoredToken."
        ))
    } else {
        Readers::Nobody(format!(
            "Nobody can read this token, because none of its consumers ({names}) is among {user}'s \
             workloads: list one in spec.workloads of TokenUser {user}, or list one of the user's \
             workloads in spec.consumers of this StoredToken."
        ))
    }
}

#[cfg(test)]
mod tests {
    use bursar_crds::{Consumer, DeletionPolicy, Source, StoredToken, StoredTokenSpec, UserRef};

    use super::{Readers, readers};

    fn of(consumers: Option<&[&str]>, workloads: &[&str]) -> Readers {
        let consumer = |name: &&str| Consumer {
            service_account_name: (*name).to_owned(),
            purposes: None,
        };
        let spec = StoredTokenSpec {
            user_ref: UserRef { name: "ana".into() },
            provider: "github".into(),
            source: Source {
                secret_key_ref: None,
                generate: None,
            },
            expiration_time: None,
            consumers: consumers.map(|names| names.iter().map(consumer).collect()),
            revocation: None,
            deletion_policy: DeletionPolicy::Retain,
        };
        let workloads: Vec<String> = workloads.iter().map(|name| (*name).to_owned()).collect();
        readers(&StoredToken::new("github", spec), Some(&workloads))
    }

    #[test]
    fn all_who_are_listed_can_read_when_every_consumer_is_a_workload() {
        assert_eq!(of(None, &["app"]), Readers::AllListed);
        assert_eq!(of(Some(&["app"]), &["app", "job"]), Readers::AllListed);
    }

    #[test]
    fn consumers_that_are_no_workloads_are_named_beside_one_that_is() {
        let Readers::SomeListed(others) = of(Some(&["x", "app", "y"]), &["app"]) else {
            panic!("app can read it");
        };
        assert!(others.contains("cannot read it: x, y."), "{others}");
        assert!(
            others.contains("spec.workloads of TokenUser ana"),
            "{others}"
        );
    }

    #[test]
    fn nobody_can_read_without_a_workload_and_the_sentence_names_the_list_to_change() {
        for consumers in [None, Some(["app"].as_slice())] {
            let Readers::Nobody(why) = of(consumers, &[]) else {
                panic!("nobody is listed");
            };
            assert!(why.contains("spec.workloads of TokenUser ana"), "{why}");
            assert!(!why.contains("spec.consumers"), "{why}");
        }
        let Readers::Nobody(why) = of(Some(&["x", "y"]), &["app"]) else {
            panic!("no consumer is a workload");
        };
        assert!(why.contains("(x, y)"), "{why}");
        assert!(why.contains("spec.consumers of this StoredToken"), "{why}");
    }
}
