//! What a report does to allowances: rules without a database.

use std::collections::{HashMap, HashSet};

use bursar_wire::LARGEST_REPORT;
use bursar_wire::v1alpha1::{AccessRecord, ReportRequest};
use jiff::Timestamp;
use uuid::Uuid;

use super::why::Told;
use crate::names::{AppName, Purpose};

/// An allowance as it stands before a report, and after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) granted: i32,
    pub(crate) used: i32,
    pub(crate) returned: i32,
    pub(crate) state: BalanceState,
}

/// Where an allowance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BalanceState {
    Open,
    Closed,
    /// What was left was recorded as unaccounted for.
    Lapsed,
}

/// Accesses that were served, as a broker tells of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) allowance: Uuid,
    pub(crate) app_name: AppName,
    pub(crate) purpose: Purpose,
    pub(crate) count: i32,
    pub(crate) first_time: Timestamp,
    pub(crate) last_time: Timestamp,
}

/// A report whose every word is of its kind.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) served: Vec<Served>,
    pub(crate) closed: HashSet<Uuid>,
}

/// What a report changes.
#[derive(Debug)]
pub(crate) struct Effects {
    /// Balances that differ from before.
    pub(crate) balances: HashMap<Uuid, Balance>,
    /// How much of what was recorded as unaccounted for is accounted for now.
    pub(crate) accounted: HashMap<Uuid, i32>,
    /// What those that are closed by it leave unused, be it nothing.
    pub(crate) refunds: HashMap<Uuid, i32>,
}

/// Why a report cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrue {
    #[error("the number of an earlier report with another content")]
    Changed,
    #[error("more than 4,000 records, closed allowances or denials")]
    TooLong,
    #[error("an allowance id that is no UUID")]
    Id,
    #[error("a name, an app name or a purpose off the pattern")]
    Claim,
    #[error("a denial with an id or code that no broker makes")]
    Denial,
    #[error("a count of 0 or beyond any allowance")]
    Count,
    #[error("times out of order or out of range")]
    Times,
    #[error("an allowance that was not granted to this broker")]
    Foreign,
    #[error("an access from an allowance that was closed")]
    Closed,
    #[error("more accesses than were granted")]
    TooMany,
}

impl Report {
    pub(crate) fn read(request: &ReportRequest) -> Result<Self, Untrue> {
        let ids = &request.closed_allowance_ids;
        let denials = &request.denials;
        if [request.records.len(), ids.len(), denials.len()]
            .iter()
            .any(|length| *length > LARGEST_REPORT)
        {
            return Err(Untrue::TooLong);
        }
        for denial in denials {
            Told::read(denial)?;
        }
        Ok(Self {
            served: request
                .records
                .iter()
                .map(Served::read)
                .collect::<Result<_, _>>()?,
            closed: ids
                .iter()
                .map(|id| allowance(id))
                .collect::<Result<_, _>>()?,
        })
    }

    /// All allowances that are spoken of.
    pub(crate) fn allowances(&self) -> HashSet<Uuid> {
        let served = self.served.iter().map(|served| served.allowance);
        served.chain(self.closed.iter().copied()).collect()
    }

    /// What the report does to `balances`, this broker's allowances.
    ///
    /// # Errors
    /// When any part of it cannot be true; then none of it counts.
    pub(crate) fn apply(&self, balances: &HashMap<Uuid, Balance>) -> Result<Effects, Untrue> {
        let mut effects = Effects {
            balances: HashMap::new(),
            accounted: HashMap::new(),
            refunds: HashMap::new(),
        };
        for served in &self.served {
            effects.touch(balances, served.allowance, |balance| {
                balance.serve(served.count)
            })?;
        }
        for id in &self.closed {
            let rest = effects.touch(balances, *id, |balance| Ok(balance.close()))?;
            effects.refunds.insert(*id, rest);
        }
        effects.accounted.retain(|_, count| *count > 0);
        Ok(effects)
    }
}

impl Served {
    fn read(record: &AccessRecord) -> Result<Self, Untrue> {
        let count = i32::try_from(record.count).ok().filter(|count| *count > 0);
        let time = |ms| Timestamp::from_millisecond(ms).map_err(|_| Untrue::Times);
        let served = Self {
            allowance: allowance(&record.allowance_id)?,
            app_name: record.app_name.parse().map_err(|_| Untrue::Claim)?,
            purpose: record.purpose.parse().map_err(|_| Untrue::Claim)?,
            count: count.ok_or(Untrue::Count)?,
            first_time: time(record.first_time_ms)?,
            last_time: time(record.last_time_ms)?,
        };
        let in_order =
            Timestamp::UNIX_EPOCH <= served.first_time && served.first_time <= served.last_time;
        if in_order {
            Ok(served)
        } else {
            Err(Untrue::Times)
        }
    }
}

impl Effects {
    /// Changes one balance. `change` tells how many accesses it settled.
    fn touch(
        &mut self,
        before: &HashMap<Uuid, Balance>,
        id: Uuid,
        change: impl FnOnce(&mut Balance) -> Result<i32, Untrue>,
    ) -> Result<i32, Untrue> {
        let original = before.get(&id).ok_or(Untrue::Foreign)?;
        let balance = self.balances.entry(id).or_insert_with(|| original.clone());
        let settled = change(balance)?;
        if original.state == BalanceState::Lapsed {
            // A late report is taken: the record of the lapse stays, and this
            // says how much of it no longer holds.
            *self.accounted.entry(id).or_default() += settled;
        }
        Ok(settled)
    }
}

impl Balance {
    fn serve(&mut self, count: i32) -> Result<i32, Untrue> {
        if self.state == BalanceState::Closed {
            return Err(Untrue::Closed);
        }
        let used = self.used.checked_add(count).ok_or(Untrue::TooMany)?;
        if used > self.granted - self.returned {
            return Err(Untrue::TooMany);
        }
        self.used = used;
        Ok(count)
    }

    /// Takes back what was not used; a second time there is nothing left.
    fn close(&mut self) -> i32 {
        let rest = self.granted - self.used - self.returned;
        self.returned += rest;
        self.state = BalanceState::Closed;
        rest
    }
}

impl BalanceState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Closed => "Closed",
            Self::Lapsed => "Lapsed",
        }
    }

    /// What cannot be read can only be closed: nothing more is taken from it.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "Open" => Self::Open,
            "Lapsed" => Self::Lapsed,
            _ => Self::Closed,
        }
    }
}

fn allowance(text: &str) -> Result<Uuid, Untrue> {
    Uuid::try_parse(text).map_err(|_| Untrue::Id)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use bursar_wire::LARGEST_REPORT;
    use bursar_wire::v1alpha1::{AccessRecord, Denial, ReportRequest};
    use uuid::Uuid;

    use super::{Balance, BalanceState, Report, Untrue};

    const ID: Uuid = Uuid::from_u128(1);

    fn record(count: u32) -> AccessRecord {
        AccessRecord {
            allowance_id: ID.to_string(),
            app_name: "app".into(),
            purpose: "purpose".into(),
            count,
            first_time_ms: 1_000,
            last_time_ms: 2_000,
        }
    }

    fn report(counts: &[u32], close: bool) -> Report {
        let closed = if close { vec![ID.to_string()] } else { vec![] };
        Report::read(&ReportRequest {
            seq: 1,
            digest: vec![],
            records: counts.iter().map(|count| record(*count)).collect(),
            closed_allowance_ids: closed,
            denials: vec![],
        })
        .unwrap()
    }

    fn balance(used: i32, state: BalanceState) -> HashMap<Uuid, Balance> {
        let returned = if state == BalanceState::Closed {
            100 - used
        } else {
            0
        };
        HashMap::from([(
            ID,
            Balance {
                granted: 100,
                used,
                returned,
                state,
            },
        )])
    }

    #[test]
    fn used_and_returned_add_up_to_granted_when_an_allowance_is_closed() {
        let effects = report(&[10, 20], true)
            .apply(&balance(5, BalanceState::Open))
            .unwrap();
        let after = &effects.balances[&ID];
        assert_eq!((after.used, after.returned), (35, 65));
        assert_eq!(after.state, BalanceState::Closed);
        assert!(effects.accounted.is_empty());
    }

    #[test]
    fn no_report_uses_more_than_was_granted() {
        let open = balance(95, BalanceState::Open);
        assert!(report(&[5], false).apply(&open).is_ok());
        assert_eq!(
            report(&[3, 3], false).apply(&open).err(),
            Some(Untrue::TooMany)
        );
        let most = u32::try_from(i32::MAX).unwrap();
        assert_eq!(
            report(&[most], false).apply(&open).err(),
            Some(Untrue::TooMany)
        );
    }

    #[test]
    fn nothing_is_served_from_a_closed_allowance_and_closing_twice_changes_nothing() {
        let closed = balance(10, BalanceState::Closed);
        assert_eq!(
            report(&[1], false).apply(&closed).err(),
            Some(Untrue::Closed)
        );
        let effects = report(&[], true).apply(&closed).unwrap();
        assert_eq!(effects.balances, closed);
    }

    #[test]
    fn a_late_report_says_how_much_of_a_lapse_no_longer_holds() {
        let lapsed = balance(10, BalanceState::Lapsed);
        let effects = report(&[30], false).apply(&lapsed).unwrap();
        assert_eq!(effects.accounted[&ID], 30);
        assert_eq!(effects.balances[&ID].state, BalanceState::Lapsed);
        let effects = report(&[30], true).apply(&lapsed).unwrap();
        assert_eq!(effects.accounted[&ID], 90);
        assert_eq!(effects.balances[&ID].returned, 60);
    }

    #[test]
    fn what_was_not_granted_to_this_broker_is_foreign() {
        let none = HashMap::new();
        assert_eq!(
            report(&[1], false).apply(&none).err(),
            Some(Untrue::Foreign)
        );
        assert_eq!(report(&[], true).apply(&none).err(), Some(Untrue::Foreign));
        assert_eq!(report(&[1], true).allowances(), HashSet::from([ID]));
    }

    #[test]
    fn every_word_of_a_report_is_checked() {
        let with = |change: fn(&mut AccessRecord)| {
            let mut record = record(1);
            change(&mut record);
            let request = ReportRequest {
                records: vec![record],
                ..Default::default()
            };
            Report::read(&request).err()
        };
        assert_eq!(with(|_| ()), None);
        assert_eq!(with(|r| r.allowance_id = "1".into()), Some(Untrue::Id));
        assert_eq!(with(|r| r.app_name = "a\nb".into()), Some(Untrue::Claim));
        assert_eq!(with(|r| r.purpose = String::new()), Some(Untrue::Claim));
        assert_eq!(with(|r| r.count = 0), Some(Untrue::Count));
        assert_eq!(with(|r| r.count = u32::MAX), Some(Untrue::Count));
        assert_eq!(with(|r| r.first_time_ms = 3_000), Some(Untrue::Times));
        assert_eq!(with(|r| r.last_time_ms = i64::MAX), Some(Untrue::Times));
        assert_eq!(with(|r| r.first_time_ms = -1), Some(Untrue::Times));
        let request = ReportRequest {
            closed_allowance_ids: vec![ID.to_string(); LARGEST_REPORT + 1],
            ..Default::default()
        };
        assert_eq!(Report::read(&request).err(), Some(Untrue::TooLong));
        let request = ReportRequest {
            denials: vec![Denial::default()],
            ..Default::default()
        };
        assert_eq!(Report::read(&request).err(), Some(Untrue::Denial));
        let request = ReportRequest {
            denials: vec![Denial::default(); LARGEST_REPORT + 1],
            ..Default::default()
        };
        assert_eq!(Report::read(&request).err(), Some(Untrue::TooLong));
    }
}
