//! From what is stored and what the spec says to what has to be written. No
//! database here.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bursar_seal::TokenVersion;

use super::spec::TokenSpec;
use super::stored::Stored;
use crate::changes::Change;
use crate::db_time::DbTime;
use crate::names::{Purpose, ServiceAccountName};
use crate::rows::{Consumer, State, Token, Version};

/// What has to be written so that the rows say what the spec says; the value
/// comes on top.
pub(super) struct Plan {
    /// The token as the spec wants it, with the newest version and the epoch it
    /// has now.
    pub(super) token: Token,
    /// Versions up to this one become dead.
    pub(super) kill: Option<TokenVersion>,
    /// The values of versions up to this one were revoked on purpose.
    pub(super) remember: Option<TokenVersion>,
    /// The newest version has a value that was revoked on purpose: it becomes
    /// dead whatever its number.
    pub(super) newest_is_revoked: bool,
    /// Service accounts whose rows go.
    pub(super) removed: Vec<String>,
    /// Rows that come, perhaps in the place of a damaged one.
    pub(super) added: Vec<Consumer>,
    /// What was known of the token and is not in the database any more.
    pub(super) rolled_back: Option<TokenVersion>,
    effects: Effects,
}

/// Which of the token's readers a change concerns.
#[derive(Clone, Copy, Default)]
struct Effects {
    /// Somebody who might have read may not any more.
    narrows: bool,
    /// Somebody who was denied may read now.
    widens: bool,
    /// Those who read get something else from now on.
    renews: bool,
}

impl Plan {
    pub(super) fn new(stored: &Stored, spec: &TokenSpec) -> Self {
        let before = stored.live();
        let through_before = stored
            .token
            .as_ref()
            .and_then(|token| token.through_version);
        let through_version = spec.through_version.max(through_before);
        let raised = through_version.filter(|_| through_version > through_before);

        let all = stored.highest_version;
        let kill = if stored.rolled_back.is_some() {
            // Once: afterwards none is live.
            all.filter(|_| stored.must_end)
        } else if stored.is_not_for(spec.user_uid) {
            all
        } else {
            raised.filter(|_| all.is_some())
        };

        let token = Token {
            id: spec.id,
            name: spec.name.clone(),
            user_uid: spec.user_uid,
            provider: spec.provider.clone(),
            expiration_time: spec.expiration_time.map(DbTime::from),
            narrowed: spec.consumers.is_some(),
            through_version,
            api_through_version: stored
                .token
                .as_ref()
                .and_then(|token| token.api_through_version),
            newest_version: stored.newest_version,
            deletion_policy: spec.deletion_policy,
            epoch: stored.epoch,
            deleted_time: None,
        };

        let wanted = by_name(spec.consumers.as_deref().unwrap_or_default());
        let had = by_name(&stored.consumers);
        let gone = had
            .keys()
            .filter(|name| !wanted.contains_key(*name))
            .map(ToString::to_string);
        let mut effects = consumer_effects(before, &token, &had, &wanted);
        effects.add(expiration_effects(before, &token));
        effects.narrows |= kill.is_some() || stored.newest_is_revoked;
        effects.widens |= before.is_none();
        effects.renews |= before.is_some_and(|before| before.provider != token.provider);
        if !stored.damaged.is_empty() {
            effects.add(Effects {
                narrows: true,
                widens: true,
                renews: true,
            });
        }
        Self {
            kill,
            remember: raised,
            newest_is_revoked: stored.newest_is_revoked,
            removed: gone.chain(stored.unverified.iter().cloned()).collect(),
            added: wanted
                .values()
                .filter(|consumer| had.get(&consumer.service_account_name) != Some(*consumer))
                .map(|consumer| Consumer::clone(consumer))
                .collect(),
            rolled_back: stored.rolled_back,
            token,
            effects,
        }
    }

    /// True when the rows say what the spec says already.
    pub(super) fn is_empty(&self, stored: &Stored) -> bool {
        stored.token.as_ref() == Some(&self.token)
            && stored.rival.is_none()
            && self.kill.is_none()
            && !self.newest_is_revoked
            && self.removed.is_empty()
            && self.added.is_empty()
    }

    /// The version that may be served once this plan is carried out.
    pub(super) fn live<'a>(&self, stored: &'a Stored) -> Option<&'a Version> {
        stored.newest.as_ref().filter(|newest| {
            newest.state == State::Live
                && !self.newest_is_revoked
                && Some(newest.version) > self.kill.max(self.token.revoked_through())
        })
    }

    /// The number of a version stored now: after the newest and all revoked ones.
    pub(super) fn next_version(&self) -> Option<TokenVersion> {
        match self.token.newest_version.max(self.token.revoked_through()) {
            Some(last) => last.next(),
            None => Some(TokenVersion::FIRST),
        }
    }

    /// What holders must hear, when a version is stored on top or not.
    pub(super) fn changes(&self, stored: &Stored, stores: bool) -> Vec<Change> {
        let (token, live) = (self.token.id, self.live(stored).is_some());
        let Effects {
            narrows,
            widens,
            renews,
        } = self.effects;
        let mut changes = Vec::new();
        if narrows {
            changes.push(Change::Recall(token));
        } else if renews || (stores && live) {
            changes.push(Change::Supersede(token));
        }
        if widens || (stores && !live) {
            changes.push(Change::Widen);
        }
        changes
    }
}

impl Effects {
    fn add(&mut self, other: Self) {
        self.narrows |= other.narrows;
        self.widens |= other.widens;
        self.renews |= other.renews;
    }
}

fn by_name(consumers: &[Consumer]) -> BTreeMap<&ServiceAccountName, &Consumer> {
    consumers
        .iter()
        .map(|consumer| (&consumer.service_account_name, consumer))
        .collect()
}

type ByName<'a> = BTreeMap<&'a ServiceAccountName, &'a Consumer>;

fn consumer_effects(
    before: Option<&Token>,
    token: &Token,
    had: &ByName<'_>,
    wanted: &ByName<'_>,
) -> Effects {
    let Some(before) = before else {
        return Effects::default();
    };
    match (before.narrowed, token.narrowed) {
        (false, false) => Effects::default(),
        (false, true) => Effects {
            narrows: true,
            ..Effects::default()
        },
        // Those with purposes may hold a grant that is too narrow now.
        (true, false) => Effects {
            widens: true,
            renews: true,
            narrows: false,
        },
        (true, true) => {
            let loses = |(name, old): (&&ServiceAccountName, &&Consumer)| {
                wanted
                    .get(*name)
                    .is_none_or(|new| !covers(&new.purposes, &old.purposes))
            };
            let gains = |(name, new): (&&ServiceAccountName, &&Consumer)| {
                had.get(*name)
                    .is_none_or(|old| !covers(&old.purposes, &new.purposes))
            };
            let gained = wanted.iter().any(gains);
            Effects {
                narrows: had.iter().any(loses),
                widens: gained,
                renews: gained,
            }
        }
    }
}

/// True when whatever `inner` allows, `outer` allows too.
fn covers(outer: &Option<Vec<Purpose>>, inner: &Option<Vec<Purpose>>) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => inner.iter().all(|purpose| outer.contains(purpose)),
    }
}

fn expiration_effects(before: Option<&Token>, token: &Token) -> Effects {
    let Some(before) = before else {
        return Effects::default();
    };
    // No time is later than any.
    let key = |time: Option<DbTime>| (time.is_none(), time);
    match key(token.expiration_time).cmp(&key(before.expiration_time)) {
        Ordering::Less => Effects {
            narrows: true,
            ..Effects::default()
        },
        Ordering::Equal => Effects::default(),
        Ordering::Greater => Effects {
            widens: true,
            renews: true,
            narrows: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::DeletionPolicy;

    fn token(expiration_micros: Option<i64>, narrowed: bool) -> Token {
        let time = |micros| DbTime::from(jiff::Timestamp::from_microsecond(micros).unwrap());
        Token {
            id: uuid::Uuid::nil().into(),
            name: "github".parse().unwrap(),
            user_uid: uuid::Uuid::nil().into(),
            provider: "github".parse().unwrap(),
            expiration_time: expiration_micros.map(time),
            narrowed,
            through_version: None,
            api_through_version: None,
            newest_version: None,
            deletion_policy: DeletionPolicy::Retain,
            epoch: 1,
            deleted_time: None,
        }
    }

    fn consumer((name, purposes): (&str, Option<&[&str]>)) -> Consumer {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Consumer::new(name.parse().unwrap(), purposes.map(parse))
    }

    /// Consumers by name, with their purposes.
    type List<'a> = &'a [(&'a str, Option<&'a [&'a str]>)];

    /// (narrows, widens) from one list of consumers to another.
    fn between(had: Option<List<'_>>, wanted: Option<List<'_>>) -> (bool, bool) {
        let list = |consumers: Option<List<'_>>| -> Vec<Consumer> {
            consumers
                .unwrap_or_default()
                .iter()
                .copied()
                .map(consumer)
                .collect()
        };
        let (before, after) = (token(None, had.is_some()), token(None, wanted.is_some()));
        let (had, wanted) = (list(had), list(wanted));
        let effects = consumer_effects(Some(&before), &after, &by_name(&had), &by_name(&wanted));
        assert_eq!(effects.widens, effects.renews);
        (effects.narrows, effects.widens)
    }

    #[test]
    fn consumers_narrow_and_widen_by_name_and_by_purpose() {
        let (any, a, ab): (_, Option<&[&str]>, Option<&[&str]>) =
            (None, Some(&["a"]), Some(&["a", "b"]));
        assert_eq!(between(None, None), (false, false));
        assert_eq!(between(None, Some(&[])), (true, false));
        assert_eq!(between(Some(&[]), None), (false, true));
        assert_eq!(
            between(Some(&[("x", any)]), Some(&[("x", any)])),
            (false, false)
        );
        assert_eq!(
            between(Some(&[("x", any)]), Some(&[("y", any)])),
            (true, true)
        );
        assert_eq!(
            between(Some(&[("x", any)]), Some(&[("x", a)])),
            (true, false)
        );
        assert_eq!(
            between(Some(&[("x", a)]), Some(&[("x", any)])),
            (false, true)
        );
        assert_eq!(
            between(Some(&[("x", a)]), Some(&[("x", ab)])),
            (false, true)
        );
        assert_eq!(
            between(Some(&[("x", ab)]), Some(&[("x", a)])),
            (true, false)
        );
        assert_eq!(
            between(Some(&[("x", a)]), Some(&[("x", Some(&["b"]))])),
            (true, true)
        );
    }

    #[test]
    fn no_expiration_is_later_than_any() {
        let between = |before, after| {
            let effects = expiration_effects(Some(&token(before, false)), &token(after, false));
            (effects.narrows, effects.widens)
        };
        assert_eq!(between(None, None), (false, false));
        assert_eq!(between(None, Some(1)), (true, false));
        assert_eq!(between(Some(1), None), (false, true));
        assert_eq!(between(Some(2), Some(1)), (true, false));
        assert_eq!(between(Some(1), Some(2)), (false, true));
        assert_eq!(between(Some(1), Some(1)), (false, false));
    }
}
