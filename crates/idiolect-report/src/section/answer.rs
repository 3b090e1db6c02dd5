//! The answer in a sentence, and what else the numbers say: only what intervals and adjusted tests
//! support, whether or not it fits the hypothesis.

use idiolect_core::comparison::{ArmResult, Comparison, Difference, Relation};
use idiolect_core::record::Decoding;

use super::{Block, Section, gold};
use crate::reading::{self, BASE};
use crate::view::RunView;
use crate::words::{self, gain, gains, quantity, share, shares};

/// Two distances within this share of each other count as equally near.
const AS_NEAR: f64 = 0.1;

pub(super) fn section(view: &RunView) -> Section {
    let mut blocks = vec![Block::Lead(lead(view))];
    let findings = findings(view);
    if !findings.is_empty() {
        blocks.push(Block::List(findings));
    }
    Section {
        id: "answer",
        title: "The answer".to_owned(),
        blocks,
    }
}

/// The comparison's own sentence, or one made from its means where it has none.
fn lead(view: &RunView) -> String {
    let comparison = &view.comparison;
    if !comparison.answer.trim().is_empty() {
        return comparison.answer.clone();
    }
    let decoding = reading::leading(comparison);
    let first = reading::ordered(comparison)
        .into_iter()
        .find_map(|arm| Some((arm, reading::accuracy(arm, decoding)?)));
    match first {
        None => "This run holds no evaluation yet, so it answers nothing.".to_owned(),
        Some((arm, a)) => format!(
            "The most accurate arm is {} ({} {} over {}).",
            arm.arm,
            share(a.value),
            shares((a.interval.low, a.interval.high)),
            words::counted(comparison.n_problems, "problem")
        ),
    }
}

fn findings(view: &RunView) -> Vec<String> {
    let comparison = &view.comparison;
    let decoding = reading::leading(comparison);
    let mut out = Vec::new();
    if reading::near_zero(comparison) {
        out.extend(nothing_to_rank(comparison, decoding));
        out.extend(gold::finding(view));
    } else {
        out.extend(wrong_arms(view, decoding));
        out.extend(below_base(comparison, decoding));
        out.extend(closeness(comparison, decoding));
        out.extend(dose(comparison));
    }
    out.push(replication(comparison));
    out
}

fn nothing_to_rank(comparison: &Comparison, decoding: Decoding) -> Option<String> {
    let best = reading::ordered(comparison)
        .into_iter()
        .find_map(|arm| reading::accuracy(arm, decoding))?;
    Some(format!(
        "No arm answers more than {} of the {}, so accuracy cannot rank the arms here; the differences below say how large an effect could have gone unseen.",
        share(best.value),
        words::counted(comparison.n_problems, "problem")
    ))
}

/// Arms without a single correct trace, against the untrained student.
fn wrong_arms(view: &RunView, decoding: Decoding) -> Option<String> {
    let wrong_only = |arm: &&ArmResult| {
        let counts = reading::facts(view, &arm.arm).and_then(|f| f.verdicts);
        counts.is_some_and(|c| c.correct == 0 && c.wrong > 0 && c.wrong == c.total)
    };
    let found: Vec<&Difference> = reading::ordered(&view.comparison)
        .into_iter()
        .filter(wrong_only)
        .filter_map(|arm| reading::difference(&view.comparison, &arm.arm, BASE, decoding))
        .collect();
    let phrase = |d: &&Difference| {
        let change = match d.relation {
            Relation::Above => "gains",
            Relation::Below => "loses",
            Relation::Unresolved => "shows no clear change",
        };
        format!("after {} it {change} ({})", d.arm, stated(d))
    };
    let names: Vec<&str> = found.iter().map(|d| d.arm.as_str()).collect();
    let verb = if names.len() == 1 { "holds" } else { "hold" };
    let phrases: Vec<String> = found.iter().map(phrase).collect();
    (!found.is_empty()).then(|| {
        format!(
            "{} {verb} wrong answers only. Against the student before fine-tuning, {}.",
            words::listed(&names),
            phrases.join("; ")
        )
    })
}

fn below_base(comparison: &Comparison, decoding: Decoding) -> Option<String> {
    let is_below = |arm: &&ArmResult| {
        let d = reading::difference(comparison, &arm.arm, BASE, decoding);
        d.is_some_and(|d| d.relation == Relation::Below)
    };
    let below: Vec<&str> = reading::ordered(comparison)
        .into_iter()
        .filter(is_below)
        .map(|arm| arm.arm.as_str())
        .collect();
    (!below.is_empty()).then(|| {
        format!(
            "Fine-tuning on {} leaves the student less accurate than before.",
            words::listed(&below)
        )
    })
}

/// The clearest exception to "nearer arms teach more", or that there is none; then the correlation.
fn closeness(comparison: &Comparison, decoding: Decoding) -> Option<String> {
    let metric = reading::drawn_metric(comparison)?;
    let unit = if metric.unit.is_empty() {
        reading::metric_name(&metric.name)
    } else {
        metric.unit.clone()
    };
    let near = |arm: &ArmResult| arm.closeness.get(&metric.name).map(|e| e.value);
    let arms: Vec<(&ArmResult, f64)> = reading::ordered(comparison)
        .into_iter()
        .filter_map(|arm| Some((arm, near(arm)?)))
        .collect();
    if arms.len() < 3 {
        return None;
    }
    let distance = |value: f64| -metric.direction.nearness(value);
    let mut exception: Option<(f64, String)> = None;
    for (a, near_a) in &arms {
        for (b, near_b) in &arms {
            let (Some(acc_a), Some(acc_b)) = (
                reading::accuracy(a, decoding),
                reading::accuracy(b, decoding),
            ) else {
                continue;
            };
            let slack = AS_NEAR * distance(*near_b).abs();
            let gap = acc_b.value - acc_a.value;
            let apart = acc_a.interval.high < acc_b.interval.low;
            if !apart
                || distance(*near_a) > distance(*near_b) + slack
                || exception.as_ref().is_some_and(|(g, _)| *g >= gap)
            {
                continue;
            }
            let how = if distance(*near_a) < distance(*near_b) - slack {
                "nearer to the student than"
            } else {
                "as near to the student as"
            };
            exception = Some((
                gap,
                format!(
                    "Closeness alone does not rank the arms: {} is {how} {} ({} against {} {unit}), yet reaches {} where {} reaches {}.",
                    a.arm,
                    b.arm,
                    quantity(*near_a),
                    quantity(*near_b),
                    share(acc_a.value),
                    b.arm,
                    share(acc_b.value)
                ),
            ));
        }
    }
    let opening = exception.map_or_else(
        || "No nearer arm is clearly less accurate than a farther one.".to_owned(),
        |(_, sentence)| sentence,
    );
    let correlation = reading::correlation(comparison, &metric.name, decoding).map(|c| {
        format!(
            " Over {} arms the rank correlation of nearness ({}) and accuracy is ρ\u{a0}=\u{a0}{} ({}).",
            c.n_arms,
            reading::metric_name(&metric.name),
            words::decimal(c.spearman, 2),
            words::p_equals(c.p_spearman)
        )
    });
    Some(opening + &correlation.unwrap_or_default())
}

fn dose(comparison: &Comparison) -> Option<String> {
    let [first, .., last] = comparison.dose_curve.as_slice() else {
        return None;
    };
    let falls = comparison
        .dose_curve
        .windows(2)
        .all(|w| w[1].accuracy.value < w[0].accuracy.value);
    let apart = last.accuracy.interval.high < first.accuracy.interval.low;
    let ends = format!(
        "from {} ({}) to {} ({}, {} of steps flawed)",
        share(first.accuracy.value),
        first.arm,
        share(last.accuracy.value),
        last.arm,
        words::percent(last.dose)
    );
    Some(match (falls, apart) {
        (true, true) => format!("Accuracy falls with every dose of injected flaws, {ends}."),
        (false, true) => format!(
            "Accuracy falls with the dose of injected flaws {ends}, though not at every step."
        ),
        _ => format!(
            "The dose of injected flaws shows no clear effect: {ends}, with overlapping intervals."
        ),
    })
}

fn replication(comparison: &Comparison) -> String {
    let one_world =
        "one student and one teacher initialisation; another pair may order close arms differently";
    match (reading::seeds(comparison), comparison.n_worlds) {
        (Some((1, _)), 0 | 1) => format!(
            "This is one run: a single fine-tuning seed per arm and {one_world}. Intervals count the choice of problems only, not the luck of training."
        ),
        (Some(_), 0 | 1) => format!(
            "Behind every mean: {} of fine-tuning, {one_world}.",
            reading::replication(comparison)
        ),
        (Some(_), worlds) => format!(
            "Behind every mean: {}; a world has its own student, teacher and split. None of the {worlds} is left out.",
            reading::replication(comparison)
        ),
        (None, _) => "No fine-tuned student was evaluated.".to_owned(),
    }
}

/// A difference with its interval and adjusted p.
pub(super) fn stated(d: &Difference) -> String {
    format!(
        "{} {}, Holm-adjusted {}",
        gain(d.difference),
        gains((d.interval.low, d.interval.high)),
        words::p_equals(d.p_holm)
    )
}
