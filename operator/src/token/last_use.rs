//! Tells in the status when a token was last used, and by whom. What was recorded since the last
//! look is read at once for all tokens, and a token in constant use is written every ten minutes.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use bursar_crds::conditions::whole_seconds;
use bursar_crds::{StoredToken, StoredTokenStatus};
use bursar_vault::{DbTime, TokenUse};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use serde_json::json;
use uuid::Uuid;

use crate::context::Context;
use crate::failure::Failure;
use crate::kind::{Guarded, is_deleted, place};
use crate::object::write_use;

/// What is told is not brought up to date for a use within this time after it.
const STEP: SignedDuration = SignedDuration::from_mins(10);
/// A record may become visible this long after the time it bears.
const LATE: SignedDuration = SignedDuration::from_mins(1);
/// How far back the first look goes at most: what was used while no operator ran.
const LONGEST_LOOK: SignedDuration = SignedDuration::from_hours(24);
/// Objects written at once.
const CONCURRENCY: usize = 4;

/// The last use of each of these tokens, by the token's id.
type Untold = HashMap<Uuid, TokenUse>;

/// Follows the records for as long as it is polled.
pub(crate) async fn follow(context: Arc<Context>) {
    let mut read_up_to = None;
    let mut untold = Untold::new();
    loop {
        tokio::time::sleep(context.timing.use_check).await;
        match look(&context, read_up_to, &mut untold).await {
            Ok(time) => read_up_to = Some(time),
            Err(error) => tracing::warn!(
                %error,
                "when tokens were last used is not told; trying again"
            ),
        }
    }
}

/// Tells what was recorded after a time; gives the time up to which there is nothing more to tell.
async fn look(
    context: &Context,
    read_up_to: Option<Timestamp>,
    untold: &mut Untold,
) -> Result<Timestamp, Failure> {
    let after = read_up_to.unwrap_or_else(|| first_look(context)) - LATE;
    let vault = context.vault.vault();
    let (uses, now) = vault.token_uses(DbTime::from(after)).await?;
    let uses = with_untold(uses, untold);
    if !uses.is_empty() {
        *untold = tell(uses, context).await;
    }
    Ok(now.timestamp().unwrap_or(after))
}

/// All statuses together tell how far the operator before this one has come.
fn first_look(context: &Context) -> Timestamp {
    let earliest = context.clock.now() - LONGEST_LOOK;
    let told = context.lists.tokens.state();
    let newest = told.iter().filter_map(|token| {
        let DeserializeGuard(readable) = &**token;
        last_used(readable.as_ref().ok()?.status.as_ref())
    });
    let newest = newest.max().map(|newest| newest - STEP);
    newest.unwrap_or(earliest).max(earliest)
}

/// What was used since the last look, and before it but could not be told.
fn with_untold(uses: Vec<TokenUse>, untold: &mut Untold) -> Untold {
    let mut all = mem::take(untold);
    all.extend(uses.into_iter().map(|used| (used.token.as_uuid(), used)));
    all
}

/// Gives those whose objects could not be written: they are tried again alone, so that one
/// object does not keep the others waiting.
async fn tell(mut uses: Untold, context: &Context) -> Untold {
    let mut news = Vec::new();
    for token in context.lists.tokens.state() {
        let DeserializeGuard(Ok(readable)) = &*token else {
            continue;
        };
        let uid = readable.uid().and_then(|uid| uid.parse().ok());
        let used = uid.and_then(|uid: Uuid| uses.remove(&uid));
        if let Some(used) = used.filter(|_| !is_deleted(readable))
            && let Some(time) = used.time.timestamp()
            && is_news(readable.status.as_ref(), time)
        {
            news.push((token, time, used));
        }
    }
    let mut written = stream::iter(news)
        .map(async |(token, time, used)| {
            let written = write(&token, time, &used.service_account_name, context).await;
            (token, used, written)
        })
        .buffer_unordered(CONCURRENCY);
    let mut untold = Untold::new();
    while let Some((token, used, written)) = written.next().await {
        if let Err(error) = written {
            let (namespace, name) = place(&*token);
            tracing::warn!(namespace, name, %error, "its last use is not told; trying again");
            untold.insert(used.token.as_uuid(), used);
        }
    }
    untold
}

async fn write(
    token: &Guarded<StoredToken>,
    time: Timestamp,
    by: &str,
    context: &Context,
) -> Result<(), kube::Error> {
    let status = json!({ "lastUsedTime": whole_seconds(time), "lastUsedBy": by });
    match write_use(&context.client, token, &status).await {
        // It was deleted or replaced meanwhile: there is nothing to tell of it any more.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
            let (namespace, name) = place(token);
            tracing::debug!(namespace, name, "gone before its last use was told");
            Ok(())
        }
        written => written,
    }
}

fn last_used(status: Option<&StoredTokenStatus>) -> Option<Timestamp> {
    status?.last_used_time.as_ref().map(|time| time.0)
}

/// Whether a use at this time is to be written.
fn is_news(status: Option<&StoredTokenStatus>, time: Timestamp) -> bool {
    last_used(status).is_none_or(|told| time.duration_since(told) >= STEP)
}

#[cfg(test)]
mod tests {
    use bursar_crds::StoredTokenStatus;
    use bursar_crds::conditions::whole_seconds;
    use jiff::{SignedDuration, Timestamp};

    use bursar_seal::TokenId;
    use bursar_vault::TokenUse;
    use uuid::Uuid;

    use super::{Untold, is_news, with_untold};

    #[test]
    fn what_could_not_be_told_is_tried_again_unless_there_is_a_later_use() {
        let used = |token: Uuid, second, by: &str| TokenUse {
            token: TokenId::from(token),
            time: Timestamp::from_second(second).unwrap().into(),
            service_account_name: by.to_owned(),
        };
        let [stuck, again, new] = [1, 2, 3].map(Uuid::from_u128);
        let before = [used(stuck, 10, "app"), used(again, 10, "app")];
        let mut untold: Untold = before.map(|used| (used.token.as_uuid(), used)).into();
        let uses = vec![used(again, 20, "job"), used(new, 20, "app")];
        let all = with_untold(uses, &mut untold);
        assert!(untold.is_empty());
        assert_eq!(all.len(), 3);
        assert_eq!(all[&stuck], used(stuck, 10, "app"));
        assert_eq!(all[&again], used(again, 20, "job"));
        assert_eq!(all[&new], used(new, 20, "app"));
    }

    #[test]
    fn a_token_in_constant_use_is_written_every_ten_minutes_and_never_for_an_older_use() {
        let mut status = StoredTokenStatus::default();
        let mut writes = Vec::new();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        for second in 0..=3600 {
            let now = start + SignedDuration::from_secs(second);
            if is_news(Some(&status), now) {
                writes.push(second / 60);
                status.last_used_time = Some(whole_seconds(now));
            }
        }
        assert_eq!(writes, [0, 10, 20, 30, 40, 50, 60]);
        assert!(!is_news(Some(&status), start));
        assert!(is_news(None, start));
    }
}
