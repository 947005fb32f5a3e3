//! What a measurement keeps busy: processors, the vault's database connections, Postgres'
//! waits and its log. It tells which of them is at its end first.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use sqlx::{Connection, PgConnection};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, MissedTickBehavior, interval};

const SAMPLE: Duration = Duration::from_millis(250);
/// Kinds of waits that are named.
const WAITS_NAMED: usize = 3;

/// Nobody knows how busy it was.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database does not tell.
    #[error("cannot ask Postgres what it is doing: {0}")]
    Sql(#[from] sqlx::Error),
    /// The task of this program failed.
    #[error("watching Postgres failed: {0}")]
    Task(#[from] JoinError),
}

/// How busy everything was.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Processors that the vault kept busy.
    pub vault_cores: f64,
    /// The same for all processes of Postgres that were there all the time.
    pub postgres_cores: f64,
    /// The same for this program.
    pub own_cores: f64,
    /// Connections that ran something, on average.
    pub active: f64,
    /// What they did, as a share of all times that one was looked at: waits, or `CPU`.
    pub doing: Vec<(String, f64)>,
    /// Megabytes (10^6 bytes) of write-ahead log in a second.
    pub wal_mb: f64,
}

/// Watches until it is asked for the result.
pub struct Watch {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<Result<Load, LoadError>>,
}

impl Watch {
    /// Watches the process `vault_pid` and the database from now on.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn start(database_url: &str, vault_pid: u32) -> Result<Self, LoadError> {
        let connection = PgConnection::connect(database_url).await?;
        let (stop, stopped) = oneshot::channel();
        let watching = tokio::spawn(watch(connection, vault_pid, stopped));
        Ok(Self { stop, watching })
    }

    /// Ends watching.
    ///
    /// # Errors
    /// When the database went away meanwhile.
    pub async fn end(self) -> Result<Load, LoadError> {
        let _ = self.stop.send(());
        self.watching.await?
    }
}

async fn watch(
    mut connection: PgConnection,
    vault_pid: u32,
    mut stopped: oneshot::Receiver<()>,
) -> Result<Load, LoadError> {
    let own_pid = std::process::id();
    let begun = Instant::now();
    let postgres = postgres_pids(&mut connection).await?;
    let seconds = |pids: &[u32]| pids.iter().filter_map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let used = |pids: &[u32]| -> BTreeMap<u32, f64> {
        let used = pids.iter().map(|pid| (*pid, cpu_seconds(*pid)));
        used.filter_map(|(pid, seconds)| Some((pid, seconds?)))
            .collect()
    };
    let (vault, own) = (seconds(&[vault_pid]), seconds(&[own_pid]));
    let before = used(&postgres);
    let wal = wal_bytes(&mut connection).await?;
    let mut doing: BTreeMap<String, i64> = BTreeMap::new();
    let mut samples = 0_u32;
    let mut ticks = interval(SAMPLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            _ = ticks.tick() => {}
        }
        samples += 1;
        let seen: Vec<(String, i64)> = sqlx::query_as(
            "select coalesce(wait_event_type || ':' || wait_event, 'CPU'), count(*)
             from pg_stat_activity
             where backend_type = 'client backend' and state = 'active'
               and pid <> pg_backend_pid()
             group by 1",
        )
        .fetch_all(&mut connection)
        .await?;
        for (what, count) in seen {
            *doing.entry(what).or_default() += count;
        }
    }
    let after = used(&postgres);
    let stayed = before
        .iter()
        .filter_map(|(pid, before)| Some(after.get(pid)? - before));
    let elapsed = begun.elapsed().as_secs_f64();
    let wal = wal_bytes(&mut connection).await? - wal;
    let looked_at: i64 = doing.values().sum();
    let mut shares: Vec<(String, f64)> = doing
        .into_iter()
        .map(|(what, count)| (what, float(count) / float(looked_at.max(1))))
        .collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(Load {
        vault_cores: (seconds(&[vault_pid]) - vault) / elapsed,
        postgres_cores: stayed.sum::<f64>() / elapsed,
        own_cores: (seconds(&[own_pid]) - own) / elapsed,
        active: float(looked_at) / f64::from(samples.max(1)),
        doing: shares,
        wal_mb: float(wal) / 1e6 / elapsed,
    })
}

impl Load {
    /// In words, with `connections` as the most that the vault has.
    pub fn in_words(&self, connections: u32) -> String {
        let mut text = format!(
            "cores: vault {:.2}, Postgres {:.2}, this program {:.2}; {:.1} of {connections} \
             database connections busy",
            self.vault_cores, self.postgres_cores, self.own_cores, self.active
        );
        for (what, share) in self.doing.iter().take(WAITS_NAMED) {
            // Writing to a string cannot fail.
            let _ = write!(text, ", {what} {:.0} %", share * 100.0);
        }
        let _ = write!(text, "; WAL {:.1} MB/s", self.wal_mb);
        text
    }
}

async fn postgres_pids(connection: &mut PgConnection) -> Result<Vec<u32>, sqlx::Error> {
    let pids: Vec<i32> = sqlx::query_scalar("select pid from pg_stat_activity")
        .fetch_all(connection)
        .await?;
    Ok(pids.into_iter().map(i32::unsigned_abs).collect())
}

async fn wal_bytes(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        .fetch_one(connection)
        .await
}

/// Processor time of a process with all its threads, in seconds.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(float(ticks(&stat)?) / float(i64::try_from(clock_ticks_per_second()).ok()?))
}

/// Ticks in user mode and in the kernel, from `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<i64> {
    // The name stands in parentheses and may hold anything, also spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: i64 = fields.next()?.parse().ok()?;
    let kernel: i64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn float(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20 0 1";
        assert_eq!(ticks(stat), Some(100));
        assert_eq!(ticks("42 (a) S 1 2"), None);
    }

    #[test]
    fn this_process_has_used_some() {
        assert!(cpu_seconds(std::process::id()).is_some());
        assert!(cpu_seconds(u32::MAX).is_none());
    }

    #[test]
    fn what_was_seen_most_is_told() {
        let load = Load {
            active: 7.5,
            doing: vec![("LWLock:WALWrite".to_owned(), 0.6), ("CPU".to_owned(), 0.4)],
            ..Load::default()
        };
        let text = load.in_words(24);
        assert!(text.contains("7.5 of 24"), "{text}");
        assert!(text.contains("LWLock:WALWrite 60 %, CPU 40 %"), "{text}");
    }
}
