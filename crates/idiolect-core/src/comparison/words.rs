//! Comparisons in plain words: the verdict of a difference, the answer of a run, and warnings.

use super::answers::Answers;
use super::{ArmData, ArmResult, Best, Correlation, Difference, Relation, measure};
use crate::record::Decoding;

/// Fewer problems than this cannot show differences of a few points.
const FEW_PROBLEMS: usize = 200;
/// An arm of fewer rows draws a warning.
const FEW_ROWS: usize = 30;

/// For example `W > base by 7.8 points [5.4, 10.6], 3 seeds`. A difference that rests on one
/// training says so: it may be the seed's and not the arm's.
pub(super) fn verdict(d: &Difference) -> String {
    let points = |x: f64| format!("{:.1}", 100.0 * x);
    let (low, high) = (d.interval.low, d.interval.high);
    let found = match d.relation {
        Relation::Above => format!(
            "{} > {} by {} points [{}, {}]",
            d.arm,
            d.baseline,
            points(d.difference),
            points(low),
            points(high)
        ),
        Relation::Below => {
            format!(
                "{} < {} by {} points [{}, {}]",
                d.arm,
                d.baseline,
                points(-d.difference),
                points(-high),
                points(-low)
            )
        }
        Relation::Unresolved => format!(
            "{} and {} are not told apart: {:+.1} points [{}, {}]",
            d.arm,
            d.baseline,
            100.0 * d.difference,
            points(low),
            points(high)
        ),
    };
    format!("{found}, {}", runs(d))
}

fn runs(d: &Difference) -> String {
    let seeds = match d.n_seeds {
        1 if d.per_world.len() == 1 => "on these problems, one training run".to_owned(),
        1 => "one seed".to_owned(),
        n => format!("{n} seeds"),
    };
    if d.per_world.len() > 1 {
        format!("{seeds} in each of {} worlds", d.per_world.len())
    } else {
        seeds
    }
}

/// `a, b and c`.
pub(super) fn list(items: &[&str]) -> String {
    match items {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// The answer that opens a report: which arm taught most, by how much, and whether closeness tells.
pub(super) fn answer(
    results: &[ArmResult],
    differences: &[Difference],
    best: Option<&Best>,
    baselines: &[String],
    correlations: &[Correlation],
    answers: &Answers,
) -> String {
    let Some((best, result)) =
        best.and_then(|b| Some((b, results.iter().find(|r| r.arm == b.arm)?)))
    else {
        return "Nothing was evaluated.".to_owned();
    };
    let decoding = if result.greedy.is_some() {
        Decoding::Greedy
    } else {
        Decoding::Sampled
    };
    let share = 100.0 * measure::accuracy(result, decoding).unwrap_or(0.0);
    let scored = format!("{share:.1} % of {} problems right", answers.problems.len());
    let against = baselines.first().and_then(|baseline| {
        differences
            .iter()
            .find(|d| d.arm == best.arm && d.baseline == *baseline && d.decoding == decoding)
    });
    let mut text = match against {
        Some(d) if d.relation == Relation::Above => {
            // "Most" is a claim over all arms; it is made only where all of them are told apart.
            let claim = match best.not_told_apart_from.is_empty() {
                true => format!("{} taught this student most", best.arm),
                false => format!("The most accurate arm is {}", best.arm),
            };
            format!("{claim}: {scored}. {}.", d.verdict)
        }
        Some(d) => format!(
            "No arm is shown to have taught this student anything: {}, the most accurate, gets {scored}. {}.",
            best.arm, d.verdict
        ),
        None => format!(
            "No arm is more accurate than {}, which gets {scored}.",
            best.arm
        ),
    };
    match best.not_told_apart_from.as_slice() {
        [] => {}
        [only] => text += &format!(" {only} is not told apart from {}.", best.arm),
        several => {
            let names: Vec<&str> = several.iter().map(String::as_str).collect();
            text += &format!(" {} are not told apart from {}.", list(&names), best.arm);
        }
    }
    if let Some(c) = correlations
        .iter()
        .find(|c| c.metric == "nll_per_token" && c.decoding == decoding)
    {
        text += " ";
        text += &on_closeness(c);
    }
    text
}

fn on_closeness(c: &Correlation) -> String {
    let found = if c.p_spearman >= 0.05 {
        "surprisal alone is not shown to rank the arms"
    } else if c.spearman > 0.0 {
        "arms nearer to the student taught more"
    } else {
        "arms nearer to the student taught less"
    };
    let p = if c.p_spearman < 0.001 {
        "p < 0.001".to_owned()
    } else {
        format!("p = {:.3}", c.p_spearman)
    };
    format!(
        "Over {} arms {found} (Spearman {:.2} of closeness and accuracy, {p}).",
        c.n_arms, c.spearman
    )
}

/// What a reader must know before believing the numbers.
pub(super) fn warnings(results: &[ArmResult], answers: &Answers, arms: &[ArmData]) -> Vec<String> {
    let mut warnings = Vec::new();
    if answers.problems.len() < FEW_PROBLEMS {
        warnings.push(format!(
            "{} problems are few: differences of some points cannot be told",
            answers.problems.len()
        ));
    }
    for result in results {
        warnings.extend(about_answers(result));
    }
    let mut small: Vec<&ArmData> = arms.iter().filter(|data| data.rows < FEW_ROWS).collect();
    small.sort_by(|a, b| (&a.arm, a.world).cmp(&(&b.arm, b.world)));
    warnings.extend(
        small
            .iter()
            .map(|data| format!("arm `{}` was trained on {} rows only", data.arm, data.rows)),
    );
    warnings.extend(identical(answers));
    warnings
}

fn about_answers(result: &ArmResult) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(greedy) = &result.greedy else {
        return warnings;
    };
    let (arm, counts) = (&result.arm, &greedy.counts);
    if arm != "base" && greedy.per_seed.len() == 1 {
        warnings.push(format!("arm `{arm}` is one training run: how much its accuracy depends on the seed is not known"));
    }
    if 10 * counts.truncated > counts.total {
        warnings.push(format!(
            "{} of {} greedy answers of arm `{arm}` were cut off by the token limit",
            counts.truncated, counts.total
        ));
    }
    if counts.ungraded > 0 {
        warnings.push(format!(
            "{} of {} greedy answers of arm `{arm}` could not be graded and count as not correct",
            counts.ungraded, counts.total
        ));
    }
    warnings
}

/// Arms whose checkpoints answer every problem alike are one arm under two names, or a mistake.
fn identical(answers: &Answers) -> Vec<String> {
    let scores = |arm: &str| -> Vec<(usize, u64, Vec<f64>)> {
        let worlds = answers.of(arm, Decoding::Greedy);
        worlds
            .values()
            .flatten()
            .map(|c| (c.world, c.seed, c.scores.clone()))
            .collect()
    };
    let all: Vec<_> = answers.arms.iter().map(|arm| (arm, scores(arm))).collect();
    let mut warnings = Vec::new();
    for (at, (arm, scores)) in all.iter().enumerate() {
        let some_right = scores.iter().any(|(_, _, s)| s.iter().any(|x| *x > 0.0));
        for (other, _) in all[..at]
            .iter()
            .filter(|(_, earlier)| some_right && earlier == scores)
        {
            warnings.push(format!("arms `{other}` and `{arm}` get exactly the same problems right: were they trained on the same rows?"));
        }
    }
    warnings
}
