//! A broker as it should be, and what it exchanges with the vault.

use std::collections::{BTreeMap, HashSet};

use bursar_wire::digest::report_digest;
use bursar_wire::v1alpha1::event::Event;
use bursar_wire::v1alpha1::grant_response::Answer;
use bursar_wire::v1alpha1::{AskAgain, GrantRequest, GrantResponse, Granted, ReportRequest};

use crate::support::broker::{Broker, served};
use crate::support::events::Events;
use crate::support::replica::Replica;
use crate::support::{Bed, Team};

/// A question on its way to the vault.
#[derive(Clone)]
pub(super) enum Question {
    Grant(GrantRequest),
    Report(ReportRequest),
}

/// An answer on its way back.
#[derive(Clone)]
pub(super) enum Told {
    Granted(u64, Box<GrantResponse>),
    Recorded(u64),
}

impl Told {
    /// Without what is random: ids and keys.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Granted(_, answer) => match answer.answer.as_ref().unwrap() {
                Answer::Granted(granted) => format!("{} granted", granted.units),
                Answer::AskAgain(again) => {
                    let closes = again.close_allowance_id.is_some();
                    format!("to be asked again, closing one: {closes}")
                }
                Answer::Denied(denied) => format!("{:?}", denied.code()),
            },
            Self::Recorded(_) => "recorded".to_owned(),
        }
    }
}

/// What a broker holds, and what it has not reported of it.
pub(super) struct Held {
    pub(super) granted: Granted,
    pub(super) left: u32,
    pub(super) unreported: u32,
    /// Nothing is served from it any more, and it is to be closed.
    pub(super) ended: bool,
}

/// A broker by the rules: requests are repeated until they are answered, reports are
/// frozen and sent again byte for byte.
pub(super) struct Modelled {
    pub(super) broker: Broker,
    events: Events,
    pub(super) asked: Option<GrantRequest>,
    frozen: Option<ReportRequest>,
    /// By the request that each was the answer to: ids are the vault's own choice.
    pub(super) held: BTreeMap<u64, Held>,
    /// What it was told to give back, be it held or not.
    recalled: HashSet<String>,
}

impl Modelled {
    pub(super) async fn new(bed: &Bed, replica: &Replica, team: &Team) -> Self {
        let broker = bed.broker(replica, team, "app").await;
        let (events, _) = broker.watch().await;
        Self {
            broker,
            events,
            asked: None,
            frozen: None,
            held: BTreeMap::new(),
            recalled: HashSet::new(),
        }
    }

    /// All that is not reported, and the ends of what has ended.
    pub(super) fn freeze(&mut self) -> ReportRequest {
        if self.frozen.is_none() {
            self.broker.report_seq += 1;
            let mut records = Vec::new();
            let mut closed = Vec::new();
            self.held.retain(|_, held| {
                if held.unreported > 0 {
                    records.push(served(&held.granted, held.unreported));
                    held.unreported = 0;
                }
                if held.ended {
                    closed.push(held.granted.allowance_id.clone());
                }
                !held.ended
            });
            self.frozen = Some(ReportRequest {
                seq: self.broker.report_seq,
                digest: report_digest(&records, &closed, &[]).to_vec(),
                records,
                closed_allowance_ids: closed,
                denials: vec![],
            });
        }
        self.frozen.clone().unwrap()
    }

    pub(super) fn ask(&mut self, token: &str, waiting: u32) -> GrantRequest {
        if self.asked.is_none() {
            self.broker.request_no += 1;
            self.asked = Some(GrantRequest {
                request_no: self.broker.request_no,
                user_id: "ana".into(),
                token: Some(token.into()),
                want: 8,
                waiting,
            });
        }
        self.asked.clone().unwrap()
    }

    /// Ends what is held of these allowances once all of them have been recalled; the
    /// requests that they were granted to.
    pub(super) async fn give_back(&mut self, changed: &[String]) -> Vec<u64> {
        let held = self.held.iter_mut();
        let held = held.filter(|(_, it)| !it.ended && changed.contains(&it.granted.allowance_id));
        let mut numbers = Vec::new();
        for (number, held) in held {
            while !self.recalled.contains(&held.granted.allowance_id) {
                if let Event::Recall(recall) = self.events.next().await {
                    self.recalled.extend(recall.allowance_ids);
                }
            }
            held.ended = true;
            numbers.push(*number);
        }
        numbers
    }

    pub(super) fn hear(&mut self, told: Told) {
        match told {
            Told::Granted(number, answer) => {
                let awaited = self.asked.as_ref().map(|asked| asked.request_no);
                if awaited != Some(number) {
                    return;
                }
                self.asked = None;
                let held = match answer.answer.unwrap() {
                    Answer::Granted(granted) => Held {
                        left: granted.units,
                        unreported: 0,
                        ended: false,
                        granted,
                    },
                    Answer::AskAgain(AskAgain {
                        close_allowance_id: Some(id),
                    }) => Held {
                        left: 0,
                        unreported: 0,
                        ended: true,
                        granted: Granted {
                            allowance_id: id,
                            ..Granted::default()
                        },
                    },
                    Answer::AskAgain(_) | Answer::Denied(_) => return,
                };
                self.held.insert(number, held);
            }
            Told::Recorded(seq) => {
                if self.frozen.as_ref().is_some_and(|frozen| frozen.seq == seq) {
                    self.frozen = None;
                }
            }
        }
    }
}
