//! What the fake vault knows and has handed out, to the last access.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bursar_seal::{
    RootKey, RootKeyVersion, RootKeys, SystemRandom, TenantId, TenantKey, TenantKeyVersion,
    TokenId, TokenVersion, ValueContext,
};
use bursar_wire::metadata::{INCARNATION_ID, INCARNATION_PROOF};
use bursar_wire::v1alpha1::*;
use tokio::sync::{Notify, mpsc, watch};
use tonic::{Request, Status};

/// What the vault answers about one user and token.
#[derive(Clone)]
pub enum Stored {
    /// This value, in this version, for these purposes if any.
    Value {
        value: String,
        version: u32,
        purposes: Option<Vec<String>>,
    },
    /// A denial.
    Denied(denied::Code, Vec<String>),
    /// A row that the vault cannot read.
    Unreadable,
}

/// One allowance in the books.
#[derive(Clone, Debug, Default)]
pub struct Booked {
    pub incarnation: u64,
    pub granted: u32,
    pub used: u32,
    pub closed: bool,
}

/// Faults to come.
#[derive(Default)]
pub struct Faults {
    /// Grants whose answers get lost after they are booked.
    pub lost_grants: u32,
    /// Reports whose answers get lost after they are booked.
    pub lost_reports: u32,
    /// Grants refused before anything is booked.
    pub failing_grants: u32,
    /// Consumptions whose answers get lost after they are counted.
    pub lost_counts: u32,
    /// Attaches refused.
    pub refused_attaches: u32,
    /// No token is believed, as when the vault's clock is off.
    pub tokens_refused: bool,
}

/// All that the vault knows.
pub struct State {
    pub tokens: HashMap<(String, Option<String>), Stored>,
    pub descriptions: HashMap<String, Vec<TokenSummary>>,
    /// Of ana's: the one quota there is on each counter.
    pub quotas: BTreeMap<String, QuotaUse>,
    /// What was answered under which idempotency key.
    pub counted: HashMap<String, (CountRequest, CountResponse)>,
    pub allowances: BTreeMap<String, Booked>,
    pub records: Vec<AccessRecord>,
    /// Refusals that the broker told of.
    pub denials: Vec<Denial>,
    /// Calls that arrived, by name.
    pub calls: BTreeMap<&'static str, u32>,
    /// What no honest broker does.
    pub violations: Vec<String>,
    pub lease_ms: u64,
    pub attach_again_ms: u64,
    pub next_report_ms: u64,
    pub jwks: String,
    pub faults: Faults,
    pub incarnation: u64,
    pub last_request: Option<(GrantRequest, GrantResponse)>,
    pub last_report: (u64, Vec<u8>),
    next_allowance: u64,
    pub watchers: Vec<mpsc::UnboundedSender<Result<Event, Status>>>,
    /// Told to a broker that starts to watch, before Synced.
    pub backlog: VecDeque<Event>,
}

/// What the vault's calls work on.
#[derive(Clone)]
pub struct Books {
    pub state: Arc<Mutex<State>>,
    /// While false, attaches wait.
    pub attach_gate: watch::Sender<bool>,
    /// While false, grants wait before they are decided.
    pub gate: watch::Sender<bool>,
    /// While false, their answers wait after they are booked.
    pub answer_gate: watch::Sender<bool>,
    pub changed: Arc<Notify>,
    /// Changed to cut all connections.
    pub cut: watch::Sender<u64>,
    pub tenant: TenantId,
    key: Arc<TenantKey>,
}

impl Books {
    pub fn new(jwks: String) -> Self {
        let tenant = TenantId::generate(&SystemRandom).unwrap();
        let root = RootKey::from_bytes(RootKeyVersion::FIRST, &[7; 32]).unwrap();
        let (key, _) = RootKeys::new([root])
            .unwrap()
            .new_tenant_key(tenant, TenantKeyVersion::FIRST, &SystemRandom)
            .unwrap();
        let state = State {
            tokens: HashMap::new(),
            descriptions: HashMap::new(),
            quotas: BTreeMap::new(),
            counted: HashMap::new(),
            allowances: BTreeMap::new(),
            records: Vec::new(),
            denials: Vec::new(),
            calls: BTreeMap::new(),
            violations: Vec::new(),
            lease_ms: 60_000,
            attach_again_ms: 300_000,
            next_report_ms: 100,
            jwks,
            faults: Faults::default(),
            incarnation: 0,
            last_request: None,
            last_report: (0, Vec::new()),
            next_allowance: 0,
            watchers: Vec::new(),
            backlog: VecDeque::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            attach_gate: watch::channel(true).0,
            gate: watch::channel(true).0,
            answer_gate: watch::channel(true).0,
            changed: Arc::default(),
            cut: watch::channel(0).0,
            tenant,
            key: Arc::new(key),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn called(&self, name: &'static str) -> MutexGuard<'_, State> {
        let mut state = self.state();
        *state.calls.entry(name).or_default() += 1;
        self.changed.notify_waiters();
        state
    }

    pub fn authenticate<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let expected = self.state().incarnation.to_string();
        let metadata = request.metadata();
        let id = metadata.get(INCARNATION_ID).and_then(|id| id.to_str().ok());
        let proof = metadata
            .get_bin(INCARNATION_PROOF)
            .and_then(|proof| proof.to_bytes().ok());
        if id == Some(&expected) && proof.is_some_and(|proof| proof.as_ref() == b"proof") {
            Ok(())
        } else {
            Err(Status::unauthenticated("another incarnation"))
        }
    }

    pub fn granted(
        &self,
        state: &mut State,
        request: &GrantRequest,
        stored: &Stored,
    ) -> Result<GrantResponse, Status> {
        let answer = match stored {
            Stored::Unreadable => return Err(Status::internal("its log says why")),
            Stored::Denied(code, tokens) => grant_response::Answer::Denied(Denied {
                code: (*code).into(),
                tokens: tokens.clone(),
                ..Denied::default()
            }),
            Stored::Value {
                value,
                version,
                purposes,
            } => {
                state.next_allowance += 1;
                let id = format!("allowance-{:04}", state.next_allowance);
                let booked = Booked {
                    incarnation: state.incarnation,
                    granted: request.want,
                    ..Booked::default()
                };
                state.allowances.insert(id.clone(), booked);
                grant_response::Answer::Granted(Granted {
                    allowance_id: id,
                    units: request.want,
                    expires_in_ms: state.lease_ms,
                    token: request.token.clone().unwrap_or("github".to_owned()),
                    purposes: purposes.clone().map(|purposes| Purposes { purposes }),
                    ..self.seal(value, *version)
                })
            }
        };
        Ok(GrantResponse {
            answer: Some(answer),
        })
    }

    fn seal(&self, value: &str, version: u32) -> Granted {
        let token = TokenId::generate(&SystemRandom).unwrap();
        let version = TokenVersion::try_from(version).unwrap();
        let context = ValueContext {
            tenant: self.tenant,
            token,
            version,
            column: "ciphertext",
        };
        let (fresh, wrapped) = self
            .key
            .new_data_key(token, version, &SystemRandom)
            .unwrap();
        let sealed = fresh
            .seal_value(&context, value.as_bytes(), &SystemRandom)
            .unwrap();
        let data_key = self.key.open_data_key(token, version, &wrapped).unwrap();
        Granted {
            token_id: token.to_string(),
            user_uid: "u-1".to_owned(),
            provider: "github".to_owned(),
            version: version.get(),
            version_time_ms: 1_700_000_000_000,
            data_key: data_key.expose().to_vec(),
            ciphertext: sealed.into_bytes(),
            ..Granted::default()
        }
    }
}
