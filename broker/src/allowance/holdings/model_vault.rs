//! A vault in memory that follows the rules for numbers, answers and batches.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar_wire::v1alpha1::grant_response::Answer;
use bursar_wire::v1alpha1::{AskAgain, Denied, GrantRequest, Granted, ReportRequest, denied};

use crate::clock::BootTime;

/// What the vault knows of one allowance.
pub(super) struct Booked {
    pub(super) granted: u32,
    pub(super) used: u32,
    pub(super) closed: bool,
    pub(super) recalled: bool,
    /// When the vault lets it end at the latest.
    pub(super) ends: BootTime,
}

/// A vault that follows the rules for numbers, answers and batches.
#[derive(Default)]
pub(super) struct ModelVault {
    pub(super) allowances: BTreeMap<String, Booked>,
    last_request: Option<(GrantRequest, Answer)>,
    last_report: u64,
    last_batch: Option<ReportRequest>,
    pub(super) revoked: bool,
}

impl ModelVault {
    /// The last number may come again: it is answered as before as long as that
    /// stands, and otherwise the broker is told to close what was granted.
    pub(super) fn grant(
        &mut self,
        request: GrantRequest,
        sealed: &Granted,
        now: BootTime,
    ) -> Option<Answer> {
        let last = self
            .last_request
            .as_ref()
            .map_or(0, |(last, _)| last.request_no);
        if request.request_no < last {
            // One that was overtaken long ago.
            return None;
        }
        if let Some((last, answer)) = &self.last_request
            && last.request_no == request.request_no
        {
            let id = match answer {
                Answer::Granted(granted) => Some(granted.allowance_id.clone()),
                _ => None,
            };
            let stands = match &id {
                Some(id) => {
                    let booked = &self.allowances[id];
                    let same = (&last.user_id, &last.token) == (&request.user_id, &request.token);
                    same && !booked.closed && !booked.recalled && !self.revoked
                }
                None => self.revoked,
            };
            if stands {
                return Some(answer.clone());
            }
            return Some(Answer::AskAgain(AskAgain {
                close_allowance_id: id,
            }));
        }
        assert_eq!(
            request.request_no,
            last + 1,
            "requests are numbered without gaps"
        );
        let answer = if self.revoked {
            let code = denied::Code::Revoked.into();
            Answer::Denied(Denied {
                code,
                ..Denied::default()
            })
        } else {
            let id = format!("a{}", self.allowances.len());
            let ends = now.plus(Duration::from_secs(60));
            // Few, so that they are used up now and then.
            let units = request
                .want
                .min(4 + u32::try_from(request.request_no % 5).unwrap());
            let booked = Booked {
                granted: units,
                used: 0,
                closed: false,
                recalled: false,
                ends,
            };
            self.allowances.insert(id.clone(), booked);
            Answer::Granted(Granted {
                // So that an answer tells which allowance it was served from.
                provider: id.clone(),
                allowance_id: id,
                units,
                // Quotas count some tokens' accesses and not others'.
                counted: request.token.as_deref() != Some("c"),
                ..sealed.clone()
            })
        };
        self.last_request = Some((request, answer.clone()));
        Some(answer)
    }

    pub(super) fn report(&mut self, batch: &ReportRequest) {
        if batch.seq == self.last_report {
            assert_eq!(
                self.last_batch.as_ref(),
                Some(batch),
                "a batch is repeated unchanged"
            );
            return;
        }
        assert_eq!(
            batch.seq,
            self.last_report + 1,
            "batches are numbered without gaps"
        );
        for record in &batch.records {
            let booked = self.allowances.get_mut(&record.allowance_id).unwrap();
            assert!(!booked.closed, "no record of an allowance after its close");
            booked.used += record.count;
            assert!(
                booked.used <= booked.granted,
                "no more is used than was granted"
            );
        }
        for id in &batch.closed_allowance_ids {
            let booked = self.allowances.get_mut(id).unwrap();
            assert!(!booked.closed, "an allowance is closed once");
            booked.closed = true;
        }
        self.last_report = batch.seq;
        self.last_batch = Some(batch.clone());
    }

    pub(super) fn recorded(&self) -> u64 {
        self.allowances
            .values()
            .map(|booked| u64::from(booked.used))
            .sum()
    }

    pub(super) fn open(&self) -> Vec<String> {
        let open = self.allowances.iter().filter(|(_, booked)| !booked.closed);
        open.map(|(id, _)| id.clone()).collect()
    }
}
