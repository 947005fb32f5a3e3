//! How often the API server is asked to review a token.
//!
//! Reviews are first come, first served, and each pod, and each token of a person,
//! waits in one place only: a pod that attaches in a loop takes turns with all others.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

/// How long the last in the queue waits, in seconds; who comes later is sent away.
const LONGEST_WAIT: usize = 5;

/// A queue for at most `per_second` reviews in any second.
pub(crate) struct ReviewLimit {
    per_second: Arc<Semaphore>,
    longest_queue: usize,
    waiting: Mutex<HashSet<String>>,
}

/// Too many wait, or this one does already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

/// The right to one review; who has it may ask again when it is dropped.
pub(crate) struct Turn<'a> {
    limit: &'a ReviewLimit,
    asker: String,
}

impl ReviewLimit {
    pub(crate) fn new(per_second: usize) -> Self {
        Self {
            per_second: Arc::new(Semaphore::new(per_second)),
            longest_queue: per_second * LONGEST_WAIT,
            waiting: Mutex::default(),
        }
    }

    /// Waits for the turn of a pod, by its UID, or of a person's token, by its digest.
    ///
    /// # Errors
    /// [`Crowded`], at once.
    pub(crate) async fn turn(&self, asker: &str) -> Result<Turn<'_>, Crowded> {
        let turn = self.enqueue(asker)?;
        // The semaphore is never closed, and is first in, first out.
        let permit = Arc::clone(&self.per_second)
            .acquire_owned()
            .await
            .map_err(|_| Crowded)?;
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(permit);
        });
        Ok(turn)
    }

    fn enqueue(&self, asker: &str) -> Result<Turn<'_>, Crowded> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= self.longest_queue || !waiting.insert(asker.to_owned()) {
            return Err(Crowded);
        }
        Ok(Turn {
            limit: self,
            asker: asker.to_owned(),
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let waiting = self.limit.waiting.lock();
        waiting
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.asker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Crowded, ReviewLimit};

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_reviews_than_the_limit() {
        let limit = Arc::new(ReviewLimit::new(20));
        let start = tokio::time::Instant::now();
        let turns = (0..100).map(|pod: u32| {
            let limit = Arc::clone(&limit);
            tokio::spawn(async move {
                let turn = limit.turn(&pod.to_string()).await;
                turn.map(|_| start.elapsed())
            })
        });
        let mut times: Vec<Duration> = Vec::new();
        for turn in turns.collect::<Vec<_>>() {
            times.push(turn.await.unwrap().unwrap());
        }
        times.sort();
        for window in times.windows(21) {
            assert!(window[20] - window[0] >= Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_waits_in_one_place_only() {
        let limit = ReviewLimit::new(1);
        let first = limit.turn("a").await.unwrap();
        assert_eq!(limit.turn("a").await.err(), Some(Crowded));
        drop(first);
        assert!(limit.turn("a").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_sent_away_at_once() {
        let limit = Arc::new(ReviewLimit::new(1));
        let attempts: Vec<_> = (0..6)
            .map(|pod: u32| {
                let limit = Arc::clone(&limit);
                tokio::spawn(async move {
                    let turn = limit.turn(&pod.to_string()).await;
                    if turn.is_ok() {
                        // Reviews take a while.
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                    turn.err()
                })
            })
            .collect();
        let mut crowded = 0;
        for attempt in attempts {
            crowded += usize::from(attempt.await.unwrap() == Some(Crowded));
        }
        assert_eq!(crowded, 1);
    }
}
