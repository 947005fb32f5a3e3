//! A broker's side of the protocol, without what a broker does besides.

use std::net::SocketAddr;

use bursar_seal::{Ciphertext, DataKey, TenantId, TokenId, ValueContext};
use bursar_wire::digest::report_digest;
use bursar_wire::metadata::{INCARNATION_ID, INCARNATION_PROOF};
use bursar_wire::tls::TlsError;
use bursar_wire::v1alpha1::vault_client::VaultClient;
use bursar_wire::v1alpha1::{
    AccessRecord, AttachRequest, AttachResponse, CountRequest, CountResponse, Denial, Denied,
    DescribeQuotasRequest, DescribeUserRequest, GrantRequest, GrantResponse, Granted, Incarnation,
    QuotaUse, Quotas, ReportRequest, ReportResponse, WatchRequest, count_response, denied,
    describe_quotas_response, describe_user_response, event, grant_response,
};
use bursar_wire::{PROTOCOL_MAX, PROTOCOL_MIN, tls};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};
use uuid::Uuid;

use super::events::Events;
use super::replica::{Authority, Replica, SERVER_NAME};

#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) client: VaultClient<Channel>,
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) tenant: String,
    /// The pod's token that it attached with.
    token: String,
    /// The last numbers that were sent.
    pub(crate) request_no: u64,
    pub(crate) report_seq: u64,
}

impl Broker {
    pub(crate) async fn connect(replica: &Replica, authority: &Authority) -> Self {
        let connected = Self::connect_to(replica.address, &authority.pem()).await;
        connected.unwrap()
    }

    pub(crate) async fn connect_to(address: SocketAddr, ca: &str) -> Result<Self, TlsError> {
        let config = tls::client_config(ca.as_bytes())?;
        let address = format!("https://{address}");
        Ok(Self {
            client: VaultClient::new(tls::connect(&address, SERVER_NAME, config).await?),
            incarnation: None,
            tenant: String::new(),
            token: String::new(),
            request_no: 0,
            report_seq: 0,
        })
    }

    /// The same incarnation over another replica, with the same numbers.
    pub(crate) async fn moved(&self, replica: &Replica, authority: &Authority) -> Self {
        let mut moved = self.unattached(replica, authority).await;
        let answer = moved.attach_again().await.unwrap();
        assert!(answer.resumed);
        (moved.request_no, moved.report_seq) = (self.request_no, self.report_seq);
        moved
    }

    /// Attaches with the token it attached with before.
    pub(crate) async fn attach_again(&mut self) -> Result<AttachResponse, Status> {
        let token = self.token.clone();
        self.attach(&token).await
    }

    /// The same incarnation on a connection on which nobody has attached.
    pub(crate) async fn unattached(&self, replica: &Replica, authority: &Authority) -> Self {
        Self {
            client: Self::connect(replica, authority).await.client,
            ..self.clone()
        }
    }

    /// Attaches; shows the previous incarnation if there is one.
    pub(crate) async fn attach(&mut self, token: &str) -> Result<AttachResponse, Status> {
        let request = AttachRequest {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            service_account_token: token.to_owned(),
            previous: self.incarnation.clone(),
        };
        let answer = self.client.attach(request).await?.into_inner();
        self.incarnation = answer.incarnation.clone();
        token.clone_into(&mut self.token);
        self.tenant = answer.pod.as_ref().unwrap().tenant_id.clone();
        self.request_no = answer.last_request_no;
        self.report_seq = answer.last_report_seq;
        Ok(answer)
    }

    pub(crate) fn incarnation_uuid(&self) -> Uuid {
        let id = &self.incarnation.as_ref().unwrap().id;
        id.rsplit('.').next().unwrap().parse().unwrap()
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(incarnation) = &self.incarnation {
            let metadata = request.metadata_mut();
            metadata.insert(INCARNATION_ID, incarnation.id.parse().unwrap());
            let proof = MetadataValue::from_bytes(&incarnation.proof);
            metadata.insert_bin(INCARNATION_PROOF, proof);
        }
        request
    }

    pub(crate) async fn grant_numbered(
        &self,
        number: u64,
        user: &str,
        token: Option<&str>,
        want: u32,
    ) -> Result<GrantResponse, Status> {
        let request = self.request(GrantRequest {
            request_no: number,
            user_id: user.to_owned(),
            token: token.map(ToOwned::to_owned),
            want,
            waiting: 1,
        });
        let answer = self.client.clone().grant(request).await?;
        Ok(answer.into_inner())
    }

    /// Asks for 100 accesses under the next number, and again when it is told to.
    pub(crate) async fn ask(
        &mut self,
        user: &str,
        token: Option<&str>,
    ) -> Result<Result<Granted, Denied>, Status> {
        loop {
            let number = self.request_no + 1;
            let answer = self.grant_numbered(number, user, token, 100).await?;
            self.request_no = number;
            match answer.answer.unwrap() {
                grant_response::Answer::Granted(granted) => return Ok(Ok(granted)),
                grant_response::Answer::Denied(denied) => return Ok(Err(denied)),
                grant_response::Answer::AskAgain(again) => {
                    self.report(vec![], again.close_allowance_id.into_iter().collect())
                        .await?;
                }
            }
        }
    }

    /// The same where nothing but a grant will do.
    pub(crate) async fn granted(&mut self, user: &str, token: &str) -> Granted {
        match self.ask(user, Some(token)).await.unwrap() {
            Ok(granted) => granted,
            Err(denied) => panic!("denied: {denied:?}"),
        }
    }

    /// The same where nothing but a denial will do.
    pub(crate) async fn denied(&mut self, user: &str, token: Option<&str>) -> denied::Code {
        match self.ask(user, token).await.unwrap() {
            Ok(granted) => panic!("granted version {} of {}", granted.version, granted.token),
            Err(denied) => denied.code(),
        }
    }

    /// The value behind a grant, opened as a broker does.
    pub(crate) fn value(&self, granted: &Granted) -> String {
        let tenant: Uuid = self.tenant.parse().unwrap();
        let token: Uuid = granted.token_id.parse().unwrap();
        let context = ValueContext {
            tenant: TenantId::from(tenant),
            token: TokenId::from(token),
            version: granted.version.try_into().unwrap(),
            column: "ciphertext",
        };
        let key = DataKey::from_bytes(&granted.data_key).unwrap();
        let sealed = Ciphertext::from(granted.ciphertext.clone());
        let value = key.open_value(&context, &sealed).unwrap();
        String::from_utf8(value.expose().to_vec()).unwrap()
    }

    pub(crate) async fn report_numbered(
        &self,
        seq: u64,
        records: Vec<AccessRecord>,
        closed: Vec<String>,
    ) -> Result<ReportResponse, Status> {
        let request = self.request(ReportRequest {
            seq,
            digest: report_digest(&records, &closed, &[]).to_vec(),
            records,
            closed_allowance_ids: closed,
            denials: vec![],
        });
        let answer = self.client.clone().report(request).await?;
        Ok(answer.into_inner())
    }

    /// Tells of refusals and nothing else, under the next number.
    pub(crate) async fn tell(&mut self, denials: Vec<Denial>) -> Result<ReportResponse, Status> {
        let seq = self.report_seq + 1;
        let answer = self.tell_numbered(seq, denials).await?;
        self.report_seq = seq;
        Ok(answer)
    }

    pub(crate) async fn tell_numbered(
        &self,
        seq: u64,
        denials: Vec<Denial>,
    ) -> Result<ReportResponse, Status> {
        let request = self.request(ReportRequest {
            seq,
            digest: report_digest(&[], &[], &denials).to_vec(),
            records: vec![],
            closed_allowance_ids: vec![],
            denials,
        });
        let answer = self.client.clone().report(request).await?;
        Ok(answer.into_inner())
    }

    /// Reports under the next number.
    pub(crate) async fn report(
        &mut self,
        records: Vec<AccessRecord>,
        closed: Vec<String>,
    ) -> Result<ReportResponse, Status> {
        let seq = self.report_seq + 1;
        let answer = self.report_numbered(seq, records, closed).await?;
        self.report_seq = seq;
        Ok(answer)
    }

    pub(crate) async fn describe(
        &self,
        user: &str,
    ) -> Result<describe_user_response::Answer, Status> {
        let request = self.request(DescribeUserRequest {
            user_id: user.to_owned(),
        });
        let answer = self.client.clone().describe_user(request).await?;
        Ok(answer.into_inner().answer.unwrap())
    }

    /// Takes units of a counter of the workload's own under a key.
    pub(crate) async fn consume(
        &self,
        (user, counter): (&str, &str),
        amount: u64,
        key: &str,
    ) -> Result<Result<Quotas, Denied>, Status> {
        let request = self.count_request((user, counter), amount, key);
        let answer = self.client.clone().consume(request).await?;
        Ok(counted(answer.into_inner()))
    }

    /// Gives such units back.
    pub(crate) async fn release(
        &self,
        (user, counter): (&str, &str),
        amount: u64,
        key: &str,
    ) -> Result<Result<Quotas, Denied>, Status> {
        let request = self.count_request((user, counter), amount, key);
        let answer = self.client.clone().release(request).await?;
        Ok(counted(answer.into_inner()))
    }

    fn count_request(
        &self,
        (user, counter): (&str, &str),
        amount: u64,
        key: &str,
    ) -> Request<CountRequest> {
        self.request(CountRequest {
            user_id: user.to_owned(),
            counter: counter.to_owned(),
            amount,
            idempotency_key: key.to_owned(),
        })
    }

    pub(crate) async fn quotas(&self, user: &str) -> Result<Vec<QuotaUse>, Denied> {
        let request = self.request(DescribeQuotasRequest {
            user_id: user.to_owned(),
        });
        let answer = self.client.clone().describe_quotas(request).await.unwrap();
        match answer.into_inner().answer.unwrap() {
            describe_quotas_response::Answer::Quotas(found) => Ok(found.quotas),
            describe_quotas_response::Answer::Denied(denied) => Err(denied),
        }
    }

    pub(crate) async fn try_watch(&self) -> Result<Events, Status> {
        let request = self.request(WatchRequest {});
        let stream = self.client.clone().watch(request).await?;
        Ok(Events(stream.into_inner()))
    }

    /// Watches, and reads up to Synced; the allowances that were recalled before.
    pub(crate) async fn watch(&self) -> (Events, Vec<String>) {
        let mut events = self.try_watch().await.unwrap();
        let mut recalled = Vec::new();
        loop {
            match events.next().await {
                event::Event::Recall(recall) => recalled.extend(recall.allowance_ids),
                event::Event::WorkloadIssuer(_) => {}
                event::Event::Synced(_) => return (events, recalled),
                other => panic!("before Synced came {other:?}"),
            }
        }
    }
}

fn counted(answer: CountResponse) -> Result<Quotas, Denied> {
    match answer.answer.unwrap() {
        count_response::Answer::Counted(quotas) => Ok(quotas),
        count_response::Answer::Denied(denied) => Err(denied),
    }
}

/// Accesses from an allowance.
pub(crate) fn served(granted: &Granted, count: u32) -> AccessRecord {
    AccessRecord {
        allowance_id: granted.allowance_id.clone(),
        app_name: "billing".into(),
        purpose: "sync invoices".into(),
        count,
        first_time_ms: 1_000,
        last_time_ms: 2_000,
    }
}
