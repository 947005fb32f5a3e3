//! Calls to the vault on behalf of one incarnation.

use std::error::Error as _;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bursar_wire::metadata::{INCARNATION_ID, INCARNATION_PROOF};
use bursar_wire::v1alpha1::vault_client::VaultClient;
use bursar_wire::v1alpha1::{
    AttachRequest, AttachResponse, CountRequest, DescribeQuotasRequest, DescribeUserRequest, Event,
    GrantRequest, Incarnation, ReportRequest, WatchRequest, count_response,
    describe_quotas_response, describe_user_response, grant_response,
};
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataValue, BinaryMetadataValue, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::metrics::Metrics;

/// How long the vault may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to attach: the last in its queue for the API server waits 5
/// seconds, and is reviewed only then.
const ATTACH_PATIENCE: Duration = Duration::from_secs(15);

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The vault does not know this incarnation any more, or knows another
    /// history of it: all it holds is void.
    #[error("the vault has ended this incarnation")]
    Fenced,
    /// The vault does not understand the request and never will.
    #[error("the vault does not understand {0}: is it older than this broker?")]
    Malformed(&'static str),
    /// The vault took too long.
    #[error("the vault did not answer {0} within 5 seconds")]
    Timeout(&'static str),
    /// The vault says that it cannot.
    #[error("the vault answered {call} with an error ({code:?}): {message}")]
    Refused {
        call: &'static str,
        code: Code,
        message: String,
    },
    /// The way to the vault failed, before or after it did what was asked.
    #[error("{call} broke off ({code:?}): {message}")]
    Failed {
        call: &'static str,
        code: Code,
        message: String,
    },
    /// The vault ended the stream of events.
    #[error("the vault closed the stream of events")]
    StreamEnded,
}

/// An attached client.
#[derive(Clone)]
pub(crate) struct Calls {
    client: VaultClient<Channel>,
    id: AsciiMetadataValue,
    proof: BinaryMetadataValue,
    metrics: Rc<Metrics>,
}

/// Attaches over `channel`: the one call that needs no incarnation.
///
/// # Errors
/// The vault's refusal, or [`Code::DeadlineExceeded`] after 15 seconds.
pub(crate) async fn attach(
    channel: &Channel,
    request: AttachRequest,
    metrics: &Metrics,
) -> Result<AttachResponse, Status> {
    let mut client = VaultClient::new(channel.clone());
    let began = Instant::now();
    let attached = match tokio::time::timeout(ATTACH_PATIENCE, client.attach(request)).await {
        Ok(attached) => attached.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(
            "the vault did not answer within 15 seconds",
        )),
    };
    let outcome = if attached.is_ok() { "Ok" } else { "Failed" };
    metrics.vault_call("Attach", outcome, began);
    attached
}

impl Calls {
    /// Calls over `channel` that show `incarnation`; none when its id cannot
    /// stand in a header.
    pub(crate) fn new(
        channel: &Channel,
        incarnation: &Incarnation,
        metrics: Rc<Metrics>,
    ) -> Option<Self> {
        Some(Self {
            client: VaultClient::new(channel.clone()),
            id: MetadataValue::try_from(incarnation.id.as_str()).ok()?,
            proof: MetadataValue::from_bytes(&incarnation.proof),
            metrics,
        })
    }

    pub(crate) async fn grant(
        &self,
        request: GrantRequest,
    ) -> Result<Option<grant_response::Answer>, CallError> {
        let mut client = self.client.clone();
        let response = self
            .call("Grant", client.grant(self.request(request)))
            .await?;
        Ok(response.answer)
    }

    /// Reports; returns when to report again.
    pub(crate) async fn report(&self, request: ReportRequest) -> Result<Duration, CallError> {
        let mut client = self.client.clone();
        let response = self
            .call("Report", client.report(self.request(request)))
            .await?;
        Ok(Duration::from_millis(response.next_report_ms))
    }

    pub(crate) async fn watch(&self) -> Result<Streaming<Event>, CallError> {
        let mut client = self.client.clone();
        self.call("Watch", client.watch(self.request(WatchRequest {})))
            .await
    }

    pub(crate) async fn describe_user(
        &self,
        user_id: &str,
    ) -> Result<Option<describe_user_response::Answer>, CallError> {
        let mut client = self.client.clone();
        let request = self.request(DescribeUserRequest {
            user_id: user_id.to_owned(),
        });
        let response = self
            .call("DescribeUser", client.describe_user(request))
            .await?;
        Ok(response.answer)
    }

    pub(crate) async fn describe_quotas(
        &self,
        user_id: &str,
    ) -> Result<Option<describe_quotas_response::Answer>, CallError> {
        let mut client = self.client.clone();
        let request = self.request(DescribeQuotasRequest {
            user_id: user_id.to_owned(),
        });
        let response = self
            .call("DescribeQuotas", client.describe_quotas(request))
            .await?;
        Ok(response.answer)
    }

    pub(crate) async fn consume(
        &self,
        request: CountRequest,
    ) -> Result<Option<count_response::Answer>, CallError> {
        let mut client = self.client.clone();
        let response = self
            .call("Consume", client.consume(self.request(request)))
            .await?;
        Ok(response.answer)
    }

    pub(crate) async fn release(
        &self,
        request: CountRequest,
    ) -> Result<Option<count_response::Answer>, CallError> {
        let mut client = self.client.clone();
        let response = self
            .call("Release", client.release(self.request(request)))
            .await?;
        Ok(response.answer)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(INCARNATION_ID, self.id.clone());
        metadata.insert_bin(INCARNATION_PROOF, self.proof.clone());
        request
    }

    async fn call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        let began = Instant::now();
        let answer = match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(failure(name, &status)),
            Err(_) => Err(CallError::Timeout(name)),
        };
        let outcome = match &answer {
            Ok(_) => "Ok",
            Err(CallError::Fenced) => "Fenced",
            Err(_) => "Failed",
        };
        self.metrics.vault_call(name, outcome, began);
        answer
    }
}

/// What a failed call means.
pub(crate) fn failure(call: &'static str, status: &Status) -> CallError {
    let (code, message) = (status.code(), status.message().to_owned());
    match code {
        // A status with a cause was made on this side: the vault has sent none.
        _ if status.source().is_some() => CallError::Failed {
            call,
            code,
            message,
        },
        Code::Unauthenticated | Code::FailedPrecondition => CallError::Fenced,
        Code::InvalidArgument => CallError::Malformed(call),
        _ => CallError::Refused {
            call,
            code,
            message,
        },
    }
}
