//! What the broker takes from itself before it holds any secret.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// The kernel refused to protect the process.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused to make the broker not dumpable: {0}; secrets would not be safe here")]
pub struct HardeningError(Errno);

/// Makes this process not dumpable: it leaves no core file, and another process
/// of the same user can neither trace it nor read its memory through `/proc`.
///
/// # Errors
/// When the kernel refuses; the broker must then not go on.
pub fn forbid_dumps() -> Result<(), HardeningError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(HardeningError)
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn the_process_is_not_dumpable_afterwards() {
        forbid_dumps().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
