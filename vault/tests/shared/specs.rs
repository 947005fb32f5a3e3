//! What tests of both kinds apply.

use bursar_seal::{Secret, TokenId};
use bursar_vault::rows::{DeletionPolicy, Role};
use bursar_vault::{TokenSpec, TokenValue, UserSpec, UserUid};
use uuid::Uuid;

/// A user that the service account `app` may act as.
pub(crate) fn user(name: &str) -> UserSpec {
    UserSpec {
        uid: UserUid::from(Uuid::new_v4()),
        name: name.parse().unwrap(),
        email: None,
        role: Role::Member,
        suspended: false,
        workloads: vec!["app".parse().unwrap()],
    }
}

/// A token of that user.
pub(crate) fn token(name: &str, user: &UserSpec) -> TokenSpec {
    TokenSpec {
        id: TokenId::from(Uuid::new_v4()),
        name: name.parse().unwrap(),
        user_uid: user.uid,
        provider: "github".parse().unwrap(),
        expiration_time: None,
        consumers: None,
        through_version: None,
        deletion_policy: DeletionPolicy::Retain,
        known_version: None,
    }
}

pub(crate) fn value_of(text: &str) -> TokenValue {
    TokenValue::new(Secret::from(text.as_bytes().to_vec())).unwrap()
}
