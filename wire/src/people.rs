//! What people ask the vault, over HTTPS with JSON: requests and answers, shared by both sides.
//!
//! | call | right asked for, in the namespace | answer |
//! |---|---|---|
//! | `POST /v1/namespaces/NAMESPACE/accessrecords/query` ([`AuditQuery`]) | `list accessrecords` | [`AuditPage`] |
//! | `POST /v1/namespaces/NAMESPACE/tokenquotas/query` ([`QuotaQuery`]) | `list accessrecords` | [`QuotaUses`] |
//! | `GET  /v1/namespaces/NAMESPACE/denials/DECISION_ID` | `list accessrecords` | [`AccessRecord`] |
//! | `GET  /v1/namespaces/NAMESPACE/verification` | `list accessrecords` | [`Verification`] |
//! | `POST /v1/namespaces/NAMESPACE/storedtokens/NAME/revocation` ([`RevokeRequest`]) | `revoke storedtokens NAME` | [`Revocation`] |
//! | `GET  /v1/namespaces/NAMESPACE/storedtokens/NAME/revocation` | `revoke storedtokens NAME` | [`Progress`] |
//!
//! Each request carries [`TOKEN_HEADER`] and [`PERSON_HEADER`]. Errors are problem details
//! (RFC 9457), [`Problem`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The audience of the service account token that people's tools show, and nobody else.
pub const AUDIENCE: &str = "bursar-cli";
/// The header with that token. Not `Authorization`: the API server takes that for itself when it
/// hands a request on.
pub const TOKEN_HEADER: &str = "bursar-token";
/// The header with who the person says to be: a claim.
pub const PERSON_HEADER: &str = "bursar-person";
/// The media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";
/// The most records of one page.
pub const LARGEST_PAGE: u32 = 1_000;

/// Whether it could be the id of a refusal: 32 hexadecimal digits, in lower case.
#[must_use]
pub fn is_decision_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Which records.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// The TokenUser's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The StoredToken's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The service account that read or asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// The purpose it claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The app name it claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// One of the outcomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Recorded then or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Recorded before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The newest first; the oldest first without it.
    #[serde(default)]
    pub newest_first: bool,
    /// The cursor of a page stays before whatever may still come between its records, so that
    /// who goes on from page to page misses nothing. Such a page begins with what the page before
    /// had already, as long as it is a few seconds old.
    #[serde(default)]
    pub follow: bool,
    /// At most so many, at most [`LARGEST_PAGE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page before ended; the rest of the query has to be the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Some of the records.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuditPage {
    /// In the order asked for.
    pub records: Vec<AccessRecord>,
    /// Where the next page begins. With `more` false, what comes later is found there; it may
    /// begin with records of this page again, which are known by chain and number.
    pub cursor: Option<String>,
    /// Whether there are more now.
    pub more: bool,
}

/// What was done, or refused, once or several times alike.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AccessRecord {
    /// When the vault recorded it.
    pub recorded_time: Timestamp,
    /// How often.
    pub count: i32,
    /// `Served`, `Unaccounted`, `Accounted`, `Denied`, `Queried` or `Revoked`.
    pub outcome: String,
    /// The TokenUser's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The StoredToken's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Its version; with `Revoked`, the version revoked through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// The service account that did it; of a person `NAMESPACE/NAME`.
    pub service_account_name: String,
    /// The pod, as far as it is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// What the application called itself: a claim.
    pub app_name: String,
    /// What it said it was for: a claim.
    pub purpose: String,
    /// The first of these, by the broker's clock.
    pub first_time: Timestamp,
    /// The last of these, by the broker's clock.
    pub last_time: Timestamp,
    /// Of one refused request: what the caller was given to ask by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
    /// Of one refused request: the code that the caller got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of one refused request: the vault's own reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who said to be asking: a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// The chain of records it is in: a broker's run, or what people did.
    pub chain_id: Uuid,
    /// Its number there.
    pub record_no: i64,
}

/// Which quotas.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaQuery {
    /// The TokenQuota's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The TokenUser's name: those of this user, and of this user's tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Of a quota for each user at most so many users; at most [`LARGEST_PAGE`], which it is
    /// unless told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// How quotas stand.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct QuotaUses {
    /// By name, at most 10,000. Of a quota for each user there is one for each of the users there
    /// are that used something of it, who used most first; one without a user when none did; and
    /// one for a user who was asked about, whatever they used.
    pub quotas: Vec<QuotaUse>,
    /// Whether more users used something of a quota for each user than there are here.
    pub more: bool,
    /// Whether quotas are missing here because there would be more than 10,000.
    pub truncated: bool,
    /// Whether there are quotas that are not what the vault wrote, or their list is not: then some
    /// may be missing here, and nothing is granted in the namespace until they are.
    pub damaged: bool,
}

/// How much of a quota is used in its present window.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct QuotaUse {
    /// The TokenQuota's name.
    pub name: String,
    /// `user/NAME`, `token/NAME`, `serviceaccount/NAME` or `each user`.
    pub subject: String,
    /// The TokenUser whose count it is, or whose token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What is counted.
    pub counter: String,
    /// `Enforce` or `Warn`.
    pub enforcement: String,
    /// Units in a window.
    pub limit: u64,
    /// Units that are charged: used, or held, or never accounted for.
    pub used: u64,
    /// Of these, what brokers were granted and may still use or give back.
    pub held: u64,
    /// What is left of the limit.
    pub remaining: u64,
    /// When it begins anew.
    pub window: QuotaWindow,
    /// When the present window ends, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_time: Option<Timestamp>,
}

/// When a quota begins anew.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum QuotaWindow {
    /// Never.
    Lifetime,
    /// After each period, from midnight of the Unix epoch (UTC).
    Period {
        /// Its length, in seconds.
        period_seconds: u64,
    },
}

/// Which versions to revoke.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// This one and all before it. Never "all there are": repeated, because the answer was lost,
    /// that would take a version nobody had seen.
    pub through_version: u32,
}

/// A revocation, committed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Revocation {
    /// Every version up to this one is dead.
    pub through_version: u32,
    /// The newest version there is.
    pub newest_version: u32,
    /// Whether the newest version's value was generated: once it is dead, a new version is
    /// generated, and served unless the token's user is suspended.
    #[serde(default)]
    pub generated: bool,
    /// False when all of it was revoked before.
    pub is_new: bool,
    /// When the last version of these died, by the database's clock.
    pub revoked_time: Timestamp,
}

/// How far a revocation has come, or that there is none.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Progress {
    /// The newest version there is.
    pub newest_version: u32,
    /// Every version up to this one is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through_version: Option<u32>,
    /// Whether no broker can serve one of them any more.
    pub complete: bool,
    /// Brokers that may still hold one.
    pub brokers_open: u64,
    /// Brokers that have given back what they held.
    pub brokers_confirmed: u64,
    /// Brokers that did not, until what they held had ended by itself.
    pub brokers_lapsed: u64,
    /// When it is complete at the latest, whatever brokers do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certain_time: Option<Timestamp>,
    /// When a revoked version was served last, by the broker's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_served_time: Option<Timestamp>,
}

/// What was found when all records were checked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Verification {
    /// Records that were checked.
    pub records: u64,
    /// Chains that they are in.
    pub chains: u64,
    /// Checkpoints that were checked.
    pub checkpoints: u64,
    /// Whether they were compared with what is kept outside the database; false when nothing is.
    pub anchored: bool,
    /// The first place where something is not as the vault wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<BadPlace>,
}

/// A place where the records are not what the vault wrote.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BadPlace {
    /// Which chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<Uuid>,
    /// Which record of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_no: Option<i64>,
    /// Or which checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_no: Option<i64>,
    /// When it was written, as far as that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// Why there is no answer (RFC 9457).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The same in words.
    pub title: String,
    /// What to do.
    pub detail: String,
    /// By which programs tell problems apart.
    pub code: String,
}
