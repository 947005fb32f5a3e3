//! What the vault has on record, read past it.

use std::collections::BTreeMap;

use bursar_testbed::until;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::bed::Bed;
use crate::books::{self, Fate, Outcome, Recorded};
use crate::journal::Journal;
use crate::limits::{OF_JIRA, OF_SLACK};
use crate::{LIMIT, PAUSE};

/// Windows that were charged something else than what was granted and not returned (I1), or more
/// than a limit allowed (I2), or less than was served.
const UNBALANCED: &str = "
    select 'charged: ' || w.description || ' in window ' || w.window_no || ': ' || w.charged
           || ', limit ' || coalesce(w.cap::text, 'none') || ', granted ' || sums.granted
           || ', served ' || sums.used
    from quota_window w, lateral (
        select coalesce(sum(a.granted - a.returned), 0) as granted, coalesce(sum(a.used), 0) as used
        from allowance_charge c
        join allowance a on a.tenant_id = c.tenant_id and a.allowance_id = c.allowance_id
        where c.tenant_id = w.tenant_id and c.usage_id = w.usage_id and c.window_no = w.window_no
    ) as sums
    where w.charged <> sums.granted or w.charged > w.cap or sums.used > w.charged";

/// Allowances whose records do not say what became of each access: it was served (once), given
/// back, or is declared unaccounted for (I3, I5).
const UNEXPLAINED: &str = "
    select 'allowance ' || a.allowance_id || ' is ' || a.state || ': granted ' || a.granted
           || ', used ' || a.used || ', returned ' || a.returned || ', served ' || sums.served
           || ', declared ' || sums.declared
    from allowance a, lateral (
        select coalesce(sum(r.count) filter (where r.outcome = 'Served'), 0) as served,
               coalesce(sum(r.count) filter (where r.outcome = 'Unaccounted'), 0)
               - coalesce(sum(r.count) filter (where r.outcome = 'Accounted'), 0) as declared
        from access_record r
        where r.tenant_id = a.tenant_id and r.allowance_id = a.allowance_id
    ) as sums
    where a.used <> sums.served
       or a.used + a.returned > a.granted
       or sums.declared <> case a.state when 'Lapsed' then a.granted - a.used - a.returned else 0 end
       or a.state = 'Closed' and a.used + a.returned <> a.granted";

const RECORDED: &str = "
    select r.outcome, r.allowance_id::text, i.pod_name,
           extract(epoch from i.attached_time)::float8, r.app_name, r.purpose, t.name, r.version,
           sum(r.count)::bigint, extract(epoch from a.expires_time)::float8
    from access_record r
    join allowance a on a.tenant_id = r.tenant_id and a.allowance_id = r.allowance_id
    join incarnation i on i.tenant_id = a.tenant_id and i.incarnation_id = a.incarnation_id
    join token t on t.tenant_id = a.tenant_id and t.token_id = a.token_id
    group by 1, 2, 3, 4, 5, 6, 7, 8, 10";

impl Bed {
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.database.superuser_url)
            .await
            .unwrap()
    }

    async fn texts(&self, query: &'static str) -> Vec<String> {
        let mut connection = self.connect().await;
        sqlx::query_scalar(query)
            .fetch_all(&mut connection)
            .await
            .unwrap()
    }

    async fn count(&self, query: &str) -> i64 {
        let mut connection = self.connect().await;
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    /// What must hold at every moment.
    pub(crate) async fn assert_balanced(&self) {
        // A server that recovers lets nobody in.
        let unbalanced = until(LIMIT, PAUSE, async || {
            let mut connection = PgConnection::connect(&self.database.superuser_url)
                .await
                .ok()?;
            let texts = sqlx::query_scalar::<_, String>(UNBALANCED);
            texts.fetch_all(&mut connection).await.ok()
        });
        let unbalanced = unbalanced.await.unwrap();
        assert!(unbalanced.is_empty(), "seed {}: {unbalanced:#?}", self.seed);
    }

    /// Waits until the present broker of a pod holds something.
    pub(crate) async fn until_granted(&self, pod: usize) {
        let pod = &self.pods[pod].name;
        self.until_count(
            &format!(
                "select (count(*) > 0)::int::bigint from allowance
                 join incarnation using (tenant_id, incarnation_id)
                 where pod_name = '{pod}' and fenced_time is null and state = 'Open'
                   and expires_time > now()"
            ),
            1,
        )
        .await;
    }

    /// Waits until a broker that is stopped has nothing left, nor any that was killed.
    pub(crate) async fn until_lapsed(&self, pod: usize) {
        let pod = &self.pods[pod].name;
        self.until_count(
            &format!(
                "select count(*) from allowance
                 join incarnation using (tenant_id, incarnation_id)
                 where state = 'Open' and (pod_name = '{pod}' or fenced_time is not null)"
            ),
            0,
        )
        .await;
    }

    /// Waits until nobody holds anything.
    pub(crate) async fn until_settled(&self) {
        self.until_count("select count(*) from allowance where state = 'Open'", 0)
            .await;
    }

    async fn until_count(&self, query: &str, wanted: i64) {
        let reached = until(LIMIT, PAUSE, async || {
            (self.count(query).await == wanted).then_some(())
        });
        assert!(
            reached.await.is_some(),
            "seed {}: {query}: {} and not {wanted}",
            self.seed,
            self.count(query).await
        );
    }

    /// All in which what the workloads received, what is on record and the limits do not agree.
    pub(crate) async fn problems(&self, journal: &Journal) -> Vec<String> {
        let fates: BTreeMap<String, Fate> = self
            .pods
            .iter()
            .flat_map(|pod| &pod.runs)
            .map(|run| (run.name.clone(), run.fate.clone()))
            .collect();
        let mut problems = books::problems(journal, &self.recorded().await, &fates);
        problems.extend(self.texts(UNBALANCED).await);
        problems.extend(self.texts(UNEXPLAINED).await);
        problems.extend(self.past_limits().await);
        problems.extend(past_fixed_limits(journal));
        let failures = self.texts("select table_name || ' ' || row_key from integrity_failure");
        problems.extend(failures.await);
        problems
    }

    async fn recorded(&self) -> Vec<Recorded> {
        let mut connection = self.connect().await;
        let rows = sqlx::query(RECORDED).fetch_all(&mut connection).await;
        rows.unwrap().iter().map(|row| self.read(row)).collect()
    }

    fn read(&self, row: &PgRow) -> Recorded {
        let (pod, attached): (String, f64) = (row.get(2), row.get(3));
        let runs = self.pods.iter().filter(|it| it.name == pod);
        let mut runs = runs.flat_map(|pod| &pod.runs);
        // It attached after it was started, and before the next one was.
        let run = runs.rfind(|run| run.started <= attached);
        Recorded {
            outcome: match row.get(0) {
                "Served" => Outcome::Served,
                "Unaccounted" => Outcome::Unaccounted,
                "Accounted" => Outcome::Accounted,
                other => panic!("{other} of an allowance"),
            },
            run: run.unwrap().name.clone(),
            app_name: row.get(4),
            purpose: row.get(5),
            token: row.get(6),
            version: row.get(7),
            count: row.get(8),
            expires: row.get(9),
        }
    }

    /// Windows that were charged more than any limit that this test ever asked for.
    async fn past_limits(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let windows: Vec<(String, i64)> =
            sqlx::query_as("select description, charged from quota_window")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let past = windows.into_iter().filter(|(description, charged)| {
            let greatest = self.limits.greatest(description);
            greatest.is_none_or(|greatest| *charged > greatest)
        });
        past.map(|window| format!("past every limit: {window:?}"))
            .collect()
    }

    /// The numbers of a run.
    pub(crate) async fn totals(&self, journal: &Journal) -> String {
        let of = async |outcome: &str| {
            let sum = "select coalesce(sum(count), 0)::bigint from access_record where outcome";
            self.count(&format!("{sum} = '{outcome}'")).await
        };
        let declared = of("Unaccounted").await - of("Accounted").await;
        let counted =
            |state: &str| format!("select count(*) from allowance where state = '{state}'");
        format!(
            "{} requests, {} received, {} may have been ({:?} refused); {} on record as served, \
             {declared} unaccounted for ({} more were until their broker came back); allowances: \
             {} closed, {} lapsed; minutes: {}",
            journal.asked,
            journal.received(),
            journal.maybe(),
            journal.refused,
            of("Served").await,
            of("Accounted").await,
            self.count(&counted("Closed")).await,
            self.count(&counted("Lapsed")).await,
            self.count("select count(distinct window_no) from quota_window where window_no > 0")
                .await,
        )
    }
}

/// The two quotas that never changed, as the workloads saw them.
fn past_fixed_limits(journal: &Journal) -> Vec<String> {
    let of_jira = journal
        .received
        .iter()
        .filter(|((ask, _), _)| ask.token == "jira");
    let of_jira: i64 = of_jira.map(|(_, count)| count).sum();
    let mut past = Vec::new();
    if of_jira > OF_JIRA {
        past.push(format!("{of_jira} of {OF_JIRA} accesses to jira"));
    }
    for ((token, minute), count) in &journal.in_minute {
        if token == "slack" && *count > OF_SLACK {
            past.push(format!(
                "{count} of {OF_SLACK} accesses to slack in minute {minute}"
            ));
        }
    }
    past
}
