//! What a test has to tell to whoever runs all of them, who sees no output of those that
//! pass.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Prints a line, and adds it to the file named in `BURSAR_TEST_SUMMARY`, if one is. The
/// file is made where there is none.
///
/// # Panics
/// When the file cannot be written.
pub fn tell(line: &str) {
    println!("{line}");
    let Some(path) = std::env::var_os("BURSAR_TEST_SUMMARY").map(PathBuf::from) else {
        return;
    };
    if let Err(error) = add(&path, line) {
        panic!(
            "cannot add to BURSAR_TEST_SUMMARY {}: {error}",
            path.display()
        );
    }
}

fn add(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{line}")
}

#[cfg(test)]
mod tests {
    use super::add;

    #[test]
    fn lines_are_added_to_a_file_that_need_not_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary");
        add(&path, "one").unwrap();
        add(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo\n");
    }
}
