//! Attach: which pod is this, and which run of its broker.
//!
//! The order is protocol, local verification, what can be resumed, and only
//! then the API server: a flood of forged tokens costs it nothing.

use std::time::Duration;

use bursar_wire::{PROTOCOL_MAX, PROTOCOL_MIN, common_protocol, v1alpha1};
use uuid::Uuid;

use super::VaultService;
use super::connection::Place;
use super::error::CallError;
use super::incarnation::IncarnationId;
use super::jwt::{self, PodClaims};
use super::limit::Crowded;
use super::metrics::{Attached, Fenced};
use super::pod::{ReviewError, ReviewedPod};
use super::pods::Full;
use super::review_time::{attach_again, is_review_time};
use super::turns::Caller;
use super::watchers::WatcherId;
use crate::db_time::{DbTime, db_now};
use crate::rows::Incarnation;
use crate::tenant::Tenant;

/// An attached run of a broker, as the answer describes it.
struct Session {
    tenant: Tenant,
    proof: Vec<u8>,
    incarnation: Incarnation,
    resumed: bool,
    last_report_seq: i64,
    last_request_no: i64,
    /// The database's clock when its row was read or written.
    now: DbTime,
}

impl Session {
    const fn id(&self) -> WatcherId {
        WatcherId {
            tenant: self.tenant.id(),
            incarnation: self.incarnation.id,
        }
    }

    /// Until the next review; zero when it is late.
    fn review_due_in(&self) -> Duration {
        self.incarnation.review_due_time.since(self.now)
    }
}

impl VaultService {
    pub(crate) async fn attach(
        &self,
        place: &Place,
        request: v1alpha1::AttachRequest,
    ) -> Result<v1alpha1::AttachResponse, CallError> {
        let answer = self.try_attach(place, request).await;
        self.metrics().attach(match &answer {
            Ok(answer) if answer.resumed => Attached::Resumed,
            Ok(_) => Attached::New,
            Err(CallError::Protocol { .. }) => Attached::Protocol,
            Err(CallError::Unauthenticated) => Attached::Refused,
            Err(CallError::Crowded | CallError::TooManyConnections) => Attached::Crowded,
            Err(CallError::NoTenant) => Attached::NoTenant,
            Err(_) => Attached::Unavailable,
        });
        answer
    }

    async fn try_attach(
        &self,
        place: &Place,
        request: v1alpha1::AttachRequest,
    ) -> Result<v1alpha1::AttachResponse, CallError> {
        let protocol = protocol(&request)?;
        let token = &request.service_account_token;
        let claims = self.verify_locally(token)?;
        let session = match self.previous(request.previous, &claims).await? {
            Some(session) => self.resume(session, token, &claims).await?,
            None => {
                let pod = self.review(token, &claims).await?;
                self.begin(pod).await?
            }
        };
        place
            .attached(self.pods(), &claims.pod_uid, session.id())
            .map_err(|Full| CallError::TooManyConnections)?;
        self.respond(protocol, session, claims.namespace)
    }

    fn verify_locally(&self, token: &str) -> Result<PodClaims, CallError> {
        let now = self.vault().clock().now();
        jwt::verify(token, &self.trusted_issuer(), now).map_err(|reason| {
            self.refusals().log(reason);
            CallError::Unauthenticated
        })
    }

    /// The session the broker had before, if it proves it and is the same pod's.
    async fn previous(
        &self,
        previous: Option<v1alpha1::Incarnation>,
        claims: &PodClaims,
    ) -> Result<Option<Session>, CallError> {
        let Some(previous) = previous else {
            return Ok(None);
        };
        let found = self.find(previous, &claims.pod_uid).await;
        let session = match self.on_record(found).await {
            Ok(session) => session,
            // Unknown, fenced or damaged: it begins anew.
            Err(CallError::Unauthenticated | CallError::Damaged(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let known = &session.incarnation;
        let same_pod = known.pod_uid == claims.pod_uid
            && known.service_account_name.as_str() == claims.service_account_name
            && known.service_account_uid == claims.service_account_uid;
        Ok(same_pod.then_some(session))
    }

    async fn find(
        &self,
        previous: v1alpha1::Incarnation,
        pod_uid: &str,
    ) -> Result<Session, CallError> {
        let IncarnationId(id) = previous.id.parse()?;
        let _turn = self.turns().of(Caller::pod(pod_uid)).await;
        let claimed = self.claim(id, previous.proof).await?;
        // The row of another pod's run is neither locked nor waited for.
        if !claimed.is_proven_for(pod_uid) {
            return Err(CallError::Unauthenticated);
        }
        let mut connection = self.vault().pool().acquire().await?;
        // However late: what it served while it was cut off is still to be told.
        let running = self.lock_late(&mut connection, &claimed).await?;
        Ok(Session {
            tenant: claimed.tenant,
            proof: claimed.proof,
            incarnation: running.incarnation,
            resumed: true,
            last_report_seq: running.last_report_seq,
            last_request_no: running.last_request_no,
            now: running.now,
        })
    }

    /// The session goes on, reviewed again if its time has come.
    async fn resume(
        &self,
        session: Session,
        token: &str,
        claims: &PodClaims,
    ) -> Result<Session, CallError> {
        let left = session.review_due_in();
        if !is_review_time(left, self.review_period()) {
            return Ok(session);
        }
        match self.review(token, claims).await {
            Ok(pod) => self.renew(session, pod).await,
            // What the API server said last holds until the review is due.
            Err(CallError::ReviewUnavailable | CallError::Crowded) if !left.is_zero() => {
                Ok(session)
            }
            Err(error @ (CallError::ReviewUnavailable | CallError::Crowded)) => {
                self.note_unreviewed(&session).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes down that it came back, though nobody could say whether its pod still runs:
    /// it may do nothing until somebody does, and is not ended meanwhile.
    async fn note_unreviewed(&self, session: &Session) -> Result<(), CallError> {
        let id = session.id();
        let _turn = self
            .turns()
            .of(Caller::pod(&session.incarnation.pod_uid))
            .await;
        sqlx::query!(
            "update incarnation set unreviewed_time = now()
             where tenant_id = $1 and incarnation_id = $2 and fenced_time is null",
            id.tenant.as_uuid(),
            id.incarnation,
        )
        .execute(self.vault().pool())
        .await?;
        Ok(())
    }

    /// Asks the API server, in turn, and compares its answer with the token.
    async fn review(&self, token: &str, claims: &PodClaims) -> Result<ReviewedPod, CallError> {
        let turn = self.review_limit().turn(&claims.pod_uid).await;
        let _turn = turn.map_err(|Crowded| CallError::Crowded)?;
        let review = self.reviewer().review(token).await;
        let pod = review.map_err(|error| match error {
            ReviewError::Refused => CallError::Unauthenticated,
            ReviewError::Unavailable => CallError::ReviewUnavailable,
        })?;
        let agreed = pod.namespace == claims.namespace
            && pod.pod_name == claims.pod_name
            && pod.pod_uid == claims.pod_uid
            && pod.service_account_name == claims.service_account_name
            && pod.service_account_uid == claims.service_account_uid;
        if !agreed {
            tracing::error!("the API server and a broker's token disagree on who it is");
            return Err(CallError::Unauthenticated);
        }
        Ok(pod)
    }

    /// Takes down that the API server has vouched for the pod again.
    async fn renew(&self, mut session: Session, pod: ReviewedPod) -> Result<Session, CallError> {
        session.incarnation.review_due_time = session.now.after(self.review_period());
        let row = session.incarnation.to_row(session.tenant.keys());
        let turn = self.turns().of(Caller::pod(&pod.pod_uid)).await;
        let renewed = sqlx::query!(
            "update incarnation
             set reviewed_time = now(), review_due_time = $3, key_version = $4, mac = $5
             where tenant_id = $1 and incarnation_id = $2 and fenced_time is null",
            row.tenant_id,
            row.incarnation_id,
            row.review_due_time as _,
            row.key_version,
            row.mac,
        )
        .execute(self.vault().pool())
        .await?;
        drop(turn);
        if renewed.rows_affected() == 0 {
            // It was fenced meanwhile.
            return self.begin(pod).await;
        }
        Ok(session)
    }

    /// A new incarnation; older ones of the pod are over.
    async fn begin(&self, pod: ReviewedPod) -> Result<Session, CallError> {
        let unusable = |_| CallError::Unauthenticated;
        let _turn = self.turns().of(Caller::pod(&pod.pod_uid)).await;
        let namespace = pod.namespace.parse().map_err(unusable)?;
        let namespace_uid = pod.namespace_uid.parse().map_err(unusable)?;
        let tenant = self.vault().tenant_of(&namespace, &namespace_uid).await?;
        let tenant = tenant.ok_or(CallError::NoTenant)?;
        let mut transaction = self.vault().begin().await?;
        let now = db_now(&mut transaction).await?;
        let incarnation = Incarnation {
            id: self.random_uuid()?,
            service_account_name: pod.service_account_name.parse().map_err(unusable)?,
            pod_uid: pod.pod_uid,
            pod_name: pod.pod_name,
            service_account_uid: pod.service_account_uid,
            review_due_time: now.after(self.review_period()),
            key_version: tenant.keys().newest().version().into(),
        };
        let row = incarnation.to_row(tenant.keys());
        let fenced = sqlx::query_scalar!(
            "update incarnation set fenced_time = now()
             where tenant_id = $1 and pod_uid = $2 and fenced_time is null
             returning incarnation_id",
            row.tenant_id,
            row.pod_uid,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let inserted = sqlx::query!(
            "insert into incarnation (tenant_id, incarnation_id, pod_uid, pod_name,
                                      service_account_name, service_account_uid,
                                      review_due_time, key_version, mac)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict do nothing",
            row.tenant_id,
            row.incarnation_id,
            row.pod_uid,
            row.pod_name,
            row.service_account_name,
            row.service_account_uid,
            row.review_due_time as _,
            row.key_version,
            row.mac,
        )
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            // The pod is attaching at another replica just now.
            return Err(CallError::Crowded);
        }
        transaction.commit().await?;

        self.watchers().end(fenced.into_iter().map(|incarnation| {
            self.metrics().fence(Fenced::Replaced);
            WatcherId {
                tenant: tenant.id(),
                incarnation,
            }
        }));
        let proof = tenant
            .keys()
            .newest()
            .incarnation_proof(incarnation.id, &incarnation.pod_uid);
        Ok(Session {
            proof: proof.as_bytes().to_vec(),
            tenant,
            incarnation,
            resumed: false,
            last_report_seq: 0,
            last_request_no: 0,
            now,
        })
    }

    fn respond(
        &self,
        protocol: u32,
        session: Session,
        namespace: String,
    ) -> Result<v1alpha1::AttachResponse, CallError> {
        let attach_again = attach_again(session.review_due_in(), self.random_fraction()?);
        Ok(v1alpha1::AttachResponse {
            protocol,
            incarnation: Some(v1alpha1::Incarnation {
                id: IncarnationId(session.id()).to_string(),
                proof: session.proof,
            }),
            resumed: session.resumed,
            pod: Some(v1alpha1::Pod {
                tenant_id: session.tenant.id().to_string(),
                namespace,
                name: session.incarnation.pod_name,
                uid: session.incarnation.pod_uid,
                service_account_name: session.incarnation.service_account_name.to_string(),
            }),
            workload_issuer: Some(self.trusted_issuer().document().into()),
            lease_ms: millis(self.vault().lease()),
            attach_again_ms: millis(attach_again),
            last_report_seq: session.last_report_seq.unsigned_abs(),
            last_request_no: session.last_request_no.unsigned_abs(),
        })
    }

    /// At random from 0 to 1.
    fn random_fraction(&self) -> Result<f64, CallError> {
        let mut bytes = [0; 4];
        self.vault().random().fill(&mut bytes)?;
        Ok(f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
    }

    pub(crate) fn random_uuid(&self) -> Result<Uuid, CallError> {
        let mut bytes = [0; 16];
        self.vault().random().fill(&mut bytes)?;
        Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

fn protocol(request: &v1alpha1::AttachRequest) -> Result<u32, CallError> {
    let ours = (PROTOCOL_MIN, PROTOCOL_MAX);
    let theirs = (request.protocol_min, request.protocol_max);
    common_protocol(ours, theirs).ok_or(CallError::Protocol {
        ours_min: ours.0,
        ours_max: ours.1,
        theirs_min: theirs.0,
        theirs_max: theirs.1,
    })
}

/// Whole milliseconds; a duration of ours fits.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
