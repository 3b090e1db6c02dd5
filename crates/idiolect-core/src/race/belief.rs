//! What is believed of each arm's accuracy after the full training, and how a reading changes it.
//!
//! A Kalman filter over rungs: the state is each arm's accuracy relative to the others; a reading is
//! the arms' mean scores on the same problems, whose errors are correlated because the problems are
//! shared; between a rung and the full training each arm drifts by a normal step of its own. What all
//! arms have in common (a rung with more epochs lifts all of them) is left out by an effect without a
//! prior. Normal approximations throughout; [`Belief::standing`] draws from the joint posterior, so
//! that P(best) and expected regret respect the correlations.

use idiolect_model::Rng;

use crate::statistics::mean;

/// Standard deviation of the effect that all arms share: far beyond any accuracy.
const COMMON: f64 = 10.0;
/// Variance that is added to each arm's scores, worth one score of one half among them: no few
/// problems, all right or all wrong, make an accuracy certain.
const PSEUDO: f64 = 0.25;
/// Standard deviation between arms before anything is read, and for how many arms it counts.
const SPREAD: f64 = 0.05;
const SPREAD_ARMS: f64 = 3.0;
/// Draws from the posterior.
const DRAWS: usize = 20_000;

/// The mean scores of arms on the same problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Mean score of each arm, a fraction.
    pub means: Vec<f64>,
    /// Covariance of these means over problems, arms × arms, row by row.
    pub covariance: Vec<f64>,
}

impl Reading {
    /// Of the scores of each arm on each problem, all over the same problems in the same order:
    /// arms × problems. `None` without an arm or a problem, or where arms differ in length.
    pub fn of(scores: &[Vec<f64>]) -> Option<Self> {
        let n = scores.first()?.len();
        if n == 0 || scores.iter().any(|arm| arm.len() != n) {
            return None;
        }
        let means: Vec<f64> = scores.iter().map(|arm| mean(arm)).collect();
        let arms = scores.len();
        let mut covariance = vec![0.0; arms * arms];
        for a in 0..arms {
            for b in 0..=a {
                let pairs = scores[a].iter().zip(&scores[b]);
                let sum: f64 = pairs.map(|(x, y)| (x - means[a]) * (y - means[b])).sum();
                let pseudo = if a == b { PSEUDO } else { 0.0 };
                let value = (sum + pseudo) / (n as f64 * n as f64);
                covariance[a * arms + b] = value;
                covariance[b * arms + a] = value;
            }
        }
        Some(Self { means, covariance })
    }
}

/// A joint normal belief about arms.
#[derive(Clone, Debug, PartialEq)]
pub struct Belief {
    mean: Vec<f64>,
    /// arms × arms, row by row.
    covariance: Vec<f64>,
}

/// What a belief says of the arms that are still in question.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Probability that an arm is the best of all, in the order of arms.
    pub p_best: Vec<f64>,
    /// The arm of the largest expected accuracy.
    pub pick: usize,
    /// Accuracy that is lost on average by taking `pick`, a fraction.
    pub regret: f64,
}

impl Belief {
    /// Before any reading: what was expected of each arm and its standard deviation.
    pub fn expecting(means: &[f64], deviations: &[f64]) -> Self {
        let arms = means.len();
        let mut covariance = vec![0.0; arms * arms];
        for (arm, deviation) in deviations.iter().enumerate().take(arms) {
            covariance[arm * arms + arm] = deviation * deviation;
        }
        Self {
            mean: means.to_vec(),
            covariance,
        }
    }

    /// Nothing was expected: arms differ as much as a first reading shows them to, shrunk towards
    /// five points of standard deviation where it holds few arms. `seed_sd` is that of a training's
    /// accuracy over seeds.
    pub fn after_first(reading: &Reading, seed_sd: f64) -> Self {
        let arms = reading.means.len();
        let level = mean(&reading.means);
        let between: f64 = reading.means.iter().map(|m| (m - level).powi(2)).sum();
        let noise: f64 = (0..arms)
            .map(|arm| {
                let common: f64 = (0..arms).map(|b| reading.covariance[arm * arms + b]).sum();
                reading.covariance[arm * arms + arm] - common / arms as f64 + seed_sd * seed_sd
            })
            .sum();
        let freedom = arms as f64 - 1.0;
        let excess = between - noise * freedom / arms as f64;
        let variance = (SPREAD_ARMS * SPREAD * SPREAD + excess.max(0.0)) / (SPREAD_ARMS + freedom);
        Self::expecting(&vec![0.0; arms], &vec![variance.sqrt(); arms])
    }

    /// How many arms it is about.
    pub fn arms(&self) -> usize {
        self.mean.len()
    }

    /// Expected accuracy of an arm relative to the others, a fraction.
    pub fn mean(&self, arm: usize) -> f64 {
        self.mean[arm]
    }

    /// Mean and standard deviation of the difference of two arms.
    pub fn difference(&self, a: usize, b: usize) -> (f64, f64) {
        let at = |i: usize, j: usize| self.covariance[i * self.arms() + j];
        let variance = at(a, a) + at(b, b) - 2.0 * at(a, b);
        (self.mean[a] - self.mean[b], variance.max(0.0).sqrt())
    }

    /// Takes in a reading of some arms: `arms` names them in the order of the reading, `seed_sd` is
    /// the standard deviation of a training's accuracy over seeds.
    pub fn read(&mut self, arms: &[usize], reading: &Reading, seed_sd: f64) {
        let (n, m) = (self.arms(), arms.len());
        if m == 0 {
            return;
        }
        // Rows of the covariance with the arms that are read.
        let crossed: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                arms.iter()
                    .map(|arm| self.covariance[i * n + arm])
                    .collect()
            })
            .collect();
        let mut s = vec![0.0; m * m];
        for a in 0..m {
            for b in 0..m {
                let own = if a == b { seed_sd * seed_sd } else { 0.0 };
                let shared = COMMON * COMMON;
                s[a * m + b] = crossed[arms[a]][b] + reading.covariance[a * m + b] + own + shared;
            }
        }
        let factor = cholesky(&s, m);
        let surprise: Vec<f64> = (0..m)
            .map(|a| reading.means[a] - self.mean[arms[a]])
            .collect();
        let weights = solve(&factor, m, &surprise);
        let solved: Vec<Vec<f64>> = crossed.iter().map(|row| solve(&factor, m, row)).collect();
        for i in 0..n {
            self.mean[i] += dot(&crossed[i], &weights);
            for j in 0..n {
                // Of both orders the same product, so that rounding leaves it symmetric.
                let (a, b) = (i.max(j), i.min(j));
                self.covariance[i * n + j] -= dot(&crossed[a], &solved[b]);
            }
        }
    }

    /// Moves on to a longer training: each arm drifts by its own step of this standard deviation.
    pub fn drift(&mut self, deviation: f64) {
        let n = self.arms();
        for arm in 0..n {
            self.covariance[arm * n + arm] += deviation * deviation;
        }
    }

    /// Which arm is the best, by draws that the generator decides.
    pub fn standing(&self, rng: &mut Rng) -> Standing {
        let n = self.arms();
        let factor = cholesky(&self.covariance, n);
        let pick = (0..n)
            .max_by(|a, b| {
                self.mean[*a]
                    .total_cmp(&self.mean[*b])
                    .then_with(|| b.cmp(a))
            })
            .unwrap_or(0);
        let (mut wins, mut lost) = (vec![0usize; n], 0.0);
        let (mut normal, mut drawn) = (vec![0.0; n], vec![0.0; n]);
        for _ in 0..DRAWS {
            normal.fill_with(|| rng.normal());
            for arm in 0..n {
                drawn[arm] =
                    self.mean[arm] + dot(&factor[arm * n..arm * n + arm + 1], &normal[..=arm]);
            }
            let best = (0..n)
                .max_by(|a, b| drawn[*a].total_cmp(&drawn[*b]))
                .unwrap_or(0);
            if n > 0 {
                wins[best] += 1;
                lost += drawn[best] - drawn[pick];
            }
        }
        Standing {
            p_best: wins.iter().map(|w| *w as f64 / DRAWS as f64).collect(),
            pick,
            regret: lost / DRAWS as f64,
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The lower Cholesky factor of a symmetric matrix of n × n; a direction without variance is 0.
fn cholesky(matrix: &[f64], n: usize) -> Vec<f64> {
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let sum = matrix[i * n + j] - dot(&l[i * n..i * n + j], &l[j * n..j * n + j]);
            l[i * n + j] = if i == j {
                sum.max(0.0).sqrt()
            } else if l[j * n + j] > 0.0 {
                sum / l[j * n + j]
            } else {
                0.0
            };
        }
    }
    l
}

/// Solves L·Lᵀ·x = b.
fn solve(l: &[f64], n: usize, b: &[f64]) -> Vec<f64> {
    let mut x = b.to_vec();
    let divided = |value: f64, by: f64| if by > 0.0 { value / by } else { 0.0 };
    for i in 0..n {
        x[i] = divided(x[i] - dot(&l[i * n..i * n + i], &x[..i]), l[i * n + i]);
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|j| l[j * n + i] * x[j]).sum();
        x[i] = divided(x[i] - sum, l[i * n + i]);
    }
    x
}
