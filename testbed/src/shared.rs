//! The testbed that all tests of a run share.

use std::fs;

use crate::handle::Handle;

/// Names the file that describes the running testbed.
pub(crate) const HANDLE_VARIABLE: &str = "BURSAR_TESTBED_STATE";

/// The testbed that `testbed exec` has started around this process.
///
/// # Panics
/// When there is none: a test that needs it cannot pass without.
pub fn shared() -> Handle {
    let found = std::env::var_os(HANDLE_VARIABLE)
        .and_then(|path| fs::read(path).ok())
        .and_then(|json| serde_json::from_slice(&json).ok());
    match found {
        Some(handle) => handle,
        None => panic!(
            "no testbed: run `make test`, or for one crate `cargo run -p bursar-testbed -- exec -- cargo test -p CRATE`"
        ),
    }
}
