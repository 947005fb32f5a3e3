//! One connection to the vault after another.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bursar_seal::{IdError, TenantId};
use bursar_wire::tls::{self, TlsError};
use bursar_wire::v1alpha1::{AttachRequest, AttachResponse, Incarnation, WorkloadIssuer};
use bursar_wire::{PROTOCOL_MAX, PROTOCOL_MIN};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::backoff::Backoff;
use super::calls::{self, CallError, Calls};
use super::{grants, reports, watch};
use crate::broker::Broker;
use crate::jwt::{Authenticator, PodIdentity, VerifierError};

/// How long the vault may take to bring a new watcher up to date.
const SYNC_PATIENCE: Duration = Duration::from_secs(10);

/// A session that lived this long was a good one: the next attempt is not a
/// repeated one.
const SETTLED: Duration = Duration::from_secs(5);
/// The least time between two attaches on one connection.
const SHORTEST_AGAIN: Duration = Duration::from_secs(1);

/// Where the vault is and how this pod proves itself.
#[derive(Clone, Debug)]
pub(crate) struct VaultAddress {
    /// `https://HOST:PORT`.
    pub(crate) url: String,
    /// The name its certificate must hold.
    pub(crate) name: String,
    pub(crate) ca_file: PathBuf,
    pub(crate) token_file: PathBuf,
}

/// Why a session did not begin, or ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot read {path}: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the vault refused to attach this broker ({code:?}): {message}")]
    Refused { code: Code, message: String },
    #[error("the vault chose protocol {0}, which this broker does not speak")]
    Protocol(u32),
    #[error("the vault's answer to Attach has no usable {0}")]
    Incomplete(&'static str),
    #[error("the vault's answer to Attach has no usable tenant id")]
    Tenant(#[from] IdError),
    #[error(transparent)]
    Verifier(#[from] VerifierError),
    #[error("the vault resumed this incarnation with another history than this broker's")]
    OtherHistory,
    #[error("the vault took too long to tell what changed")]
    SyncTimeout,
    #[error(transparent)]
    Call(#[from] CallError),
}

impl SessionError {
    /// Whether nothing of this incarnation can be resumed.
    fn ends_incarnation(&self) -> bool {
        matches!(
            self,
            Self::OtherHistory | Self::Call(CallError::Fenced | CallError::Malformed(_))
        )
    }
}

/// What the vault said this pod is.
pub(crate) struct Attached {
    tenant: TenantId,
    pod: PodIdentity,
    again: Duration,
}

impl Attached {
    /// Takes new keys of the workloads' issuer. Keys that cannot be used leave
    /// those in force that were there before.
    pub(crate) fn trust(&self, broker: &Broker, issuer: &WorkloadIssuer) {
        match Authenticator::new(issuer, self.pod.clone()) {
            Ok(authenticator) => {
                broker.authenticator.replace(Some(authenticator));
            }
            Err(error) => tracing::error!(%error, "the issuer's new keys are not used"),
        }
    }
}

/// Keeps this broker attached for as long as it runs.
pub(crate) async fn run(broker: &Broker, vault: &VaultAddress) -> Infallible {
    let mut incarnation = None;
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let Err(error) = session(broker, vault, &mut incarnation).await;
        let was_attached = broker.calls.replace(None).is_some();
        tracing::warn!(error = chain(&error), "not attached to the vault");
        if error.ends_incarnation() {
            incarnation = None;
            void(broker);
        }
        // Right after a loss it is worth waiting: the next attempt is near.
        broker.holdings.borrow_mut().detached(!was_attached);
        if began.elapsed() >= SETTLED {
            backoff.reset();
        }
        sleep(backoff.delay(broker.jitter())).await;
    }
}

/// An error with its causes: the transport's own text says only that it failed.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// From connecting to the first failure.
async fn session(
    broker: &Broker,
    vault: &VaultAddress,
    incarnation: &mut Option<Incarnation>,
) -> Result<Infallible, SessionError> {
    let channel = connect(vault).await?;
    let response = attach(broker, vault, &channel, incarnation.clone()).await?;
    let current = response
        .incarnation
        .clone()
        .ok_or(SessionError::Incomplete("incarnation"))?;
    if !response.resumed {
        if incarnation.is_some() {
            tracing::warn!("the vault started a new incarnation: what was held is void");
        }
        void(broker);
    } else if !same_history(broker, incarnation.as_ref(), &current, &response) {
        return Err(SessionError::OtherHistory);
    }
    // Kept even if the rest fails: the next attempt resumes it.
    *incarnation = Some(current.clone());
    let attached = identify(broker, &response)?;
    let calls = Calls::new(&channel, &current, Rc::clone(&broker.metrics))
        .ok_or(SessionError::Incomplete("incarnation"))?;

    let mut events = calls.watch().await?;
    timeout(SYNC_PATIENCE, watch::sync(broker, &attached, &mut events))
        .await
        .map_err(|_| SessionError::SyncTimeout)??;

    tracing::info!(resumed = response.resumed, "attached to the vault");
    broker.synced.set(true);
    broker.calls.replace(Some(calls.clone()));
    broker.holdings.borrow_mut().attached(broker.clock.boot());
    tokio::select! {
        // What must stop comes first, whatever else has arrived with it.
        biased;
        end = watch::follow(broker, &attached, &mut events) => Ok(end?),
        end = grants::run(broker, &calls, attached.tenant) => Ok(end?),
        end = reports::run(broker, &calls) => Ok(end?),
        end = attach_again(broker, vault, &channel, &current, attached.again) => end,
        () = broker.fenced.notified() => Err(CallError::Fenced.into()),
    }
}

/// The files are tiny and in memory: reading them in place takes less than
/// handing them to another thread, of which there is none otherwise.
fn read(path: &Path) -> Result<Vec<u8>, SessionError> {
    std::fs::read(path).map_err(|error| SessionError::Read {
        path: path.to_owned(),
        error,
    })
}

async fn connect(vault: &VaultAddress) -> Result<Channel, SessionError> {
    let config = tls::client_config(&read(&vault.ca_file)?)?;
    Ok(tls::connect(&vault.url, &vault.name, config).await?)
}

async fn attach(
    broker: &Broker,
    vault: &VaultAddress,
    channel: &Channel,
    previous: Option<Incarnation>,
) -> Result<AttachResponse, SessionError> {
    let token = String::from_utf8(read(&vault.token_file)?).map_err(|_| SessionError::Read {
        path: vault.token_file.clone(),
        error: io::ErrorKind::InvalidData.into(),
    })?;
    let request = AttachRequest {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        service_account_token: token.trim_end().to_owned(),
        previous,
    };
    let refused = |status: Status| SessionError::Refused {
        code: status.code(),
        message: status.message().to_owned(),
    };
    let response = calls::attach(channel, request, &broker.metrics)
        .await
        .map_err(refused)?;
    if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&response.protocol) {
        return Err(SessionError::Protocol(response.protocol));
    }
    Ok(response)
}

/// Learns from the vault whose callers to serve.
fn identify(broker: &Broker, response: &AttachResponse) -> Result<Attached, SessionError> {
    let pod = response
        .pod
        .as_ref()
        .ok_or(SessionError::Incomplete("pod"))?;
    let issuer = response
        .workload_issuer
        .as_ref()
        .ok_or(SessionError::Incomplete("workload issuer"))?;
    let authenticator = Authenticator::new(issuer, PodIdentity::from(pod))?;
    broker.authenticator.replace(Some(authenticator));
    Ok(Attached {
        tenant: pod.tenant_id.parse()?,
        pod: PodIdentity::from(pod),
        again: Duration::from_millis(response.attach_again_ms),
    })
}

fn same_history(
    broker: &Broker,
    ours: Option<&Incarnation>,
    theirs: &Incarnation,
    response: &AttachResponse,
) -> bool {
    let holdings = broker.holdings.borrow();
    ours.is_some_and(|ours| ours.id == theirs.id)
        && holdings.agrees_with(response.last_report_seq, response.last_request_no)
}

/// Nothing of an earlier incarnation may be served or reported.
fn void(broker: &Broker) {
    let lost = broker.holdings.borrow_mut().start_over();
    if lost > 0 {
        tracing::warn!(
            accesses = lost,
            "not reported: the vault records them as unaccounted for"
        );
        broker.metrics.lost.inc_by(lost);
    }
    broker.descriptions.forget_all();
    broker.synced.set(false);
}

/// Attaches again before the vault asks for it, with a fresh token, on the same
/// connection; ends only when the vault has begun another incarnation.
///
/// A refusal ends nothing. It is about the token as the vault saw it just now: a
/// replica's clock may be off, or the kubelet late with the next token. What is held
/// is served on within its lease, and reported once the vault listens again.
async fn attach_again(
    broker: &Broker,
    vault: &VaultAddress,
    channel: &Channel,
    incarnation: &Incarnation,
    mut again: Duration,
) -> Result<Infallible, SessionError> {
    loop {
        // The vault spreads these times; this leaves some for trying again.
        sleep((again / 10 * 9).max(SHORTEST_AGAIN)).await;
        let mut backoff = Backoff::default();
        let mut logged = String::new();
        loop {
            match attach(broker, vault, channel, Some(incarnation.clone())).await {
                // The issuer's keys in it may be older than those that Watch told of.
                Ok(response) if response.resumed => {
                    again = Duration::from_millis(response.attach_again_ms);
                    break;
                }
                Ok(_) => return Err(CallError::Fenced.into()),
                Err(error) => {
                    let text = chain(&error);
                    if text != logged {
                        tracing::warn!(error = text, "attaching again failed; trying again");
                        logged = text;
                    }
                    sleep(backoff.delay(broker.jitter())).await;
                }
            }
        }
    }
}
