//! Each call, answered: syntax, then who asks, then the right, then the rest.

use std::time::Duration;

use bursar_seal::TokenVersion;
use bursar_vault::{AuditFilter, DbTime, Namespace, Person, QuotaFilter, Tenant, TokenName};
use bursar_wire::people::{
    AuditQuery, BadPlace, Progress, QuotaQuery, Revocation, RevokeRequest, Verification,
};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use super::People;
use super::call::{Call, Shown};
use super::identity::{Account, Right};
use super::problem::{Code, Problem, json};
use super::turns::QueryTurn;
use crate::audit;
use crate::metrics::PeopleCall;

/// The longest body, in bytes.
const LONGEST_BODY: usize = 4 * 1024;
/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(5);

/// What a call brings in its body.
enum Asked {
    /// Boxed, because the others are small.
    Audit(Box<AuditFilter>),
    Quotas(QuotaFilter),
    Why(String),
    Verify,
    Revoke(TokenName, TokenVersion),
    Progress(TokenName),
}

/// What is known of a request, however it ends.
struct Seen {
    call: PeopleCall,
    /// Whether it is known who asks.
    is_known: bool,
}

/// The right to be worked on.
enum Turn<'a> {
    Query { _turn: QueryTurn<'a> },
    Later,
    Revocation { _turn: SemaphorePermit<'a> },
}

impl Asked {
    fn right(&self) -> Right<'_> {
        match self {
            Self::Audit(_) | Self::Quotas(_) | Self::Why(_) | Self::Verify => Right::ListRecords,
            Self::Revoke(token, _) | Self::Progress(token) => Right::Revoke(token),
        }
    }
}

impl People {
    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut seen = Seen {
            call: PeopleCall::Unknown,
            is_known: false,
        };
        let mut response = match self.try_answer(request, &mut seen).await {
            Ok(response) => response,
            Err(problem) => {
                tracing::debug!(%problem, "a person's request was not answered");
                problem.into_response()
            }
        };
        if !seen.is_known {
            // A stranger's connection is for others to have.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        self.metrics.person_asked(seen.call, response.status());
        response
    }

    async fn try_answer(
        &self,
        request: Request<Incoming>,
        seen: &mut Seen,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let (head, body) = request.into_parts();
        let (namespace, call) = Call::read(&head.method, head.uri.path())?;
        seen.call = call.kind();
        if head.uri.query().is_some() {
            return Err(Problem::invalid("there are no query parameters"));
        }
        let asked = asked(call, body).await?;
        let shown = Shown::read(&head.headers)?;

        let account = self.identity.account(&shown.token).await?;
        seen.is_known = true;
        let question = self.turns.right(&account).await?;
        let uid = self
            .identity
            .allowed(&account, &namespace, asked.right())
            .await?;
        drop(question);
        let _turn = self.turn(&asked, &account, &namespace).await?;
        let tenant = self.vault.tenant_of(&namespace, &uid).await?;
        let tenant = tenant.ok_or_else(|| {
            let detail = format!(
                "there was no TokenUser, StoredToken or TokenQuota in namespace {namespace} yet"
            );
            Problem::new(Code::NothingStored, detail)
        })?;
        let person = Person {
            namespace: account.namespace,
            service_account_name: account.name,
            name: shown.person,
        };
        match asked {
            Asked::Audit(filter) => {
                let page = self.vault.query_audit(&tenant, &filter, &person).await?;
                ok(&page)
            }
            Asked::Quotas(filter) => {
                let uses = self.vault.query_quotas(&tenant, &filter, &person).await?;
                ok(&uses)
            }
            Asked::Why(decision_id) => self.why(&tenant, &decision_id, &person).await,
            Asked::Verify => self.verify(&tenant, &person).await,
            Asked::Revoke(name, through) => {
                self.revoke((&namespace, &tenant), &name, through, &person)
                    .await
            }
            Asked::Progress(name) => self.progress(&tenant, &name).await,
        }
    }

    /// A turn at the database, which a verification waits for when its tenant is known.
    async fn turn(
        &self,
        asked: &Asked,
        account: &Account,
        namespace: &Namespace,
    ) -> Result<Turn<'_>, Problem> {
        Ok(match asked {
            Asked::Audit(_) | Asked::Quotas(_) | Asked::Why(_) => Turn::Query {
                _turn: self.turns.query(account, namespace).await?,
            },
            Asked::Verify => Turn::Later,
            Asked::Revoke(..) | Asked::Progress(_) => Turn::Revocation {
                _turn: self.turns.revocation().await?,
            },
        })
    }

    async fn why(
        &self,
        tenant: &Tenant,
        decision_id: &str,
        person: &Person,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let found = self.vault.find_denial(tenant, decision_id, person).await?;
        match found {
            Some(record) => ok(&record),
            None => Err(Problem::new(
                Code::DenialNotFound,
                "no refused request of this namespace has that decision id on record: each broker \
                 reports at most 256 refusals an hour one by one, within seconds, and records are \
                 kept as long as the audit's retention says (90 days unless set)",
            )),
        }
    }

    async fn verify(
        &self,
        tenant: &Tenant,
        person: &Person,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        // It reads all there is.
        let _turn = self.turns.verification(tenant.id())?;
        self.vault.record_verification(tenant, person).await?;
        // What is bound outside first, so that the database is newer.
        let anchor = audit::read(&self.client, &self.namespace).await?;
        let found = self
            .vault
            .verify_audit(tenant.id(), anchor.as_ref())
            .await?;
        ok(&Verification {
            records: found.records,
            chains: found.chains,
            checkpoints: found.checkpoints,
            first_bad: found.first_bad.map(|bad| BadPlace {
                chain_id: bad.chain_id,
                record_no: bad.record_no,
                checkpoint_no: bad.checkpoint_no,
                time: bad.time.and_then(DbTime::timestamp),
                what: bad.wrong.to_string(),
            }),
            anchored: anchor.is_some(),
        })
    }

    async fn progress(
        &self,
        tenant: &Tenant,
        name: &TokenName,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let (newest, drain) = self.vault.drain_of(tenant, name).await?;
        let count = |brokers| u64::try_from(brokers).unwrap_or_default();
        ok(&Progress {
            newest_version: newest.get(),
            through_version: drain.through_version.map(TokenVersion::get),
            complete: drain.is_complete(),
            brokers_open: count(drain.brokers_open),
            brokers_confirmed: count(drain.brokers_confirmed),
            brokers_lapsed: count(drain.brokers_lapsed),
            certain_time: drain.certain_time.and_then(DbTime::timestamp),
            last_served_time: drain.last_served_time.and_then(DbTime::timestamp),
        })
    }

    async fn revoke(
        &self,
        (namespace, tenant): (&Namespace, &Tenant),
        name: &TokenName,
        through: TokenVersion,
        person: &Person,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let revoked = self
            .vault
            .revoke_token(tenant, name, through, person)
            .await?;
        let through = revoked.through_version.get();
        let account = person.account();
        tracing::info!(%namespace, %name, through, account, "a person revoked a token");
        ok(&Revocation {
            through_version: through,
            newest_version: revoked.newest_version.get(),
            generated: revoked.generated,
            is_new: revoked.is_new,
            revoked_time: revoked.time.timestamp().unwrap_or_default(),
        })
    }
}

/// The call with its body, if it has one.
async fn asked(call: Call, body: Incoming) -> Result<Asked, Problem> {
    let bytes = Limited::new(body, LONGEST_BODY).collect();
    let bytes = tokio::time::timeout(BODY_DEADLINE, bytes)
        .await
        .map_err(|_| Problem::invalid("the body did not arrive in 5 seconds"))?
        .map_err(|_| Problem::invalid("the body is cut off, or longer than 4 KiB"))?
        .to_bytes();
    Ok(match call {
        Call::Audit => {
            let query: AuditQuery = parse(&bytes)?;
            let filter = AuditFilter::try_from(query);
            let filter = filter.map_err(|error| Problem::invalid(error.to_string()))?;
            Asked::Audit(Box::new(filter))
        }
        Call::Quotas => {
            let query: QuotaQuery = parse(&bytes)?;
            let filter = QuotaFilter::try_from(query);
            Asked::Quotas(filter.map_err(|error| Problem::invalid(error.to_string()))?)
        }
        Call::Revoke(name) => {
            let RevokeRequest { through_version } = parse(&bytes)?;
            let through = TokenVersion::try_from(through_version);
            let through =
                through.map_err(|_| Problem::invalid("through_version: versions begin at 1"))?;
            Asked::Revoke(name, through)
        }
        Call::Why(id) => Asked::Why(id),
        Call::Verify => Asked::Verify,
        Call::Progress(name) => Asked::Progress(name),
    })
}

/// The body; what is wrong with it is said without quoting it.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::invalid(format!(
            "the body is not JSON of the fields this call knows, at line {line}, column {column}"
        ))
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the last expression of each call")]
fn ok<T: Serialize>(answer: &T) -> Result<Response<Full<Bytes>>, Problem> {
    Ok(json(StatusCode::OK, answer))
}
