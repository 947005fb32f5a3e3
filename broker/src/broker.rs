//! What the parts of one broker share. Everything runs on one thread, so plain
//! cells are enough: no borrow is ever held across an `await`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bursar_seal::Random;
use bursar_wire::v1alpha1::Denial;
use tokio::sync::{Notify, Semaphore};

use crate::allowance::held::Access;
use crate::allowance::holdings::{Holdings, Served};
use crate::allowance::key::EntryKey;
use crate::clock::{BootTime, Clock, UnixMillis};
use crate::http::access_request::AccessRequest;
use crate::http::code::Code;
use crate::http::decision::{DecisionId, DecisionLog};
use crate::http::problem::Problem;
use crate::http::status::Descriptions;
use crate::jwt::{Authenticated, Authenticator};
use crate::metrics::Metrics;
use crate::upstream::calls::{CallError, Calls};

/// One broker.
pub(crate) struct Broker {
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) random: Box<dyn Random>,
    pub(crate) metrics: Rc<Metrics>,
    /// Knows this pod's callers; none before the first attach.
    pub(crate) authenticator: RefCell<Option<Authenticator>>,
    pub(crate) holdings: RefCell<Holdings>,
    pub(crate) descriptions: Descriptions,
    /// Turns at the vault for calls about quotas: it works on four of one broker at a
    /// time, and allowances and reports must not wait behind these.
    pub(crate) quota_turns: Semaphore,
    pub(crate) decisions: DecisionLog,
    /// The way to the vault while attached.
    pub(crate) calls: RefCell<Option<Calls>>,
    /// Told when a call outside the session's own loops finds the incarnation
    /// ended: those loops may have nothing to do just now and not notice.
    pub(crate) fenced: Notify,
    /// Attached and synced, and not fenced since.
    pub(crate) synced: Cell<bool>,
    /// The broker is ending.
    pub(crate) draining: Cell<bool>,
}

/// Both clocks, read once for a request.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) boot: BootTime,
    pub(crate) wall: UnixMillis,
}

impl Broker {
    pub(crate) fn new(clock: Box<dyn Clock>, random: Box<dyn Random>) -> Self {
        Self {
            clock,
            random,
            metrics: Rc::new(Metrics::new()),
            authenticator: RefCell::default(),
            holdings: RefCell::default(),
            descriptions: Descriptions::default(),
            quota_turns: Semaphore::new(2),
            decisions: DecisionLog::default(),
            calls: RefCell::default(),
            fenced: Notify::new(),
            synced: Cell::default(),
            draining: Cell::default(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            boot: self.clock.boot(),
            wall: self.clock.wall(),
        }
    }

    /// A random byte; the middle of the range when there is no randomness, which
    /// is only used to spread things out.
    pub(crate) fn jitter(&self) -> u8 {
        let mut byte = [127];
        let _ = self.random.fill(&mut byte);
        byte[0]
    }

    /// Whether the caller that brought this JWT is this pod's.
    ///
    /// # Errors
    /// 401 when it is not; 503 before the vault has said who it would be.
    pub(crate) fn authenticate(&self, jwt: &[u8], now: Now) -> Result<(), Problem> {
        let mut authenticator = self.authenticator.borrow_mut();
        let authenticator = authenticator
            .as_mut()
            .ok_or_else(Problem::vault_unavailable)?;
        let authenticated = authenticator.authenticate(jwt, now.wall);
        if authenticated != Ok(Authenticated::Remembered) {
            self.metrics.signatures.inc();
        }
        authenticated?;
        Ok(())
    }

    /// Asks the vault for a caller who waits for the answer.
    ///
    /// # Errors
    /// 503 when it does not answer.
    pub(crate) async fn ask<A>(
        &self,
        question: impl AsyncFnOnce(Calls) -> Result<A, CallError>,
    ) -> Result<A, Problem> {
        let calls = self.calls.borrow().clone();
        let calls = calls.ok_or_else(Problem::vault_unavailable)?;
        question(calls).await.map_err(|error| {
            if matches!(error, CallError::Fenced) {
                self.fenced.notify_waiters();
            }
            Problem::vault_unavailable()
        })
    }

    /// Serves one access of an authenticated caller from memory, or says what
    /// to wait for.
    pub(crate) fn serve(&self, key: &EntryKey, request: &AccessRequest<'_>, now: Now) -> Served {
        let access = Access {
            app_name: &request.app_name,
            purpose: &request.purpose,
            boot: now.boot,
            wall: now.wall,
        };
        self.holdings.borrow_mut().serve(key, access, &*self.clock)
    }

    /// Counts a refusal, and tells it one by one while there are few. Of a caller
    /// whose JWT was verified it tells what was `asked`, of others nothing.
    pub(crate) fn refused(&self, id: &DecisionId, code: Code, asked: Option<Denial>) {
        self.metrics.refused(code);
        let verified = asked.is_some();
        if self.decisions.note(id, code, verified, self.clock.boot()) {
            let denial = Denial {
                decision_id: id.as_str().to_owned(),
                code: code.name().to_owned(),
                time_ms: self.clock.wall().0.max(0),
                ..asked.unwrap_or_default()
            };
            self.holdings.borrow_mut().note_denial(denial);
        }
    }

    /// Whether this broker can do its work: it has been attached and in sync,
    /// and was neither fenced nor told to end since. A vault that is away does
    /// not change that: what is held is served on, and pods that need no token
    /// just now should not be taken out of service with the vault.
    pub(crate) fn is_ready(&self) -> bool {
        self.synced.get() && !self.draining.get()
    }

    /// Brings the gauges up to date.
    pub(crate) fn measure(&self) {
        let holdings = self.holdings.borrow();
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics
            .allowances
            .set(gauge(holdings.allowances() as u64));
        self.metrics.unreported.set(gauge(holdings.unreported()));
        self.metrics
            .attached
            .set(i64::from(self.calls.borrow().is_some()));
    }
}
