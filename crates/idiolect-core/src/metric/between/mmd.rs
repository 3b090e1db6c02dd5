//! Maximum mean discrepancy of two sets of points, unbiased, with a permutation p within problems
//! (Gretton et al., 2012). DataFlow's version fixes σ = 1 and is biased.

use std::collections::BTreeMap;

use super::{Point, standardised};
use crate::statistics::permutation::PermutationP;
use idiolect_model::Rng;

/// Points of a side beyond which a seeded sample of its problems is taken: the kernel matrix is square.
const POINTS: usize = 1_000;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mmd {
    /// MMD² of standardised features; its expectation is 0 for equal sets, so it can be negative.
    pub mmd2: f64,
    /// Kernel width: the median distance of pooled pairs.
    pub sigma: f64,
    /// Share of label permutations within problems that give at least this much; one-sided.
    pub p: PermutationP,
}

/// Compares a set with the student's own samples. `None` where a side has fewer than two points or
/// all points coincide. Problems that only one side has keep their labels in every permutation.
pub fn mmd(set: &[Point], own: &[Point], draws: usize, rng: &mut Rng) -> Option<Mmd> {
    let (set, own) = standardised(&thinned(set, rng), &thinned(own, rng));
    if set.len() < 2 || own.len() < 2 {
        return None;
    }
    let points: Vec<&Point> = set.iter().chain(&own).collect();
    let squares = distances(&points);
    let sigma = median_distance(&squares, points.len())?;
    let kernel: Vec<f64> = squares
        .iter()
        .map(|d| (-d / (2.0 * sigma * sigma)).exp())
        .collect();
    let mut labels: Vec<bool> = (0..points.len()).map(|at| at < set.len()).collect();
    let observed = unbiased(&kernel, &labels);
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, point) in points.iter().enumerate() {
        groups.entry(&point.problem).or_default().push(at);
    }
    let mut as_far = 1usize;
    for _ in 0..draws {
        for members in groups.values() {
            let mut own: Vec<bool> = members.iter().map(|at| labels[*at]).collect();
            rng.shuffle(&mut own);
            members
                .iter()
                .zip(own)
                .for_each(|(at, label)| labels[*at] = label);
        }
        as_far += usize::from(unbiased(&kernel, &labels) >= observed - 1e-12);
    }
    Some(Mmd {
        mmd2: observed,
        sigma,
        p: PermutationP {
            p: as_far as f64 / (draws + 1) as f64,
            exact: false,
        },
    })
}

/// Whole problems in a seeded order up to [`POINTS`] points.
fn thinned(points: &[Point], rng: &mut Rng) -> Vec<Point> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let mut problems: Vec<&str> = points.iter().map(|p| p.problem.as_str()).collect();
    problems.sort_unstable();
    problems.dedup();
    rng.shuffle(&mut problems);
    let mut by_problem: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
    points
        .iter()
        .for_each(|p| by_problem.entry(&p.problem).or_default().push(p));
    let mut kept = Vec::new();
    for problem in problems {
        if kept.len() >= POINTS {
            break;
        }
        kept.extend(by_problem[problem].iter().map(|p| (*p).clone()));
    }
    kept.truncate(POINTS);
    kept
}

/// (n, n) squared distances.
fn distances(points: &[&Point]) -> Vec<f64> {
    let square = |a: &Point, b: &Point| -> f64 {
        a.at.iter().zip(&b.at).map(|(x, y)| (x - y) * (x - y)).sum()
    };
    points
        .iter()
        .flat_map(|a| points.iter().map(move |b| square(a, b)))
        .collect()
}

fn median_distance(squares: &[f64], n: usize) -> Option<f64> {
    let mut pairs: Vec<f64> = (0..n)
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .map(|(i, j)| squares[i * n + j])
        .collect();
    let middle = pairs.len() / 2;
    let (_, median, _) = pairs.select_nth_unstable_by(middle, f64::total_cmp);
    (*median > 0.0).then(|| median.sqrt())
}

/// Mean over distinct pairs of one side + the same of the other − 2 · mean over mixed pairs.
fn unbiased(kernel: &[f64], labels: &[bool]) -> f64 {
    let n = labels.len();
    let m = labels.iter().filter(|l| **l).count() as f64;
    let k = n as f64 - m;
    let (mut within_m, mut within_k, mut mixed) = (0.0, 0.0, 0.0);
    for i in 0..n {
        for j in 0..i {
            let value = kernel[i * n + j];
            match (labels[i], labels[j]) {
                (true, true) => within_m += value,
                (false, false) => within_k += value,
                _ => mixed += value,
            }
        }
    }
    2.0 * within_m / (m * (m - 1.0)) + 2.0 * within_k / (k * (k - 1.0)) - 2.0 * mixed / (m * k)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cloud, line};
    use super::*;

    #[test]
    fn the_golden_lists_have_their_discrepancy() {
        let (a, b) = (line(&[0.0, 1.0, 2.0]), line(&[1.0, 2.0, 4.0]));
        let points: Vec<&Point> = a.iter().chain(&b).collect();
        let kernel: Vec<f64> = distances(&points)
            .iter()
            .map(|d| (-d / 2.0).exp())
            .collect();
        let labels = [true, true, true, false, false, false];
        let value = unbiased(&kernel, &labels);
        assert!((value + 0.211033265).abs() < 1e-9, "{value}");
        // The biased form, which is not ours, counts each point with itself.
        let side = |i: usize| if i < 3 { 1.0 } else { -1.0 };
        let biased: f64 = (0..36)
            .map(|at| side(at / 6) * side(at % 6) * kernel[at])
            .sum::<f64>()
            / 9.0;
        assert!((biased - 0.222147675).abs() < 1e-9, "{biased}");
    }

    #[test]
    fn equal_sets_are_rarely_distinguished_and_shifted_ones_are() {
        let mut small = 0;
        for seed in 0..40 {
            let (a, b) = (cloud(10, 4, 0.0, 2 * seed), cloud(10, 4, 0.0, 2 * seed + 1));
            let found = mmd(&a, &b, 99, &mut Rng::keyed(seed, &["mmd"])).unwrap();
            small += u32::from(found.p.p <= 0.05);
        }
        // 2 expected of 40; more than 7 has a chance below 1 in 1000.
        assert!(small <= 7, "{small}");
        let far = mmd(
            &cloud(10, 4, 0.0, 1),
            &cloud(10, 4, 1.5, 2),
            199,
            &mut Rng::keyed(0, &[]),
        );
        assert!(
            far.unwrap().p.p < 0.01 && far.unwrap().mmd2 > 0.05,
            "{far:?}"
        );
        assert_eq!(
            mmd(
                &line(&[1.0; 5]),
                &line(&[1.0; 5]),
                9,
                &mut Rng::keyed(0, &[])
            ),
            None
        );
    }
}
