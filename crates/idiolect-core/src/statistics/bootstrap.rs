//! The bootstrap over problems, with seeds and replicates as further levels.
//!
//! One resample of the problems serves every arm at once ([`resampled_sums`]): the arms stay paired,
//! and the cost is that of drawing once and of one dot product an arm. The counts of a resample are
//! drawn as integers into one buffer; nothing is allocated per draw.
//!
//! Fine-tuning seeds cross the problems (each seed answers each problem), so [`nested`] resamples
//! both, and replicates above them (Owen, 2007, the pigeonhole bootstrap). A handful of seeds spreads too
//! little by the factor (R − 1)/R; deviations from the mean of seeds are scaled back by its root.
//! Answers' own noise then enters with the problems and again with the seeds: the interval errs to
//! the wide side, which the few degrees of freedom of three seeds need (see the coverage tests).

use super::{Interval, mean, normal};
use idiolect_model::Rng;

/// Sums of several series over common resamples: `(series, draws)`, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct ResampledSums {
    sums: Vec<f64>,
    draws: usize,
}

impl ResampledSums {
    /// The sums of one series, one a draw.
    pub fn of(&self, series: usize) -> &[f64] {
        &self.sums[series * self.draws..(series + 1) * self.draws]
    }
}

/// Draws `n` of `n` units with replacement, `draws` times, and sums every series over each resample.
/// Unit i of all series moves together.
///
/// # Panics
/// When a series is not `n` long; a programmer mistake.
pub fn resampled_sums(series: &[&[f64]], n: usize, draws: usize, rng: &mut Rng) -> ResampledSums {
    assert!(
        series.iter().all(|s| s.len() == n),
        "every series has a value for every unit"
    );
    let mut sums = vec![0.0; series.len() * draws];
    let mut counts = vec![0.0f64; n];
    for draw in 0..draws {
        counts.fill(0.0);
        for _ in 0..n {
            counts[rng.below(n)] += 1.0;
        }
        for (at, values) in series.iter().enumerate() {
            sums[at * draws + draw] = dot(&counts, values);
        }
    }
    ResampledSums { sums, draws }
}

/// Eight partial sums in a fixed order: vector units without leave to reorder.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (blocks_a, blocks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = blocks_a
        .remainder()
        .iter()
        .zip(blocks_b.remainder())
        .map(|(x, y)| x * y)
        .sum();
    let mut lanes = [0.0f64; 8];
    for (x, y) in blocks_a.zip(blocks_b) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// An estimate with its bootstrap draws.
#[derive(Clone, Debug, PartialEq)]
pub struct Resampled {
    /// The estimate from the data as they are.
    pub estimate: f64,
    /// The same from each resample.
    pub draws: Vec<f64>,
}

impl Resampled {
    /// Standard deviation of the draws: the standard error of the estimate.
    pub fn standard_error(&self) -> f64 {
        let centre = mean(&self.draws);
        mean(
            &self
                .draws
                .iter()
                .map(|d| (d - centre) * (d - centre))
                .collect::<Vec<_>>(),
        )
        .sqrt()
    }

    /// Percentile interval, widened to hold the estimate where skewed draws leave it out.
    pub fn percentile(&self, confidence: f64) -> Interval {
        self.between((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0)
    }

    /// Bias-corrected and accelerated interval (Efron, 1987). `acceleration` is that of the
    /// estimate, for a mean [`mean_acceleration`] of its units.
    pub fn bca(&self, confidence: f64, acceleration: f64) -> Interval {
        let below = self.draws.iter().filter(|d| **d < self.estimate).count();
        let at_most = self.draws.iter().filter(|d| **d <= self.estimate).count();
        let bias = normal::quantile((below + at_most) as f64 / (2.0 * self.draws.len() as f64));
        if !bias.is_finite() {
            return self.percentile(confidence);
        }
        let share = |p: f64| {
            let shifted = bias + normal::quantile(p);
            normal::cdf(bias + shifted / (1.0 - acceleration * shifted))
        };
        self.between(
            share((1.0 - confidence) / 2.0),
            share((1.0 + confidence) / 2.0),
        )
    }

    fn between(&self, low: f64, high: f64) -> Interval {
        let mut sorted = self.draws.clone();
        sorted.sort_by(f64::total_cmp);
        let interval = Interval {
            low: quantile(&sorted, low),
            high: quantile(&sorted, high),
        };
        interval.including(self.estimate)
    }

    /// Two-sided p of no difference by inverting the percentile interval:
    /// 2·min(P(draw ≤ 0), P(draw ≥ 0)), the data themselves counted as a draw; in (0, 1].
    pub fn p_of_zero(&self) -> f64 {
        let at_most = self.draws.iter().filter(|d| **d <= 0.0).count();
        let at_least = self.draws.iter().filter(|d| **d >= 0.0).count();
        (2.0 * (1 + at_most.min(at_least)) as f64 / (1 + self.draws.len()) as f64).min(1.0)
    }
}

/// Quantile of sorted values by linear interpolation (type 7 of Hyndman and Fan); 0 of none.
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let at = p.clamp(0.0, 1.0) * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

/// The acceleration of a mean, from its jackknife: Σ(x − x̄)³ / (6 (Σ(x − x̄)²)^1.5); 0 where all
/// values are equal.
pub fn mean_acceleration(values: &[f64]) -> f64 {
    let centre = mean(values);
    let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    let cubes: f64 = values.iter().map(|v| (v - centre).powi(3)).sum();
    if squares > 0.0 {
        cubes / (6.0 * squares.powf(1.5))
    } else {
        0.0
    }
}

/// What the paired bootstrap over problems finds.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedBootstrap {
    /// Mean difference.
    pub estimate: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Percentile interval.
    pub percentile: Interval,
    /// BCa interval.
    pub bca: Interval,
}

/// Bootstrap of the mean of per-problem differences. Of no problem: zeros.
pub fn paired_bootstrap(
    differences: &[f64],
    draws: usize,
    confidence: f64,
    rng: &mut Rng,
) -> PairedBootstrap {
    let n = differences.len();
    let mut means = resampled_sums(&[differences], n, if n == 0 { 0 } else { draws }, rng).sums;
    means.iter_mut().for_each(|sum| *sum /= n as f64);
    let resampled = Resampled {
        estimate: mean(differences),
        draws: means,
    };
    PairedBootstrap {
        estimate: resampled.estimate,
        standard_error: resampled.standard_error(),
        percentile: resampled.percentile(confidence),
        bca: resampled.bca(confidence, mean_acceleration(differences)),
    }
}

/// One replicate's resampled, one a fine-tuning seed, all over the same resamples of problems. The
/// baseline is subtracted; it may be empty.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicateSeeds<'a> {
    /// The arm's seeds.
    pub arm: Vec<&'a Resampled>,
    /// The baseline's seeds.
    pub baseline: Vec<&'a Resampled>,
}

/// Whether an interval is to hold for replicates like those at hand, or for these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replicates {
    /// A sample of more: they are resampled as the outer level.
    #[default]
    Sampled,
    /// The ones that are meant: only what varies within them is resampled.
    Fixed,
}

/// Resamples replicates where they are a sample, then seeds within each arm, over given resamples of problems: the mean over
/// replicates of (mean over seeds of the arm − mean over seeds of the baseline). Seeds of the two arms
/// are resampled apart: equal seed numbers shuffle rows alike and make trainings no more alike.
pub fn nested(replicates: &[ReplicateSeeds<'_>], outer: Replicates, rng: &mut Rng) -> Resampled {
    let terms: Vec<Vec<Term<'_>>> = replicates
        .iter()
        .map(|w| vec![(1.0, w.arm.clone()), (-1.0, w.baseline.clone())])
        .collect();
    contrast(&terms, outer, rng)
}

/// A weight and the seeds of one arm in one replicate.
pub type Term<'a> = (f64, Vec<&'a Resampled>);

/// The same for any weighted sum of arms: the mean over replicates of Σ weight · (mean over seeds).
pub fn contrast(replicates: &[Vec<Term<'_>>], outer: Replicates, rng: &mut Rng) -> Resampled {
    let observed: Vec<f64> = replicates
        .iter()
        .map(|terms| {
            terms
                .iter()
                .map(|(weight, seeds)| weight * seed_mean(seeds, |r| r.estimate))
                .sum()
        })
        .collect();
    let draws = replicates
        .iter()
        .flatten()
        .flat_map(|(_, seeds)| seeds)
        .map(|r| r.draws.len())
        .min()
        .unwrap_or(0);
    let mut values = vec![0.0; replicates.len()];
    let draws = (0..draws)
        .map(|draw| {
            for (value, terms) in values.iter_mut().zip(replicates) {
                *value = terms
                    .iter()
                    .map(|(weight, seeds)| {
                        weight * resampled_mean(seeds.len(), |i| seeds[i].draws[draw], rng)
                    })
                    .sum();
            }
            match outer {
                Replicates::Sampled => resampled_mean(values.len(), |i| values[i], rng),
                Replicates::Fixed => mean(&values),
            }
        })
        .collect();
    Resampled {
        estimate: mean(&observed),
        draws,
    }
}

fn seed_mean(seeds: &[&Resampled], value: impl Fn(&Resampled) -> f64) -> f64 {
    if seeds.is_empty() {
        0.0
    } else {
        seeds.iter().map(|r| value(r)).sum::<f64>() / seeds.len() as f64
    }
}

/// Mean of `n` of `n` values with replacement, its deviation from the plain mean scaled by
/// √(n/(n − 1)); 0 of none.
fn resampled_mean(n: usize, value: impl Fn(usize) -> f64, rng: &mut Rng) -> f64 {
    match n {
        0 => 0.0,
        1 => value(0),
        _ => {
            let plain = (0..n).map(&value).sum::<f64>() / n as f64;
            let drawn = (0..n).map(|_| value(rng.below(n))).sum::<f64>() / n as f64;
            plain + (drawn - plain) * (n as f64 / (n - 1) as f64).sqrt()
        }
    }
}

#[cfg(test)]
mod tests;
