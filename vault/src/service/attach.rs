//! Attach: which pod is this, and which run of its broker.
//!
//! The order is protocol, local verification, what can be resumed, and only
//! then the API server: a flood of forged tokens costs it nothing.

use std::time::Duration;

use bursar_wire::{PROTOCOL_MAX, PROTOCOL_MIN, common_protocol, v1alpha1};
use uuid::Uuid;

use super::VaultService;
use super::error::CallError;
use super::incarnation::IncarnationId;
use super::jwt::{self, PodClaims};
use super::limit::Crowded;
use super::metrics::{Attached, Fenced};
use super::pod::{ReviewError, ReviewedPod};
use super::watchers::WatcherId;
use crate::rows::Incarnation;

/// Brokers that are reviewed again in any one second, when there are many.
const REVIEWS_SPREAD: u64 = 10;

/// An attached run of a broker, as the answer describes it.
struct Session {
    id: WatcherId,
    proof: Vec<u8>,
    incarnation: Incarnation,
    resumed: bool,
    last_report_seq: i64,
    last_request_no: i64,
    /// Until the next review; zero when it is late.
    review_due_in: Duration,
}

impl VaultService {
    pub(crate) async fn attach(
        &self,
        request: v1alpha1::AttachRequest,
    ) -> Result<(WatcherId, v1alpha1::AttachResponse), CallError> {
        let answer = self.try_attach(request).await;
        self.metrics().attach(match &answer {
            Ok((_, answer)) if answer.resumed => Attached::Resumed,
            Ok(_) => Attached::New,
            Err(CallError::Protocol { .. }) => Attached::Protocol,
            Err(CallError::Unauthenticated) => Attached::Refused,
            Err(CallError::Crowded) => Attached::Crowded,
            Err(CallError::NoTenant) => Attached::NoTenant,
            Err(_) => Attached::Unavailable,
        });
        answer
    }

    async fn try_attach(
        &self,
        request: v1alpha1::AttachRequest,
    ) -> Result<(WatcherId, v1alpha1::AttachResponse), CallError> {
        let protocol = protocol(&request)?;
        let token = &request.service_account_token;
        let claims = self.verify_locally(token)?;
        let session = match self.previous(request.previous, &claims).await? {
            Some(session) if !session.review_due_in.is_zero() => session,
            Some(session) => {
                self.review(token, &claims).await?;
                self.renew(session).await?
            }
            None => {
                let pod = self.review(token, &claims).await?;
                self.begin(pod).await?
            }
        };
        let id = session.id;
        Ok((id, self.respond(protocol, session, claims.namespace)?))
    }

    fn verify_locally(&self, token: &str) -> Result<PodClaims, CallError> {
        let now = self.vault().clock().now();
        jwt::verify(token, &self.trusted_issuer(), now).map_err(|reason| {
            tracing::debug!(%reason, "a broker's token was refused");
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
        let session = match self.on_record(self.find(previous).await).await {
            Ok(session) => session,
            // Unknown, fenced, overdue or damaged: it begins anew.
            Err(CallError::Unauthenticated | CallError::Damaged(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let known = &session.incarnation;
        let same_pod = known.pod_uid == claims.pod_uid
            && known.service_account_name.as_str() == claims.service_account_name
            && known.service_account_uid == claims.service_account_uid;
        Ok(same_pod.then_some(session))
    }

    async fn find(&self, previous: v1alpha1::Incarnation) -> Result<Session, CallError> {
        let IncarnationId(id) = previous.id.parse()?;
        let _turn = self.turns().any().await;
        let claimed = self.claim(id, previous.proof).await?;
        let mut connection = self.vault().pool().acquire().await?;
        let running = self.lock(&mut connection, &claimed).await?;
        Ok(Session {
            id: claimed.id,
            proof: claimed.proof,
            incarnation: running.incarnation,
            resumed: true,
            last_report_seq: running.last_report_seq,
            last_request_no: running.last_request_no,
            review_due_in: running.review_due_in,
        })
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
    async fn renew(&self, session: Session) -> Result<Session, CallError> {
        let review_due_in = self.review_period();
        let _turn = self.turns().any().await;
        sqlx::query!(
            "update incarnation
             set reviewed_time = now(), review_due_time = now() + make_interval(secs => $3)
             where tenant_id = $1 and incarnation_id = $2",
            session.id.tenant.as_uuid(),
            session.id.incarnation,
            review_due_in.as_secs_f64(),
        )
        .execute(self.vault().pool())
        .await?;
        Ok(Session {
            review_due_in,
            ..session
        })
    }

    /// A new incarnation; older ones of the pod are over.
    async fn begin(&self, pod: ReviewedPod) -> Result<Session, CallError> {
        let unusable = |_| CallError::Unauthenticated;
        let _turn = self.turns().any().await;
        let namespace = pod.namespace.parse().map_err(unusable)?;
        let namespace_uid = pod.namespace_uid.parse().map_err(unusable)?;
        let tenant = self.vault().tenant_of(&namespace, &namespace_uid).await?;
        let tenant = tenant.ok_or(CallError::NoTenant)?;
        let id = WatcherId {
            tenant: tenant.id(),
            incarnation: self.random_uuid()?,
        };
        let incarnation = Incarnation {
            id: id.incarnation,
            service_account_name: pod.service_account_name.parse().map_err(unusable)?,
            pod_uid: pod.pod_uid,
            pod_name: pod.pod_name,
            service_account_uid: pod.service_account_uid,
        };
        let row = incarnation.to_row(tenant.keys());
        let review_due_in = self.review_period();

        let mut transaction = self.vault().pool().begin().await?;
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
             values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7), $8, $9)
             on conflict do nothing",
            row.tenant_id,
            row.incarnation_id,
            row.pod_uid,
            row.pod_name,
            row.service_account_name,
            row.service_account_uid,
            review_due_in.as_secs_f64(),
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
            WatcherId { incarnation, ..id }
        }));
        let proof = tenant
            .keys()
            .newest()
            .incarnation_proof(id.incarnation, &incarnation.pod_uid);
        Ok(Session {
            id,
            proof: proof.as_bytes().to_vec(),
            incarnation,
            resumed: false,
            last_report_seq: 0,
            last_request_no: 0,
            review_due_in,
        })
    }

    fn respond(
        &self,
        protocol: u32,
        session: Session,
        namespace: String,
    ) -> Result<v1alpha1::AttachResponse, CallError> {
        Ok(v1alpha1::AttachResponse {
            protocol,
            incarnation: Some(v1alpha1::Incarnation {
                id: IncarnationId(session.id).to_string(),
                proof: session.proof,
            }),
            resumed: session.resumed,
            pod: Some(v1alpha1::Pod {
                tenant_id: session.id.tenant.to_string(),
                namespace,
                name: session.incarnation.pod_name,
                uid: session.incarnation.pod_uid,
                service_account_name: session.incarnation.service_account_name.to_string(),
            }),
            workload_issuer: Some(self.trusted_issuer().document().into()),
            lease_ms: millis(self.vault().lease()),
            attach_again_ms: millis(self.attach_again(session.review_due_in)?),
            last_report_seq: session.last_report_seq.unsigned_abs(),
            last_request_no: session.last_request_no.unsigned_abs(),
        })
    }

    /// Longer when many brokers are attached, so that reviews stay few a second.
    fn review_period(&self) -> Duration {
        let spread = Duration::from_secs(self.attached() / REVIEWS_SPREAD);
        self.settings().review_period.max(spread)
    }

    /// At random within the second half of the time left, so that brokers which
    /// attached together do not all come back together.
    fn attach_again(&self, review_due_in: Duration) -> Result<Duration, CallError> {
        let mut bytes = [0; 4];
        self.vault().random().fill(&mut bytes)?;
        let fraction = f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX);
        Ok(review_due_in.mul_f64(0.5 + 0.45 * fraction))
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
