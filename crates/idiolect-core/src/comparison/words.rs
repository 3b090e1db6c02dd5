//! Comparisons in plain words: the verdict of a difference, the answer of a run, and warnings.

use super::answers::Answers;
use super::{ArmData, ArmResult, Best, Correlation, Difference, FactorAnalysis, Relation, measure};
use crate::arms::Names;
use crate::record::Decoding;
use crate::statistics::few::FEWEST;

/// Fewer problems than this cannot show differences of a few points.
const FEW_PROBLEMS: usize = 200;
/// An arm of fewer rows draws a warning.
const FEW_ROWS: usize = 30;

/// For example `W > base by 7.8 points [5.4, 10.6], 3 seeds`. A difference that rests on one
/// training states so: it may be the seed's and not the arm's.
pub(super) fn verdict(d: &Difference) -> String {
    verdict_of(d, &Names::default())
}

fn verdict_of(d: &Difference, names: &Names) -> String {
    let (arm, baseline) = (names.of(&d.arm), names.of(&d.baseline));
    let points = |x: f64| format!("{:.1}", 100.0 * x);
    let (low, high) = (d.interval.low, d.interval.high);
    let found = match d.relation {
        Relation::Above => format!(
            "{arm} > {baseline} by {} points [{}, {}]",
            points(d.difference),
            points(low),
            points(high)
        ),
        Relation::Below => {
            format!(
                "{arm} < {baseline} by {} points [{}, {}]",
                points(-d.difference),
                points(-high),
                points(-low)
            )
        }
        Relation::Unresolved => format!(
            "{arm} and {baseline} are not distinguished: {:+.1} points [{}, {}]",
            100.0 * d.difference,
            points(low),
            points(high)
        ),
    };
    format!("{found}, {}", runs(d))
}

fn runs(d: &Difference) -> String {
    let seeds = match d.n_seeds {
        1 if d.per_replicate.len() == 1 => "on these problems, one training run".to_owned(),
        1 => "one seed".to_owned(),
        n => format!("{n} seeds"),
    };
    if d.per_replicate.len() > 1 {
        format!("{seeds} in each of {} replicates", d.per_replicate.len())
    } else {
        seeds
    }
}

/// `a, b and c`.
pub(super) fn list<S: AsRef<str>>(items: &[S]) -> String {
    match items {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [rest @ .., last] => {
            let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", rest.join(", "), last.as_ref())
        }
    }
}

fn problems(n: usize) -> String {
    if n == 1 {
        "1 problem".to_owned()
    } else {
        format!("{n} problems")
    }
}

fn called(decoding: Decoding) -> &'static str {
    match decoding {
        Decoding::Greedy => "greedy",
        Decoding::Sampled => "sampled",
    }
}

/// The answer that opens a report: which arm taught most, by how much, and whether closeness
/// predicts it.
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
    let names = Names::new(
        results
            .iter()
            .map(|result| (result.arm.as_str(), result.description.as_str())),
    );
    let scored = format!("{share:.1} % of {} right", problems(answers.problems.len()));
    let (with, without): (Vec<&ArmResult>, Vec<&ArmResult>) = results
        .iter()
        .partition(|result| measure::accuracy(result, decoding).is_some());
    let unranked = list(&names.of_all(&without.iter().map(|r| &r.arm).collect::<Vec<_>>()));
    let unranked = match without.len() {
        0 => String::new(),
        1 => format!(
            " {unranked} has no {} answers and is not ranked.",
            called(decoding)
        ),
        _ => format!(
            " {unranked} have no {} answers and are not ranked.",
            called(decoding)
        ),
    };
    if with.len() == 1 && !without.is_empty() {
        let only = names.of(&result.arm);
        return format!(
            "Nothing can be compared: {only} alone has {} answers, {scored}.{unranked}",
            called(decoding)
        );
    }
    let against = baselines.first().and_then(|baseline| {
        differences
            .iter()
            .find(|d| d.arm == best.arm && d.baseline == *baseline && d.decoding == decoding)
    });
    let mut text = match against {
        Some(d) if d.relation == Relation::Above => {
            // "Most" is a claim over all arms; it is made only where all of them are distinguished.
            let arm = names.of(&best.arm);
            let claim = match best.not_distinguished_from.is_empty() && without.is_empty() {
                true => format!("{arm} taught this student most"),
                false => format!("The most accurate arm is {arm}"),
            };
            format!("{claim}: {scored}. {}.", verdict_of(d, &names))
        }
        Some(d) => format!(
            "No arm is shown to have taught this student anything: {}, the most accurate, gets {scored}. {}.",
            names.of(&best.arm),
            verdict_of(d, &names)
        ),
        None => format!(
            "No arm is more accurate than {}, which gets {scored}.",
            names.of(&best.arm)
        ),
    };
    match best.not_distinguished_from.as_slice() {
        [] => {}
        [only] => {
            text += &format!(
                " {} is not distinguished from {}.",
                names.of(only),
                best.arm
            );
        }
        several => {
            let others = list(&names.of_all(several));
            text += &format!(" {others} are not distinguished from {}.", best.arm);
        }
    }
    text += &unranked;
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

/// What a run opens with of its planned contrasts.
pub(super) fn on_factors(factors: &FactorAnalysis) -> Option<String> {
    let found: Vec<String> = factors
        .leading()
        .map(|(contrast, interval)| {
            let p = contrast.p_holm.map_or(String::new(), |p| match p < 0.001 {
                true => ", Holm-adjusted p < 0.001".to_owned(),
                false => format!(", Holm-adjusted p = {p:.3}"),
            });
            format!(
                "{} {:+.1} points [{:+.1}, {:+.1}]{p}",
                contrast.factor,
                100.0 * contrast.effect,
                100.0 * interval.low,
                100.0 * interval.high
            )
        })
        .collect();
    (!found.is_empty()).then(|| format!("By planned contrasts: {}.", found.join("; ")))
}

/// What a reader must know before believing the numbers.
pub(super) fn warnings(
    results: &[ArmResult],
    baselines: &[String],
    answers: &Answers,
    arms: &[ArmData],
) -> Vec<String> {
    let mut warnings = Vec::new();
    match answers.problems.len() {
        n if n < FEWEST => warnings.push(format!(
            "{} cannot distinguish any two arms: at least {FEWEST} must differ",
            problems(n)
        )),
        n if n < FEW_PROBLEMS => warnings.push(format!(
            "{n} problems are few: differences of some points cannot be detected"
        )),
        _ => {}
    }
    warnings.extend(other_decodings(results, baselines));
    warnings.extend(other_numbers_of_samples(results, answers.common_k));
    for result in results {
        warnings.extend(about_answers(result));
    }
    let mut small: Vec<&ArmData> = arms.iter().filter(|data| data.rows < FEW_ROWS).collect();
    small.sort_by(|a, b| (&a.arm, a.replicate).cmp(&(&b.arm, b.replicate)));
    warnings.extend(
        small
            .iter()
            .map(|data| format!("arm `{}` was trained on {} rows only", data.arm, data.rows)),
    );
    warnings.extend(identical(answers));
    warnings
}

/// Greedy and sampled answers are never held against each other: who has one kind alone meets nobody
/// who has the other.
fn other_decodings(results: &[ArmResult], baselines: &[String]) -> Vec<String> {
    let has = |result: &ArmResult, decoding| measure::accuracy(result, decoding).is_some();
    let kinds = [Decoding::Greedy, Decoding::Sampled];
    let mut warnings = Vec::new();
    for baseline in results.iter().filter(|r| baselines.contains(&r.arm)) {
        for arm in results.iter().filter(|r| r.arm != baseline.arm) {
            let apart = !kinds
                .iter()
                .any(|kind| has(arm, *kind) && has(baseline, *kind));
            let Some(kind) = kinds.into_iter().find(|kind| apart && has(arm, *kind)) else {
                continue;
            };
            let other = if kind == Decoding::Greedy {
                Decoding::Sampled
            } else {
                Decoding::Greedy
            };
            warnings.push(format!(
                "`{}` has {} answers only and `{}` {} ones only: they are not compared; evaluate both with the same decoding",
                arm.arm, called(kind), baseline.arm, called(other)
            ));
        }
    }
    if !warnings.is_empty() {
        return warnings;
    }
    for kind in kinds {
        let (with, without): (Vec<&ArmResult>, Vec<&ArmResult>) =
            results.iter().partition(|result| has(result, kind));
        if !with.is_empty() {
            warnings.extend(without.iter().map(|result| {
                format!(
                    "arm `{}` has no {} answers and is left out where those are compared",
                    result.arm,
                    called(kind)
                )
            }));
        }
    }
    warnings
}

/// A majority of more votes is a better majority: arms with more samples than others would gain.
fn other_numbers_of_samples(results: &[ArmResult], common_k: usize) -> Option<String> {
    let more: Vec<String> = results
        .iter()
        .filter_map(|result| Some((&result.arm, result.sampled.as_ref()?.k)))
        .filter(|(_, k)| *k > common_k)
        .map(|(arm, k)| format!("`{arm}` {k}"))
        .collect();
    (!more.is_empty()).then(|| {
        format!(
            "the evaluations have different numbers of samples a problem ({common_k}, but {}): the majority is over the first {common_k} of each; \
             the average is over all and favours nobody",
            list(&more)
        )
    })
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
        let replicates = answers.of(arm, Decoding::Greedy);
        replicates
            .values()
            .flatten()
            .map(|c| (c.replicate, c.seed, c.scores.clone()))
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
