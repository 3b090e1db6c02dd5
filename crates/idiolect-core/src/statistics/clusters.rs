//! What a few clusters say of clusters not seen.
//!
//! Runs that share their task and their teacher's traces share more than chance: they are right and
//! wrong together. Counted as independent they claim an interval that holds far too seldom. The unit is
//! the cluster here: its mean is one value, and a mean of G such values has a t interval with G − 1
//! degrees of freedom (Donald and Lang, 2007). It asks for no more than that clusters are drawn alike;
//! where they hold different numbers of members it is still nearly exact (see the tests). A bootstrap
//! over so few would not be, and of one cluster nothing can be estimated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Interval, mean, standard_error, student_t};

/// The mean over clusters, with what it says of new ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverClusters {
    /// Mean of the clusters' means: every cluster counts alike.
    pub mean: f64,
    /// How many clusters there are.
    pub clusters: usize,
    /// Its t interval with `clusters` − 1 degrees of freedom; absent of one cluster, and where all
    /// clusters' means are equal: there is no spread to go by.
    pub interval: Option<Interval>,
    /// Two-sided p of no difference, by the same t; absent where the interval is.
    pub p: Option<f64>,
}

/// The mean over clusters of values given as (cluster, value); `None` of no value.
pub fn over_clusters<K: Ord>(
    values: impl IntoIterator<Item = (K, f64)>,
    confidence: f64,
) -> Option<OverClusters> {
    let mut by_cluster: BTreeMap<K, Vec<f64>> = BTreeMap::new();
    for (cluster, value) in values {
        by_cluster.entry(cluster).or_default().push(value);
    }
    let means: Vec<f64> = by_cluster.values().map(|values| mean(values)).collect();
    if means.is_empty() {
        return None;
    }
    let (centre, df) = (mean(&means), means.len() - 1);
    // Means that differ by the rounding of sums alone have no spread.
    let error = standard_error(&means).filter(|error| *error > 1e-12 * centre.abs().max(1e-12));
    Some(OverClusters {
        mean: centre,
        clusters: means.len(),
        interval: error.map(|error| {
            let half = error * student_t::half_width(confidence, df);
            Interval {
                low: centre - half,
                high: centre + half,
            }
        }),
        p: error.map(|error| 1.0 - student_t::within((centre / error).abs(), df)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use idiolect_model::Rng;

    #[test]
    fn the_unit_is_the_cluster() {
        let values = [(0, 1.0), (0, 3.0), (1, 4.0), (1, 6.0), (2, 6.0)];
        let found = over_clusters(values, 0.95).unwrap();
        // Means 2, 5, 6: mean 13/3, standard error 1.2019, t 4.3027.
        assert!((found.mean - 13.0 / 3.0).abs() < 1e-12 && found.clusters == 3);
        let interval = found.interval.unwrap();
        assert!((interval.high - found.mean - 4.302_652_73 * 1.201_850_43).abs() < 1e-6);
        assert!(found.p.unwrap() > 0.05 && !interval.contains(-1.0) && interval.contains(0.0));
    }

    #[test]
    fn of_one_cluster_nothing_can_be_estimated() {
        let found = over_clusters([("only", 0.1), ("only", 0.3)], 0.95).unwrap();
        assert!((found.mean - 0.2).abs() < 1e-12);
        assert_eq!((found.clusters, found.interval, found.p), (1, None, None));
        let equal = over_clusters([("a", 0.1), ("b", 0.1)], 0.95).unwrap();
        assert_eq!(equal.interval, None);
        assert_eq!(over_clusters::<usize>([], 0.95), None);
    }

    /// Coverage of 95 % intervals of a true mean of 0 over simulated experiments: members differ by
    /// their cluster (standard deviation `between`) and by themselves (1). Of clusters as units, and
    /// of members counted as independent.
    fn coverage(sizes: &[usize], between: f64) -> (f64, f64) {
        const EXPERIMENTS: usize = 4_000;
        let mut rng = Rng::keyed(5, &["clusters", &format!("{sizes:?} {between}")]);
        let (mut clustered, mut pooled) = (0, 0);
        for _ in 0..EXPERIMENTS {
            let mut values = Vec::new();
            for (cluster, size) in sizes.iter().enumerate() {
                let own = between * rng.normal();
                values.extend((0..*size).map(|_| (cluster, own + rng.normal())));
            }
            let holds = |found: OverClusters| found.interval.is_some_and(|i| i.contains(0.0));
            let members = values
                .iter()
                .enumerate()
                .map(|(at, (_, value))| (at, *value));
            pooled += usize::from(over_clusters(members, 0.95).is_some_and(holds));
            clustered += usize::from(over_clusters(values, 0.95).is_some_and(holds));
        }
        let share = |count: usize| count as f64 / EXPERIMENTS as f64;
        (share(clustered), share(pooled))
    }

    #[test]
    fn intervals_for_new_clusters_cover_their_level_where_pooled_ones_do_not() {
        // Two to eight worlds of three students each, and worlds of unequal numbers of students.
        for sizes in [
            &[3usize; 2][..],
            &[3; 3],
            &[3; 6],
            &[3; 8],
            &[1, 2, 3, 4, 5],
        ] {
            for between in [0.5, 1.0, 2.0] {
                let (clustered, pooled) = coverage(sizes, between);
                println!("{sizes:?}, between {between}: {clustered:.3}, pooled {pooled:.3}");
                assert!(
                    (0.93..=0.97).contains(&clustered),
                    "{sizes:?} {between}: {clustered}"
                );
                if between >= 1.0 {
                    assert!(pooled < 0.9, "{sizes:?} {between}: {pooled}");
                }
            }
        }
    }
}
