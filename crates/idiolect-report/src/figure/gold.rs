//! Surprisal of held-out gold solutions by arm: the measure that is left where no student answers
//! anything.

use idiolect_core::comparison::{ArmResult, GoldSurprisal};
use maud::{Markup, html};

use super::Figure;
use super::accuracy::Rows;
use crate::format;
use crate::reading::{self, BASE};
use crate::svg::{self, Drawn, Scale, Size};
use crate::table::{csv, csv_number};
use crate::view::RunView;

/// The figure; `None` where gold solutions were not scored.
pub(crate) fn figure(view: &RunView) -> Option<Figure> {
    let arms = arms(view);
    if arms.is_empty() {
        return None;
    }
    let ends = |f: fn(&GoldSurprisal) -> f64| arms.iter().map(move |(_, g)| f(g));
    let low = ends(|g| g.nll_per_token - g.seed_error.unwrap_or(0.0)).fold(f64::INFINITY, f64::min);
    let high =
        ends(|g| g.nll_per_token + g.seed_error.unwrap_or(0.0)).fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.08).max(0.01);
    let base = arms
        .iter()
        .find(|(arm, _)| arm.arm == BASE)
        .map(|(_, g)| g.nll_per_token);
    let draw = |size: Size| {
        let rows = Rows::of(size, 110.0);
        let scale = Scale::linear((low - margin, high + margin), rows.across);
        let name = size.pick(
            "nats per token of held-out gold solutions (lower is better)",
            "nats per token of gold solutions (lower is better)",
        );
        let body = html! {
            (rows.axis(scale, arms.len(), false, name))
            @if let Some(base) = base { (rows.reference(scale, arms.len(), base)) }
            @for (i, (arm, gold)) in arms.iter().enumerate() { (row(arm, gold, scale, &rows, i)) }
        };
        Drawn {
            height: rows.whole(arms.len()),
            body,
        }
    };
    let caption = format!(
        "Mean surprisal of the test problems' own solutions ({} tokens) after fine-tuning on each arm, {}; lower is better. \
         Lines are ± one standard error over fine-tuning seeds, where there are several. The dashed line is the student before fine-tuning (base). The axis does not start at 0.",
        format::count(arms[0].1.n_tokens),
        reading::replication(&view.comparison),
    );
    Some(Figure::new(
        "figure-gold",
        "Surprisal of held-out gold solutions by arm",
        &spoken(&arms),
        caption,
        draw,
    ))
}

/// One line per arm.
pub(crate) fn rows(view: &RunView) -> String {
    let rows = arms(view).into_iter().map(|(arm, g)| {
        let optional = |v: Option<f64>| v.map_or(String::new(), csv_number);
        vec![
            arm.arm.clone(),
            csv_number(g.nll_per_token),
            optional(g.seed_error),
            optional(g.bits_per_byte),
            g.n_tokens.to_string(),
        ]
    });
    csv(
        &[
            "arm",
            "nll_per_token",
            "seed_error",
            "bits_per_byte",
            "n_tokens",
        ],
        rows,
    )
}

/// Arms from the least to the most surprised; ties by name.
pub(crate) fn arms(view: &RunView) -> Vec<(&ArmResult, &GoldSurprisal)> {
    let mut arms: Vec<(&ArmResult, &GoldSurprisal)> = view
        .comparison
        .arms
        .iter()
        .filter_map(|arm| Some((arm, arm.gold.as_ref()?)))
        .collect();
    arms.sort_by(|a, b| {
        a.1.nll_per_token
            .total_cmp(&b.1.nll_per_token)
            .then_with(|| a.0.arm.cmp(&b.0.arm))
    });
    arms
}

fn row(arm: &ArmResult, gold: &GoldSurprisal, scale: Scale, rows: &Rows, i: usize) -> Markup {
    let value = gold.nll_per_token;
    let numbers = match gold.seed_error {
        Some(error) => format!(
            "{} ± {}",
            format::decimal(value, 3),
            format::decimal(error, 3)
        ),
        None => format::decimal(value, 3),
    };
    let y = rows.at(i);
    html! {
        @if let Some(error) = gold.seed_error { (svg::whisker_across(y, scale.at(value - error), scale.at(value + error))) }
        (svg::mark("mean", 0, scale.at(value), y, 4.2))
        (rows.label(i, arm, &numbers, &format!("{numbers} nats per token")))
    }
}

fn spoken(arms: &[(&ArmResult, &GoldSurprisal)]) -> String {
    arms.iter()
        .map(|(arm, g)| {
            format!(
                "{} {}",
                reading::full(arm),
                format::decimal(g.nll_per_token, 3)
            )
        })
        .collect::<Vec<_>>()
        .join("; ")
        + "."
}
