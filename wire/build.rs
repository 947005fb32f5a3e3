//! Compiles the protocol with protox, so that no protoc binary is needed.
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/bursar/vault/v1alpha1/vault.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Keys, tokens and values pass through these messages: none of them may be printed.
        .skip_debug([
            "bursar.vault.v1alpha1.AttachRequest",
            "bursar.vault.v1alpha1.AttachResponse",
            "bursar.vault.v1alpha1.Incarnation",
            "bursar.vault.v1alpha1.Granted",
            "bursar.vault.v1alpha1.GrantResponse",
        ])
        .compile_fds(files)?;
    Ok(())
}
