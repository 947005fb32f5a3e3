//! The kinds, rights and policies on a real API server.
//!
//! Each test has a namespace of its own. Kinds, rights and policies are the cluster's; they are
//! installed once, by server-side apply, so that other test programs may do the same beside.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod cluster;

mod ca_config_map;
mod grants;
mod output;
mod quickstart;
mod rights;
mod secret_source;
mod stored_token;
mod token_quota;
mod token_quota_output;
mod token_quota_window;
mod token_user;
mod vault_audience;
