//! Accuracy by arm: a dot for the mean, a line for its interval, small marks for single seeds.

use idiolect_core::comparison::{ArmResult, Comparison, Estimate};
use idiolect_core::record::Decoding;
use maud::{Markup, html};

use super::Figure;
use crate::format;
use crate::reading::{self, BASE};
use crate::svg::{self, Scale};
use crate::table::{csv, csv_number};
use crate::view::RunView;

const ROW: f64 = 34.0;
const TOP: f64 = 30.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = svg::WIDTH - 150.0;

/// The figure; `None` where no arm was evaluated.
pub(crate) fn figure(view: &RunView) -> Option<Figure> {
    let comparison = &view.comparison;
    let decoding = reading::leading(comparison);
    let arms: Vec<(&ArmResult, Estimate)> = reading::ordered(comparison)
        .into_iter()
        .filter_map(|arm| Some((arm, reading::accuracy(arm, decoding)?)))
        .collect();
    if arms.is_empty() {
        return None;
    }
    let high = arms
        .iter()
        .map(|(arm, a)| largest(arm, a))
        .fold(0.0, f64::max);
    let scale = Scale::linear((0.0, svg::rounded_up(high, 5)), (LEFT, RIGHT));
    let bottom = TOP + ROW * arms.len() as f64;
    let base = reading::arm(comparison, BASE)
        .and_then(|arm| reading::accuracy(arm, decoding))
        .map(|a| a.value);
    let body = html! {
        (axis(scale, bottom, &reading::measure(comparison, decoding)))
        @if let Some(base) = base { (svg::line("reference", (scale.at(base), TOP - 8.0), (scale.at(base), bottom))) }
        (svg::text("label muted", "end", svg::WIDTH, TOP - 12.0, &format!("mean, {} interval", reading::coverage(comparison))))
        @for (i, (arm, accuracy)) in arms.iter().enumerate() {
            (row(arm, accuracy, decoding, scale, TOP + ROW * (i as f64 + 0.5)))
        }
    };
    let title = format!(
        "{} by arm",
        capital(&reading::measure(comparison, decoding))
    );
    Some(Figure {
        name: "figure-accuracy",
        drawing: svg::drawing(
            "figure-accuracy",
            bottom + 46.0,
            &title,
            &spoken(&arms),
            body,
        ),
        caption: caption(view, decoding, base),
    })
}

/// One line per arm, decoding, replicate and seed, and one for each mean.
pub(crate) fn rows(view: &RunView) -> String {
    let mut rows = Vec::new();
    for arm in reading::ordered(&view.comparison) {
        let mut row =
            |decoding: &str, replicate: String, seed: String, value: f64, low: f64, high: f64| {
                let numbers = [value, low, high].map(csv_number);
                rows.push(
                    [
                        vec![arm.arm.clone(), decoding.to_owned(), replicate, seed],
                        numbers.to_vec(),
                    ]
                    .concat(),
                );
            };
        if let Some(a) = &arm.greedy {
            row(
                "greedy",
                String::new(),
                String::new(),
                a.mean,
                a.interval.low,
                a.interval.high,
            );
            for s in &a.per_seed {
                row(
                    "greedy",
                    s.replicate.to_string(),
                    s.seed.to_string(),
                    s.accuracy,
                    s.wilson.low,
                    s.wilson.high,
                );
            }
        }
        if let Some(a) = &arm.sampled {
            row(
                &format!("avg@{}", a.k),
                String::new(),
                String::new(),
                a.avg_at_k,
                a.interval.low,
                a.interval.high,
            );
        }
    }
    csv(
        &[
            "arm",
            "decoding",
            "replicate",
            "seed",
            "accuracy",
            "low",
            "high",
        ],
        rows,
    )
}

fn largest(arm: &ArmResult, accuracy: &Estimate) -> f64 {
    let seeds = arm
        .greedy
        .iter()
        .flat_map(|g| &g.per_seed)
        .map(|s| s.accuracy);
    seeds
        .chain([accuracy.value, accuracy.interval.high])
        .fold(0.0, f64::max)
}

fn axis(scale: Scale, bottom: f64, name: &str) -> Markup {
    let ticks = scale.ticks(5);
    let labels = svg::tick_labels(&ticks, true);
    html! {
        @for (tick, label) in ticks.iter().zip(&labels) {
            (svg::line("grid", (scale.at(*tick), TOP), (scale.at(*tick), bottom)))
            (svg::text("label muted", "middle", scale.at(*tick), bottom + 17.0, label))
        }
        (svg::text("label", "middle", (LEFT + RIGHT) / 2.0, bottom + 38.0, name))
    }
}

fn row(arm: &ArmResult, accuracy: &Estimate, decoding: Decoding, scale: Scale, y: f64) -> Markup {
    let seeds = match (&arm.greedy, decoding) {
        (Some(greedy), Decoding::Greedy) if greedy.per_seed.len() > 1 => greedy.per_seed.as_slice(),
        _ => &[],
    };
    let numbers = format!(
        "{} {}",
        format::fraction(accuracy.value),
        format::fraction_interval((accuracy.interval.low, accuracy.interval.high))
    );
    html! {
        (label(arm, LEFT - 14.0, y))
        (svg::whisker_across(y, scale.at(accuracy.interval.low), scale.at(accuracy.interval.high)))
        @for seed in seeds { (svg::mark("seed", seed.replicate, scale.at(seed.accuracy), y + 8.0, 2.4)) }
        (svg::mark("mean", 0, scale.at(accuracy.value), y, 4.2))
        (svg::text("label number", "end", svg::WIDTH, y + 4.5, &numbers))
    }
}

fn caption(view: &RunView, decoding: Decoding, base: Option<f64>) -> String {
    let comparison = &view.comparison;
    let mut out = format!(
        "{} by arm on the same {}, {}. Filled dots are means; lines are {} bootstrap intervals over {}.",
        capital(&reading::measure(comparison, decoding)),
        format::counted(comparison.n_problems, "problem"),
        reading::replication(comparison),
        reading::coverage(comparison),
        reading::resampled(comparison),
    );
    let many = decoding == Decoding::Greedy
        && comparison
            .arms
            .iter()
            .any(|arm| arm.greedy.as_ref().is_some_and(|g| g.per_seed.len() > 1));
    if many {
        out += " Open marks under a line are single seeds";
        if comparison.n_replicates > 1 {
            let shapes: Vec<String> = (0..comparison.n_replicates)
                .map(|w| format!("{} {}", svg::mark_name(w), reading::replicate_name(view, w)))
                .collect();
            out += &format!(" ({})", shapes.join(", "));
        }
        out += ".";
    }
    out += reading::wilson_note(comparison);
    if base.is_some() {
        out += " The dashed line is the student before fine-tuning (base).";
    }
    out
}

fn spoken(arms: &[(&ArmResult, Estimate)]) -> String {
    let each = arms.iter().map(|(arm, a)| {
        format!(
            "{} {} {}",
            reading::full(arm),
            format::fraction(a.value),
            format::fraction_interval((a.interval.low, a.interval.high))
        )
    });
    each.collect::<Vec<_>>().join("; ") + "."
}

/// An arm's name with its description under it, both ending at `right`.
pub(crate) fn label(arm: &ArmResult, right: f64, y: f64) -> Markup {
    let class = if arm.arm == BASE {
        "name muted"
    } else {
        "name"
    };
    let description = cut(&format::inline(&arm.description), 30);
    let name = shorten(&arm.arm);
    html! {
        @if description.is_empty() { (svg::text(class, "end", right, y + 4.5, &name)) }
        @else {
            (svg::text(class, "end", right, y - 1.0, &name))
            (svg::text("small muted", "end", right, y + 11.0, &description))
        }
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most - 1).chain(['…']).collect()
    }
}

/// A name that fits the label column.
pub(crate) fn shorten(name: &str) -> String {
    cut(&format::inline(name), 11)
}

/// The first letter as a capital.
pub(crate) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// Whether a comparison has anything to draw here.
pub(crate) fn missing(comparison: &Comparison) -> Option<&'static str> {
    let any = comparison
        .arms
        .iter()
        .any(|arm| arm.greedy.is_some() || arm.sampled.is_some());
    (!any).then_some("No arm was evaluated in this run, so there is no accuracy to show.")
}
