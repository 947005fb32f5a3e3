//! What must hold whenever nothing is under way.

use std::collections::HashMap;

use super::world::World;

impl World<'_> {
    pub(super) async fn check(&self, seed: u64) {
        let tenant = self.team.tenant.id();
        // I1 and I2.
        let unbalanced = format!(
            "select count(*) from quota_window w, lateral (
                 select coalesce(sum(a.granted - a.returned), 0) as granted,
                        coalesce(sum(a.used), 0) as used
                 from allowance_charge c
                 join allowance a on a.tenant_id = c.tenant_id
                                 and a.allowance_id = c.allowance_id
                 where c.tenant_id = w.tenant_id and c.usage_id = w.usage_id
                   and c.window_no = w.window_no) as sums
             where w.tenant_id = '{tenant}'
               and (w.charged > w.cap or w.charged <> sums.granted or sums.used > w.charged)"
        );
        assert_eq!(self.bed.count(&unbalanced).await, 0, "seed {seed}: charged");
        for (subject, greatest) in self.subjects.iter().zip(&self.greatest) {
            let past = format!(
                "select count(*) from quota_window
                 where tenant_id = '{tenant}' and charged > {greatest}
                   and description like '%{subject}%'"
            );
            assert_eq!(self.bed.count(&past).await, 0, "seed {seed}: past a limit");
        }
        // I3 and I5: no unit has two fates.
        let unexplained = format!(
            "select count(*) from allowance a, lateral (
                 select coalesce(sum(r.count) filter (where r.outcome = 'Served'), 0) as served,
                        coalesce(sum(r.count) filter (where r.outcome = 'Unaccounted'), 0)
                        - coalesce(sum(r.count) filter (where r.outcome = 'Accounted'), 0)
                        as declared
                 from access_record r
                 where r.tenant_id = a.tenant_id and r.allowance_id = a.allowance_id) as sums
             where a.tenant_id = '{tenant}'
               and (a.used <> sums.served or a.used + a.returned > a.granted
                    or sums.declared <> case a.state
                        when 'Lapsed' then a.granted - a.used - a.returned else 0 end
                    or a.state = 'Closed' and a.used + a.returned <> a.granted)"
        );
        assert_eq!(self.bed.count(&unexplained).await, 0, "seed {seed}: fates");
        // I3: what each allowance was used for is on record, once.
        let of = |outcome: &str| {
            format!(
                "select allowance_id::text, sum(count)::bigint from access_record
                 where tenant_id = '{tenant}' and outcome = '{outcome}' group by 1"
            )
        };
        let recorded = self.bed.counts(&of("Served")).await;
        let unaccounted = self.bed.counts(&of("Unaccounted")).await;
        let accounted = self.bed.counts(&of("Accounted")).await;
        let count = |map: &HashMap<String, i64>, id: &str| map.get(id).copied().unwrap_or(0);
        for (id, served) in &self.truth {
            let (served, recorded) = (i64::from(*served), count(&recorded, id));
            let declared = count(&unaccounted, id) - count(&accounted, id);
            if self.orphaned.contains(id) {
                assert!(recorded <= served, "seed {seed}: {id} invented");
                let open = format!(
                    "select count(*) from allowance where allowance_id = '{id}' and state = 'Open'"
                );
                if self.bed.count(&open).await == 0 {
                    assert!(served <= recorded + declared, "seed {seed}: {id} lost");
                }
            } else {
                assert_eq!(recorded, served, "seed {seed}: {id}");
            }
            assert!(declared >= 0, "seed {seed}: {id} accounted for twice");
        }
        assert!(
            recorded.keys().all(|id| self.truth.contains_key(id)),
            "seed {seed}: a record of nothing"
        );
        // I8: also while sweep and late reports go on.
        let vault = self.bed.controllers.vault();
        let verified = vault.verify_audit(tenant, None).await.unwrap();
        assert_eq!(verified.first_bad, None, "seed {seed}");
    }
}
