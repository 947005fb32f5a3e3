//! The change feed: follows the log of changes and tells those they concern.
//!
//! The log is polled from where it was read last, once a second and whenever a
//! notification says that there is something new. Notifications may be lost
//! without harm, and so may the connection: no change is skipped, because the
//! position is the number of a change and not a point in time.
//!
//! It reads over a connection of its own, for which nothing else has to be
//! waited, and does not trust it: one that is silent for 5 seconds may be cut
//! where neither end notices, and is replaced.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bursar_seal::TenantId;
use bursar_wire::v1alpha1::{self, Event, event};
use sqlx::PgConnection;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use super::VaultService;
use super::error::CallError;
use super::stages::Stage;
use super::watch::Fallen;
use super::watchers::WatcherId;
use crate::changes::{self, CHANGE_CHANNEL, Change, Numbered};

/// How often the log is read when nothing says that there is something new.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the database may take to answer.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// A listener that has heard nothing for this long may be cut off: it is made anew.
const LISTENER_SILENCE: Duration = Duration::from_secs(60);
/// Changes read at once from one shard.
const BATCH: i64 = 1_000;
/// How often watchers are looked for that were fenced at another replica.
const FENCE_INTERVAL: Duration = Duration::from_secs(10);

/// How far each shard has been followed.
#[derive(Clone, Debug)]
pub(crate) struct Position(HashMap<i16, i64>);

/// Tokens that changed, and whether anything was taken away.
type ChangedTokens = HashMap<Uuid, bool>;

impl Position {
    pub(crate) fn new(heads: Vec<(i16, i64)>) -> Self {
        Self(heads.into_iter().collect())
    }
}

impl VaultService {
    /// Follows the log for as long as the service runs.
    pub(crate) async fn follow_changes(self) {
        let news = Notify::new();
        tokio::join!(self.poll_on(&news), self.listen(&news), self.watch_fences());
    }

    async fn poll_on(&self, news: &Notify) {
        let mut position = self.start_position();
        let mut connection = None;
        loop {
            if let Err(error) = self.poll(&mut connection, &mut position).await {
                connection = None;
                self.metrics().failed_polls.inc();
                tracing::warn!(cause = %error.cause(), "the change log cannot be read; trying again");
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            // A timeout is as good as a notification.
            let _ = timeout(POLL_INTERVAL, news.notified()).await;
        }
    }

    /// Wakes the poll on every notification, and on every lost connection.
    async fn listen(&self, news: &Notify) {
        loop {
            if let Err(error) = self.listen_once(news).await {
                tracing::debug!(%error, "listening for changes was interrupted");
            }
            news.notify_one();
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn listen_once(&self, news: &Notify) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(self.vault().pool()).await?;
        listener.listen(CHANGE_CHANNEL).await?;
        loop {
            let Ok(heard) = timeout(LISTENER_SILENCE, listener.try_recv()).await else {
                return Ok(());
            };
            heard?;
            // Also when the connection was lost and made again: whatever was
            // announced meanwhile is read now.
            news.notify_one();
        }
    }

    async fn poll(
        &self,
        connection: &mut Option<PgConnection>,
        position: &mut Position,
    ) -> Result<(), CallError> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(in_time(self.vault().connect()).await?),
        };
        for (shard, head) in in_time(changes::heads(&mut *connection)).await? {
            let last = position.0.entry(shard).or_insert(head);
            if head < *last {
                self.start_anew(shard);
                *last = head;
            }
            while *last < head {
                let read = changes::read_after(&mut *connection, shard, *last, BATCH);
                let changes = in_time(read).await?;
                self.reached(Stage::ChangesRead).await;
                match (changes.first(), changes.last()) {
                    (Some(first), Some(newest)) if first.seq == *last + 1 => {
                        self.tell(connection, &changes).await?;
                        self.reached(Stage::HoldersTold).await;
                        *last = newest.seq;
                    }
                    _ => {
                        self.start_anew(shard);
                        *last = head;
                    }
                }
            }
        }
        Ok(())
    }

    /// Changes were trimmed before they were read, or the database went back in
    /// time: whoever watches is brought up to date by watching again.
    fn start_anew(&self, shard: i16) {
        tracing::error!(shard, "the change log has a gap; all brokers watch anew");
        self.metrics().resyncs.inc();
        self.watchers().disconnect_all();
    }

    /// Tells brokers what has changed for them.
    async fn tell(
        &self,
        connection: &mut PgConnection,
        changes: &[Numbered],
    ) -> Result<(), CallError> {
        let watched = self.watchers().tenants();
        let mut tokens: HashMap<TenantId, ChangedTokens> = HashMap::new();
        // Once for each tenant, however many changes there are: a batch is a few
        // events to each broker.
        let mut widened = HashSet::new();
        let mut used_up: HashMap<TenantId, Vec<Uuid>> = HashMap::new();
        for Numbered { tenant, change, .. } in changes {
            if !watched.contains(tenant) {
                continue;
            }
            match change {
                Some(Change::Recall(token)) => {
                    tokens
                        .entry(*tenant)
                        .or_default()
                        .insert(token.as_uuid(), true);
                }
                Some(Change::Supersede(token)) => {
                    let changed = tokens.entry(*tenant).or_default();
                    changed.entry(token.as_uuid()).or_insert(false);
                }
                Some(Change::Widen) => {
                    widened.insert(*tenant);
                }
                Some(Change::Return(usage)) => {
                    used_up.entry(*tenant).or_default().push(usage.as_uuid());
                }
                // A kind that only a newer release knows.
                None => self.watchers().disconnect_tenant(*tenant),
            }
        }
        for (tenant, changed) in tokens {
            let holders = in_time(holders(connection, tenant, &changed)).await?;
            self.tell_holders(holders);
        }
        for (tenant, usages) in used_up {
            let holders = in_time(sharers(connection, tenant, &usages)).await?;
            self.tell_holders(holders);
        }
        for tenant in widened {
            self.watchers().tell_tenant(tenant, &forget_denials());
        }
        Ok(())
    }

    fn tell_holders(&self, holders: HashMap<WatcherId, Fallen>) {
        for (id, fallen) in holders {
            for event in fallen.events() {
                self.watchers().tell(id, event);
            }
        }
    }

    async fn watch_fences(&self) {
        loop {
            tokio::time::sleep(FENCE_INTERVAL).await;
            if let Err(error) = in_time(self.end_fenced()).await {
                tracing::debug!(cause = %error.cause(), "fences cannot be read; trying again");
            }
        }
    }

    /// Ends the streams of incarnations that another replica fenced.
    async fn end_fenced(&self) -> Result<(), CallError> {
        let watchers = self.watchers().ids();
        let (tenants, incarnations): (Vec<Uuid>, Vec<Uuid>) = watchers
            .iter()
            .map(|id| (id.tenant.as_uuid(), id.incarnation))
            .unzip();
        let fenced = sqlx::query!(
            r#"select i.tenant_id, i.incarnation_id
               from unnest($1::uuid[], $2::uuid[]) as w (tenant_id, incarnation_id)
               join incarnation i on i.tenant_id = w.tenant_id
                                 and i.incarnation_id = w.incarnation_id
               where i.fenced_time is not null"#,
            &tenants,
            &incarnations,
        )
        .fetch_all(self.vault().pool())
        .await?;
        self.watchers().end(fenced.into_iter().map(|row| WatcherId {
            tenant: row.tenant_id.into(),
            incarnation: row.incarnation_id,
        }));
        Ok(())
    }
}

/// Who holds allowances that were granted before these changes. A statement
/// of its own, and so a snapshot taken after the changes were committed.
async fn holders(
    connection: &mut PgConnection,
    tenant: TenantId,
    changed: &ChangedTokens,
) -> Result<HashMap<WatcherId, Fallen>, sqlx::Error> {
    let tokens: Vec<Uuid> = changed.keys().copied().collect();
    let rows = sqlx::query!(
        r#"select incarnation_id as "incarnation_id!", allowance_id as "allowance_id!",
                  token_id as "token_id!", standing = 'Dead' as "dead!"
           from allowance_standing
           where tenant_id = $1 and token_id = any($2) and standing <> 'Good'"#,
        tenant.as_uuid(),
        &tokens,
    )
    .fetch_all(connection)
    .await?;
    let mut holders: HashMap<WatcherId, Fallen> = HashMap::new();
    for row in rows {
        let id = WatcherId {
            tenant,
            incarnation: row.incarnation_id,
        };
        let fallen = holders.entry(id).or_default();
        match row.dead || changed.get(&row.token_id).is_none_or(|recall| *recall) {
            true => fallen.dead.push(row.allowance_id),
            false => fallen.superseded.push(row.allowance_id),
        }
    }
    Ok(holders)
}

/// Who was asked to give back what is left of these usages.
async fn sharers(
    connection: &mut PgConnection,
    tenant: TenantId,
    usages: &[Uuid],
) -> Result<HashMap<WatcherId, Fallen>, sqlx::Error> {
    let rows = sqlx::query!(
        "select distinct a.incarnation_id, a.allowance_id
         from allowance_charge c
         join allowance a on a.tenant_id = c.tenant_id and a.allowance_id = c.allowance_id
         where c.tenant_id = $1 and c.usage_id = any($2) and c.open and a.recalled",
        tenant.as_uuid(),
        usages,
    )
    .fetch_all(connection)
    .await?;
    let mut holders: HashMap<WatcherId, Fallen> = HashMap::new();
    for row in rows {
        let id = WatcherId {
            tenant,
            incarnation: row.incarnation_id,
        };
        holders.entry(id).or_default().dead.push(row.allowance_id);
    }
    Ok(holders)
}

/// An answer of the database, or that there was none in time.
async fn in_time<T, E: Into<CallError>>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, CallError> {
    match timeout(READ_DEADLINE, answer).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(CallError::Silent),
    }
}

fn forget_denials() -> Event {
    Event {
        event: Some(event::Event::ForgetDenials(v1alpha1::ForgetDenials {})),
    }
}
