//! Bursar's own certificate authority, and the certificate brokers verify the vault by.

mod authority;
mod bundle;
mod leaf;
mod secret;

pub(crate) use authority::Authority;
pub use authority::AuthorityError;
pub(crate) use bundle::Bundle;
pub(crate) use leaf::Leaf;
pub use secret::CaError;
pub(crate) use secret::load_or_create;
