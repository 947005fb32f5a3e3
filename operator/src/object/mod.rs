//! What is written to an object of ours, whatever its kind: finalizer, status, events.

mod events;
mod finalizer;
mod status;
mod verdict;

pub(crate) use events::{Events, REVOCATION_COMPLETE, VALUE_ENDS_IN_WHITESPACE, VERSION_STORED};
pub(crate) use finalizer::{add as add_finalizer, remove as remove_finalizer};
pub(crate) use status::{merge as merge_status, read_conditions, write as write_status, write_use};
pub(crate) use verdict::{Said, Status, Verdict, news, not_onboarded, with_verdict};
