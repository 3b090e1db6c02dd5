//! Metrics of sets of traces: sums that combine, and bootstrap intervals over problems.
//!
//! Traces of one problem are dependent, so intervals resample problems. Every set metric is a
//! function of sums over traces; a resample costs one dot product a sum.

use std::collections::BTreeMap;

use super::{METRICS, Metric, entropy, likelihood, rank};
use crate::comparison::Closeness;
use crate::record::ScoreRow;
use crate::scores::{Identity, MergeError, empty, merge};
use crate::statistics::bootstrap::{Resampled, resampled_sums};
use idiolect_model::{Rng, Template};

/// Sums over the traces of a set, from which its metrics are computed.
#[derive(Clone, Debug, PartialEq)]
pub struct SetSums {
    /// Sums over tokens.
    pub tokens: ScoreRow,
    /// Traces with at least one token.
    pub traces: f64,
    /// Σ over traces of Σs / T.
    pub nll_per_token_sum: f64,
    /// Σ over traces of exp(Σs / T); not finite where a trace's is not.
    pub perplexity_sum: f64,
    /// Σ over traces of Σ min(r, 100) / T.
    pub rank_clip100_per_token_sum: f64,
    /// Σ over traces of the mean ln p of the least likely fifth.
    pub min20_prob_sum: f64,
    /// Σ over traces of Z, where it is defined.
    pub z_sum: f64,
    /// Traces with a Z.
    pub z_traces: f64,
}

const N_SUMS: usize = 22;

impl SetSums {
    /// The sums of a set; `None` of no trace.
    ///
    /// # Errors
    /// When the traces were scored by different students or under different templates.
    pub fn of(scores: &[ScoreRow]) -> Result<Option<Self>, MergeError> {
        let Some(tokens) = merge(scores)? else {
            return Ok(None);
        };
        let mut sums = [0.0; N_SUMS];
        for row in scores {
            add(&mut sums, &terms(row));
        }
        let mut set = Self::scratch();
        set.assign(&sums);
        Ok(Some(Self { tokens, ..set }))
    }

    fn scratch() -> Self {
        let identity = Identity {
            trace_id: "",
            problem_id: None,
            model: "",
            template: Template::Raw,
            completion_bytes: 0,
        };
        Self {
            tokens: empty(identity),
            traces: 0.0,
            nll_per_token_sum: 0.0,
            perplexity_sum: 0.0,
            rank_clip100_per_token_sum: 0.0,
            min20_prob_sum: 0.0,
            z_sum: 0.0,
            z_traces: 0.0,
        }
    }

    /// Takes the numbers of `sums`, in the order of [`terms`]. Counts are whole numbers in f64.
    fn assign(&mut self, sums: &[f64; N_SUMS]) {
        let [
            n_tokens,
            n_bytes,
            nll,
            entropy,
            varentropy,
            abs_excess,
            rank,
            rank_clip,
            log_rank,
            top1,
            top5,
            top10,
            top50,
            brier,
            end_nll,
            traces,
            nll_mean,
            perplexity,
            rank_mean,
            min20,
            z,
            z_traces,
        ] = *sums;
        let tokens = &mut self.tokens;
        tokens.n_tokens = n_tokens as u64;
        tokens.n_bytes = n_bytes as u64;
        tokens.nll_nats = nll;
        tokens.entropy_nats = known(entropy);
        tokens.varentropy_nats2 = known(varentropy);
        tokens.abs_excess_nats = known(abs_excess);
        tokens.rank_sum = known(rank);
        tokens.rank_clip100_sum = known(rank_clip);
        tokens.log_rank_sum = known(log_rank);
        tokens.top1 = known(top1).map(|n| n as u64);
        tokens.top5 = known(top5).map(|n| n as u64);
        tokens.top10 = known(top10).map(|n| n as u64);
        tokens.top50 = known(top50).map(|n| n as u64);
        tokens.brier_sum = known(brier);
        tokens.end_nll_nats = end_nll;
        self.traces = traces;
        self.nll_per_token_sum = nll_mean;
        self.perplexity_sum = perplexity;
        self.rank_clip100_per_token_sum = rank_mean;
        self.min20_prob_sum = min20;
        self.z_sum = z;
        self.z_traces = z_traces;
    }
}

/// Sums of what some trace does not have are NaN.
fn known(sum: f64) -> Option<f64> {
    (!sum.is_nan()).then_some(sum)
}

/// What one trace adds to each sum.
fn terms(a: &ScoreRow) -> [f64; N_SUMS] {
    let z = entropy::z_score(a);
    let count = |n: Option<u64>| n.map_or(f64::NAN, |n| n as f64);
    // A trace without tokens adds nothing.
    let of_tokens = |value: Option<f64>| match a.n_tokens {
        0 => 0.0,
        _ => value.unwrap_or(f64::NAN),
    };
    [
        a.n_tokens as f64,
        a.n_bytes as f64,
        a.nll_nats,
        a.entropy_nats.unwrap_or(f64::NAN),
        a.varentropy_nats2.unwrap_or(f64::NAN),
        a.abs_excess_nats.unwrap_or(f64::NAN),
        a.rank_sum.unwrap_or(f64::NAN),
        a.rank_clip100_sum.unwrap_or(f64::NAN),
        a.log_rank_sum.unwrap_or(f64::NAN),
        count(a.top1),
        count(a.top5),
        count(a.top10),
        count(a.top50),
        a.brier_sum.unwrap_or(f64::NAN),
        a.end_nll_nats,
        f64::from(u8::from(a.n_tokens > 0)),
        likelihood::nll_per_token(a).unwrap_or(0.0),
        likelihood::nll_per_token(a).map_or(0.0, f64::exp),
        of_tokens(rank::mean_rank_clip100(a)),
        of_tokens(likelihood::min20_prob(a)),
        z.unwrap_or(0.0),
        f64::from(u8::from(z.is_some())),
    ]
}

fn add(sums: &mut [f64; N_SUMS], terms: &[f64; N_SUMS]) {
    sums.iter_mut()
        .zip(terms)
        .for_each(|(sum, term)| *sum += term);
}

/// Every metric of a set with its bootstrap over problems, in the order of [`METRICS`]; metrics that
/// are not defined for the set are left out. A trace of unknown problem is a problem of its own.
/// Row order changes nothing.
///
/// # Errors
/// When the traces were scored by different students or under different templates.
pub fn resampled(
    scores: &[ScoreRow],
    draws: usize,
    rng: &mut Rng,
) -> Result<Vec<(&'static Metric, Resampled)>, MergeError> {
    merge(scores)?;
    let problems = sums_by_problem(scores);
    let n = problems.len();
    let series: Vec<Vec<f64>> = (0..N_SUMS)
        .map(|at| problems.iter().map(|sums| sums[at]).collect())
        .collect();
    let slices: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
    let resampled = resampled_sums(&slices, n, if n == 0 { 0 } else { draws }, rng);
    let mut whole = SetSums::scratch();
    whole.assign(&std::array::from_fn(|at| series[at].iter().sum()));
    let mut found: Vec<(&'static Metric, Resampled)> = METRICS
        .iter()
        .filter_map(|metric| {
            let estimate = (metric.of_set)(&whole)?;
            Some((
                metric,
                Resampled {
                    estimate,
                    draws: Vec::with_capacity(draws),
                },
            ))
        })
        .collect();
    let mut set = SetSums::scratch();
    for draw in 0..if n == 0 { 0 } else { draws } {
        set.assign(&std::array::from_fn(|at| resampled.of(at)[draw]));
        for (metric, resampled) in &mut found {
            // A resample without a defined value (no trace with a Z) states nothing new.
            resampled
                .draws
                .push((metric.of_set)(&set).unwrap_or(resampled.estimate));
        }
    }
    Ok(found)
}

/// One entry a problem, in order of id; rows of one problem are summed in order of trace id.
fn sums_by_problem(scores: &[ScoreRow]) -> Vec<[f64; N_SUMS]> {
    let mut rows: Vec<&ScoreRow> = scores.iter().collect();
    rows.sort_by(|a, b| (&a.problem_id, &a.trace_id).cmp(&(&b.problem_id, &b.trace_id)));
    let mut problems: BTreeMap<(Option<&str>, usize), [f64; N_SUMS]> = BTreeMap::new();
    for (at, row) in rows.into_iter().enumerate() {
        let key = (
            row.problem_id.as_deref(),
            if row.problem_id.is_some() { 0 } else { at },
        );
        add(problems.entry(key).or_insert([0.0; N_SUMS]), &terms(row));
    }
    problems.into_values().collect()
}

/// Every metric of a set with a percentile interval over problems (none of a single problem), by name.
///
/// # Errors
/// When the traces were scored by different students or under different templates.
pub fn closeness(
    scores: &[ScoreRow],
    draws: usize,
    confidence: f64,
    rng: &mut Rng,
) -> Result<BTreeMap<String, Closeness>, MergeError> {
    Ok(resampled(scores, draws, rng)?
        .into_iter()
        .map(|(metric, r)| (metric.name.to_owned(), Closeness::of(&r, confidence)))
        .collect())
}
