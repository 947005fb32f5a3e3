//! From a TokenUser to what the vault is to hold of it. Pure.

use bursar_crds::reasons::ReadyReason;
use bursar_crds::{Role, TokenUser};
use bursar_vault::{Email, ServiceAccountName, UserName, UserSpec, UserUid, rows};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use uuid::Uuid;

use crate::failure::Failure;
use crate::object::Said;

/// Another user with the same e-mail address.
#[derive(Clone, Debug)]
pub(super) struct Rival {
    pub(super) name: String,
    pub(super) created: Option<Time>,
}

/// What the vault is to hold, and what of the object it cannot hold, if anything. Who may read
/// and whether is always held: a suspension counts whatever else is wrong.
pub(super) fn validate(
    user: &TokenUser,
    uid: Uuid,
    rivals: &[Rival],
) -> Result<(UserSpec, Option<Said<ReadyReason>>), Failure> {
    let spec = &user.spec;
    let mut problem = None;
    let mut cannot_hold = |field: &str, error: bursar_vault::NameError| {
        problem.get_or_insert_with(|| {
            Said::new(ReadyReason::Undecodable, format!("spec.{field}: {error}."))
        });
    };
    let mut workloads = Vec::new();
    for workload in &spec.workloads {
        match ServiceAccountName::try_from(workload.service_account_name.as_str()) {
            Ok(name) => workloads.push(name),
            Err(error) => cannot_hold("workloads", error),
        }
    }
    let mut email = match spec.email.as_deref().map(Email::try_from).transpose() {
        Ok(email) => email,
        Err(error) => {
            cannot_hold("email", error);
            None
        }
    };
    let own = (user.creation_timestamp(), user.name_any());
    let older = rivals
        .iter()
        .filter(|rival| (&rival.created, &rival.name) < (&own.0, &own.1));
    if let Some(older) = older.min_by_key(|rival| (&rival.created, &rival.name)) {
        email = None;
        problem = Some(email_taken(Some(&older.name)));
    }
    let spec = UserSpec {
        uid: UserUid::from(uid),
        name: UserName::try_from(own.1).map_err(|_| Failure::ForeignMetadata)?,
        email,
        role: match spec.role {
            Role::Member => rows::Role::Member,
            Role::Chief => rows::Role::Chief,
            Role::Admin => rows::Role::Admin,
        },
        suspended: spec.suspended,
        workloads,
    };
    Ok((spec, problem))
}

/// The sentence for a user whose address another one has.
pub(super) fn email_taken(by: Option<&str>) -> Said<ReadyReason> {
    let by = by.map_or_else(
        || "another TokenUser".to_owned(),
        |name| format!("TokenUser {name}"),
    );
    let message = format!(
        "The older {by} in this namespace has the same email and keeps it: change spec.email here \
         or there. Everything else of this user is in force."
    );
    Said::new(ReadyReason::EmailTaken, message)
}

#[cfg(test)]
mod tests {
    use bursar_crds::reasons::ReadyReason;
    use bursar_crds::{Access, Role, TokenUser, TokenUserSpec, Workload};
    use bursar_vault::rows;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use uuid::Uuid;

    use super::{Rival, validate};

    fn at(second: i64) -> Option<Time> {
        Some(Time(Timestamp::from_second(second).unwrap()))
    }

    fn user(created: i64) -> TokenUser {
        let mut user = TokenUser::new(
            "ana",
            TokenUserSpec {
                email: Some("Ana@Example.org".into()),
                role: Role::Chief,
                suspended: true,
                workloads: vec![Workload {
                    service_account_name: "app".into(),
                    access: Access::Always,
                }],
                ..TokenUserSpec::default()
            },
        );
        user.metadata.creation_timestamp = at(created);
        user
    }

    fn rival(name: &str, created: i64) -> Rival {
        Rival {
            name: name.into(),
            created: at(created),
        }
    }

    #[test]
    fn the_spec_goes_to_the_vault_with_a_normal_email() {
        let (spec, problem) = validate(&user(1), Uuid::nil(), &[]).unwrap();
        assert_eq!(problem, None);
        assert_eq!(spec.name.as_str(), "ana");
        assert_eq!(spec.email.unwrap().as_str(), "ana@example.org");
        assert_eq!(spec.role, rows::Role::Chief);
        assert!(spec.suspended);
        assert_eq!(spec.workloads[0].as_str(), "app");
    }

    #[test]
    fn the_older_object_keeps_the_email() {
        let (spec, problem) = validate(&user(5), Uuid::nil(), &[rival("bo", 6)]).unwrap();
        assert!(spec.email.is_some() && problem.is_none());

        let rivals = [rival("cy", 4), rival("bo", 3)];
        let (spec, problem) = validate(&user(5), Uuid::nil(), &rivals).unwrap();
        let problem = problem.unwrap();
        assert_eq!(problem.reason, ReadyReason::EmailTaken);
        assert!(problem.message.contains("bo"), "{}", problem.message);
        assert_eq!(spec.email, None);
        assert!(spec.suspended, "the rest is in force");
    }

    #[test]
    fn of_two_objects_of_the_same_second_the_first_name_keeps_the_email() {
        let taken = |name| {
            validate(&user(5), Uuid::nil(), &[rival(name, 5)])
                .unwrap()
                .1
                .is_some()
        };
        assert!(taken("aa"));
        assert!(!taken("bo"));
    }

    #[test]
    fn an_email_that_the_vault_cannot_hold_is_named_and_not_quoted() {
        let mut user = user(1);
        user.spec.email = Some(format!("planted@{}", "ä".repeat(200)));
        let (spec, problem) = validate(&user, Uuid::nil(), &[]).unwrap();
        let problem = problem.unwrap();
        assert_eq!(problem.reason, ReadyReason::Undecodable);
        assert!(
            problem.message.starts_with("spec.email"),
            "{}",
            problem.message
        );
        assert!(!problem.message.contains("planted"));
        assert_eq!(spec.email, None);
    }
}
