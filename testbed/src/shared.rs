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
    match find_shared() {
        Some(handle) => handle,
        None => panic!(
            "no testbed: run `make test`, or for one crate `cargo run -p bursar-testbed -- exec -- cargo test -p CRATE`"
        ),
    }
}

/// The testbed that this process was told of, if it is up.
pub fn find_shared() -> Option<Handle> {
    let path = std::env::var_os(HANDLE_VARIABLE)?;
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
