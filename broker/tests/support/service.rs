//! The fake vault's side of the protocol. It notes whatever no honest broker
//! does.

use std::pin::Pin;

use bursar_wire::digest::report_digest;
use bursar_wire::v1alpha1::vault_server::Vault;
use bursar_wire::v1alpha1::*;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status};

use super::books::{Books, Stored};
use super::issuer::{ISSUER, NAMESPACE, POD_NAME, POD_UID, SERVICE_ACCOUNT};

impl Books {
    /// Decides and books; none when the answer is to be lost.
    fn book_grant(&self, request: GrantRequest) -> Result<Option<GrantResponse>, Status> {
        let mut state = self.state();
        if state.faults.failing_grants > 0 {
            state.faults.failing_grants -= 1;
            return Err(Status::unavailable("the vault cannot reach its database"));
        }
        let last_no = state
            .last_request
            .as_ref()
            .map_or(0, |(last, _)| last.request_no);
        let response = if request.request_no == last_no {
            // Nothing is granted twice under a number, and nothing to another.
            let (last, stored) = state.last_request.clone().unwrap();
            if (last.user_id, last.token) == (request.user_id, request.token) {
                stored
            } else {
                let close_allowance_id = match stored.answer {
                    Some(grant_response::Answer::Granted(granted)) => Some(granted.allowance_id),
                    _ => None,
                };
                GrantResponse {
                    answer: Some(grant_response::Answer::AskAgain(AskAgain {
                        close_allowance_id,
                    })),
                }
            }
        } else if request.request_no == last_no + 1 {
            let key = (request.user_id.clone(), request.token.clone());
            let absent = Stored::Denied(denied::Code::Forbidden, Vec::new());
            let stored = state.tokens.get(&key).cloned().unwrap_or(absent);
            let response = self.granted(&mut state, &request, &stored)?;
            state.last_request = Some((request, response.clone()));
            response
        } else {
            state
                .violations
                .push(format!("request {} follows {last_no}", request.request_no));
            return Err(Status::failed_precondition("out of order"));
        };
        self.changed.notify_waiters();
        if state.faults.lost_grants > 0 {
            state.faults.lost_grants -= 1;
            return Ok(None);
        }
        Ok(Some(response))
    }

    /// Books a report; none when the answer is to be lost.
    fn book_report(&self, report: ReportRequest) -> Option<ReportResponse> {
        let mut guard = self.called("Report");
        let state = &mut *guard;
        let digest = report_digest(
            &report.records,
            &report.closed_allowance_ids,
            &report.denials,
        );
        if report.digest != digest {
            state
                .violations
                .push("a digest of something else".to_owned());
        }
        let (last_seq, last_digest) = &state.last_report;
        if report.seq == last_seq + 1 {
            for record in &report.records {
                match state.allowances.get_mut(&record.allowance_id) {
                    Some(booked) => {
                        booked.used += record.count;
                        if booked.closed
                            || booked.used > booked.granted
                            || booked.incarnation != state.incarnation
                        {
                            state
                                .violations
                                .push(format!("record {record:?} on {booked:?}"));
                        }
                    }
                    None => state
                        .violations
                        .push(format!("record {record:?} on nothing")),
                }
            }
            for id in &report.closed_allowance_ids {
                match state.allowances.get_mut(id) {
                    Some(booked) if !booked.closed => booked.closed = true,
                    _ => state
                        .violations
                        .push(format!("{id} closed twice or unknown")),
                }
            }
            state.last_report = (report.seq, report.digest);
            state.records.extend(report.records);
            state.denials.extend(report.denials);
        } else if report.seq == *last_seq {
            if *last_digest != report.digest {
                state
                    .violations
                    .push(format!("report {last_seq} was changed"));
            }
        } else {
            state
                .violations
                .push(format!("report {} follows {last_seq}", report.seq));
        }
        self.changed.notify_waiters();
        if state.faults.lost_reports > 0 {
            state.faults.lost_reports -= 1;
            return None;
        }
        let next_report_ms = state.next_report_ms;
        Some(ReportResponse { next_report_ms })
    }

    /// Counts, once for each key; none when the answer is to be lost.
    fn book_count(&self, request: CountRequest, release: bool) -> Option<CountResponse> {
        let mut guard = self.called(if release { "Release" } else { "Consume" });
        let state = &mut *guard;
        let denied = |code: denied::Code, quotas: Vec<String>, retry_after_ms| CountResponse {
            answer: Some(count_response::Answer::Denied(Denied {
                code: code.into(),
                quotas,
                retry_after_ms,
                ..Denied::default()
            })),
        };
        if request.user_id != "ana" {
            return Some(denied(denied::Code::Forbidden, vec![], None));
        }
        if let Some((earlier, response)) = state.counted.get(&request.idempotency_key) {
            if *earlier == request {
                return Some(response.clone());
            }
            return Some(denied(denied::Code::IdempotencyKeyReused, vec![], None));
        }
        let Some(quota) = state.quotas.get_mut(&request.counter) else {
            return Some(denied(denied::Code::CounterNotFound, vec![], None));
        };
        if release {
            quota.released = request.amount.min(quota.used);
            quota.used -= quota.released;
        } else if quota.used + request.amount > quota.limit {
            let retry = quota.period_s.map(|_| 90_500);
            return Some(denied(
                denied::Code::QuotaExhausted,
                vec![quota.name.clone()],
                retry,
            ));
        } else {
            quota.used += request.amount;
        }
        let response = CountResponse {
            answer: Some(count_response::Answer::Counted(Quotas {
                quotas: vec![quota.clone()],
            })),
        };
        let key = request.idempotency_key.clone();
        state.counted.insert(key, (request, response.clone()));
        if state.faults.lost_counts > 0 {
            state.faults.lost_counts -= 1;
            return None;
        }
        Some(response)
    }

    async fn count(
        &self,
        request: Request<CountRequest>,
        release: bool,
    ) -> Result<Response<CountResponse>, Status> {
        self.authenticate(&request)?;
        match self.book_count(request.into_inner(), release) {
            Some(response) => Ok(Response::new(response)),
            None => Err(self.lose_answer().await),
        }
    }

    /// Every connection breaks, after the vault has done its work.
    async fn lose_answer(&self) -> Status {
        self.cut.send_modify(|cuts| *cuts += 1);
        std::future::pending().await
    }
}

#[tonic::async_trait]
impl Vault for Books {
    async fn attach(
        &self,
        request: Request<AttachRequest>,
    ) -> Result<Response<AttachResponse>, Status> {
        drop(self.called("Attach"));
        let mut gate = self.attach_gate.subscribe();
        let _ = gate.wait_for(|open| *open).await;
        let mut state = self.state();
        if state.faults.refused_attaches > 0 {
            state.faults.refused_attaches -= 1;
            return Err(Status::resource_exhausted("too many attach at once"));
        }
        let request = request.into_inner();
        if state.faults.tokens_refused || request.service_account_token != "vault-token" {
            return Err(Status::unauthenticated("not this pod's token"));
        }
        let current = state.incarnation.to_string();
        let resumed = request
            .previous
            .is_some_and(|previous| previous.id == current);
        if !resumed {
            state.incarnation += 1;
            state.last_request = None;
            state.last_report = (0, Vec::new());
        }
        Ok(Response::new(AttachResponse {
            protocol: 1,
            incarnation: Some(Incarnation {
                id: state.incarnation.to_string(),
                proof: b"proof".to_vec(),
            }),
            resumed,
            pod: Some(Pod {
                tenant_id: self.tenant.to_string(),
                namespace: NAMESPACE.to_owned(),
                name: POD_NAME.to_owned(),
                uid: POD_UID.to_owned(),
                service_account_name: SERVICE_ACCOUNT.to_owned(),
            }),
            workload_issuer: Some(WorkloadIssuer {
                issuer: ISSUER.to_owned(),
                jwks: state.jwks.clone(),
            }),
            lease_ms: state.lease_ms,
            attach_again_ms: state.attach_again_ms,
            last_report_seq: state.last_report.0,
            last_request_no: state
                .last_request
                .as_ref()
                .map_or(0, |(last, _)| last.request_no),
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.authenticate(&request)?;
        let mut state = self.called("Watch");
        let (sender, events) = mpsc::unbounded_channel();
        for event in std::mem::take(&mut state.backlog) {
            let _ = sender.send(Ok(event));
        }
        let synced = Event {
            event: Some(event::Event::Synced(Synced {})),
        };
        let _ = sender.send(Ok(synced));
        state.watchers.push(sender);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            events,
        ))))
    }

    async fn grant(
        &self,
        request: Request<GrantRequest>,
    ) -> Result<Response<GrantResponse>, Status> {
        self.authenticate(&request)?;
        drop(self.called("Grant"));
        let mut gate = self.gate.subscribe();
        let _ = gate.wait_for(|open| *open).await;
        let booked = self.book_grant(request.into_inner())?;
        let mut gate = self.answer_gate.subscribe();
        let _ = gate.wait_for(|open| *open).await;
        match booked {
            Some(response) => Ok(Response::new(response)),
            None => Err(self.lose_answer().await),
        }
    }

    async fn report(
        &self,
        request: Request<ReportRequest>,
    ) -> Result<Response<ReportResponse>, Status> {
        self.authenticate(&request)?;
        match self.book_report(request.into_inner()) {
            Some(response) => Ok(Response::new(response)),
            None => Err(self.lose_answer().await),
        }
    }

    async fn describe_user(
        &self,
        request: Request<DescribeUserRequest>,
    ) -> Result<Response<DescribeUserResponse>, Status> {
        self.authenticate(&request)?;
        let state = self.called("DescribeUser");
        let answer = match state.descriptions.get(&request.into_inner().user_id) {
            Some(tokens) => describe_user_response::Answer::User(UserTokens {
                tokens: tokens.clone(),
            }),
            None => describe_user_response::Answer::Denied(Denied {
                code: denied::Code::Forbidden.into(),
                ..Denied::default()
            }),
        };
        Ok(Response::new(DescribeUserResponse {
            answer: Some(answer),
        }))
    }

    async fn consume(
        &self,
        request: Request<CountRequest>,
    ) -> Result<Response<CountResponse>, Status> {
        self.count(request, false).await
    }

    async fn release(
        &self,
        request: Request<CountRequest>,
    ) -> Result<Response<CountResponse>, Status> {
        self.count(request, true).await
    }

    async fn describe_quotas(
        &self,
        request: Request<DescribeQuotasRequest>,
    ) -> Result<Response<DescribeQuotasResponse>, Status> {
        self.authenticate(&request)?;
        let state = self.called("DescribeQuotas");
        let answer = if request.into_inner().user_id == "ana" {
            describe_quotas_response::Answer::Quotas(Quotas {
                quotas: state.quotas.values().cloned().collect(),
            })
        } else {
            describe_quotas_response::Answer::Denied(Denied {
                code: denied::Code::Forbidden.into(),
                ..Denied::default()
            })
        };
        Ok(Response::new(DescribeQuotasResponse {
            answer: Some(answer),
        }))
    }
}
