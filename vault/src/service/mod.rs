//! The vault's side of the protocol with brokers.
//!
//! [`VaultService::start`] makes it, [`serve`] runs it: gRPC over TLS 1.3, and
//! beside it the change feed, the sweep and the hand-on of the issuer's keys.
//!
//! | call | module | rules |
//! |---|---|---|
//! | Attach | `attach`, `review_time`, `jwt`, `limit`, `pods` | local verification, then a review by the API server; one live incarnation for each pod |
//! | Grant | `grant`, `snapshot`, `reader`, `entitlement`, `answer`, `ask_back` | three round trips: read, commit, read again in a new snapshot; then answer |
//! | Report | `report`, `account`, `why` | each batch once and in order, or the incarnation is fenced |
//! | Watch | `watch`, `watchers`, `feed` | register, read what was missed, then tell what happens |
//! | DescribeUser | `describe`, `reader`, `entitlement` | metadata only |
//! | Consume, Release | `count`, `reader` | counted and its answer kept in one transaction |
//! | DescribeQuotas | `describe_quotas`, `reader` | what concerns this user and caller |
//!
//! Every call but Attach proves its incarnation (`incarnation`). Deciding rows
//! are read and verified for each call; nothing that decides is cached but the
//! tenants' unwrapped keys.

mod account;
mod account_token;
mod answer;
mod ask_back;
mod attach;
mod calls;
mod connection;
mod count;
mod damage;
mod denial;
mod describe;
mod describe_quotas;
mod entitlement;
mod error;
mod feed;
mod gone;
mod grant;
mod incarnation;
mod issuer;
mod jwt;
mod limit;
mod metrics;
mod pod;
mod pods;
mod reader;
mod refusals;
mod report;
mod review_time;
mod server;
mod settings;
mod snapshot;
mod stages;
mod stranger;
mod sweep;
mod trim;
mod turns;
mod watch;
mod watchers;
mod why;
mod wish;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bursar_wire::v1alpha1::{self, vault_server};
use prometheus_client::registry::Registry;
use tokio::sync::watch::{Receiver, Sender};
use tonic::{Request, Response, Status};

use crate::changes;
use crate::db_time::DbTime;
use crate::error::{Category, DatabaseError};
use crate::rows::Operation;
use crate::vault::Vault;
use calls::Call;
use connection::Place;
use error::CallError;
use feed::Position;
use incarnation::{Claimed, Shown};
use issuer::TrustedIssuer;
use limit::ReviewLimit;
use metrics::Metrics;
use pods::Pods;
use refusals::Refusals;
use turns::{OwnTurn, Turn, Turns};
use watchers::Watchers;

pub use issuer::{IssuerError, WorkloadIssuer};
pub use jwt::{AccountClaims, BROKER_AUDIENCE};
pub use pod::{PodReviewer, ReviewError, ReviewedPod};
pub use server::serve;
pub(crate) use settings::LAPSE_GRACE;
pub use settings::Settings;
pub use stages::{NoStages, Stage, Stages};
pub use watchers::EventStream;
pub use why::DenialReason;

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The issuer's keys cannot be used.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The database did not answer as it should.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl StartError {
    /// What kind of trouble this is; `Unavailable` is worth another try.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::Issuer(_) => Category::Misconfigured,
            Self::Database(error) => error.category(),
        }
    }
}

/// The vault service of one replica. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct VaultService(Arc<Parts>);

struct Parts {
    vault: Vault,
    reviewer: Arc<dyn PodReviewer>,
    settings: Settings,
    metrics: Metrics,
    watchers: Watchers,
    pods: Pods,
    review_limit: ReviewLimit,
    refusals: Refusals,
    turns: Turns,
    /// The issuer as it comes from the operator, and as it was read last.
    issuer: Receiver<WorkloadIssuer>,
    trusted: Sender<Arc<TrustedIssuer>>,
    /// Where in the change log this replica begins.
    start: Position,
    /// Live incarnations of all replicas, as of the last sweep.
    attached: AtomicU64,
}

impl VaultService {
    /// Makes the service of a vault. `issuer` may change while it runs; brokers
    /// are told. Metrics are registered under the prefix `bursar_vault`.
    ///
    /// # Errors
    /// When the issuer has no usable key, or the database is away: then it is
    /// worth another try.
    pub async fn start(
        vault: Vault,
        issuer: Receiver<WorkloadIssuer>,
        reviewer: Arc<dyn PodReviewer>,
        settings: Settings,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let document = issuer.borrow().clone();
        let trusted = Sender::new(Arc::new(TrustedIssuer::read(document)?));
        let heads = changes::heads(vault.pool()).await;
        let start = Position::new(heads.map_err(DatabaseError::from)?);
        let metrics = Metrics::new(registry);
        Ok(Self(Arc::new(Parts {
            pods: Pods::default(),
            refusals: Refusals::default(),
            review_limit: ReviewLimit::new(settings.reviews_per_second),
            turns: Turns::new(vault.pool().options().get_max_connections()),
            watchers: Watchers::new(metrics.clone()),
            vault,
            reviewer,
            settings,
            metrics,
            issuer,
            trusted,
            start,
            attached: AtomicU64::new(0),
        })))
    }

    fn vault(&self) -> &Vault {
        &self.0.vault
    }

    fn reviewer(&self) -> &dyn PodReviewer {
        &*self.0.reviewer
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn watchers(&self) -> &Watchers {
        &self.0.watchers
    }

    fn pods(&self) -> &Pods {
        &self.0.pods
    }

    fn review_limit(&self) -> &ReviewLimit {
        &self.0.review_limit
    }

    fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    fn turns(&self) -> &Turns {
        &self.0.turns
    }

    fn start_position(&self) -> Position {
        self.0.start.clone()
    }

    fn trusted_issuer(&self) -> Arc<TrustedIssuer> {
        Arc::clone(&self.0.trusted.borrow())
    }

    fn attached(&self) -> u64 {
        self.0.attached.load(Ordering::Relaxed)
    }

    fn set_attached(&self, count: u64) {
        self.0.attached.store(count, Ordering::Relaxed);
    }

    async fn reached(&self, stage: Stage) {
        self.0.settings.stages.reached(stage).await;
    }

    /// Reads the issuer's keys when they change, and tells brokers.
    async fn follow_issuer(self) {
        let mut issuer = self.0.issuer.clone();
        while issuer.changed().await.is_ok() {
            let document = issuer.borrow_and_update().clone();
            let event = v1alpha1::event::Event::WorkloadIssuer((&document).into());
            match TrustedIssuer::read(document) {
                Ok(trusted) => {
                    self.0.trusted.send_replace(Arc::new(trusted));
                    self.watchers()
                        .tell_all(&v1alpha1::Event { event: Some(event) });
                }
                Err(error) => {
                    tracing::error!(%error, "the issuer's new keys are refused; the old ones stay");
                }
            }
        }
        // The operator is ending: there will be no other keys.
        std::future::pending::<()>().await;
    }
}

/// Milliseconds since the Unix epoch. Only rows of ours get here, and their
/// times are within range.
fn unix_ms(time: DbTime) -> i64 {
    time.timestamp().map_or(0, |time| time.as_millisecond())
}

impl VaultService {
    /// Answers a call that proves its incarnation, in turn.
    async fn proven<Q, A>(
        &self,
        request: Request<Q>,
        call: impl AsyncFnOnce(Claimed, Q) -> Result<A, CallError>,
    ) -> Result<Response<A>, Status> {
        let (shown, _turn, request) = self.in_turn(request).await?;
        let claimed = self.claim(shown.id, shown.proof).await?;
        self.answer(call(claimed, request).await).await
    }

    /// What a call is answered with. Damage that it met is put on record.
    async fn answer<A>(&self, result: Result<A, CallError>) -> Result<Response<A>, Status> {
        let answer = self.on_record(result).await;
        let answer = answer.inspect_err(|error| self.metrics().calls.failed(error))?;
        Ok(Response::new(answer))
    }

    /// A call that shows an incarnation, once it is its turn.
    async fn in_turn<Q>(&self, mut request: Request<Q>) -> Result<(Shown, Turn, Q), Status> {
        let place = request.extensions().get::<Place>();
        let attached = place.and_then(Place::incarnation);
        let shown = incarnation::shown(request.metadata())?;
        // Whoever attached here need not be looked for under another name.
        if attached != Some(shown.id) {
            return Err(CallError::Unauthenticated.into());
        }
        let turn = request.extensions_mut().remove::<Arc<OwnTurn>>();
        let turn = turn.and_then(Arc::into_inner);
        let turn = turn.ok_or(CallError::Unauthenticated)?.shared().await;
        Ok((shown, turn, request.into_inner()))
    }
}

#[tonic::async_trait]
impl vault_server::Vault for VaultService {
    async fn attach(
        &self,
        request: Request<v1alpha1::AttachRequest>,
    ) -> Result<Response<v1alpha1::AttachResponse>, Status> {
        let place = request.extensions().get::<Place>().cloned();
        let place = place.ok_or(CallError::Unauthenticated)?;
        let answer = VaultService::attach(self, &place, request.into_inner());
        let answer = self.metrics().calls.timed(Call::Attach, answer).await;
        let answer = answer.inspect_err(|error| self.metrics().calls.failed(error))?;
        Ok(Response::new(answer))
    }

    type WatchStream = EventStream;

    async fn watch(
        &self,
        request: Request<v1alpha1::WatchRequest>,
    ) -> Result<Response<EventStream>, Status> {
        self.proven(request, async |claimed, _| {
            VaultService::watch(self, claimed).await
        })
        .await
    }

    async fn grant(
        &self,
        request: Request<v1alpha1::GrantRequest>,
    ) -> Result<Response<v1alpha1::GrantResponse>, Status> {
        let grant = async {
            let (shown, mut turn, wish) = self.in_turn(request).await?;
            self.answer(VaultService::grant(self, &shown, &mut turn, wish).await)
                .await
        };
        self.metrics().calls.timed(Call::Grant, grant).await
    }

    async fn report(
        &self,
        request: Request<v1alpha1::ReportRequest>,
    ) -> Result<Response<v1alpha1::ReportResponse>, Status> {
        let answer = self.proven(request, async |claimed, batch| {
            VaultService::report(self, claimed, batch).await
        });
        self.metrics().calls.timed(Call::Report, answer).await
    }

    async fn describe_user(
        &self,
        request: Request<v1alpha1::DescribeUserRequest>,
    ) -> Result<Response<v1alpha1::DescribeUserResponse>, Status> {
        self.proven(request, async |claimed, user| {
            self.describe(claimed, user).await
        })
        .await
    }

    async fn consume(
        &self,
        request: Request<v1alpha1::CountRequest>,
    ) -> Result<Response<v1alpha1::CountResponse>, Status> {
        self.proven(request, async |claimed, wish| {
            self.count(claimed, Operation::Consume, wish).await
        })
        .await
    }

    async fn release(
        &self,
        request: Request<v1alpha1::CountRequest>,
    ) -> Result<Response<v1alpha1::CountResponse>, Status> {
        self.proven(request, async |claimed, wish| {
            self.count(claimed, Operation::Release, wish).await
        })
        .await
    }

    async fn describe_quotas(
        &self,
        request: Request<v1alpha1::DescribeQuotasRequest>,
    ) -> Result<Response<v1alpha1::DescribeQuotasResponse>, Status> {
        self.proven(request, async |claimed, user| {
            VaultService::describe_quotas(self, claimed, user).await
        })
        .await
    }
}
