//! Accuracy by arm: a dot for the mean, a line for its interval, small marks for single seeds.

use idiolect_core::comparison::{ArmResult, Comparison, Estimate, SeedAccuracy};
use idiolect_core::record::Decoding;
use maud::{Markup, html};

use super::Figure;
use crate::format;
use crate::reading::{self, BASE};
use crate::svg::{self, Drawn, Scale, Size};
use crate::table::{csv, csv_number};
use crate::view::RunView;

/// Where one arm to a row is drawn: beside its label on a wide page, under it on a narrow one.
pub(crate) struct Rows {
    size: Size,
    /// Both ends of the scale.
    pub(crate) across: (f64, f64),
    height: f64,
    top: f64,
}

impl Rows {
    /// Of a size; `numbers` is the width that the numbers at the right take on a wide page.
    pub(crate) fn of(size: Size, numbers: f64) -> Self {
        Self {
            size,
            across: size.pick((190.0, size.width() - numbers), (8.0, size.width() - 14.0)),
            height: size.pick(34.0, 50.0),
            top: size.pick(30.0, 26.0),
        }
    }

    /// The upper and lower end of all rows.
    pub(crate) fn span(&self, rows: usize) -> (f64, f64) {
        (self.top, self.top + self.height * rows as f64)
    }

    /// Where the value of a row is drawn.
    pub(crate) fn at(&self, row: usize) -> f64 {
        let in_row = self.size.pick(self.height / 2.0, 31.0);
        self.top + self.height * row as f64 + in_row
    }

    /// The name of a row's arm with what it holds, its numbers, and the same when pointed at.
    pub(crate) fn label(&self, row: usize, arm: &ArmResult, numbers: &str, values: &str) -> Markup {
        let class = if arm.arm == BASE {
            "name muted"
        } else {
            "name"
        };
        let (y, name) = (self.at(row), shorten(&arm.arm));
        let width = self.size.width();
        let named = match self.size {
            Size::Wide => {
                let right = self.across.0 - 14.0;
                let description = cut(&format::inline(&arm.description), 30);
                html! {
                    @if description.is_empty() { (svg::text(class, "end", right, y + 4.5, &name)) }
                    @else {
                        (svg::text(class, "end", right, y - 1.0, &name))
                        (svg::text("small muted", "end", right, y + 11.0, &description))
                    }
                    (svg::text("label number", "end", width, y + 4.5, numbers))
                }
            }
            Size::Narrow => {
                let free = width
                    - 9.0 * name.chars().count() as f64
                    - 7.0 * numbers.chars().count() as f64
                    - 16.0;
                let description = cut(&format::inline(&arm.description), (free / 5.7) as usize);
                html! {
                    text.halo x="0" y=(svg::at(y - 16.0)) {
                        tspan class=(class) { (name) }
                        @if !description.is_empty() { tspan.small.muted dx="6" { (description) } }
                    }
                    (svg::text("label number", "end", width, y - 16.0, numbers))
                }
            }
        };
        let top = self.top + self.height * row as f64;
        let said = format!("{}: {values}", reading::full(arm));
        html! { (named) (svg::hit((0.0, width), (top, top + self.height), &said)) }
    }

    /// Grid lines with their values, and the name of what is drawn.
    pub(crate) fn axis(&self, scale: Scale, rows: usize, fractions: bool, name: &str) -> Markup {
        let ticks = scale.ticks(self.size.pick(5, 4));
        let (top, bottom) = self.span(rows);
        let middle = (self.across.0 + self.across.1) / 2.0;
        html! {
            @for (tick, label) in ticks.iter().zip(svg::tick_labels(&ticks, fractions)) {
                (svg::line("grid", (scale.at(*tick), top), (scale.at(*tick), bottom)))
                (svg::text("label muted", "middle", scale.at(*tick), bottom + 17.0, &label))
            }
            (svg::text("label", "middle", middle, bottom + 38.0, name))
        }
    }

    /// The dashed line of the untrained student.
    pub(crate) fn reference(&self, scale: Scale, rows: usize, value: f64) -> Markup {
        let (top, bottom) = self.span(rows);
        svg::line(
            "reference",
            (scale.at(value), top - 8.0),
            (scale.at(value), bottom),
        )
    }

    /// Height of the whole drawing.
    pub(crate) fn whole(&self, rows: usize) -> f64 {
        self.span(rows).1 + 46.0
    }
}

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
    let base = reading::arm(comparison, BASE)
        .and_then(|arm| reading::accuracy(arm, decoding))
        .map(|a| a.value);
    let measure = reading::measure(comparison, decoding);
    let numbers = format!("mean, {} interval", reading::coverage(comparison));
    let draw = |size: Size| {
        let rows = Rows::of(size, 150.0);
        let scale = Scale::linear((0.0, svg::rounded_up(high, 5)), rows.across);
        let body = html! {
            (rows.axis(scale, arms.len(), true, &measure))
            @if let Some(base) = base { (rows.reference(scale, arms.len(), base)) }
            (svg::text("label muted", "end", size.width(), rows.span(0).0 - 12.0, &numbers))
            @for (i, (arm, accuracy)) in arms.iter().enumerate() { (row(view, arm, accuracy, decoding, scale, &rows, i)) }
        };
        Drawn {
            height: rows.whole(arms.len()),
            body,
        }
    };
    Some(Figure::new(
        "figure-accuracy",
        &format!("{} by arm", capital(&measure)),
        &spoken(&arms),
        caption(view, decoding, base),
        draw,
    ))
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

fn row(
    view: &RunView,
    arm: &ArmResult,
    accuracy: &Estimate,
    decoding: Decoding,
    scale: Scale,
    rows: &Rows,
    i: usize,
) -> Markup {
    let seeds = match (&arm.greedy, decoding) {
        (Some(greedy), Decoding::Greedy) if greedy.per_seed.len() > 1 => greedy.per_seed.as_slice(),
        _ => &[],
    };
    let numbers = format!(
        "{} {}",
        format::fraction(accuracy.value),
        format::fraction_interval((accuracy.interval.low, accuracy.interval.high))
    );
    let single = |s: &SeedAccuracy| {
        let replicate = match view.comparison.n_replicates {
            0 | 1 => String::new(),
            _ => format!("{}, ", reading::replicate_name(view, s.replicate)),
        };
        format!(
            "; {replicate}seed {} {}",
            s.seed,
            format::fraction(s.accuracy)
        )
    };
    let values = numbers.clone() + &seeds.iter().map(single).collect::<String>();
    let y = rows.at(i);
    html! {
        (svg::whisker_across(y, scale.at(accuracy.interval.low), scale.at(accuracy.interval.high)))
        @for seed in seeds { (svg::mark("seed", seed.replicate, scale.at(seed.accuracy), y + 8.0, 2.4)) }
        (svg::mark("mean", 0, scale.at(accuracy.value), y, 4.2))
        (rows.label(i, arm, &numbers, &values))
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

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else if most < 4 {
        String::new()
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
