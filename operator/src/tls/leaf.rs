//! The vault's certificate, replaced while connections stand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bursar_vault::Clock;
use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::authority::{Authority, AuthorityError, LEAF_LIFETIME};

/// How often the clock is looked at. Not one long sleep, because a machine that was suspended
/// wakes up with its sleeps unfinished and its certificate expired.
const LOOK: Duration = Duration::from_secs(60);

/// The certificate in use; cheap to clone.
#[derive(Clone)]
pub(crate) struct Leaf {
    current: watch::Receiver<Arc<CertifiedKey>>,
}

impl Leaf {
    /// Issues the first certificate for `name`, and gives the future that renews it for as long
    /// as it is polled.
    pub(crate) fn issue(
        authority: Arc<Authority>,
        name: String,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, impl Future<Output = ()> + Send), AuthorityError> {
        let mut issued = clock.now();
        let (sender, current) = watch::channel(Arc::new(authority.issue(&name, issued)?));
        let renew = async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let now = clock.now();
                if !is_due(issued, now) {
                    continue;
                }
                match authority.issue(&name, now) {
                    Ok(leaf) => {
                        issued = now;
                        sender.send_replace(Arc::new(leaf));
                        tracing::info!("the vault's certificate was renewed");
                    }
                    Err(error) => {
                        tracing::error!(%error, "the vault's certificate was not renewed")
                    }
                }
            }
        };
        Ok((Self { current }, renew))
    }
}

/// Two thirds through its life; or when the clock went back to before it.
fn is_due(issued: Timestamp, now: Timestamp) -> bool {
    now < issued || now >= issued + LEAF_LIFETIME * 2 / 3
}

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.borrow()))
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaf")
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::is_due;

    #[test]
    fn a_leaf_is_renewed_after_two_thirds_of_its_24_hours() {
        let issued = Timestamp::from_second(1_800_000_000).unwrap();
        let after = |hours| issued + SignedDuration::from_hours(hours);
        assert!(!is_due(issued, issued));
        assert!(!is_due(issued, after(15)));
        assert!(is_due(issued, after(16)));
        assert!(is_due(issued, after(-1)));
    }
}
