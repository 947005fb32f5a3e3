//! Output that nobody reads any more does not change what a command found.

use std::fmt::Arguments;
use std::io::{ErrorKind, Result, Write, stderr};

/// Goes on when the reader has gone, as `head` does: the exit code is the same then.
pub(crate) struct Unread<'a>(pub(crate) &'a mut dyn Write);

impl Write for Unread<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

/// A line on standard error. `eprintln!` would end the command where nobody reads that.
pub(crate) fn remark(text: Arguments<'_>) {
    let _ = writeln!(stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind, Write};

    use super::Unread;

    struct Fails(ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure() {
        let written = |kind| {
            let mut fails = Fails(kind);
            let mut out = Unread(&mut fails);
            (out.write_all(b"a").is_ok(), out.flush().is_ok())
        };
        assert_eq!(written(ErrorKind::BrokenPipe), (true, true));
        assert_eq!(written(ErrorKind::StorageFull), (false, false));
    }
}
