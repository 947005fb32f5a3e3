//! Writes the manifests in `crds/manifests/` from the types; with `--check`, only compares.

use std::path::Path;
use std::process::ExitCode;

use bursar_crds::manifests;

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => manifests::write(&folder),
        [only] if only == "--check" => manifests::check(&folder),
        _ => {
            eprintln!("usage: crdgen [--check]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}
