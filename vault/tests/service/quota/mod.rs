//! Quotas: exact over any number of brokers, whatever becomes of them.

mod change;
mod query;
mod sharing;
mod status;
mod windows;

use bursar_vault::rows::Subject;
use bursar_wire::v1alpha1::{Denied, Granted};

use crate::support::broker::{Broker, served};
use crate::support::events::Events;
use crate::support::{Bed, Team};

/// Counts for which it does not hold that what was charged is what was granted
/// less what was returned.
const UNBALANCED: &str = "
    select count(*) from quota_window w
    where w.charged <> (
        select coalesce(sum(a.granted - a.returned), 0) from allowance_charge c
        join allowance a on a.tenant_id = c.tenant_id and a.allowance_id = c.allowance_id
        where c.tenant_id = w.tenant_id and c.usage_id = w.usage_id
          and c.window_no = w.window_no)
       or w.charged > w.cap";

/// A broker that hears recalls and obeys them.
struct Obedient {
    broker: Broker,
    events: Events,
}

impl Obedient {
    async fn new(broker: Broker) -> Self {
        let (events, recalled) = broker.watch().await;
        assert!(recalled.is_empty());
        Self { broker, events }
    }

    /// Reads a token until a quota is used up; how often it did.
    async fn use_up(mut self, user: &str, token: &str) -> (u32, Denied) {
        let mut total = 0;
        loop {
            match self.broker.ask(user, Some(token)).await.unwrap() {
                Ok(granted) => total += self.serve(&granted).await,
                Err(denied) => return (total, denied),
            }
        }
    }

    /// Serves from an allowance until it is used up or recalled, and closes it.
    async fn serve(&mut self, granted: &Granted) -> u32 {
        let mut count = 0;
        while count < granted.units {
            count += 1;
            if self
                .events
                .recalled_so_far()
                .await
                .contains(&granted.allowance_id)
            {
                break;
            }
        }
        let closed = vec![granted.allowance_id.clone()];
        self.broker
            .report(vec![served(granted, count)], closed)
            .await
            .unwrap();
        count
    }
}

async fn denied(broker: &mut Broker, token: &str) -> Denied {
    let answer = broker.ask("ana", Some(token)).await.unwrap();
    answer.err().expect("granted")
}

/// `ana` with the token `github`, and a broker that may read it.
async fn team(bed: &Bed) -> (Team, Subject) {
    let (team, ana, _) = bed.team_with_token().await;
    (team, Subject::User(ana.uid))
}
