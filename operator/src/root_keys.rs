//! The root keys, from the files that a Secret is mounted as.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bursar_seal::{RootKey, RootKeyError, RootKeyVersion, RootKeys};
use zeroize::Zeroizing;

/// Why the root keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootKeysError {
    /// A file or the folder cannot be read.
    #[error("root keys: cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no key.
    #[error(
        "root keys: {folder} has no file named 1, 2, ...: mount the Secret bursar-root-key there",
        folder = folder.display()
    )]
    None {
        /// The folder.
        folder: PathBuf,
    },
    /// A key is not one.
    #[error("root keys: {path}: {source}", path = path.display())]
    Key {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        source: RootKeyError,
    },
}

/// Reads every file of `folder` whose name is a number; other files (the `..data` links of a
/// mounted Secret, an editor's left-overs) do not count.
///
/// # Errors
/// When a file cannot be read, is not 32 bytes, or there is none.
pub(crate) fn read(folder: &Path) -> Result<RootKeys, RootKeysError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |source| RootKeysError::Unreadable { path, source }
    };
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let Some(version) = version(&path) else {
            continue;
        };
        let bytes = Zeroizing::new(fs::read(&path).map_err(unreadable(&path))?);
        let key = RootKey::from_bytes(version, &bytes)
            .map_err(|source| RootKeysError::Key { path, source })?;
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(RootKeysError::None {
            folder: folder.to_owned(),
        });
    }
    RootKeys::new(keys).map_err(|source| RootKeysError::Key {
        path: folder.to_owned(),
        source,
    })
}

fn version(path: &Path) -> Option<RootKeyVersion> {
    let name = path.file_name()?.to_str()?;
    let number: u32 = name.parse().ok()?;
    // 01 and +1 would be other names of key 1.
    if number.to_string() != name {
        return None;
    }
    RootKeyVersion::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{RootKeysError, read};

    #[test]
    fn the_files_named_by_a_number_are_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        for (name, length) in [
            ("1", 32),
            ("2", 32),
            ("01", 5),
            ("..data", 5),
            ("0", 5),
            ("x", 5),
        ] {
            fs::write(folder.path().join(name), vec![7; length]).unwrap();
        }
        let keys = read(folder.path()).ok().unwrap();
        let versions: Vec<u32> = keys.versions().map(|version| version.get()).collect();
        assert_eq!(versions, [1, 2]);
    }

    #[test]
    fn a_folder_without_keys_and_a_short_key_are_refused_by_their_path() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            read(folder.path()),
            Err(RootKeysError::None { .. })
        ));
        fs::write(folder.path().join("3"), "short").unwrap();
        let error = read(folder.path()).err().unwrap().to_string();
        assert!(
            error.contains(&folder.path().join("3").display().to_string()),
            "{error}"
        );
        assert!(!error.contains("short"), "{error}");
    }
}
