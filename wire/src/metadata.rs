//! Names of the gRPC metadata entries by which a broker shows its incarnation.

/// The incarnation as `TENANT_ID.INCARNATION_ID`, two UUIDs as text.
pub const INCARNATION_ID: &str = "bursar-incarnation-id";
/// The proof that came with it; binary, hence the suffix gRPC asks for.
pub const INCARNATION_PROOF: &str = "bursar-incarnation-proof-bin";
