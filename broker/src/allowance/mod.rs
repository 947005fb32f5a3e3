//! Allowances: what this broker may serve, what it has served, and what it
//! asks the vault for. No I/O.

pub(crate) mod answer;
pub(crate) mod denials;
pub(crate) mod grant;
pub(crate) mod held;
pub(crate) mod holdings;
pub(crate) mod key;
pub(crate) mod lease;
pub(crate) mod ledger;
pub(crate) mod notes;
pub(crate) mod queue;

#[cfg(test)]
pub(crate) mod testing;
