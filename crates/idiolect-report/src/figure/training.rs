//! Training loss: one small panel an arm, a line a seed, every other arm in the background.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::Figure;
use super::accuracy::shorten;
use crate::format;
use crate::reading;
use crate::svg::{self, Drawn, Scale, Size};
use crate::table::{csv, csv_number};
use crate::view::{Curve, RunView};

const LEFT: f64 = 40.0;
const GAP: f64 = 14.0;
const PANEL: (f64, f64) = (138.0, 96.0);
const ROW: f64 = PANEL.1 + 52.0;

/// Panels beside each other.
fn columns(size: Size) -> usize {
    size.pick(4, 2)
}

/// The figure; `None` where no losses were given.
pub(crate) fn figure(view: &RunView) -> Option<Figure> {
    let arms = by_arm(view);
    let points = || {
        arms.iter()
            .flat_map(|(_, curves)| curves)
            .flat_map(|c| &c.points)
    };
    let steps = points().map(|p| p.0).max()?;
    let high = points()
        .map(|p| p.1)
        .filter(|v| v.is_finite())
        .fold(0.0, f64::max);
    let x = Scale::linear((0.0, steps as f64), (0.0, PANEL.0));
    let y = Scale::linear((0.0, svg::rounded_up(high, 5)), (PANEL.1, 0.0));
    let draw = |size: Size| {
        let shared = size.pick("all-curves-wide", "all-curves-narrow");
        let body = html! {
            defs { g id=(shared) {
                @for curve in arms.iter().flat_map(|(_, curves)| curves) { path.ghost d=(trace(curve, x, y)) {} }
            } }
            @for (i, (arm, curves)) in arms.iter().enumerate() {
                (panel((i / columns(size), i % columns(size)), arm, curves, steps, (x, y), shared))
            }
        };
        Drawn {
            height: ROW * arms.len().div_ceil(columns(size)) as f64 + 6.0,
            body,
        }
    };
    let caption = format!(
        "Training loss (nats per target token) by optimiser step, one panel an arm and one dark line a fine-tuning run; the other arms in the background. \
         The number is the mean of the last drawn points over runs. A low loss means that the arm was fitted, not that it taught the task. Runs in all: {}.{}",
        arms.iter().map(|(_, curves)| curves.len()).sum::<usize>(),
        reading::legend(&view.comparison, arms.iter().map(|(arm, _)| arm.as_str()))
    );
    Some(Figure::new(
        "figure-training",
        "Training loss by arm",
        &spoken(&arms),
        caption,
        draw,
    ))
}

/// One line per drawn point.
pub(crate) fn rows(view: &RunView) -> String {
    let rows = view.curves.iter().flat_map(|c| {
        c.points.iter().map(|(step, loss)| {
            vec![
                c.arm.clone(),
                c.replicate.to_string(),
                c.seed.to_string(),
                step.to_string(),
                csv_number(*loss),
            ]
        })
    });
    csv(&["arm", "replicate", "seed", "step", "loss_nats"], rows)
}

/// Arms in the page's order, then those that were trained but not evaluated, by name.
fn by_arm(view: &RunView) -> Vec<(String, Vec<&Curve>)> {
    let mut curves: BTreeMap<&str, Vec<&Curve>> = BTreeMap::new();
    for curve in view.curves.iter().filter(|c| !c.points.is_empty()) {
        curves.entry(&curve.arm).or_default().push(curve);
    }
    curves
        .values_mut()
        .for_each(|c| c.sort_by_key(|c| (c.replicate, c.seed)));
    let mut out = Vec::new();
    for arm in reading::ordered(&view.comparison) {
        out.extend(
            curves
                .remove(arm.arm.as_str())
                .map(|c| (arm.arm.clone(), c)),
        );
    }
    out.extend(curves.into_iter().map(|(arm, c)| (arm.to_owned(), c)));
    out
}

fn trace(curve: &Curve, x: Scale, y: Scale) -> String {
    let points: Vec<(f64, f64)> = curve
        .points
        .iter()
        .filter(|p| p.1.is_finite())
        .map(|(step, loss)| (x.at(*step as f64), y.at(*loss)))
        .collect();
    svg::path(&points)
}

fn last(curves: &[&Curve]) -> Option<f64> {
    let ends: Vec<f64> = curves
        .iter()
        .filter_map(|c| c.points.last())
        .map(|p| p.1)
        .collect();
    (!ends.is_empty()).then(|| ends.iter().sum::<f64>() / ends.len() as f64)
}

fn panel(
    (row, column): (usize, usize),
    arm: &str,
    curves: &[&Curve],
    steps: usize,
    (x, y): (Scale, Scale),
    shared: &str,
) -> Markup {
    let (left, top) = (
        LEFT + (PANEL.0 + GAP) * column as f64,
        22.0 + ROW * row as f64,
    );
    let ys = y.ticks(3);
    html! {
        g transform=(format!("translate({} {})", svg::at(left), svg::at(top))) {
            (svg::text("name", "start", 0.0, -7.0, &shorten(arm)))
            (svg::text("label number", "end", PANEL.0, -7.0, &last(curves).map_or(String::new(), format::quantity)))
            @for (tick, label) in ys.iter().zip(svg::tick_labels(&ys, false)) {
                (svg::line("grid", (0.0, y.at(*tick)), (PANEL.0, y.at(*tick))))
                @if column == 0 { (svg::text("label muted", "end", -6.0, y.at(*tick) + 4.0, &label)) }
            }
            use href=(format!("#{shared}")) {}
            @for curve in curves { path.curve.thin d=(trace(curve, x, y)) {} }
            (svg::line("axis", (0.0, PANEL.1), (PANEL.0, PANEL.1)))
            (svg::text("label muted", "start", 0.0, PANEL.1 + 14.0, "0"))
            (svg::text("label muted", "end", PANEL.0, PANEL.1 + 14.0, &format!("{} steps", format::number(steps))))
            (svg::hit((0.0, PANEL.0), (-18.0, PANEL.1), &said(arm, curves)))
        }
    }
}

/// Where each run of an arm starts and ends.
fn said(arm: &str, curves: &[&Curve]) -> String {
    let ends = curves.iter().filter_map(|c| {
        let (first, last) = (c.points.first()?, c.points.last()?);
        Some(format!(
            "seed {} from {} to {} after {} steps",
            c.seed,
            format::quantity(first.1),
            format::quantity(last.1),
            format::number(last.0)
        ))
    });
    format!("{arm}: {}", ends.collect::<Vec<_>>().join("; "))
}

fn spoken(arms: &[(String, Vec<&Curve>)]) -> String {
    let each = arms.iter().map(|(arm, curves)| {
        format!(
            "{arm} ends at {}",
            last(curves).map_or(String::new(), format::quantity)
        )
    });
    each.collect::<Vec<_>>().join("; ") + "."
}
