//! What may be set, and what it is unless told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::stages::{NoStages, Stages};

/// [`Settings::lapse_grace`], unless told.
pub(crate) const LAPSE_GRACE: Duration = Duration::from_secs(30);

/// Settings of the vault service. The defaults are those of the documentation.
#[derive(Clone)]
pub struct Settings {
    /// The API server's word for a broker counts for this long, or longer when
    /// more than ten would be reviewed each second; the next review comes with
    /// the attach in the second half of it. 5 minutes.
    pub review_period: Duration,
    /// How late it may be before all its calls but reports are refused until it is
    /// reviewed; the sweep ends it soon after, unless it came back to find the API
    /// server away. 5 minutes.
    pub review_grace: Duration,
    /// Reviews that this replica asks of the API server in a second. 20.
    pub reviews_per_second: usize,
    /// Connections that have not attached, at any time. 1,000.
    pub unattached_connections: usize,
    /// Those from one IP address, at least 1; more are closed at once. 100.
    pub unattached_connections_of_source: usize,
    /// How long a connection may stay without attaching: longer than any attach
    /// waits for its review. 30 seconds.
    pub time_to_attach: Duration,
    /// An allowance that nobody accounts for lapses a lease and this long after
    /// its end. 30 seconds.
    pub lapse_grace: Duration,
    /// How often lapsed allowances are looked for. 5 seconds.
    pub sweep_interval: Duration,
    /// How often what has no more use is deleted. An hour.
    pub trim_interval: Duration,
    /// Where concurrent work waits; nowhere unless the order of steps is under
    /// examination.
    pub stages: Arc<dyn Stages>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            review_period: Duration::from_secs(300),
            review_grace: Duration::from_secs(300),
            reviews_per_second: 20,
            unattached_connections: 1_000,
            unattached_connections_of_source: 100,
            time_to_attach: Duration::from_secs(30),
            lapse_grace: LAPSE_GRACE,
            sweep_interval: Duration::from_secs(5),
            trim_interval: Duration::from_secs(3600),
            stages: Arc::new(NoStages),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("review_period", &self.review_period)
            .field("review_grace", &self.review_grace)
            .field("reviews_per_second", &self.reviews_per_second)
            .field("unattached_connections", &self.unattached_connections)
            .field(
                "unattached_connections_of_source",
                &self.unattached_connections_of_source,
            )
            .field("time_to_attach", &self.time_to_attach)
            .field("lapse_grace", &self.lapse_grace)
            .field("sweep_interval", &self.sweep_interval)
            .field("trim_interval", &self.trim_interval)
            .finish_non_exhaustive()
    }
}
