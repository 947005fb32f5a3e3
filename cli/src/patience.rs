//! Trying again: a busy vault or a lost connection passes by itself, and every call may be
//! repeated.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use tokio::time::Instant;

use crate::error::CliError;
use crate::time::for_people;
use crate::unread::remark;

/// How long tries are begun for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until the next try, when nobody says.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a try may take that waits for a lock at most.
const QUICK: Duration = Duration::from_secs(15);
/// How long a try may take that the vault itself gives up after 30 seconds.
const READING: Duration = Duration::from_secs(45);

/// How long to go on trying.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long one try may take; as long as somebody watches, without it.
    one: Option<Duration>,
    /// No try begins later.
    until: Instant,
}

impl Patience {
    pub(crate) fn quick() -> Self {
        Self::of(Some(QUICK))
    }

    pub(crate) fn reading() -> Self {
        Self::of(Some(READING))
    }

    /// For what takes as long as there are records.
    pub(crate) fn unbounded() -> Self {
        Self::of(None)
    }

    /// Also as long as something else is waited for.
    pub(crate) fn at_least_until(self, until: Instant) -> Self {
        Self {
            until: self.until.max(until),
            ..self
        }
    }

    fn of(one: Option<Duration>) -> Self {
        Self {
            one,
            until: Instant::now() + PATIENCE,
        }
    }

    /// Tries until it succeeds, or fails for good, or for too long.
    pub(crate) async fn with<T>(
        self,
        one_try: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, CliError> {
        self.telling(one_try, |text| remark(format_args!("{text}")))
            .await
    }

    /// The same, telling `hear` why it tries again, once for each reason.
    async fn telling<T>(
        self,
        mut one_try: impl AsyncFnMut() -> Result<T, Failure>,
        mut hear: impl FnMut(&str),
    ) -> Result<T, CliError> {
        let mut told = String::new();
        loop {
            let tried = match self.one {
                Some(limit) => tokio::time::timeout(limit, one_try())
                    .await
                    .unwrap_or_else(|_| Err(Failure::passing(CliError::Late(limit)))),
                None => one_try().await,
            };
            match tried {
                Ok(answer) => return Ok(answer),
                Err(Failure {
                    error,
                    again: Some(pause),
                }) if Instant::now() + pause < self.until => {
                    let reason = error.to_string();
                    if told != reason {
                        let left = for_people(self.until.duration_since(Instant::now()));
                        hear(&format!("{reason}; trying again for {left}"));
                        told = reason;
                    }
                    tokio::time::sleep(pause).await;
                }
                Err(failure) => return Err(failure.error),
            }
        }
    }
}

/// Why a try failed, and when the next is worth while, if one is.
#[derive(Debug)]
pub(crate) struct Failure {
    error: CliError,
    again: Option<Duration>,
}

impl Failure {
    /// What passes by itself.
    pub(crate) fn passing(error: CliError) -> Self {
        Self {
            error,
            again: Some(PAUSE),
        }
    }

    /// What was answered with a status, and perhaps with when to ask again.
    pub(crate) fn answered(error: CliError, status: StatusCode, headers: &HeaderMap) -> Self {
        let passes = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        let seconds = headers.get(RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        // So few that an instant can be moved by them.
        let pause = seconds.map_or(PAUSE, |seconds: u32| Duration::from_secs(seconds.into()));
        Self {
            error,
            again: passes.then_some(pause),
        }
    }

    /// What the Kubernetes API said, or that it did not answer.
    pub(crate) fn kubernetes(cause: &kube::Error, error: CliError) -> Self {
        let passes = match cause {
            kube::Error::Api(status) => matches!(status.code, 429 | 500..),
            kube::Error::HyperError(_) | kube::Error::Service(_) => true,
            _ => false,
        };
        Self {
            error,
            again: passes.then_some(PAUSE),
        }
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Self { error, again: None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, StatusCode};
    use tokio::time::Instant;

    use super::{Failure, PATIENCE, Patience, QUICK};
    use crate::error::CliError;

    fn answered(status: u16, retry_after: Option<&str>) -> Failure {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert("retry-after", seconds.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Failure::answered(CliError::NotTheVault(status.as_u16()), status, &headers)
    }

    fn refused() -> Failure {
        Failure::passing(CliError::Connect {
            url: "https://v:1".to_owned(),
            cause: "refused".to_owned(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_vault_that_is_away_is_told_of_once_with_where_it_was_looked_for() {
        let mut heard = Vec::new();
        let hear = |text: &str| heard.push(text.to_owned());
        let failed = Patience::quick().telling(async || Err::<(), _>(refused()), hear);
        let told = failed.await.unwrap_err().to_string();
        assert!(told.ends_with("check --vault or BURSAR_PEOPLE"), "{told}");
        assert_eq!(heard, [format!("{told}; trying again for 60 s")]);
        assert!(told.contains("https://v:1 "), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_when_the_vault_says() {
        let start = Instant::now();
        let mut failures = vec![refused(), answered(503, None), answered(429, Some("7"))];
        let done = Patience::quick().with(async || failures.pop().map_or(Ok(()), Err));
        done.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(7 + 1 + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_told_at_once() {
        for status in [400, 401, 403, 404, 409, 500] {
            let start = Instant::now();
            let failed = Patience::quick().with(async || Err::<(), _>(answered(status, Some("1"))));
            assert!(failed.await.is_err());
            assert_eq!(start.elapsed(), Duration::ZERO, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn trying_ends_and_a_try_without_an_answer_is_one() {
        let start = Instant::now();
        let mut tries = 0;
        let failed = Patience::quick().with(async || {
            tries += 1;
            std::future::pending::<Result<(), Failure>>().await
        });
        assert!(matches!(failed.await, Err(CliError::Late(_))));
        assert!(tries > 1 && start.elapsed() < PATIENCE + QUICK);

        for seconds in ["61", "18446744073709551615"] {
            let crowded = async || Err::<(), _>(answered(429, Some(seconds)));
            assert!(Patience::quick().with(crowded).await.is_err());
        }

        let start = Instant::now();
        let until = start + 10 * PATIENCE;
        let failed = Patience::quick().at_least_until(until);
        let failed = failed.with(async || Err::<(), _>(answered(503, Some("30"))));
        assert!(failed.await.is_err());
        assert!(start.elapsed() > 9 * PATIENCE);
    }
}
