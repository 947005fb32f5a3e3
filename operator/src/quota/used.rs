//! How much of a limit is used, as the status tells it: in steps, because every number would be a
//! write of the object. Pure.

/// The steps from nothing to all of the limit.
const STEPS: i64 = 10;

/// The least number that reaches the same tenth of the limit as `used` does. It is never more than
/// `used`, and all of the limit only when all of it is used; more than the limit reads as the
/// limit.
pub(super) fn in_steps(used: i64, limit: i64) -> i64 {
    let (used, limit) = (i128::from(used), i128::from(limit));
    let steps = i128::from(STEPS);
    if used >= limit {
        return narrow(limit);
    }
    // `used` is below it, so the limit is above 0.
    let reached = used * steps / limit;
    let least = (reached * limit + steps - 1) / steps;
    narrow(least)
}

fn narrow(number: i128) -> i64 {
    // Between 0 and a limit, which was narrow.
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::in_steps;

    fn written(limit: i64, used: &[i64]) -> Vec<i64> {
        used.iter().map(|used| in_steps(*used, limit)).collect()
    }

    #[test]
    fn use_is_told_in_tenths_of_the_limit_rounded_down() {
        let used = [0, 1, 99, 100, 101, 199, 200, 555, 899, 900, 999, 1000, 1001];
        let told = [0, 0, 0, 100, 100, 100, 200, 500, 800, 900, 900, 1000, 1000];
        assert_eq!(written(1000, &used), told);
    }

    #[test]
    fn a_limit_of_ten_or_less_is_told_exactly() {
        for limit in 0..=10 {
            let used: Vec<i64> = (0..=limit).collect();
            assert_eq!(written(limit, &used), used, "of {limit}");
        }
    }

    #[test]
    fn what_is_told_has_few_values_is_never_too_much_and_never_falls() {
        for limit in [11, 15, 25, 99, 101, 1234] {
            let told = written(limit, &(0..=limit).collect::<Vec<_>>());
            assert!(told.is_sorted(), "of {limit}");
            assert!((0..).zip(&told).all(|(used, told)| *told <= used));
            assert_eq!((told[0], told[told.len() - 1]), (0, limit));
            let before_the_last = told[told.len() - 2];
            assert!(before_the_last < limit, "all only when all is used");
            let mut values = told;
            values.dedup();
            assert_eq!(values.len(), 11, "of {limit}");
        }
    }

    #[test]
    fn the_largest_numbers_are_told_too() {
        assert_eq!(in_steps(i64::MAX, 1_000_000_000_000), 1_000_000_000_000);
        assert_eq!(in_steps(i64::MAX / 2, i64::MAX), 3_689_348_814_741_910_323);
        assert_eq!(in_steps(0, 0), 0);
        assert_eq!(in_steps(7, 0), 0);
    }
}
