//! Calls that nobody waits for any more.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::support::{Bed, user};

/// More than it takes to begin a transaction.
const STEPS: usize = 30;

#[tokio::test]
async fn a_call_that_is_given_up_leaves_no_open_transaction_in_the_pool() {
    let bed = Bed::new("given_up").await;
    let team = bed.team("team").await;
    let role = &bed.database.runtime_role;
    let sessions = format!("select pid::text from pg_stat_activity where usename = '{role}'");
    let open = format!(
        "select count(*) from pg_stat_activity
         where usename = '{role}' and state like 'idle in transaction%'"
    );
    let before = bed.texts(&sessions).await;
    let ana = user("ana");
    for steps in 1..=STEPS {
        {
            let mut call = pin!(bed.controllers.apply_user(&team.tenant, &ana));
            let mut left = steps;
            poll_fn(|context| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                call.as_mut().poll(context).map(drop)
            })
            .await;
        }
        bed.until_count(&open, 0).await;
    }
    // The server ends a session whose transaction stays open.
    let after = bed.texts(&sessions).await;
    assert!(before.iter().all(|session| after.contains(session)));
}
