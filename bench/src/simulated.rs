//! A broker as the vault sees it: attached over the real protocol, holding real
//! allowances, closing them when told to. It serves nobody, so that a thousand of
//! them fit into one process.

use std::collections::HashMap;
use std::time::Duration;

use bursar_wire::digest::report_digest;
use bursar_wire::tls::{self, TlsError};
use bursar_wire::v1alpha1::event::Event as Kind;
use bursar_wire::v1alpha1::grant_response::Answer;
use bursar_wire::v1alpha1::vault_client::VaultClient;
use bursar_wire::v1alpha1::{
    AccessRecord, AttachRequest, Event, GrantRequest, Granted, Incarnation, ReportRequest,
    WatchRequest,
};
use bursar_wire::{PROTOCOL_MAX, PROTOCOL_MIN, metadata};
use rustls::ClientConfig;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

/// The vault reviews so many pods a second and no more: come back after this.
const ATTACH_AGAIN: Duration = Duration::from_secs(1);
const ATTACH_LIMIT: Duration = Duration::from_secs(120);

/// Delays between attempts at a call, doubled each time.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Accesses asked for at a time when none of them is ever served.
const WANT: u32 = 100;
/// The same for those that are reported as served: the most that is granted.
const WANT_SERVED: u32 = 5_000;

/// When simulated accesses claim to have been, in milliseconds since the Unix epoch.
const RECORDED_MS: i64 = 1_800_000_000_000;

/// Why a simulated broker could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum SimulatedError {
    /// No TLS connection to the vault.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The vault refused a call.
    #[error("simulated broker: {call} ended in {:?}: {}", status.code(), status.message())]
    Call {
        /// Which call.
        call: &'static str,
        /// What the vault said.
        status: Box<Status>,
    },
    /// The vault never had time to review the pod.
    #[error("simulated broker: not attached after {} s", ATTACH_LIMIT.as_secs())]
    NotAttached,
    /// The vault ended the stream of events.
    #[error("simulated broker: the vault ended the stream of events")]
    StreamEnded,
    /// The vault's answer breaks the protocol.
    #[error("simulated broker: {0}")]
    Protocol(&'static str),
    /// There should be an allowance.
    #[error("simulated broker: token {token} was denied with code {code}")]
    Denied {
        /// The token's name.
        token: String,
        /// The protocol's code.
        code: i32,
    },
}

/// Where the vault is.
#[derive(Clone)]
pub struct VaultAddress {
    /// `https://HOST:PORT`.
    pub url: String,
    /// The name in its certificate.
    pub server_name: String,
    /// TLS that trusts Bursar's CA.
    pub tls: ClientConfig,
}

/// An attached broker that watches.
///
/// Holds the proof of its incarnation: hence no `Debug`.
pub struct SimulatedBroker {
    client: VaultClient<Channel>,
    incarnation: Incarnation,
    events: Streaming<Event>,
    request_no: u64,
    report_seq: u64,
    /// Allowance ids, and to which of the tokens asked for they belong.
    held: HashMap<String, usize>,
    /// What is reported as served, and how many accesses are left of it.
    serving: Option<(String, u32)>,
    /// Calls that had to be made again, because the vault was too busy.
    retries: u64,
}

/// What a broker tells of a token, by its place among the tokens asked for.
#[derive(Debug, Clone, Copy)]
pub enum Told {
    /// It has stopped serving it, at this time.
    Stopped(usize, Instant),
    /// The vault knows so, and has taken the rest of the allowance back.
    Closed(usize),
}

impl SimulatedBroker {
    /// Attaches as the pod that `pod_token` was made for, and watches.
    ///
    /// # Errors
    /// When the vault is away or refuses the pod, or has no time for two minutes.
    pub async fn attach(vault: &VaultAddress, pod_token: &str) -> Result<Self, SimulatedError> {
        let channel = tls::connect(&vault.url, &vault.server_name, vault.tls.clone()).await?;
        let mut client = VaultClient::new(channel);
        let attached = tokio::time::timeout(ATTACH_LIMIT, attach(&mut client, pod_token))
            .await
            .map_err(|_| SimulatedError::NotAttached)??;
        let watch = shown(WatchRequest {}, &attached);
        let events = client
            .watch(watch)
            .await
            .map_err(in_call("Watch"))?
            .into_inner();
        let mut broker = Self {
            client,
            incarnation: attached,
            events,
            request_no: 0,
            report_seq: 0,
            held: HashMap::new(),
            serving: None,
            retries: 0,
        };
        // Before it comes what this broker missed, and who signs the workloads' tokens.
        while !matches!(broker.next_event().await?, Kind::Synced(_)) {}
        Ok(broker)
    }

    /// Takes an allowance for each of `tokens`.
    ///
    /// # Errors
    /// When one of them is denied.
    pub async fn hold(&mut self, user: &str, tokens: &[String]) -> Result<(), SimulatedError> {
        for (index, token) in tokens.iter().enumerate() {
            let granted = self.grant(user, token, WANT).await?;
            self.held.insert(granted.allowance_id, index);
        }
        Ok(())
    }

    async fn grant(
        &mut self,
        user: &str,
        token: &str,
        want: u32,
    ) -> Result<Granted, SimulatedError> {
        self.request_no += 1;
        let request = GrantRequest {
            request_no: self.request_no,
            user_id: user.to_owned(),
            token: Some(token.to_owned()),
            want,
            waiting: 1,
        };
        let call = || {
            let (mut client, request) = (self.client.clone(), self.shown(request.clone()));
            async move { client.grant(request).await }
        };
        let (response, retries) = until_available("Grant", call).await?;
        self.retries += retries;
        match response.answer {
            Some(Answer::Granted(granted)) => Ok(granted),
            Some(Answer::Denied(denied)) => Err(SimulatedError::Denied {
                token: token.to_owned(),
                code: denied.code,
            }),
            // Nothing changes and nothing is lost here.
            Some(Answer::AskAgain(_)) | None => {
                Err(SimulatedError::Protocol("a grant without an answer"))
            }
        }
    }

    /// Reports as many records of one access each, with a purpose of its own each, as if
    /// they had been served; takes an allowance for them first when there is none.
    ///
    /// # Errors
    /// When the allowance is denied or the report refused.
    pub async fn report_served(
        &mut self,
        user: &str,
        token: &str,
        records: u32,
    ) -> Result<(), SimulatedError> {
        let mut closed = Vec::new();
        let (id, left) = match self.serving.take() {
            Some((id, left)) if left >= records => (id, left),
            used_up => {
                closed.extend(used_up.map(|(id, _)| id));
                let granted = self.grant(user, token, WANT_SERVED).await?;
                (granted.allowance_id, granted.units)
            }
        };
        let record = |n| AccessRecord {
            allowance_id: id.clone(),
            app_name: "bench".to_owned(),
            purpose: format!("measure {n}"),
            count: 1,
            first_time_ms: RECORDED_MS,
            last_time_ms: RECORDED_MS,
        };
        let records_of_it = (0..records).map(record).collect();
        self.report(records_of_it, closed).await?;
        self.serving = Some((id, left.saturating_sub(records)));
        Ok(())
    }

    /// Calls that had to be made again so far, because the vault was too busy.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Does as the vault says, and tells of it, until nothing is held any more. Gives
    /// how many calls it had to make again since it attached, because the vault was
    /// too busy.
    ///
    /// # Errors
    /// When the vault ends the stream or refuses a report.
    pub async fn obey(mut self, told: UnboundedSender<Told>) -> Result<u64, SimulatedError> {
        while !self.held.is_empty() {
            let Kind::Recall(recall) = self.next_event().await? else {
                continue;
            };
            let ids = recall.allowance_ids;
            let stopped: Vec<usize> = ids.iter().filter_map(|id| self.held.remove(id)).collect();
            let at = Instant::now();
            // Nobody may be listening any more: then nobody wants to know.
            for token in &stopped {
                let _ = told.send(Told::Stopped(*token, at));
            }
            self.report(Vec::new(), ids).await?;
            for token in stopped {
                let _ = told.send(Told::Closed(token));
            }
        }
        Ok(self.retries)
    }

    async fn report(
        &mut self,
        records: Vec<AccessRecord>,
        closed_allowance_ids: Vec<String>,
    ) -> Result<(), SimulatedError> {
        self.report_seq += 1;
        let report = ReportRequest {
            seq: self.report_seq,
            digest: report_digest(&records, &closed_allowance_ids, &[]).to_vec(),
            records,
            closed_allowance_ids,
            denials: Vec::new(),
        };
        let call = || {
            let (mut client, request) = (self.client.clone(), self.shown(report.clone()));
            async move { client.report(request).await }
        };
        let (_, retries) = until_available("Report", call).await?;
        self.retries += retries;
        Ok(())
    }

    fn shown<T>(&self, message: T) -> Request<T> {
        shown(message, &self.incarnation)
    }

    async fn next_event(&mut self) -> Result<Kind, SimulatedError> {
        let event = self.events.message().await.map_err(in_call("Watch"))?;
        event
            .and_then(|event| event.event)
            .ok_or(SimulatedError::StreamEnded)
    }
}

async fn attach(
    client: &mut VaultClient<Channel>,
    pod_token: &str,
) -> Result<Incarnation, SimulatedError> {
    loop {
        let request = AttachRequest {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            service_account_token: pod_token.to_owned(),
            previous: None,
        };
        match client.attach(request).await {
            Ok(response) => {
                let incarnation = response.into_inner().incarnation;
                return incarnation.ok_or(SimulatedError::Protocol("attached to no incarnation"));
            }
            Err(status) if status.code() == Code::ResourceExhausted => {
                tokio::time::sleep(ATTACH_AGAIN).await;
            }
            Err(status) => return Err(in_call("Attach")(status)),
        }
    }
}

/// Calls again, with the same request, while the vault is too busy: as brokers do. Gives
/// the answer, and how many times it had to call again.
async fn until_available<T, F>(
    call: &'static str,
    mut attempt: impl FnMut() -> F,
) -> Result<(T, u64), SimulatedError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut delay = FIRST_DELAY;
    let mut retries = 0;
    loop {
        match attempt().await {
            Ok(response) => return Ok((response.into_inner(), retries)),
            Err(status) if status.code() == Code::Unavailable && delay < LONGEST_DELAY => {
                tokio::time::sleep(delay).await;
                delay *= 2;
                retries += 1;
            }
            Err(status) => return Err(in_call(call)(status)),
        }
    }
}

/// Shows whose request it is.
fn shown<T>(message: T, incarnation: &Incarnation) -> Request<T> {
    let mut request = Request::new(message);
    // Ids of the vault are UUIDs, which are good metadata; anything else the vault
    // refuses as it refuses a call without an id.
    if let Ok(id) = incarnation.id.parse() {
        request.metadata_mut().insert(metadata::INCARNATION_ID, id);
    }
    let proof = MetadataValue::from_bytes(&incarnation.proof);
    request
        .metadata_mut()
        .insert_bin(metadata::INCARNATION_PROOF, proof);
    request
}

fn in_call(call: &'static str) -> impl FnOnce(Status) -> SimulatedError {
    move |status| SimulatedError::Call {
        call,
        status: Box::new(status),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use super::*;

    /// A call that is answered with `code` twice and then well.
    async fn third_time_lucky(code: Code) -> Result<((), u64), SimulatedError> {
        let attempts = Cell::new(0);
        until_available("Grant", || {
            attempts.set(attempts.get() + 1);
            ready(match attempts.get() {
                1 | 2 => Err(Status::new(code, "busy")),
                _ => Ok(Response::new(())),
            })
        })
        .await
    }

    #[tokio::test]
    async fn calls_made_again_are_counted() {
        let (_, retries) = third_time_lucky(Code::Unavailable).await.unwrap();
        assert_eq!(retries, 2);
    }

    #[tokio::test]
    async fn a_refusal_is_not_tried_again() {
        assert!(third_time_lucky(Code::PermissionDenied).await.is_err());
    }
}
