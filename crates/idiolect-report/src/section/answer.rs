//! The answer in a sentence, and what else the numbers show: only what intervals and adjusted tests
//! support, whether or not it fits the hypothesis.

use idiolect_core::arms::Names;
use idiolect_core::comparison::{
    ArmResult, Comparison, Difference, Estimate, FactorAnalysis, Relation,
};
use idiolect_core::record::Decoding;

use super::{Block, Section, gold};
use crate::format::{self, fraction, fraction_interval, quantity, signed, signed_interval};
use crate::reading::{self, BASE};
use crate::view::RunView;

/// Two distances within this fraction of each other count as equally near.
const AS_NEAR: f64 = 0.1;

pub(super) fn section(view: &RunView) -> Section {
    let names = reading::names(&view.comparison);
    let mut blocks = vec![Block::Lead(lead(view, &names))];
    let findings = findings(view, &names);
    if !findings.is_empty() {
        blocks.push(Block::List(findings));
    }
    Section {
        id: "answer",
        title: "The answer".to_owned(),
        blocks,
    }
}

/// What opens of the planned contrasts.
fn planned(factors: &FactorAnalysis) -> Option<String> {
    let found: Vec<String> = factors
        .leading()
        .map(|(contrast, interval)| {
            let p = contrast.p_holm.map_or(String::new(), |p| {
                format!(", Holm-adjusted {}", format::p_equals(p))
            });
            format!(
                "{} {} {}{p}",
                contrast.factor,
                signed(contrast.effect),
                signed_interval((interval.low, interval.high))
            )
        })
        .collect();
    (!found.is_empty()).then(|| format!("By planned contrasts: {}.", found.join("; ")))
}

/// Who taught most and what is compared with it, in two to four sentences.
fn lead(view: &RunView, names: &Names) -> String {
    let comparison = &view.comparison;
    let decoding = reading::leading(comparison);
    let ordered = reading::ordered(comparison);
    let named = comparison
        .best
        .as_ref()
        .and_then(|best| reading::arm(comparison, &best.arm));
    let best = named.or(ordered.first().copied());
    let Some((best, accuracy)) =
        best.and_then(|arm| Some((arm, reading::accuracy(arm, decoding)?)))
    else {
        return "This run holds no evaluation yet, so it answers nothing.".to_owned();
    };
    if reading::near_zero(comparison) {
        return near_zero(view, &accuracy, names);
    }
    let mut sentences = vec![most(comparison, decoding, best, &accuracy, names)];
    sentences.extend(gaining_wrong_arm(view, decoding, names));
    sentences.extend(comparison.factors.as_ref().and_then(planned));
    sentences.extend(exception(comparison, decoding).map(|e| {
        let Exception { near, far, how, .. } = &e;
        format!(
            "Closeness alone does not rank the arms: {} is {how} {} and reaches {}.",
            names.of(&near.arm),
            names.of(&far.arm),
            fraction(e.reached)
        )
    }));
    sentences.join(" ")
}

/// The most accurate arm, with as much claim as its test against the untrained student carries.
fn most(
    comparison: &Comparison,
    decoding: Decoding,
    best: &ArmResult,
    accuracy: &Estimate,
    names: &Names,
) -> String {
    let one_run = reading::replication(comparison) == reading::ONE_RUN;
    let scored = format!(
        "{} {} of {}",
        fraction(accuracy.value),
        fraction_interval((accuracy.interval.low, accuracy.interval.high)),
        format::counted(comparison.n_problems, "problem")
    );
    if best.arm == BASE {
        return format!(
            "No arm makes this student more accurate than it was before fine-tuning ({scored})."
        );
    }
    let ranked = |arm: &&ArmResult| reading::accuracy(arm, decoding).is_some();
    if comparison.arms.len() > 1 && comparison.arms.iter().filter(ranked).count() < 2 {
        return format!(
            "Nothing can be compared: {} alone was evaluated this way ({scored}).",
            names.of(&best.arm)
        );
    }
    let arm = names.of(&best.arm);
    let before = reading::arm(comparison, BASE).and_then(|arm| reading::accuracy(arm, decoding));
    let before = before.map_or(String::new(), |b| {
        format!(", against {} before fine-tuning", fraction(b.value))
    });
    let relation = reading::difference(comparison, &best.arm, BASE, decoding).map(|d| d.relation);
    let others = comparison
        .best
        .as_ref()
        .map_or(&[][..], |b| &b.not_distinguished_from);
    let open = match others {
        [] => String::new(),
        [one] => format!("; {} is not distinguished from it", names.of(one)),
        many => format!(
            "; {} are not distinguished from it",
            format::listed(&names.of_all(many))
        ),
    };
    // Names outside the arm language may be of any models.
    if comparison.arms.iter().all(|arm| arm.description.is_empty()) {
        return format!("The most accurate is {arm}: {scored}{open}.");
    }
    match (relation, one_run) {
        (Some(Relation::Above) | None, false) => {
            format!("This student learns most from {arm}: {scored}{before}{open}.")
        }
        (Some(Relation::Above) | None, true) => {
            format!("In this one run the student learns most from {arm}: {scored}{before}{open}.")
        }
        _ => format!(
            "No arm is shown to teach this student anything: {arm}, the most accurate, reaches {scored}{before}."
        ),
    }
}

fn near_zero(view: &RunView, best: &Estimate, names: &Names) -> String {
    let comparison = &view.comparison;
    let problems = format::counted(comparison.n_problems, "problem");
    let none = if best.value > 0.0 {
        format!(
            "Accuracy cannot rank the arms here: none answers more than {} of {problems}.",
            fraction(best.value)
        )
    } else {
        format!("Accuracy cannot rank the arms here: no answer to any of {problems} is right.")
    };
    match gold::finding(view, names) {
        Some(finding) => format!("{none} {finding}"),
        None => none,
    }
}

/// The best arm of wrong answers that still gains on the untrained student.
fn gaining_wrong_arm(view: &RunView, decoding: Decoding, names: &Names) -> Option<String> {
    let d = wrong_only(view, decoding)
        .into_iter()
        .find(|d| d.relation == Relation::Above)?;
    Some(format!(
        "{}, whose answers are all wrong, still gains {} {} over the untrained student.",
        names.of(&d.arm),
        signed(d.difference),
        signed_interval((d.interval.low, d.interval.high))
    ))
}

fn findings(view: &RunView, names: &Names) -> Vec<String> {
    let comparison = &view.comparison;
    let decoding = reading::leading(comparison);
    let mut out = Vec::new();
    if reading::near_zero(comparison) {
        out.push(
            "The differences below show how large an effect could have gone unseen.".to_owned(),
        );
    } else {
        out.extend(wrong_arms(view, decoding, names));
        out.extend(below_base(comparison, decoding, names));
        out.extend(closeness(comparison, decoding, names));
        out.extend(dose(comparison, names));
    }
    out.push(replication(comparison));
    out
}

/// Arms without a single correct trace, against the untrained student; the most accurate first.
fn wrong_only(view: &RunView, decoding: Decoding) -> Vec<&Difference> {
    let is_wrong = |arm: &&ArmResult| {
        let counts = reading::facts(view, &arm.arm).and_then(|f| f.verdicts);
        counts.is_some_and(|c| c.correct == 0 && c.wrong > 0 && c.wrong == c.total)
    };
    reading::ordered(&view.comparison)
        .into_iter()
        .filter(is_wrong)
        .filter_map(|arm| reading::difference(&view.comparison, &arm.arm, BASE, decoding))
        .collect()
}

fn wrong_arms(view: &RunView, decoding: Decoding, names: &Names) -> Option<String> {
    let found = wrong_only(view, decoding);
    let phrase = |d: &&Difference| {
        let change = match d.relation {
            Relation::Above => "gains",
            Relation::Below => "loses",
            Relation::Unresolved => "shows no clear change",
        };
        format!("after {} it {change} ({})", d.arm, stated(d))
    };
    let arms: Vec<&str> = found.iter().map(|d| d.arm.as_str()).collect();
    let verb = if arms.len() == 1 { "holds" } else { "hold" };
    let phrases: Vec<String> = found.iter().map(phrase).collect();
    (!found.is_empty()).then(|| {
        format!(
            "{} {verb} wrong answers only. Against the student before fine-tuning, {}.",
            format::listed(&names.of_all(&arms)),
            phrases.join("; ")
        )
    })
}

fn below_base(comparison: &Comparison, decoding: Decoding, names: &Names) -> Option<String> {
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
            format::listed(&names.of_all(&below))
        )
    })
}

/// A nearer arm, or one as near, that is clearly less accurate.
struct Exception<'a> {
    near: &'a ArmResult,
    far: &'a ArmResult,
    how: &'static str,
    values: (f64, f64),
    reached: f64,
    other: f64,
}

/// The exception to "nearer arms teach more" with the largest gap in accuracy: intervals apart,
/// and no farther from the student than [`AS_NEAR`] allows.
fn exception(comparison: &Comparison, decoding: Decoding) -> Option<Exception<'_>> {
    let metric = reading::drawn_metric(comparison)?;
    let known = |arm: &'_ ArmResult| {
        Some((
            arm.closeness.get(&metric.name)?.value,
            reading::accuracy(arm, decoding)?,
        ))
    };
    let arms: Vec<(&ArmResult, f64, Estimate)> = reading::ordered(comparison)
        .into_iter()
        .filter_map(|arm| known(arm).map(|(value, accuracy)| (arm, value, accuracy)))
        .collect();
    let distance = |value: f64| -metric.direction.closeness(value);
    let mut found: Option<Exception<'_>> = None;
    for (near, near_value, reached) in &arms {
        for (far, far_value, other) in &arms {
            let slack = AS_NEAR * distance(*far_value).abs();
            let gap = other.value - reached.value;
            let is_exception = reached.interval.high < other.interval.low
                && distance(*near_value) <= distance(*far_value) + slack;
            if !is_exception || found.as_ref().is_some_and(|f| f.other - f.reached >= gap) {
                continue;
            }
            let nearer = distance(*near_value) < distance(*far_value) - slack;
            found = Some(Exception {
                near,
                far,
                how: if nearer {
                    "nearer to the student than"
                } else {
                    "as near to the student as"
                },
                values: (*near_value, *far_value),
                reached: reached.value,
                other: other.value,
            });
        }
    }
    found
}

/// The exception in numbers, or that there is none; then the correlation over arms.
fn closeness(comparison: &Comparison, decoding: Decoding, names: &Names) -> Option<String> {
    let metric = reading::drawn_metric(comparison)?;
    let unit = if metric.unit.is_empty() {
        reading::metric_name(&metric.name)
    } else {
        metric.unit.clone()
    };
    if comparison
        .arms
        .iter()
        .filter(|arm| arm.closeness.contains_key(&metric.name))
        .count()
        < 3
    {
        return None;
    }
    let opening = match exception(comparison, decoding) {
        None => "No arm that is nearer to the student is clearly less accurate than a farther one."
            .to_owned(),
        Some(e) => format!(
            "{} is {} {} ({} against {} {unit}), yet reaches {} where {} reaches {}.",
            names.of(&e.near.arm),
            e.how,
            names.of(&e.far.arm),
            quantity(e.values.0),
            quantity(e.values.1),
            fraction(e.reached),
            e.far.arm,
            fraction(e.other)
        ),
    };
    let correlation = reading::correlation(comparison, &metric.name, decoding).map(|c| {
        format!(
            " Over {} the rank correlation of closeness ({}) and accuracy is ρ\u{a0}=\u{a0}{} ({}).",
            format::counted(c.n_arms, "arm"),
            reading::metric_name(&metric.name),
            format::decimal(c.spearman, 2),
            format::p_equals(c.p_spearman)
        )
    });
    Some(opening + &correlation.unwrap_or_default())
}

fn dose(comparison: &Comparison, names: &Names) -> Option<String> {
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
        fraction(first.accuracy.value),
        names.of(&first.arm),
        fraction(last.accuracy.value),
        names.of(&last.arm),
        format::percent(last.dose)
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
    let one_replicate = "one student and one split; another may order close arms differently";
    if !reading::is_of_trainings(comparison) {
        return "Each name is one model as it is: intervals count the choice of problems only, not what training it once more would change.".to_owned();
    }
    match (reading::seeds(comparison), comparison.n_replicates) {
        (Some((1, _)), 0 | 1) => format!(
            "This is one run: a single fine-tuning seed per arm and {one_replicate}. Intervals count the choice of problems only, not the luck of training."
        ),
        (Some(_), 0 | 1) => format!(
            "Behind every mean: {} of fine-tuning, {one_replicate}.",
            reading::replication(comparison)
        ),
        (Some(_), replicates) => format!(
            "Behind every mean: {}; a replicate repeats the experiment independently. None of the {replicates} is left out.",
            reading::replication(comparison)
        ),
        (None, _) => "No fine-tuned student was evaluated.".to_owned(),
    }
}

/// A difference with its interval and adjusted p.
pub(super) fn stated(d: &Difference) -> String {
    format!(
        "{} {}, Holm-adjusted {}",
        signed(d.difference),
        signed_interval((d.interval.low, d.interval.high)),
        format::p_equals(d.p_holm)
    )
}
