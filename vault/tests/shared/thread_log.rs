//! What is logged on one thread, which a test has to itself.

use std::cell::RefCell;
use std::io::{self, Write};

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the log of the thread it is on.
pub(crate) struct ThreadLog;

impl ThreadLog {
    /// What was logged on this thread since the last time.
    pub(crate) fn take() -> String {
        String::from_utf8(LOG.take()).unwrap()
    }
}

impl Write for ThreadLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
