//! Writes the test vectors anew: `cargo run -p bursar-seal --example vectors`.
//!
//! They change only together with the format number in `src/fields.rs`: data
//! that is stored somewhere was sealed as the committed vectors say.

mod generate;
mod shapes;

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    for (name, text) in generate::files()? {
        std::fs::write(folder.join(&name), text)?;
        println!("{name}");
    }
    Ok(())
}
