//! Closeness metrics: how near a trace, or a set of traces, is to the student's own distribution.
//!
//! A metric is a row of [`METRICS`] and two small functions over stored sums: one of a trace's
//! [`ScoreRow`], one of a set's [`SetSums`]. To add one, write the functions in the file of its
//! family and add the row. What is no fold of one trace's sums has a file and functions of its own:
//! choices among candidates of one problem ([`grape`], [`lark`]), second contexts ([`conditional`],
//! [`lalp`]), and sets against the student's own samples ([`between`]).
//!
//! A metric's direction states which value is nearer to the student. It is no promise of better
//! training: whether nearer helps is what a comparison of arms finds out.

use serde::{Deserialize, Serialize};

use crate::record::ScoreRow;

pub mod between;
pub mod conditional;
pub mod divergence;
mod energy;
mod entropy;
pub mod grape;
pub mod lalp;
pub mod lark;
mod likelihood;
mod rank;
pub mod set;

pub use rank::top_share;
pub use set::{SetSums, closeness};

/// Which value of a metric is nearer to the student.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Lower is nearer.
    Lower,
    /// Higher is nearer.
    Higher,
    /// Nearest to 0.
    NearZero,
    /// Nearest to 1.
    NearOne,
}

impl Direction {
    /// A value turned so that larger is nearer.
    pub fn closeness(self, value: f64) -> f64 {
        match self {
            Direction::Lower => -value,
            Direction::Higher => value,
            Direction::NearZero => -value.abs(),
            Direction::NearOne => -(value - 1.0).abs(),
        }
    }
}

/// A closeness metric that folds out of a stored score row.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in every file and table.
    pub name: &'static str,
    /// Which value is nearer to the student.
    pub direction: Direction,
    /// Its unit, empty where it has none.
    pub unit: &'static str,
    /// Where the definition comes from.
    pub source: &'static str,
    /// How a trace's value is computed.
    pub definition: &'static str,
    /// How a set's value is computed.
    pub set_definition: &'static str,
    /// A trace's value; `None` where it is not defined, such as for no token.
    pub of: fn(&ScoreRow) -> Option<f64>,
    /// A set's value.
    pub of_set: fn(&SetSums) -> Option<f64>,
}

const BY_TOKEN: &str = "the same over the summed tokens of the set";

/// Every metric, in the order of tables.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "nll_per_token",
        direction: Direction::Lower,
        unit: "nats/token",
        source: "standard",
        definition: "Σs / T",
        set_definition: BY_TOKEN,
        of: likelihood::nll_per_token,
        of_set: |set| likelihood::nll_per_token(&set.tokens),
    },
    Metric {
        name: "bits_per_byte",
        direction: Direction::Lower,
        unit: "bits/byte",
        source: "standard",
        definition: "Σs / (ln 2 · bytes)",
        set_definition: BY_TOKEN,
        of: likelihood::bits_per_byte,
        of_set: |set| likelihood::bits_per_byte(&set.tokens),
    },
    Metric {
        name: "ppl_tok",
        direction: Direction::Lower,
        unit: "",
        source: "standard",
        definition: "exp(Σs / T)",
        set_definition: BY_TOKEN,
        of: likelihood::perplexity,
        of_set: |set| likelihood::perplexity(&set.tokens),
    },
    Metric {
        name: "ppl_seq",
        direction: Direction::Lower,
        unit: "",
        source: "standard",
        definition: "exp(Σs / T)",
        set_definition: "exp of the mean over traces of Σs / T",
        of: likelihood::perplexity,
        of_set: likelihood::perplexity_by_trace,
    },
    Metric {
        name: "ppl_arith",
        direction: Direction::Lower,
        unit: "",
        source: "LLaMA-Factory's set perplexity; outliers dominate it",
        definition: "exp(Σs / T)",
        set_definition: "the mean over traces of exp(Σs / T)",
        of: likelihood::perplexity,
        of_set: likelihood::perplexity_arithmetic,
    },
    Metric {
        name: "min20_prob",
        direction: Direction::Higher,
        unit: "nats/token",
        source: "Min-K% Prob with K = 20, arXiv 2310.16789",
        definition: "the mean ln p of the ⌊T / 5⌋ least likely tokens, at least one",
        set_definition: "the mean over traces",
        of: likelihood::min20_prob,
        of_set: likelihood::mean_min20_prob,
    },
    Metric {
        name: "mean_rank",
        direction: Direction::Lower,
        unit: "ranks",
        source: "standard",
        definition: "Σr / T, r = 1 + tokens with a larger logit",
        set_definition: BY_TOKEN,
        of: rank::mean_rank,
        of_set: |set| rank::mean_rank(&set.tokens),
    },
    Metric {
        name: "mean_rank_clip100",
        direction: Direction::Lower,
        unit: "ranks",
        source: "arXiv 2601.14249",
        definition: "Σ min(r, 100) / T",
        set_definition: BY_TOKEN,
        of: rank::mean_rank_clip100,
        of_set: |set| rank::mean_rank_clip100(&set.tokens),
    },
    Metric {
        name: "mean_log_rank",
        direction: Direction::Lower,
        unit: "nats",
        source: "standard",
        definition: "Σ ln r / T",
        set_definition: BY_TOKEN,
        of: rank::mean_log_rank,
        of_set: |set| rank::mean_log_rank(&set.tokens),
    },
    Metric {
        name: "top1_share",
        direction: Direction::Higher,
        unit: "share",
        source: "standard; TRL's mean_token_accuracy",
        definition: "fraction of tokens with r ≤ 1",
        set_definition: BY_TOKEN,
        of: |a| rank::share(a, a.top1),
        of_set: |set| rank::share(&set.tokens, set.tokens.top1),
    },
    Metric {
        name: "top5_share",
        direction: Direction::Higher,
        unit: "share",
        source: "standard",
        definition: "fraction of tokens with r ≤ 5",
        set_definition: BY_TOKEN,
        of: |a| rank::share(a, a.top5),
        of_set: |set| rank::share(&set.tokens, set.tokens.top5),
    },
    Metric {
        name: "top10_share",
        direction: Direction::Higher,
        unit: "share",
        source: "standard",
        definition: "fraction of tokens with r ≤ 10",
        set_definition: BY_TOKEN,
        of: |a| rank::share(a, a.top10),
        of_set: |set| rank::share(&set.tokens, set.tokens.top10),
    },
    Metric {
        name: "top50_share",
        direction: Direction::Higher,
        unit: "share",
        source: "standard",
        definition: "fraction of tokens with r ≤ 50",
        set_definition: BY_TOKEN,
        of: |a| rank::share(a, a.top50),
        of_set: |set| rank::share(&set.tokens, set.tokens.top50),
    },
    Metric {
        name: "rsr",
        direction: Direction::Lower,
        unit: "ranks/nat",
        source: "arXiv 2601.14249",
        definition: "Σ min(r, 100) / Σs",
        set_definition: "mean over traces of Σ min(r, 100) / T, over mean over traces of Σs / T",
        of: rank::rsr,
        of_set: rank::rsr_of_set,
    },
    Metric {
        name: "mean_entropy",
        direction: Direction::Lower,
        unit: "nats/token",
        source: "standard",
        definition: "ΣH / T, H the entropy of the student's distribution",
        set_definition: BY_TOKEN,
        of: entropy::mean_entropy,
        of_set: |set| entropy::mean_entropy(&set.tokens),
    },
    Metric {
        name: "excess_surprisal",
        direction: Direction::NearZero,
        unit: "nats/token",
        source: "derived: its mean over the student's own samples is 0",
        definition: "Σ(s − H) / T",
        set_definition: BY_TOKEN,
        of: entropy::excess_surprisal,
        of_set: |set| entropy::excess_surprisal(&set.tokens),
    },
    Metric {
        name: "surprise_ratio",
        direction: Direction::NearOne,
        unit: "",
        source: "derived",
        definition: "Σs / ΣH",
        set_definition: BY_TOKEN,
        of: entropy::surprise_ratio,
        of_set: |set| entropy::surprise_ratio(&set.tokens),
    },
    Metric {
        name: "typicality_deviation",
        direction: Direction::Lower,
        unit: "nats/token",
        source: "typical sampling, arXiv 2202.00666",
        definition: "Σ|s − H| / T",
        set_definition: BY_TOKEN,
        of: entropy::typicality_deviation,
        of_set: |set| entropy::typicality_deviation(&set.tokens),
    },
    Metric {
        name: "z_score",
        direction: Direction::NearZero,
        unit: "standard deviations",
        source: "derived: near N(0, 1) for long samples of the student at temperature 1",
        definition: "Σ(s − H) / √ΣV, V the varentropy",
        set_definition: "the mean over traces that have one",
        of: entropy::z_score,
        of_set: entropy::mean_z_score,
    },
    Metric {
        name: "brier_mean",
        direction: Direction::Lower,
        unit: "",
        source: "derived: squared norm of the logits' gradient; arXiv 2605.30651",
        definition: "Σ ‖p − onehot‖² / T",
        set_definition: BY_TOKEN,
        of: energy::brier_mean,
        of_set: |set| energy::brier_mean(&set.tokens),
    },
];

/// The metric of that name.
pub fn named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// `numerator / denominator`, where that is a number.
fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    let value = numerator / denominator;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests;
