//! A new file in `migrations/` must compile the testbed anew, which has them inside.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
