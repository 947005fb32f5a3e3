//! Every file that README.md and docs/ name exists, and their tables are whole.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

/// What a file's name ends with.
const ENDINGS: [&str; 6] = [".rs", ".md", ".sh", ".py", ".yaml", ".toml"];
/// Where builds go: not part of the repository.
const BUILT: &str = "target/";
/// Each crate has one.
const OF_EVERY_CRATE: &str = "lib.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The words that are paths: they end like a file's name, or begin with a folder of the
/// repository.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let in_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let words = text.split(move |c| !in_path(c));
    let words = words.map(|word| word.trim_end_matches(['.', '/']));
    words.filter(|word| {
        let is_file = ENDINGS.iter().any(|ending| word.ends_with(ending));
        let (first, rest) = word.split_once('/').unwrap_or_default();
        let in_folder = !first.is_empty() && !rest.is_empty() && root().join(first).is_dir();
        // What begins with a slash is the rest of a URL, or not ours.
        (is_file || in_folder) && !word.starts_with(['/', '.'])
    })
}

fn documents() -> Vec<PathBuf> {
    let mut documents = files_in(&root().join("docs"));
    documents.push(root().join("README.md"));
    documents
}

#[test]
fn every_row_of_a_table_has_as_many_cells_as_its_head() {
    let mut tables = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let mut head = None;
        for line in text.lines() {
            if !line.starts_with('|') {
                head = None;
                continue;
            }
            let cells = line.matches('|').count() - line.matches("\\|").count();
            tables += usize::from(head.is_none());
            assert_eq!(
                cells,
                *head.get_or_insert(cells),
                "{}: {line}",
                document.display()
            );
        }
    }
    assert!(tables > 10, "{tables}");
}

#[test]
fn every_file_that_the_documents_name_exists() {
    let mut found = 0;
    for document in &documents() {
        let text = std::fs::read_to_string(document).unwrap();
        let mut folder = document.parent().unwrap().to_owned();
        for path in paths(&text) {
            if path.starts_with(BUILT) || path == OF_EVERY_CRATE {
                continue;
            }
            // A file without a folder is in that of the one named before it.
            let places = [
                root(),
                document.parent().unwrap().to_owned(),
                folder.clone(),
            ];
            let mut files = places.iter().map(|place| place.join(path));
            let file = files.find(|file| file.exists());
            let file = file.unwrap_or_else(|| {
                panic!("{} names {path}, which does not exist", document.display());
            });
            if path.contains('/') {
                folder = file.parent().unwrap().to_owned();
            }
            found += 1;
        }
    }
    assert!(found > 50, "{found}");
}
