//! What is counted for whom, and which limits there are on it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use bursar_seal::TokenId;
use uuid::Uuid;

use crate::names::{Counter, QuotaName, ServiceAccountName, UserUid};
use crate::rows::{Enforcement, Quota, Subject, Window};

/// One count: of a counter, for a subject, in windows of one length. It follows
/// from these three alone, so that a quota that is made anew goes on counting.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UsageId(Uuid);

/// Who uses something.
#[derive(Clone, Debug)]
pub(crate) struct User<'a> {
    pub(crate) user: UserUid,
    /// What is read, or could be.
    pub(crate) tokens: &'a [TokenId],
    pub(crate) service_account: &'a ServiceAccountName,
}

/// One count that a use goes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Charge {
    pub(crate) usage: UsageId,
    /// For people who look into the database.
    pub(crate) description: String,
    /// In seconds.
    pub(crate) period: Option<i64>,
    /// `None` when a limit only warns.
    pub(crate) limit: Option<i64>,
    /// Those with this limit, if it is enforced.
    pub(crate) limited_by: Vec<QuotaName>,
}

/// A quota that concerns a use, and the count it looks at.
#[derive(Clone, Debug)]
pub(crate) struct Concern<'a> {
    pub(crate) quota: &'a Quota,
    /// Whose count it is: of a default, the user's own.
    subject: Subject,
    pub(crate) usage: UsageId,
}

impl<'a> Concern<'a> {
    /// With the count of that subject.
    pub(super) fn new(quota: &'a Quota, subject: Subject) -> Self {
        Self {
            usage: UsageId::of(&subject, &quota.counter, quota.window),
            quota,
            subject,
        }
    }
}

impl UsageId {
    /// The count of a subject; `EachUser` has none, but one for each user.
    pub(crate) fn of(subject: &Subject, counter: &Counter, window: Window) -> Self {
        let (kind, name) = (subject.kind(), subject.text());
        let period = window.period().unwrap_or(0).to_string();
        let mut context = Context::new(&SHA256);
        for field in [kind, &name, counter.as_str(), &period] {
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(Uuid::from_bytes(id))
    }

    pub(crate) const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for UsageId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for UsageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a use of one counter is charged to, in the order of the counts, by the quotas that
/// [concern](concerning_counter) it. Several on one count are one charge, under the least of
/// their limits.
pub(crate) fn charges(concerns: &[Concern<'_>]) -> Vec<Charge> {
    let mut charges: BTreeMap<UsageId, Charge> = BTreeMap::new();
    for Concern {
        quota,
        subject,
        usage,
    } in concerns
    {
        let charge = charges.entry(*usage).or_insert_with(|| Charge {
            usage: *usage,
            description: describe(subject, &quota.counter, quota.window),
            period: quota.window.period(),
            limit: None,
            limited_by: Vec::new(),
        });
        if quota.enforcement == Enforcement::Warn {
            continue;
        }
        if charge.limit.is_none_or(|least| quota.units < least) {
            charge.limit = Some(quota.units);
            charge.limited_by.clear();
        }
        if charge.limit == Some(quota.units) {
            charge.limited_by.push(quota.name.clone());
        }
    }
    charges.into_values().collect()
}

/// How many quotas a refusal names.
const NAMED: usize = 8;

/// The quotas that leave nothing when these counts of `charges` are used up: the first of them,
/// because brokers keep refusals and callers read them.
pub(crate) fn limiting(charges: &[Charge], used_up: &[UsageId]) -> Vec<String> {
    let used_up = charges.iter().filter(|it| used_up.contains(&it.usage));
    let names = used_up.flat_map(|charge| &charge.limited_by);
    let mut names: Vec<String> = names.map(QuotaName::to_string).collect();
    names.sort_unstable();
    names.truncate(NAMED);
    names
}

/// A limit on a token's accesses that whoever reads it meets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SharedLimit {
    pub(crate) usage: UsageId,
    /// In seconds.
    pub(crate) period: Option<i64>,
    pub(crate) limit: i64,
    /// The quota's.
    pub(crate) name: QuotaName,
}

/// Those of a token of a user.
pub(crate) fn shared_limits(quotas: &[Quota], user: UserUid, token: TokenId) -> Vec<SharedLimit> {
    let accesses = Counter::accesses();
    let enforced = quotas
        .iter()
        .filter(|quota| quota.counter == accesses && quota.enforcement == Enforcement::Enforce);
    enforced
        .filter_map(|quota| {
            let subject = shared(quota, quotas, user, &[token])?;
            Some(SharedLimit {
                usage: UsageId::of(&subject, &accesses, quota.window),
                period: quota.window.period(),
                limit: quota.units,
                name: quota.name.clone(),
            })
        })
        .collect()
}

/// The quotas on whatever this user does.
pub(crate) fn concerning<'a>(quotas: &'a [Quota], user: &User<'_>) -> Vec<Concern<'a>> {
    let concern = |quota| concern(quota, quotas, user);
    quotas.iter().filter_map(concern).collect()
}

/// Those of them that look at one counter.
pub(crate) fn concerning_counter<'a>(
    quotas: &'a [Quota],
    counter: &Counter,
    user: &User<'_>,
) -> Vec<Concern<'a>> {
    let of_counter = quotas.iter().filter(|quota| quota.counter == *counter);
    let concern = |quota| concern(quota, quotas, user);
    of_counter.filter_map(concern).collect()
}

/// The users to whom a default does not apply, because something else was said of them.
pub(super) fn with_their_own(default: &Quota, quotas: &[Quota]) -> HashSet<UserUid> {
    let own = quotas.iter().filter(|quota| quota.replaces(default));
    own.filter_map(|quota| match quota.subject {
        Subject::User(uid) => Some(uid),
        _ => None,
    })
    .collect()
}

fn concern<'a>(quota: &'a Quota, quotas: &[Quota], user: &User<'_>) -> Option<Concern<'a>> {
    counted(quota, quotas, user).map(|subject| Concern::new(quota, subject))
}

/// The subject whose count a quota looks at, if it is about this user.
fn counted(quota: &Quota, quotas: &[Quota], user: &User<'_>) -> Option<Subject> {
    match &quota.subject {
        Subject::ServiceAccount(name) if name == user.service_account => {
            Some(quota.subject.clone())
        }
        _ => shared(quota, quotas, user.user, user.tokens),
    }
}

impl Quota {
    /// Whether a default gives way to this one for the user it is about.
    pub(crate) fn replaces(&self, default: &Self) -> bool {
        matches!(self.subject, Subject::User(_))
            && self.counter == default.counter
            && self.window == default.window
    }
}

/// The same for whoever reads one of these tokens of the user.
fn shared(quota: &Quota, quotas: &[Quota], user: UserUid, tokens: &[TokenId]) -> Option<Subject> {
    let own = Subject::User(user);
    let concerned = match &quota.subject {
        Subject::User(uid) => *uid == user,
        Subject::Token(id) => tokens.contains(id),
        Subject::ServiceAccount(_) => false,
        // A default gives way to what was said of this user.
        Subject::EachUser => {
            let replaces = |other: &Quota| other.subject == own && other.replaces(quota);
            return (!quotas.iter().any(replaces)).then_some(own);
        }
    };
    concerned.then(|| quota.subject.clone())
}

fn describe(subject: &Subject, counter: &Counter, window: Window) -> String {
    let (kind, name) = (subject.kind(), subject.text());
    match window {
        Window::Lifetime => format!("{counter} of {kind} {name}"),
        Window::Period(seconds) => format!("{counter} of {kind} {name} in {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::names::QuotaId;

    const ANA: u128 = 1;
    const BO: u128 = 2;
    const GITHUB: u128 = 3;
    const DAY: Window = Window::Period(NonZeroU32::new(86_400).unwrap());

    fn accesses() -> Counter {
        "accesses".parse().unwrap()
    }

    fn quota(subject: Subject, units: i64, window: Window) -> Quota {
        Quota {
            id: QuotaId::from(Uuid::from_u128(9)),
            name: "limit".parse().unwrap(),
            subject,
            counter: accesses(),
            units,
            window,
            enforcement: Enforcement::Enforce,
            epoch: 1,
        }
    }

    fn user(uid: u128) -> Subject {
        Subject::User(Uuid::from_u128(uid).into())
    }

    /// The limits on a read of ana's github by the service account app.
    fn limits(quotas: &[Quota]) -> Vec<Option<i64>> {
        let app = "app".parse().unwrap();
        let reader = User {
            user: Uuid::from_u128(ANA).into(),
            tokens: &[Uuid::from_u128(GITHUB).into()],
            service_account: &app,
        };
        let mut limits: Vec<_> = charges(&concerning_counter(quotas, &accesses(), &reader))
            .into_iter()
            .map(|charge| charge.limit)
            .collect();
        limits.sort_unstable();
        limits
    }

    #[test]
    fn a_quota_concerns_its_own_subject_alone() {
        let app = |name: &str| Subject::ServiceAccount(name.parse().unwrap());
        let token = |id| Subject::Token(Uuid::from_u128(id).into());
        let quotas = [
            quota(user(ANA), 1, DAY),
            quota(user(BO), 2, DAY),
            quota(token(GITHUB), 3, DAY),
            quota(token(ANA), 4, DAY),
            quota(app("app"), 5, DAY),
            quota(app("other"), 6, DAY),
        ];
        assert_eq!(limits(&quotas), [Some(1), Some(3), Some(5)]);
        let uploads = Quota {
            counter: "filesUploaded".parse().unwrap(),
            ..quota(user(ANA), 1, DAY)
        };
        assert_eq!(limits(&[uploads]), []);
    }

    #[test]
    fn all_readers_share_what_is_enforced_for_the_token_or_its_user_and_not_for_one_of_them() {
        let app = Subject::ServiceAccount("app".parse().unwrap());
        let warns = Quota {
            enforcement: Enforcement::Warn,
            ..quota(user(ANA), 1, DAY)
        };
        let quotas = [
            quota(app, 2, DAY),
            warns,
            quota(Subject::Token(Uuid::from_u128(GITHUB).into()), 3, DAY),
            quota(user(ANA), 4, DAY),
            quota(user(BO), 5, DAY),
            quota(Subject::EachUser, 6, DAY),
            quota(Subject::EachUser, 7, Window::Lifetime),
        ];
        let ana = Uuid::from_u128(ANA).into();
        let shared = shared_limits(&quotas, ana, Uuid::from_u128(GITHUB).into());
        let limits: Vec<i64> = shared.iter().map(|shared| shared.limit).collect();
        // The daily default gave way to ana's own.
        assert_eq!(limits, [3, 4, 7]);
        let of_ana = UsageId::of(&user(ANA), &accesses(), Window::Lifetime);
        assert_eq!(shared[2].usage, of_ana);
    }

    #[test]
    fn a_users_own_quota_replaces_the_default_of_the_same_window() {
        let default = quota(Subject::EachUser, 10, DAY);
        assert_eq!(limits(std::slice::from_ref(&default)), [Some(10)]);
        let own = quota(user(ANA), 99, DAY);
        assert_eq!(limits(&[default.clone(), own]), [Some(99)]);
        let of_another = quota(user(BO), 99, DAY);
        assert_eq!(limits(&[default.clone(), of_another]), [Some(10)]);
        let for_good = quota(user(ANA), 99, Window::Lifetime);
        assert_eq!(limits(&[default, for_good]), [Some(10), Some(99)]);
    }

    #[test]
    fn several_quotas_on_one_count_are_the_least_that_is_enforced() {
        let warns = Quota {
            enforcement: Enforcement::Warn,
            ..quota(user(ANA), 1, DAY)
        };
        assert_eq!(limits(std::slice::from_ref(&warns)), [None]);
        let quotas = [warns, quota(user(ANA), 8, DAY), quota(user(ANA), 5, DAY)];
        assert_eq!(limits(&quotas), [Some(5)]);
    }

    #[test]
    fn a_count_depends_on_each_of_its_parts() {
        let of = |subject: &Subject, counter: &str, window| {
            UsageId::of(subject, &counter.parse().unwrap(), window)
        };
        let ids = [
            of(&user(ANA), "accesses", DAY),
            of(&user(BO), "accesses", DAY),
            of(&user(ANA), "uploads", DAY),
            of(&user(ANA), "accesses", Window::Lifetime),
            of(
                &Subject::Token(Uuid::from_u128(ANA).into()),
                "accesses",
                DAY,
            ),
        ];
        for (place, id) in ids.iter().enumerate() {
            assert!(!ids[..place].contains(id), "{place}");
        }
        assert_eq!(ids[0], of(&user(ANA), "accesses", DAY));
    }
}
