//! Which records are asked for, and where a page of them ends.

use std::time::Duration;

use bursar_wire::people::{AuditQuery, LARGEST_PAGE};

use super::cursor::{Cursor, Position};
use super::record::Outcome;
use crate::db_time::DbTime;

/// Records that commit late have a time a little in the past: whoever goes on after the last page
/// looks so far back again.
const LATE: Duration = Duration::from_secs(10);
/// Who looks on from here on, and is given nothing new, leaves no record.
const LOOKED_ON: Duration = Duration::from_secs(60);
/// No name or claim is longer, in bytes.
const LONGEST_TEXT: usize = 253;

/// Which records, and how many of them.
#[derive(Clone, Debug)]
pub struct AuditFilter {
    pub(super) query: AuditQuery,
    pub(super) cursor: Option<Cursor>,
    pub(super) limit: u32,
}

/// What is wrong with a query. What was sent is not repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuditFilterError {
    /// A name or claim that none can be.
    #[error("{0} is 1 to 253 bytes of text without control characters")]
    Text(&'static str),
    /// An outcome that there is not.
    #[error("outcome is one of Served, Unaccounted, Accounted, Denied, Queried and Revoked")]
    Outcome,
    /// No page is that large.
    #[error("limit is 1 to 1000")]
    Limit,
    /// A cursor that no page had.
    #[error("cursor is that of the page before, unchanged")]
    Cursor,
    /// A time that the database does not know.
    #[error("{0} is later than 4713 BC")]
    Time(&'static str),
}

impl TryFrom<AuditQuery> for AuditFilter {
    type Error = AuditFilterError;

    fn try_from(query: AuditQuery) -> Result<Self, AuditFilterError> {
        for (name, text) in texts(&query) {
            let fits = |text: &str| {
                (1..=LONGEST_TEXT).contains(&text.len()) && !text.contains(char::is_control)
            };
            if !text.is_none_or(fits) {
                return Err(AuditFilterError::Text(name));
            }
        }
        let outcome = query.outcome.as_deref();
        if outcome.is_some_and(|outcome| Outcome::parse(outcome).is_none()) {
            return Err(AuditFilterError::Outcome);
        }
        for (name, time) in [("since", query.since), ("until", query.until)] {
            if !time.is_none_or(|time| DbTime::from(time).is_storable()) {
                return Err(AuditFilterError::Time(name));
            }
        }
        let limit = query.limit.unwrap_or(LARGEST_PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(AuditFilterError::Limit);
        }
        let cursor = match &query.cursor {
            Some(text) => Some(Cursor::parse(text).ok_or(AuditFilterError::Cursor)?),
            None => None,
        };
        Ok(Self {
            query,
            cursor,
            limit,
        })
    }
}

/// The parts of a query that are names or claims.
fn texts(query: &AuditQuery) -> [(&'static str, Option<&str>); 5] {
    [
        ("user", query.user.as_deref()),
        ("token", query.token.as_deref()),
        ("service_account", query.service_account.as_deref()),
        ("purpose", query.purpose.as_deref()),
        ("app", query.app.as_deref()),
    ]
}

impl AuditFilter {
    /// What was asked by, without what was asked for: that goes on record.
    pub(super) fn kinds(&self) -> String {
        let query = &self.query;
        let texts = texts(query).map(|(name, text)| text.map(|_| name));
        let others = [
            query.outcome.as_ref().map(|_| "outcome"),
            query.since.map(|_| "since"),
            query.until.map(|_| "until"),
        ];
        let kinds = texts.into_iter().chain(others).flatten();
        std::iter::once("audit")
            .chain(kinds)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The cursor by which who asks looks on from within the last minute.
    pub(super) fn looks_on(&self, now: DbTime) -> Option<&Cursor> {
        let cursor = self.cursor.as_ref();
        let cursor = cursor.filter(|cursor| cursor.position.time > now.before(LOOKED_ON));
        cursor.filter(|_| !self.query.newest_first)
    }

    /// Where the page behind one that ended at `last` begins, if there is or may come one;
    /// with `more` there are records behind it already.
    pub(super) fn next(&self, now: DbTime, last: Option<Position>, more: bool) -> Option<Position> {
        match (more, self.query.newest_first) {
            (false, true) => None,
            (true, newest_first) if newest_first || !self.query.follow => last,
            (more, _) => {
                let settled = Position::before(now.before(LATE));
                match (last, self.cursor.map(|cursor| cursor.position)) {
                    (Some(last), _) if more && last.time < settled.time => Some(last),
                    (_, Some(cursor)) if cursor.time > settled.time => Some(cursor),
                    _ => Some(settled),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_time_that_the_database_does_not_know_is_refused() {
        let refused = |query| AuditFilter::try_from(query).err();
        let before = "-009000-01-01T00:00:00Z".parse().unwrap();
        let query = AuditQuery {
            since: Some(before),
            ..AuditQuery::default()
        };
        assert_eq!(refused(query), Some(AuditFilterError::Time("since")));
        let query = AuditQuery {
            until: Some(before),
            ..AuditQuery::default()
        };
        assert_eq!(refused(query), Some(AuditFilterError::Time("until")));
        for micros in [i64::MIN, -9_000_000_000_000_000_000, i64::MAX] {
            let (chain, mac) = (Uuid::nil(), "00".repeat(32));
            let query = AuditQuery {
                cursor: Some(format!("{micros}.{chain}.0.{mac}")),
                ..AuditQuery::default()
            };
            assert_eq!(refused(query), Some(AuditFilterError::Cursor));
        }
    }

    #[test]
    fn what_goes_on_record_of_a_query_is_its_kind_alone() {
        let query = AuditQuery {
            user: Some("ana".to_owned()),
            service_account: Some("planted".to_owned()),
            since: Some(jiff::Timestamp::UNIX_EPOCH),
            ..AuditQuery::default()
        };
        let filter = AuditFilter::try_from(query).unwrap();
        assert_eq!(filter.kinds(), "audit user service_account since");
    }

    #[test]
    fn a_query_that_cannot_find_anything_is_refused() {
        let refused = |query| AuditFilter::try_from(query).err();
        let outcome = AuditQuery {
            outcome: Some("served".to_owned()),
            ..AuditQuery::default()
        };
        assert_eq!(refused(outcome), Some(AuditFilterError::Outcome));
        for limit in [0, 1_001] {
            let query = AuditQuery {
                limit: Some(limit),
                ..AuditQuery::default()
            };
            assert_eq!(refused(query), Some(AuditFilterError::Limit));
        }
        for text in ["", "a\0b", &"a".repeat(254)] {
            let query = AuditQuery {
                app: Some(text.to_owned()),
                ..AuditQuery::default()
            };
            assert_eq!(refused(query), Some(AuditFilterError::Text("app")));
        }
    }
}
