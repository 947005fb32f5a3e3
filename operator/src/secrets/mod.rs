//! Secrets: which namespaces they may be read in, and the labelled ones there.

mod onboarding;
mod probe;
mod rights;
mod source_secret;

pub(crate) use onboarding::{Onboarding, OnboardingMeans, Secrets};
pub(crate) use probe::{Presence, probe};
pub(crate) use source_secret::SourceSecret;
