//! What a person sees while a testbed starts and stops: one line per step, on standard
//! error, with the time it took.

use std::time::Duration;

use tokio::time::Instant;

/// A step under way.
#[derive(Debug)]
pub struct Step {
    name: String,
    started: Instant,
}

impl Step {
    /// Begins a step whose end alone is shown.
    pub fn quiet(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            started: Instant::now(),
        }
    }

    /// Begins a step that takes long enough to be announced.
    pub fn begin(name: &str) -> Self {
        eprintln!("testbed: {name} ...");
        Self::quiet(name)
    }

    /// Shows that the step is done.
    pub fn done(self, outcome: &str) {
        let took: Duration = self.started.elapsed();
        eprintln!(
            "testbed: {} {outcome} ({:.1} s)",
            self.name,
            took.as_secs_f64()
        );
    }
}
