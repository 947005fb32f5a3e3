//! Revocations in a loop, under load, while connections and replicas are killed
//! (SECURITY 11).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bursar_testbed::until;
use bursar_vault::{Source, TokenSpec, VaultError};
use bursar_wire::v1alpha1::event::Event;
use bursar_wire::v1alpha1::grant_response::Answer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::support::broker::Broker;
use crate::support::cluster::Pod;
use crate::support::replica::Replica;
use crate::support::{Bed, DEADLINE, Team, token, user, value_of};

const BROKERS: usize = 6;
const ROUNDS: u32 = 6;
/// Rounds after which a replica is replaced by another.
const ROUNDS_PER_REPLICA: u32 = 2;

/// What a broker would serve from, as seen from outside: versions by allowance.
struct Holdings {
    held: Mutex<HashMap<String, u32>>,
    /// Versions up to this one were seen to be gone everywhere.
    gone: Arc<AtomicU32>,
}

impl Holdings {
    fn add(&self, allowance: String, version: u32) {
        let gone = self.gone.load(Ordering::SeqCst);
        assert!(
            version > gone,
            "granted version {version} after {gone} was revoked"
        );
        self.held.lock().unwrap().insert(allowance, version);
    }

    fn drop_all(&self, allowances: &HashSet<String>) {
        let mut held = self.held.lock().unwrap();
        held.retain(|id, _| !allowances.contains(id));
    }

    fn has(&self, matches: impl Fn(u32) -> bool) -> bool {
        self.held
            .lock()
            .unwrap()
            .values()
            .any(|version| matches(*version))
    }
}

/// A broker that keeps asking and watching, over whatever replica answers.
struct Client {
    replicas: watch::Receiver<Vec<SocketAddr>>,
    ca: String,
    service_account_token: String,
    holdings: Arc<Holdings>,
}

impl Client {
    async fn run(self) {
        let mut known: Option<Broker> = None;
        for turn in 0.. {
            let addresses = self.replicas.borrow().clone();
            let address = addresses[turn % addresses.len()];
            if let Err(Code::Unauthenticated) = self.session(address, &mut known).await {
                known = None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn session(&self, address: SocketAddr, known: &mut Option<Broker>) -> Result<(), Code> {
        let connected = Broker::connect_to(address, &self.ca).await;
        let mut broker = connected.map_err(|_| Code::Unavailable)?;
        broker.incarnation = known.as_ref().and_then(|known| known.incarnation.clone());
        let code = |status: Status| status.code();
        let attached = broker
            .attach(&self.service_account_token)
            .await
            .map_err(code)?;
        if !attached.resumed {
            self.holdings.held.lock().unwrap().clear();
        }
        *known = Some(broker.clone());
        let mut events = broker.try_watch().await.map_err(code)?;
        let (mut recalled, mut synced) = (HashSet::new(), false);
        loop {
            // An answer that an event overtakes is lost, and asked for again.
            tokio::select! {
                event = events.try_next() => match event.map_err(code)? {
                    Some(Event::Recall(recall)) => {
                        recalled.extend(recall.allowance_ids);
                        self.holdings.drop_all(&recalled);
                    }
                    Some(Event::Synced(_)) => synced = true,
                    Some(_) => {}
                    None => return Ok(()),
                },
                answer = self.ask(&broker), if synced => match answer {
                    Ok(Answer::Granted(granted)) => {
                        broker.request_no += 1;
                        if !recalled.contains(&granted.allowance_id) {
                            self.holdings.add(granted.allowance_id, granted.version);
                        }
                    }
                    // What was granted and lost is left to lapse.
                    Ok(Answer::Denied(_) | Answer::AskAgain(_)) => broker.request_no += 1,
                    Err(Code::Unavailable) => {}
                    Err(code) => return Err(code),
                },
            }
        }
    }

    async fn ask(&self, broker: &Broker) -> Result<Answer, Code> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let number = broker.request_no + 1;
        let answer = broker
            .grant_numbered(number, "ana", Some("github"), 100)
            .await;
        let answer = answer.map_err(|status| status.code())?;
        Ok(answer.answer.unwrap())
    }
}

/// Stores a value or revokes one, again and again until it is acknowledged.
async fn apply(bed: &Bed, team: &Team, spec: &TokenSpec, value: Option<u32>) {
    applied(async || {
        let value = value.map(|number| value_of(&format!("value {number}")));
        let source = value
            .as_ref()
            .map_or(Source::Unavailable, Source::SecretKeyRef);
        bed.controllers
            .apply_token(&team.tenant, spec, source)
            .await
    })
    .await;
}

/// Repeats a write whose connection may be killed.
async fn applied<T>(write: impl AsyncFn() -> Result<T, VaultError>) {
    let applied = until(DEADLINE, Duration::from_millis(10), async || {
        write().await.ok()
    });
    applied.await.expect("not applied within a minute");
}

/// Ends connections to the database one by one, whoever has them, without end.
async fn kill_connections(bed: &Bed) {
    loop {
        bed.tamper(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where usename = '{}' order by random() limit 1",
            bed.database.runtime_role
        ))
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn addresses(replicas: &[Replica]) -> Vec<SocketAddr> {
    replicas.iter().map(|replica| replica.address).collect()
}

async fn revoke_in_a_loop(bed: &Bed, team: &Team, mut replicas: Vec<Replica>) {
    let ana = user("ana");
    let mut github = token("github", &ana);
    applied(async || bed.controllers.apply_user(&team.tenant, &ana).await).await;
    apply(bed, team, &github, None).await;

    let known = watch::Sender::new(addresses(&replicas));
    let gone = Arc::new(AtomicU32::new(0));
    let mut clients = JoinSet::new();
    let mut holdings = Vec::new();
    for _ in 0..BROKERS {
        let held = Mutex::default();
        let gone = gone.clone();
        let holding = Arc::new(Holdings { held, gone });
        holdings.push(holding.clone());
        let client = Client {
            replicas: known.subscribe(),
            ca: bed.authority.pem(),
            service_account_token: bed.cluster.token(&Pod::new(team, "app")),
            holdings: holding,
        };
        clients.spawn(client.run());
    }

    for round in 1..=ROUNDS {
        if round % ROUNDS_PER_REPLICA == 0 {
            replicas.push(bed.replica_retried().await);
            let old = replicas.remove(0);
            known.send_replace(addresses(&replicas));
            old.stop().await;
        }
        apply(bed, team, &github, Some(round)).await;
        let all_hold = until(DEADLINE, Duration::from_millis(5), async || {
            let all = holdings
                .iter()
                .all(|holding| holding.has(|version| version == round));
            all.then_some(())
        });
        all_hold
            .await
            .unwrap_or_else(|| panic!("round {round}: not everybody was granted"));

        github.through_version = Some(round.try_into().unwrap());
        apply(bed, team, &github, None).await;
        let nobody_holds = until(DEADLINE, Duration::from_millis(5), async || {
            let any = holdings
                .iter()
                .any(|holding| holding.has(|version| version <= round));
            (!any).then_some(())
        });
        nobody_holds
            .await
            .unwrap_or_else(|| panic!("round {round}: somebody still holds it"));
        gone.store(round, Ordering::SeqCst);
        if let Some(ended) = clients.try_join_next() {
            ended.unwrap();
        }
    }
    clients.shutdown().await;
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_keeps_what_was_revoked_while_connections_and_replicas_are_killed() {
    let bed = Bed::new("load").await;
    let team = bed.team("team").await;
    let replicas = vec![bed.replica().await, bed.replica().await];
    tokio::select! {
        () = revoke_in_a_loop(&bed, &team, replicas) => {}
        () = kill_connections(&bed) => {}
    }
}
