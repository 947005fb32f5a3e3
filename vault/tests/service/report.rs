//! Reports: each batch counts once, in order, whole or not at all.

use bursar_wire::LARGEST_REPORT;
use bursar_wire::v1alpha1::{AccessRecord, Granted, ReportRequest};
use tonic::{Code, Status};

use crate::support::broker::{Broker, served};
use crate::support::replica::Replica;
use crate::support::{Bed, Team};

const SERVED: &str = "select coalesce(sum(count), 0)::bigint from access_record
                      where outcome = 'Served'";
const USED: &str = "select coalesce(sum(used), 0)::bigint from allowance";
const RETURNED: &str = "select coalesce(sum(returned), 0)::bigint from allowance";
const FENCED: &str = "select count(*) from incarnation where fenced_time is not null";

/// Turns a true record into one that cannot be; `Granted` is another broker's.
type Lie = fn(&mut AccessRecord, &Granted);

/// A broker with a grant of 100 accesses.
async fn holder(bed: &Bed) -> (Replica, Broker, Granted) {
    let team = bed.team("team").await;
    holder_in(bed, &team).await
}

async fn holder_in(bed: &Bed, team: &Team) -> (Replica, Broker, Granted) {
    let replica = bed.replica().await;
    let ana = bed.user(team, "ana").await;
    bed.token(team, &ana, "github").await;
    let mut broker = bed.broker(&replica, team, "app").await;
    let granted = broker.granted("ana", "github").await;
    (replica, broker, granted)
}

fn code<T>(answer: Result<T, Status>) -> Code {
    answer.err().unwrap().code()
}

#[tokio::test]
async fn what_was_served_is_recorded_and_the_rest_taken_back() {
    let bed = Bed::new("report").await;
    let (replica, mut broker, granted) = holder(&bed).await;
    let answer = broker
        .report(vec![served(&granted, 3), served(&granted, 4)], vec![])
        .await;
    assert_eq!(answer.unwrap().next_report_ms, 2_000);
    assert_eq!((bed.count(SERVED).await, bed.count(USED).await), (7, 7));
    let records = "select count(*) from access_record
                   where app_name = 'billing' and purpose = 'sync invoices' and version = 1
                     and service_account_name = 'app' and report_seq = 1 and record_no in (1, 2)
                     and first_time = 'epoch'::timestamptz + interval '1 second'
                     and last_time = 'epoch'::timestamptz + interval '2 seconds'";
    assert_eq!(bed.count(records).await, 2);

    let closed = vec![granted.allowance_id.clone()];
    broker
        .report(vec![served(&granted, 1)], closed.clone())
        .await
        .unwrap();
    assert_eq!((bed.count(USED).await, bed.count(RETURNED).await), (8, 92));
    // Closing it again is without effect.
    broker.report(vec![], closed).await.unwrap();
    assert_eq!((bed.count(USED).await, bed.count(RETURNED).await), (8, 92));
    replica.stop().await;
}

#[tokio::test]
async fn a_batch_counts_once_however_often_it_arrives() {
    let bed = Bed::new("report_repeat").await;
    let (replica, broker, granted) = holder(&bed).await;
    let other = bed.replica().await;
    let moved = broker.moved(&other, &bed.authority).await;
    let first = || vec![served(&granted, 1)];
    let second = || vec![served(&granted, 10)];
    // Repeated at once, repeated later, out of order, at two replicas.
    for (broker, seq, records) in [
        (&broker, 1, first()),
        (&moved, 1, first()),
        (&broker, 2, second()),
        (&broker, 1, first()),
        (&moved, 2, second()),
    ] {
        broker.report_numbered(seq, records, vec![]).await.unwrap();
    }
    let (left, right) = tokio::join!(
        broker.report_numbered(3, first(), vec![]),
        moved.report_numbered(3, first(), vec![]),
    );
    assert!(left.is_ok() && right.is_ok());
    assert_eq!((bed.count(SERVED).await, bed.count(USED).await), (12, 12));
    replica.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_gap_is_refused_and_harms_nothing() {
    let bed = Bed::new("report_gap").await;
    let (replica, mut broker, granted) = holder(&bed).await;
    for seq in [2, 3, 1_000] {
        let gap = broker
            .report_numbered(seq, vec![served(&granted, 1)], vec![])
            .await;
        assert_eq!(code(gap), Code::FailedPrecondition);
    }
    for seq in [0, u64::MAX] {
        let malformed = broker.report_numbered(seq, vec![], vec![]).await;
        assert_eq!(code(malformed), Code::InvalidArgument);
    }
    assert_eq!(bed.count(SERVED).await, 0);
    broker
        .report(vec![served(&granted, 1)], vec![])
        .await
        .unwrap();
    assert_eq!(bed.count(SERVED).await, 1);
    replica.stop().await;
}

#[tokio::test]
async fn a_digest_that_does_not_fit_is_refused() {
    let bed = Bed::new("report_digest").await;
    let (replica, broker, granted) = holder(&bed).await;
    for digest in [vec![], vec![0; 32]] {
        let request = broker.request(ReportRequest {
            seq: 1,
            digest,
            records: vec![served(&granted, 1)],
            closed_allowance_ids: vec![],
            denials: vec![],
        });
        let refused = broker.client.clone().report(request).await;
        assert_eq!(code(refused), Code::InvalidArgument);
    }
    assert_eq!((bed.count(SERVED).await, bed.count(FENCED).await), (0, 0));
    replica.stop().await;
}

#[tokio::test]
async fn the_same_number_with_another_content_ends_the_incarnation() {
    let bed = Bed::new("report_changed").await;
    let (replica, mut broker, granted) = holder(&bed).await;
    broker
        .report(vec![served(&granted, 1)], vec![])
        .await
        .unwrap();
    let changed = broker
        .report_numbered(1, vec![served(&granted, 2)], vec![])
        .await;
    assert_eq!(code(changed), Code::Unauthenticated);
    assert_eq!((bed.count(SERVED).await, bed.count(FENCED).await), (1, 1));
    let fenced = "bursar_vault_incarnations_fenced_total{reason=\"ReportChanged\"}";
    assert_eq!(replica.metric(fenced), 1);
    let again = broker
        .report_numbered(1, vec![served(&granted, 1)], vec![])
        .await;
    assert_eq!(code(again), Code::Unauthenticated);
    replica.stop().await;
}

#[tokio::test]
async fn a_report_that_cannot_be_true_counts_for_nothing_and_ends_the_incarnation() {
    let bed = Bed::new("report_untrue").await;
    let team = bed.team("team").await;
    let (replica, _, foreign) = holder_in(&bed, &team).await;
    let lies: [(&str, Lie); 6] = [
        ("another broker's allowance", |record, foreign| {
            record.allowance_id = foreign.allowance_id.clone();
        }),
        ("no allowance's id", |record, _| {
            record.allowance_id = "1".into()
        }),
        ("more than was granted", |record, _| record.count = 101),
        ("no access", |record, _| record.count = 0),
        ("a purpose off the pattern", |record, _| {
            record.purpose = "<script>".into()
        }),
        ("an end before the beginning", |record, _| {
            record.last_time_ms = 1
        }),
    ];
    for (ended, (what, lie)) in lies.into_iter().enumerate() {
        let mut broker = bed.broker(&replica, &team, "app").await;
        let granted = broker.granted("ana", "github").await;
        let mut record = served(&granted, 1);
        lie(&mut record, &foreign);
        // The rest of the batch is true.
        let refused = broker
            .report(vec![served(&granted, 5), record], vec![])
            .await;
        assert_eq!(code(refused), Code::Unauthenticated, "{what}");
        let fenced = i64::try_from(ended + 1).unwrap();
        assert_eq!(
            (bed.count(SERVED).await, bed.count(FENCED).await),
            (0, fenced),
            "{what}"
        );
    }

    let mut broker = bed.broker(&replica, &team, "app").await;
    let granted = broker.granted("ana", "github").await;
    broker
        .report(vec![], vec![granted.allowance_id.clone()])
        .await
        .unwrap();
    let refused = broker.report(vec![served(&granted, 1)], vec![]).await;
    assert_eq!(
        code(refused),
        Code::Unauthenticated,
        "from a closed allowance"
    );

    let mut broker = bed.broker(&replica, &team, "app").await;
    let refused = broker
        .report(vec![], vec![foreign.allowance_id.clone()])
        .await;
    assert_eq!(
        code(refused),
        Code::Unauthenticated,
        "closing another broker's"
    );
    let open = "select count(*) from allowance
                where state = 'Open' and incarnation_id <> all
                    (select incarnation_id from incarnation where fenced_time is not null)";
    assert_eq!(bed.count(open).await, 1);
    replica.stop().await;
}

#[tokio::test]
async fn a_long_batch_is_recorded_whole() {
    const LONGEST: i64 = LARGEST_REPORT as i64;
    let bed = Bed::new("report_long").await;
    let (replica, mut broker, _) = holder(&bed).await;
    let number = broker.request_no + 1;
    broker
        .grant_numbered(number, "ana", None, 5_000)
        .await
        .unwrap();
    broker.request_no = number;
    let mut large = broker.granted("ana", "github").await;
    bed.tamper("update allowance set granted = 20000").await;
    large.units = 20_000;
    let records = vec![served(&large, 1); LARGEST_REPORT];
    broker.report(records, vec![]).await.unwrap();
    assert_eq!(
        (bed.count(SERVED).await, bed.count(USED).await),
        (LONGEST, LONGEST)
    );
    let too_long = broker
        .report(vec![served(&large, 1); LARGEST_REPORT + 1], vec![])
        .await;
    assert_eq!(code(too_long), Code::Unauthenticated);
    replica.stop().await;
}

#[tokio::test]
async fn without_a_partition_of_today_a_report_is_refused_whole_and_counts_when_it_is_repeated() {
    let bed = Bed::new("report_partition").await;
    let (replica, broker, granted) = holder(&bed).await;
    let today = "select 'access_record_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')";
    let today = bed.texts(today).await.remove(0);
    bed.tamper(&format!(
        "alter table access_record detach partition {today}"
    ))
    .await;
    let (records, closed) = (
        vec![served(&granted, 3)],
        vec![granted.allowance_id.clone()],
    );
    let refused = broker.report_numbered(1, records.clone(), closed.clone());
    assert_eq!(code(refused.await), Code::Internal);
    assert_eq!((bed.count(USED).await, bed.count(FENCED).await), (0, 0));

    bed.tamper(&format!(
        "do $$ declare d timestamptz := date_trunc('day', now(), 'UTC');
         begin
             execute format('alter table access_record attach partition {today}
                             for values from (%L) to (%L)', d, d + interval '1 day');
         end $$"
    ))
    .await;
    let taken = broker.report_numbered(1, records, closed);
    taken.await.unwrap();
    assert_eq!((bed.count(SERVED).await, bed.count(USED).await), (3, 3));
    replica.stop().await;
}
