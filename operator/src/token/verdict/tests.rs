use std::time::Duration;

use bursar_crds::reasons::{ReadyReason, UsableReason};
use bursar_crds::{
    DeletionPolicy, Source, StoredToken, StoredTokenSpec, StoredTokenStatus, UserRef,
};
use bursar_seal::{TokenId, TokenVersion};
use bursar_vault::{
    Drain, Format, GenerateSpec, Provider, RefusedValue, Serving, TokenName, TokenSpec, TokenState,
    UserUid, rows,
};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Receipt, facts, progress, receipt, stored};
use crate::controller::Progress;
use crate::object::Said;
use crate::token::beside::Beside;
use crate::token::readers::Readers;
use crate::token::validate::{SourceValue, Valid};

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn none() -> Beside {
    Beside::default()
}

/// So many brokers that hold something, until half a second past `now()`.
fn draining(brokers: i64) -> Beside {
    let certain = now() + SignedDuration::from_millis(500);
    Beside {
        drain: Drain {
            taken_back_time: Some(now().into()),
            brokers_open: brokers,
            certain_time: (brokers > 0).then_some(certain.into()),
            brokers_confirmed: 2,
            ..Drain::default()
        },
        exhausted: None,
    }
}

fn version(number: u32) -> TokenVersion {
    TokenVersion::try_from(number).unwrap()
}

fn token(served_user: Option<Uuid>) -> StoredToken {
    let spec = StoredTokenSpec {
        user_ref: UserRef { name: "ana".into() },
        provider: "github".into(),
        source: Source {
            secret_key_ref: None,
            generate: None,
        },
        expiration_time: None,
        consumers: None,
        revocation: None,
        deletion_policy: DeletionPolicy::Retain,
    };
    let mut token = StoredToken::new("github", spec);
    let user_uid = served_user.map(|uid| uid.to_string());
    token.status = Some(StoredTokenStatus {
        user_uid,
        ..Default::default()
    });
    token
}

fn valid(source: SourceValue) -> Valid {
    let spec = TokenSpec {
        id: TokenId::from(Uuid::nil()),
        name: TokenName::try_from("github").unwrap(),
        user_uid: UserUid::from(Uuid::nil()),
        provider: Provider::try_from("github").unwrap(),
        expiration_time: None,
        consumers: None,
        through_version: None,
        deletion_policy: rows::DeletionPolicy::Retain,
        known_version: None,
    };
    Valid {
        spec,
        readers: Readers::AllListed,
        source,
        heard: None,
    }
}

fn good() -> SourceValue {
    SourceValue::Generate(GenerateSpec::new(Format::Hex, 32, String::new()).unwrap())
}

fn state(serving: Serving) -> TokenState {
    TokenState {
        newest_version: Some(version(2)),
        version_time: Some(now() + SignedDuration::from_millis(1)),
        through_version: None,
        api_through_version: None,
        serving,
        expires_in: None,
        stored_new_version: false,
        ended_elsewhere: false,
        refused: None,
        damaged: vec![],
    }
}

fn reasons(valid: &Valid, state: &TokenState) -> (ReadyReason, UsableReason) {
    let verdict = stored(&token(Some(Uuid::nil())), valid, state, &none());
    (verdict.ready.reason, verdict.usable.unwrap().reason)
}

#[test]
fn a_deliberate_revocation_leaves_ready_true() {
    for (serving, usable) in [
        (Serving::Serving, UsableReason::Serving),
        (Serving::RevokedBySpec, UsableReason::RevokedBySpec),
        (Serving::RevokedByAPI, UsableReason::RevokedByAPI),
        (Serving::Expired, UsableReason::Expired),
        (Serving::UserSuspended, UsableReason::UserSuspended),
        (Serving::IntegrityFailure, UsableReason::IntegrityFailure),
    ] {
        let said = reasons(&valid(good()), &state(serving));
        assert_eq!(said, (ReadyReason::Reconciled, usable));
    }
}

#[test]
fn a_missing_source_leaves_the_newest_version_usable() {
    let problem = SourceValue::Unavailable(Said::new(ReadyReason::SourceNotFound, "m"));
    let said = reasons(&valid(problem), &state(Serving::Serving));
    assert_eq!(said, (ReadyReason::SourceNotFound, UsableReason::Serving));
}

#[test]
fn a_token_that_nobody_may_read_is_not_usable_and_what_ends_it_comes_first() {
    let unread = Valid {
        readers: Readers::Nobody("why".to_owned()),
        ..valid(good())
    };
    for (serving, usable) in [
        (Serving::Serving, UsableReason::NoReader),
        (Serving::NoVersion, UsableReason::NoVersion),
        (Serving::RevokedBySpec, UsableReason::RevokedBySpec),
        (Serving::RevokedByAPI, UsableReason::RevokedByAPI),
        (Serving::Expired, UsableReason::Expired),
        (Serving::UserSuspended, UsableReason::UserSuspended),
        (Serving::IntegrityFailure, UsableReason::IntegrityFailure),
    ] {
        let said = reasons(&unread, &state(serving));
        assert_eq!(said, (ReadyReason::Reconciled, usable));
    }
}

#[test]
fn a_token_that_some_may_read_serves_and_says_who_may_not() {
    let some = Valid {
        readers: Readers::SomeListed("Not x.".to_owned()),
        ..valid(good())
    };
    let token = token(Some(Uuid::nil()));
    let verdict = stored(&token, &some, &state(Serving::Serving), &none());
    let usable = verdict.usable.unwrap();
    assert_eq!(usable.reason, UsableReason::Serving);
    assert!(usable.message.ends_with(" Not x."), "{}", usable.message);
}

#[test]
fn a_token_that_serves_on_after_a_revocation_says_up_to_where_it_reached() {
    let state = TokenState {
        through_version: Some(version(1)),
        ..state(Serving::Serving)
    };
    let token = token(Some(Uuid::nil()));
    let verdict = stored(&token, &valid(good()), &state, &none());
    let message = verdict.usable.unwrap().message;
    assert_eq!(
        message,
        "Version 2 is served to those who may read it; versions up to 1 are revoked."
    );
}

#[test]
fn a_revoked_value_is_refused_unless_the_source_just_still_has_it() {
    let ready = |token, number| {
        let reused = RefusedValue::RevokedValueReused {
            token: TokenId::from(token),
            version: version(number),
        };
        let state = TokenState {
            refused: Some(reused),
            ..state(Serving::RevokedBySpec)
        };
        reasons(&valid(good()), &state).0
    };
    assert_eq!(
        ready(Uuid::max(), 2),
        ReadyReason::RevokedValueReused,
        "of another token"
    );
    assert_eq!(
        ready(Uuid::nil(), 1),
        ReadyReason::RevokedValueReused,
        "of an earlier version"
    );
    assert_eq!(
        ready(Uuid::nil(), 2),
        ReadyReason::Reconciled,
        "of the newest version"
    );
}

#[test]
fn a_token_without_a_version_says_whether_the_sources_value_is_a_revoked_one() {
    let says = |newest_version, refused| {
        let state = TokenState {
            newest_version,
            refused,
            ..state(Serving::NoVersion)
        };
        let token = token(Some(Uuid::nil()));
        let verdict = stored(&token, &valid(good()), &state, &none());
        let usable = verdict.usable.unwrap();
        assert_eq!(usable.reason, UsableReason::NoVersion);
        usable.message
    };
    let reused = RefusedValue::RevokedValueReused {
        token: TokenId::from(Uuid::max()),
        version: version(1),
    };
    for newest in [None, Some(version(2))] {
        let says = says(newest, Some(reused));
        assert!(says.contains("is a revoked one") && says.contains("put a new value there"));
    }
    assert!(says(Some(version(2)), None).starts_with("Version 2 is dead"));
    assert!(says(None, None).starts_with("No value was stored yet"));
}

#[test]
fn a_version_of_an_earlier_user_is_told_from_none_at_all() {
    let valid = valid(good());
    let state = state(Serving::NoVersion);
    let usable = |served_user| {
        let verdict = stored(&token(served_user), &valid, &state, &none());
        verdict.usable.unwrap().reason
    };
    assert_eq!(usable(Some(Uuid::max())), UsableReason::UserReplaced);
    assert_eq!(usable(Some(Uuid::nil())), UsableReason::NoVersion);
    assert_eq!(usable(None), UsableReason::NoVersion);

    let before = token(Some(Uuid::max())).status;
    let status = facts(before.as_ref(), &valid, &state, &none());
    assert_eq!(
        status.user_uid,
        Some(Uuid::max().to_string()),
        "it is still the former user's"
    );
}

#[test]
fn status_holds_whole_seconds_so_that_it_reads_back_as_it_was_written() {
    let status = facts(None, &valid(good()), &state(Serving::Serving), &none());
    assert_eq!(status.version_time.unwrap().0, now());
    assert_eq!(status.version, Some(2));
}

#[test]
fn a_token_is_looked_at_again_when_it_expires_however_the_attempt_went() {
    let missing = || SourceValue::Unavailable(Said::new(ReadyReason::SourceNotFound, "m"));
    let pauses = |expires_in| {
        let state = TokenState {
            expires_in,
            ..state(Serving::Serving)
        };
        let with = |source, onboarded| {
            let verdict = stored(&token(None), &valid(source), &state, &none());
            progress(&verdict, &state, &none(), onboarded)
        };
        let Progress::Reconciled(reconciled) = with(good(), true) else {
            panic!("it is reconciled");
        };
        let Progress::Refused(refused) = with(missing(), true) else {
            panic!("it is refused");
        };
        let Progress::Waiting(waiting) = with(missing(), false) else {
            panic!("it waits");
        };
        [reconciled, refused, waiting]
    };
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    assert_eq!(pauses(Some(hour)), [Some(hour); 3]);
    assert_eq!(pauses(Some(day * 1000)), [Some(day); 3]);
    assert_eq!(pauses(None), [None; 3]);
}

#[test]
fn a_revoked_token_says_how_many_brokers_have_yet_to_confirm_and_by_when_it_is_certain() {
    let (valid, state) = (valid(good()), state(Serving::RevokedBySpec));
    let verdict = stored(&token(None), &valid, &state, &draining(2));
    let usable = verdict.usable.clone().unwrap();
    assert_eq!(usable.reason, UsableReason::RevokedBySpec);
    let end = "2 brokers have yet to confirm that they hold nothing of what was taken back; it \
               is certain by 2027-01-15T08:00:01Z.";
    assert!(usable.message.ends_with(end), "{}", usable.message);
    let Progress::Reconciled(Some(again)) = progress(&verdict, &state, &draining(2), true) else {
        panic!("it is looked at again");
    };
    assert_eq!(again, Duration::from_secs(1));

    let told = facts(None, &valid, &state, &draining(2)).draining.unwrap();
    assert_eq!(told.brokers, 2);
    assert_eq!(told.certain_time.0, now() + SignedDuration::from_secs(1));

    let verdict = stored(&token(None), &valid, &state, &draining(0));
    assert!(!verdict.usable.unwrap().message.contains("yet to confirm"));
    assert_eq!(facts(None, &valid, &state, &draining(0)).draining, None);
}

#[test]
fn the_receipt_comes_once_when_the_last_holder_has_ended_whoever_saw_it_drain() {
    let (valid, state) = (valid(good()), state(Serving::RevokedBySpec));
    let told = |beside: &Beside| facts(None, &valid, &state, beside);
    let mut done = draining(0);
    assert_eq!(receipt(Some(&told(&draining(1))), &draining(1).drain), None);
    assert_eq!(receipt(Some(&told(&done)), &done.drain), None);
    for before in [
        None,
        Some(StoredTokenStatus::default()),
        Some(told(&draining(1))),
    ] {
        let given = receipt(before.as_ref(), &done.drain).unwrap();
        assert_eq!(given.time, now());
    }
    let mut more = draining(0);
    let later = now() + SignedDuration::from_micros(1);
    more.drain.taken_back_time = Some(later.into());
    let given = receipt(Some(&told(&done)), &more.drain).unwrap();
    assert_eq!(given.time, later);
    assert_eq!(
        receipt(Some(&told(&more)), &done.drain),
        None,
        "a user that is not suspended any more, with a version that was revoked before"
    );
    more.drain.brokers_confirmed = 0;
    assert_eq!(
        receipt(Some(&told(&done)), &more.drain),
        None,
        "nobody held it"
    );
    assert_eq!(
        receipt(Some(&told(&draining(1))), &Drain::default()),
        None,
        "a user that is not suspended any more"
    );

    done.drain.brokers_lapsed = 1;
    done.drain.last_served_time = Some(now().into());
    let Receipt { note, .. } = receipt(Some(&told(&draining(1))), &done.drain).unwrap();
    for words in [
        "2 brokers confirmed.",
        "1 never did:",
        "was at 2027-01-15T08:00:00Z.",
    ] {
        assert!(note.contains(words), "no {words:?} in {note:?}");
    }
}

#[test]
fn a_quota_that_all_readers_share_makes_a_served_token_unusable_but_not_one_without_readers() {
    let exhausted = Beside {
        exhausted: Some("daily".parse().unwrap()),
        ..none()
    };
    let usable = |valid: &Valid, serving| {
        let verdict = stored(&token(None), valid, &state(serving), &exhausted);
        verdict.usable.unwrap()
    };
    let mut valid = valid(good());
    let said = usable(&valid, Serving::Serving);
    assert_eq!(said.reason, UsableReason::Exhausted);
    assert!(said.message.starts_with("TokenQuota daily,"), "{said:?}");
    assert_eq!(
        usable(&valid, Serving::Expired).reason,
        UsableReason::Expired
    );
    valid.readers = Readers::Nobody("nobody".to_owned());
    assert_eq!(
        usable(&valid, Serving::Serving).reason,
        UsableReason::NoReader
    );
}
