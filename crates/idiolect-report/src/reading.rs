//! How the sections read a comparison: the order of arms, which decoding leads, which metric is
//! drawn. Kept in one place so that every table and figure agrees.

use idiolect_core::arms::{Names, in_full};
use idiolect_core::comparison::{
    Accuracy, ArmResult, Comparison, Correlation, Difference, Estimate, MetricDescription,
};
use idiolect_core::metric::Direction;
use idiolect_core::record::Decoding;

use crate::view::{ArmDescription, RunView};

/// How a single fine-tuning seed in a single replicate is called.
pub(crate) const ONE_RUN: &str = "one run";

/// The untrained student's name among the arms.
pub(crate) const BASE: &str = "base";

/// Arms from the most to the least accurate; those without an accuracy last, ties by name.
pub(crate) fn ordered(comparison: &Comparison) -> Vec<&ArmResult> {
    let decoding = leading(comparison);
    let mut arms: Vec<&ArmResult> = comparison.arms.iter().collect();
    let key = |arm: &ArmResult| accuracy(arm, decoding).map_or(f64::NEG_INFINITY, |a| a.value);
    arms.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| a.arm.cmp(&b.arm)));
    arms
}

/// The decoding that leads the page: greedy where any arm has it.
pub(crate) fn leading(comparison: &Comparison) -> Decoding {
    if comparison.arms.iter().any(|arm| arm.greedy.is_some()) {
        Decoding::Greedy
    } else {
        Decoding::Sampled
    }
}

/// An arm's accuracy under one decoding.
pub(crate) fn accuracy(arm: &ArmResult, decoding: Decoding) -> Option<Estimate> {
    match decoding {
        Decoding::Greedy => arm.greedy.as_ref().map(|a| Estimate {
            value: a.mean,
            interval: a.interval,
        }),
        Decoding::Sampled => arm.sampled.as_ref().map(|a| Estimate {
            value: a.avg_at_k,
            interval: a.interval,
        }),
    }
}

/// States that some interval was widened to hold Wilson's; empty where none was.
pub(crate) fn wilson_note(comparison: &Comparison) -> &'static str {
    let is_widened = |arm: &ArmResult| {
        let greedy = arm.greedy.as_ref().map(|a| &a.method);
        let sampled = arm.sampled.as_ref().map(|a| &a.method);
        let mut methods = greedy.into_iter().chain(sampled);
        methods.any(|method| method.contains("Wilson"))
    };
    if comparison.arms.iter().any(is_widened) {
        " Where nearly all problems are answered alike there is little to resample: such an interval also holds Wilson's, over problems alone."
    } else {
        ""
    }
}

/// The arm's name with its description: `W (teacher, wrong answer)`.
pub(crate) fn full(arm: &ArmResult) -> String {
    in_full(&arm.arm, &arm.description)
}

/// The same of an arm by name; one that was not compared goes by its name alone.
pub(crate) fn full_name(comparison: &Comparison, name: &str) -> String {
    arm(comparison, name).map_or_else(|| name.to_owned(), full)
}

/// The arms' names for one text, each spelled out where it comes first.
pub(crate) fn names(comparison: &Comparison) -> Names {
    let described = |arm: &'_ ArmResult| (arm.arm.clone(), arm.description.clone());
    let arms: Vec<(String, String)> = comparison.arms.iter().map(described).collect();
    Names::new(
        arms.iter()
            .map(|(name, words)| (name.as_str(), words.as_str())),
    )
}

/// A sentence that spells out arms whose letters a figure shows; empty where there is nothing to
/// spell out.
pub(crate) fn legend<'a>(
    comparison: &Comparison,
    names: impl IntoIterator<Item = &'a str>,
) -> String {
    let described: Vec<String> = names
        .into_iter()
        .filter_map(|name| arm(comparison, name))
        .filter(|arm| !arm.description.is_empty())
        .map(full)
        .collect();
    if described.is_empty() {
        String::new()
    } else {
        format!(" Arms: {}.", described.join("; "))
    }
}

/// An arm by name.
pub(crate) fn arm<'a>(comparison: &'a Comparison, name: &str) -> Option<&'a ArmResult> {
    comparison.arms.iter().find(|arm| arm.arm == name)
}

/// What the view holds of an arm.
pub(crate) fn facts<'a>(view: &'a RunView, name: &str) -> Option<&'a ArmDescription> {
    view.arms.iter().find(|arm| arm.name == name)
}

/// What an accuracy is called: `greedy accuracy` or `avg@4`.
pub(crate) fn measure(comparison: &Comparison, decoding: Decoding) -> String {
    match decoding {
        Decoding::Greedy => "greedy accuracy".to_owned(),
        Decoding::Sampled => {
            let mut all = comparison
                .arms
                .iter()
                .filter_map(|arm| arm.sampled.as_ref().map(|s| s.k));
            match all.next() {
                Some(k) if all.all(|other| other == k) => format!("avg@{k}"),
                _ => "sampled accuracy".to_owned(),
            }
        }
    }
}

/// Samples a problem, the fewest over arms.
pub(crate) fn samples(comparison: &Comparison) -> Option<usize> {
    comparison
        .arms
        .iter()
        .filter_map(|arm| arm.sampled.as_ref().map(|s| s.k))
        .min()
}

/// The metric that the closeness figure draws: surprisal per token where it was taken.
pub(crate) fn drawn_metric(comparison: &Comparison) -> Option<&MetricDescription> {
    let taken = |m: &&MetricDescription| {
        comparison
            .arms
            .iter()
            .any(|arm| arm.closeness.contains_key(&m.name))
    };
    comparison
        .metrics
        .iter()
        .filter(taken)
        .find(|m| m.name == "nll_per_token")
        .or_else(|| comparison.metrics.iter().find(taken))
}

/// The rank correlation of one metric with accuracy under one decoding.
pub(crate) fn correlation<'a>(
    comparison: &'a Comparison,
    metric: &str,
    decoding: Decoding,
) -> Option<&'a Correlation> {
    comparison
        .correlations
        .iter()
        .find(|c| c.metric == metric && c.decoding == decoding)
}

/// One arm against one baseline.
pub(crate) fn difference<'a>(
    comparison: &'a Comparison,
    arm: &str,
    baseline: &str,
    decoding: Decoding,
) -> Option<&'a Difference> {
    comparison
        .differences
        .iter()
        .find(|d| d.arm == arm && d.baseline == baseline && d.decoding == decoding)
}

/// The direction as text, for a table head or an axis.
pub(crate) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Lower => "lower is nearer",
        Direction::Higher => "higher is nearer",
        Direction::NearZero => "0 is nearest",
        Direction::NearOne => "1 is nearest",
    }
}

/// The direction in a word, for a table cell.
pub(crate) fn nearer(direction: Direction) -> &'static str {
    match direction {
        Direction::Lower => "lower",
        Direction::Higher => "higher",
        Direction::NearZero => "to 0",
        Direction::NearOne => "to 1",
    }
}

/// A metric's name for people: `nll_per_token` becomes `NLL per token`.
pub(crate) fn metric_name(name: &str) -> String {
    let spoken = name.split('_').map(|word| match word {
        "nll" => "NLL",
        "rsr" => "RSR",
        "ppl" => "perplexity",
        "tok" => "by token",
        "seq" => "by trace",
        "clip100" => "(to 100)",
        "top1" => "top-1",
        "top5" => "top-5",
        "top10" => "top-10",
        "top50" => "top-50",
        "z" => "Z",
        "brier" => "Brier",
        "min20" => "Min-20%",
        "prob" => "Prob",
        word => word,
    });
    spoken.collect::<Vec<_>>().join(" ")
}

/// A metric's unit and direction: `nats/token; lower is nearer`.
pub(crate) fn unit_and_direction(metric: &MetricDescription) -> String {
    let direction = direction(metric.direction);
    if metric.unit.is_empty() {
        direction.to_owned()
    } else {
        format!("{}; {direction}", metric.unit)
    }
}

/// The interval's coverage: `95 %`.
pub(crate) fn coverage(comparison: &Comparison) -> String {
    let percent = format!("{:.1}", comparison.confidence * 100.0);
    format!("{}\u{202f}%", percent.trim_end_matches(".0"))
}

/// Whether arms are compared that were trained on: of models that somebody else made neither rows nor
/// seeds are known.
pub(crate) fn is_of_trainings(comparison: &Comparison) -> bool {
    let several = seeds(comparison).is_some_and(|(_, most)| most > 1);
    several || comparison.n_replicates > 1 || comparison.arms.iter().any(|arm| arm.rows.is_some())
}

/// Fine-tuning seeds of the trained arms: the fewest and the most in any replicate.
pub(crate) fn seeds(comparison: &Comparison) -> Option<(usize, usize)> {
    let counts = comparison
        .arms
        .iter()
        .filter(|arm| arm.arm != BASE)
        .filter_map(|arm| arm.greedy.as_ref())
        .flat_map(|accuracy| {
            let replicates = replicates(accuracy);
            replicates
                .into_iter()
                .map(|replicate| {
                    accuracy
                        .per_seed
                        .iter()
                        .filter(|s| s.replicate == replicate)
                        .count()
                })
                .collect::<Vec<_>>()
        });
    let from_differences = comparison.differences.iter().map(|d| d.n_seeds);
    let all: Vec<usize> = counts
        .chain(from_differences.filter(|_| leading(comparison) == Decoding::Sampled))
        .collect();
    Some((*all.iter().min()?, *all.iter().max()?))
}

/// The replicates that an accuracy was measured in.
fn replicates(accuracy: &Accuracy) -> Vec<usize> {
    let mut replicates: Vec<usize> = accuracy.per_seed.iter().map(|s| s.replicate).collect();
    replicates.sort_unstable();
    replicates.dedup();
    replicates
}

/// How many runs the page rests on: `3 seeds`, `one run`, `3 replicates × 3 seeds`.
pub(crate) fn replication(comparison: &Comparison) -> String {
    let seeds = match seeds(comparison) {
        None => "seeds unknown".to_owned(),
        Some((1, 1)) if comparison.n_replicates <= 1 => return ONE_RUN.to_owned(),
        Some((1, 1)) => "1 seed".to_owned(),
        Some((low, high)) if low == high => format!("{high} seeds"),
        Some((low, high)) => format!("{low} to {high} seeds"),
    };
    if comparison.n_replicates > 1 {
        format!("{} replicates × {seeds}", comparison.n_replicates)
    } else {
        seeds
    }
}

/// What the bootstrap of an accuracy draws from.
pub(crate) fn resampled(comparison: &Comparison) -> &'static str {
    match (comparison.n_replicates, seeds(comparison)) {
        (0 | 1, Some((_, 2..))) => "problems and fine-tuning seeds",
        (0 | 1, _) => "problems alone",
        _ => "problems, fine-tuning seeds and replicates",
    }
}

/// A replicate's name.
pub(crate) fn replicate_name(view: &RunView, replicate: usize) -> String {
    view.replicates
        .get(replicate)
        .filter(|name| !name.is_empty())
        .cloned()
        .unwrap_or_else(|| format!("replicate {replicate}"))
}

/// Whether no arm answers enough for accuracy to rank anything: every mean below 2 %.
pub(crate) fn near_zero(comparison: &Comparison) -> bool {
    let decoding = leading(comparison);
    let means: Vec<f64> = comparison
        .arms
        .iter()
        .filter_map(|arm| accuracy(arm, decoding))
        .map(|a| a.value)
        .collect();
    !means.is_empty() && means.iter().all(|mean| *mean < 0.02)
}
