//! Who asks, and what they may: TokenReview, then SubjectAccessReview.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use bursar_crds::names::GROUP;
use bursar_vault::service::VaultService;
use bursar_vault::{Clock, Namespace, NamespaceUid, ServiceAccountName, TokenName};
use bursar_wire::people::AUDIENCE;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use super::call::unauthenticated;
use super::problem::{Code, Problem};
use super::reviews::Reviews;
use crate::context::NamespaceMeta;

/// How long what the API server said of a token is believed.
const REVIEW_LIFETIME: SignedDuration = SignedDuration::from_secs(10);
/// The most tokens that are remembered at once.
const MOST_REVIEWED: usize = 1_024;

/// Asks the API server who somebody is and what they may.
pub(super) struct Identity {
    client: Client,
    service: VaultService,
    clock: Arc<dyn Clock>,
    /// By the token's digest, so that no token stays in memory.
    reviewed: Mutex<HashMap<[u8; 32], Reviewed>>,
    reviews: Reviews,
}

#[derive(Clone)]
struct Reviewed {
    account: Account,
    time: Timestamp,
}

/// A service account that the API server has vouched for.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) namespace: Namespace,
    pub(super) name: ServiceAccountName,
    user: UserInfo,
}

impl Account {
    /// `NAMESPACE/NAME`.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    #[cfg(test)]
    pub(super) fn of_test(namespace: Namespace, name: ServiceAccountName) -> Self {
        let user = UserInfo::default();
        Self {
            namespace,
            name,
            user,
        }
    }
}

/// What one may do in a namespace.
pub(super) enum Right<'a> {
    /// Read who read what.
    ListRecords,
    /// Revoke this token.
    Revoke(&'a TokenName),
}

impl Right<'_> {
    fn words(&self) -> (&'static str, &'static str, Option<&str>) {
        match self {
            Self::ListRecords => ("list", "accessrecords", None),
            Self::Revoke(name) => ("revoke", "storedtokens", Some(name.as_str())),
        }
    }
}

impl Identity {
    pub(super) fn new(client: Client, service: VaultService, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            service,
            clock,
            reviewed: Mutex::default(),
            reviews: Reviews::new(),
        }
    }

    /// Whose token this is. Its signature, audience and expiry are checked here each time; the API
    /// server is asked whether the account still exists, at most every 10 seconds, and in one
    /// queue with brokers: a flood of forged tokens costs it nothing.
    pub(super) async fn account(&self, token: &str) -> Result<Account, Problem> {
        let claims = self.service.account_claims(token, AUDIENCE);
        let claims = claims.ok_or_else(unauthenticated)?;
        let key = key(token);
        if let Some(account) = self.known(&key) {
            return Ok(account);
        }
        let crowded = || Problem::new(Code::TooManyRequests, "too many ask at once; try again");
        let _place = self.reviews.take(&claims.namespace).ok_or_else(crowded)?;
        let digest = hex::encode(key);
        let review = self.service.review_in_turn(&digest, self.review(token));
        let user = review.await.ok_or_else(crowded)??;
        let named = format!(
            "system:serviceaccount:{}:{}",
            claims.namespace, claims.service_account_name
        );
        if user.username.as_ref() != Some(&named)
            || user.uid.as_ref() != Some(&claims.service_account_uid)
        {
            tracing::error!("the API server and a person's token disagree on whose it is");
            return Err(unauthenticated());
        }
        let names = (
            Namespace::try_from(claims.namespace),
            ServiceAccountName::try_from(claims.service_account_name),
        );
        let (Ok(namespace), Ok(name)) = names else {
            return Err(unauthenticated());
        };
        let account = Account {
            namespace,
            name,
            user,
        };
        self.remember(key, account.clone());
        Ok(account)
    }

    /// The namespace's UID, if the account has the right there. Without it, and without the
    /// namespace, the answer is the same.
    pub(super) async fn allowed(
        &self,
        account: &Account,
        namespace: &Namespace,
        right: Right<'_>,
    ) -> Result<NamespaceUid, Problem> {
        let (verb, resource, name) = right.words();
        let user = account.user.clone();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                uid: user.uid,
                groups: user.groups,
                extra: user.extra,
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.to_string()),
                    verb: Some(verb.to_owned()),
                    group: Some(GROUP.to_owned()),
                    resource: Some(resource.to_owned()),
                    name: name.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = Api::<SubjectAccessReview>::all(self.client.clone())
            .create(&PostParams::default(), &review)
            .await
            .map_err(|error| Problem::kubernetes("review a person's right", error))?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let live = match allowed {
            // Live, not from a list: a recreated namespace must not pass for the one before it.
            true => Api::<NamespaceMeta>::all(self.client.clone())
                .get_opt(namespace.as_str())
                .await
                .map_err(|error| Problem::kubernetes("read a namespace", error))?,
            false => None,
        };
        let uid = live.and_then(|live| live.uid());
        match uid.and_then(|uid| NamespaceUid::try_from(uid).ok()) {
            Some(uid) => Ok(uid),
            None => {
                let (of, account) = (&account.namespace, &account.name);
                Err(Problem::new(
                    Code::Forbidden,
                    format!(
                        "there is no namespace {namespace}, or service account {of}/{account} may \
                         not {verb} {resource}.{GROUP} in it: see kubectl auth can-i {verb} \
                         {resource}.{GROUP} --namespace {namespace} --as \
                         system:serviceaccount:{of}:{account}"
                    ),
                ))
            }
        }
    }

    async fn review(&self, token: &str) -> Result<UserInfo, Problem> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let answer = Api::<TokenReview>::all(self.client.clone())
            .create(&PostParams::default(), &review)
            .await
            .map_err(|error| Problem::kubernetes("review a person's token", error))?;
        vouched_for(answer).ok_or_else(unauthenticated)
    }

    fn known(&self, key: &[u8; 32]) -> Option<Account> {
        let now = self.clock.now();
        let reviewed = self.reviewed.lock().unwrap_or_else(PoisonError::into_inner);
        let found = reviewed.get(key).filter(|found| found.is_fresh(now));
        found.map(|found| found.account.clone())
    }

    fn remember(&self, key: [u8; 32], account: Account) {
        let time = self.clock.now();
        let mut reviewed = self.reviewed.lock().unwrap_or_else(PoisonError::into_inner);
        reviewed.retain(|_, found| found.is_fresh(time));
        if reviewed.len() < MOST_REVIEWED {
            reviewed.insert(key, Reviewed { account, time });
        }
    }
}

impl Reviewed {
    /// Also over when the clock was set back.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.time);
        SignedDuration::ZERO <= age && age < REVIEW_LIFETIME
    }
}

fn key(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

/// The user of an authenticated token of the right audience.
fn vouched_for(review: TokenReview) -> Option<UserInfo> {
    let status = review.status?;
    // An API server that does not know audiences leaves them out: that is a refusal too.
    let for_us = status.audiences?.iter().any(|found| found == AUDIENCE);
    (status.authenticated == Some(true) && for_us)
        .then_some(status.user)
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::vouched_for;

    #[test]
    fn a_review_that_is_not_for_this_audience_names_nobody() {
        let review = json!({
            "spec": {},
            "status": {
                "authenticated": true,
                "audiences": ["bursar-cli"],
                "user": { "username": "system:serviceaccount:team:auditor" },
            },
        });
        let named = |review: Value| vouched_for(serde_json::from_value(review).unwrap()).is_some();
        assert!(named(review.clone()));
        for (path, value) in [
            ("/status", Value::Null),
            ("/status/authenticated", json!(false)),
            ("/status/audiences", Value::Null),
            ("/status/audiences", json!(["bursar-vault"])),
            ("/status/user", Value::Null),
        ] {
            let mut review = review.clone();
            *review.pointer_mut(path).unwrap() = value.clone();
            assert!(!named(review), "{path} = {value}");
        }
    }
}
