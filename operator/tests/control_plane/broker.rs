//! A broker of a pod, as far as the vault sees one.

use bursar_vault::{Clock, SystemClock};
use bursar_wire::digest::report_digest;
use bursar_wire::metadata::{INCARNATION_ID, INCARNATION_PROOF};
use bursar_wire::v1alpha1::vault_client::VaultClient;
use bursar_wire::v1alpha1::{
    AccessRecord, GrantRequest, Granted, Incarnation, ReportRequest, grant_response,
};
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::attach::{connect, node_token, request};
use crate::team::Team;

/// One run of it.
pub(crate) struct Broker {
    vault: VaultClient<Channel>,
    incarnation: Incarnation,
    requests: u64,
    reports: u64,
}

impl Broker {
    /// That of the pod `pod`.
    pub(crate) async fn attached(team: &Team) -> Self {
        let mut vault = connect(team).await;
        let request = request(node_token(team).await);
        let attached = vault.attach(request).await.unwrap().into_inner();
        Self {
            vault,
            incarnation: attached.incarnation.unwrap(),
            requests: 0,
            reports: 0,
        }
    }

    /// An allowance for as many accesses as there are.
    pub(crate) async fn granted(&mut self, user: &str, token: &str) -> Granted {
        self.requests += 1;
        let request = self.request(GrantRequest {
            request_no: self.requests,
            user_id: user.to_owned(),
            token: Some(token.to_owned()),
            want: 100,
            waiting: 1,
        });
        let answer = self.vault.grant(request).await.unwrap().into_inner().answer;
        match answer {
            Some(grant_response::Answer::Granted(granted)) => granted,
            _ => panic!("not granted"),
        }
    }

    /// Gives an allowance back, unused.
    pub(crate) async fn close(&mut self, granted: Granted) {
        self.report(vec![], vec![granted.allowance_id]).await;
    }

    /// Tells of so many accesses just now.
    pub(crate) async fn serve(&mut self, granted: &Granted, count: u32) {
        let now = SystemClock.now().as_millisecond();
        let served = AccessRecord {
            allowance_id: granted.allowance_id.clone(),
            app_name: "app".into(),
            purpose: "test".into(),
            count,
            first_time_ms: now,
            last_time_ms: now,
        };
        self.report(vec![served], vec![]).await;
    }

    async fn report(&mut self, records: Vec<AccessRecord>, closed: Vec<String>) {
        self.reports += 1;
        let request = self.request(ReportRequest {
            seq: self.reports,
            digest: report_digest(&records, &closed, &[]).to_vec(),
            records,
            closed_allowance_ids: closed,
            denials: vec![],
        });
        self.vault.report(request).await.unwrap();
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(INCARNATION_ID, self.incarnation.id.parse().unwrap());
        let proof = MetadataValue::from_bytes(&self.incarnation.proof);
        metadata.insert_bin(INCARNATION_PROOF, proof);
        request
    }
}
