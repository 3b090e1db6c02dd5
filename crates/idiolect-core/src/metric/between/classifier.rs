//! Classifier two-sample test: can a logistic regression distinguish a set's traces from the
//! student's own samples? Cross-validated AUC, folds by problem (Lopez-Paz and Oquab, 2017).

use super::{Point, standardised};
use crate::record::content_hash;

/// Folds.
const FOLDS: usize = 5;
/// Ridge penalty on standardised weights: separable sets keep finite weights.
const RIDGE: f64 = 1.0;
/// Newton steps; the penalised loss is strictly convex and converges long before.
const STEPS: usize = 25;

/// AUC of held-out scores; 0.5 is indistinguishable. `None` where a fold would lack a side.
pub fn held_out_auc(set: &[Point], own: &[Point]) -> Option<f64> {
    let (set, own) = standardised(set, own);
    let mut rows: Vec<(usize, &Point, bool)> = set
        .iter()
        .map(|p| (fold(&p.problem), p, true))
        .chain(own.iter().map(|p| (fold(&p.problem), p, false)))
        .collect();
    // Sums in one order, whatever the order of rows.
    rows.sort_by(|a, b| {
        let key = |r: &(usize, &Point, bool)| (r.0, r.1.problem.clone(), r.2);
        key(a).cmp(&key(b)).then_with(|| compare(&a.1.at, &b.1.at))
    });
    let (mut scores, mut labels) = (Vec::new(), Vec::new());
    for held in 0..FOLDS {
        let train: Vec<(&[f64], bool)> = rows
            .iter()
            .filter(|(fold, ..)| *fold != held)
            .map(|(_, p, label)| (p.at.as_slice(), *label))
            .collect();
        let positives = train.iter().filter(|(_, label)| *label).count();
        if positives == 0 || positives == train.len() {
            return None;
        }
        let weights = logistic(&train);
        for (_, point, label) in rows.iter().filter(|(fold, ..)| *fold == held) {
            scores.push(linear(&weights, &point.at));
            labels.push(*label);
        }
    }
    auc(&scores, &labels)
}

/// The fraction of pairs of a positive and a negative that are in order, ties half; `None` where a
/// side is missing.
pub fn auc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let n = positive.iter().filter(|p| **p).count() as f64;
    let m = scores.len() as f64 - n;
    let (mut rank_sum, mut start) = (0.0, 0);
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && scores[order[end]].total_cmp(&scores[order[start]]).is_eq() {
            end += 1;
        }
        let rank = (start + end + 1) as f64 / 2.0;
        rank_sum += rank * order[start..end].iter().filter(|at| positive[**at]).count() as f64;
        start = end;
    }
    (n > 0.0 && m > 0.0).then(|| (rank_sum - n * (n + 1.0) / 2.0) / (n * m))
}

fn fold(problem: &str) -> usize {
    content_hash(problem.as_bytes())
        .bytes()
        .fold(0usize, |sum, byte| {
            (31 * sum + usize::from(byte)) % 1_000_003
        })
        % FOLDS
}

fn compare(a: &[f64], b: &[f64]) -> std::cmp::Ordering {
    a.iter()
        .zip(b)
        .map(|(x, y)| x.total_cmp(y))
        .find(|order| order.is_ne())
        .unwrap_or(std::cmp::Ordering::Equal)
}

/// Intercept first.
fn linear(weights: &[f64], at: &[f64]) -> f64 {
    weights[0] + weights[1..].iter().zip(at).map(|(w, x)| w * x).sum::<f64>()
}

/// Ridge-penalised logistic regression by Newton's method; the intercept is free.
fn logistic(rows: &[(&[f64], bool)]) -> Vec<f64> {
    let width = rows.first().map_or(0, |(at, _)| at.len()) + 1;
    let mut weights = vec![0.0; width];
    for _ in 0..STEPS {
        let mut gradient = vec![0.0; width];
        let mut hessian = vec![0.0; width * width];
        for d in 1..width {
            gradient[d] = RIDGE * weights[d];
            hessian[d * width + d] = RIDGE;
        }
        // A flat side of the intercept must not make the matrix singular.
        hessian[0] = 1e-9;
        for (at, label) in rows {
            let p = 1.0 / (1.0 + (-linear(&weights, at)).exp());
            let value = |d: usize| if d == 0 { 1.0 } else { at[d - 1] };
            for i in 0..width {
                gradient[i] += (p - f64::from(u8::from(*label))) * value(i);
                for j in 0..width {
                    hessian[i * width + j] += p * (1.0 - p) * value(i) * value(j);
                }
            }
        }
        let step = solve(hessian, gradient);
        weights.iter_mut().zip(&step).for_each(|(w, s)| *w -= s);
        if step.iter().all(|s| s.abs() < 1e-10) {
            break;
        }
    }
    weights
}

/// Solves a symmetric positive definite system by elimination.
pub(crate) fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for pivot in 0..n {
        for row in pivot + 1..n {
            let factor = matrix[row * n + pivot] / matrix[pivot * n + pivot];
            for column in pivot..n {
                matrix[row * n + column] -= factor * matrix[pivot * n + column];
            }
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|c| matrix[row * n + c] * right[c]).sum();
        right[row] = (right[row] - known) / matrix[row * n + row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::super::tests::cloud;
    use super::*;

    #[test]
    fn the_golden_scores_have_their_auc() {
        let value = auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap();
        assert!((value - 0.75).abs() < 1e-12);
        assert_eq!(auc(&[0.5; 4], &[true, false, true, false]), Some(0.5));
        assert_eq!(auc(&[0.5], &[true]), None);
    }

    #[test]
    fn equal_clouds_are_near_one_half_and_shifted_ones_are_told() {
        let (a, b) = (cloud(100, 4, 0.0, 3), cloud(100, 4, 0.0, 4));
        let equal = held_out_auc(&a, &b).unwrap();
        // The standard error of an AUC of 400 against 400 is 0.02.
        assert!((equal - 0.5).abs() < 0.08, "{equal}");
        // Two normals a deviation d apart have AUC Φ(d/√2): 0.856 at 1.5.
        let far = held_out_auc(&a, &cloud(100, 4, 1.5, 5)).unwrap();
        assert!((far - 0.856).abs() < 0.05, "{far}");
        let mut shuffled = a.clone();
        shuffled.reverse();
        assert_eq!(held_out_auc(&shuffled, &b), held_out_auc(&a, &b));
    }

    #[test]
    fn a_linear_system_is_solved() {
        let x = solve(vec![4.0, 1.0, 1.0, 3.0], vec![1.0, 2.0]);
        assert!((x[0] - 1.0 / 11.0).abs() < 1e-12 && (x[1] - 7.0 / 11.0).abs() < 1e-12);
    }
}
