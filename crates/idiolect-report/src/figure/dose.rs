//! The dose curve: accuracy against the fraction of steps flawed on purpose.

use idiolect_core::comparison::DosePoint;
use maud::{Markup, html};

use super::Figure;
use super::accuracy::shorten;
use crate::format;
use crate::reading::{self, BASE};
use crate::svg::{self, Drawn, Scale, Size};
use crate::table::{csv, csv_number};
use crate::view::RunView;

const TOP: f64 = 16.0;
const BOTTOM: f64 = 250.0;

/// The figure; `None` with fewer than two doses.
pub(crate) fn figure(view: &RunView) -> Option<Figure> {
    let points = &view.comparison.dose_curve;
    if points.len() < 2 {
        return None;
    }
    let base = reading::arm(&view.comparison, BASE)
        .and_then(|arm| arm.greedy.as_ref())
        .map(|a| a.mean);
    let top = points
        .iter()
        .map(|p| p.accuracy.interval.high.max(p.accuracy.value))
        .fold(base.unwrap_or(0.0), f64::max);
    let highest = points.iter().map(|p| p.dose).fold(0.0, f64::max);
    let draw = |size: Size| {
        let (left, right) = (size.pick(108.0, 96.0), size.width() - size.pick(60.0, 34.0));
        let margin = size.pick(24.0, 14.0);
        let x = Scale::linear((0.0, highest), (left + margin, right - margin));
        let y = Scale::linear((0.0, svg::rounded_up(top, 4)), (BOTTOM, TOP));
        let line: Vec<(f64, f64)> = points
            .iter()
            .map(|p| (x.at(p.dose), y.at(p.accuracy.value)))
            .collect();
        let half = (right - left - 2.0 * margin) / points.len().max(2) as f64 / 2.0;
        let body = html! {
            (axes(points, (left, right), x, y))
            @if let Some(base) = base {
                (svg::line("reference", (left, y.at(base)), (right, y.at(base))))
                (svg::text("label muted", "start", right + 4.0, y.at(base) + 4.0, "base"))
            }
            path.curve d=(svg::path(&line)) {}
            @for (p, (px, py)) in points.iter().zip(&line) {
                (svg::whisker_up(*px, y.at(p.accuracy.interval.low), y.at(p.accuracy.interval.high)))
                (svg::mark("mean", 0, *px, *py, 4.2))
                (svg::text("label number", "start", px + size.pick(9.0, 6.0), py - 7.0, &format::fraction(p.accuracy.value)))
            }
            @for (p, (px, _)) in points.iter().zip(&line) { (svg::hit((px - half, px + half), (TOP, height(points)), &said(p))) }
        };
        Drawn {
            height: height(points),
            body,
        }
    };
    Some(Figure::new(
        "figure-dose",
        "Greedy accuracy by dose of flaws",
        &spoken(points),
        caption(view),
        draw,
    ))
}

/// One line per dose.
pub(crate) fn rows(view: &RunView) -> String {
    let rows = view.comparison.dose_curve.iter().map(|p| {
        let a = &p.accuracy;
        let numbers = [p.dose, a.value, a.interval.low, a.interval.high]
            .map(csv_number)
            .to_vec();
        let rest = [p.nll_per_token, p.valid_steps]
            .map(|v| v.map_or(String::new(), csv_number))
            .to_vec();
        [vec![p.arm.clone()], numbers, rest].concat()
    });
    csv(
        &[
            "arm",
            "dose",
            "accuracy",
            "low",
            "high",
            "nll_per_token",
            "valid_steps",
        ],
        rows,
    )
}

/// Rows of facts under the axis: the arm, its valid steps, its distance.
fn under(points: &[DosePoint]) -> Vec<(&'static str, Vec<String>)> {
    let mut rows = vec![
        (
            "steps flawed",
            points.iter().map(|p| format::percent(p.dose)).collect(),
        ),
        (
            "arm",
            points.iter().map(|p| shorten(&p.arm)).collect::<Vec<_>>(),
        ),
    ];
    let optional = |f: fn(&DosePoint) -> Option<String>| {
        points
            .iter()
            .map(|p| f(p).unwrap_or(format::NONE.to_owned()))
            .collect()
    };
    if points.iter().any(|p| p.valid_steps.is_some()) {
        rows.push((
            "valid steps",
            optional(|p| p.valid_steps.map(format::fraction)),
        ));
    }
    if points.iter().any(|p| p.nll_per_token.is_some()) {
        rows.push((
            "nats per token",
            optional(|p| p.nll_per_token.map(format::quantity)),
        ));
    }
    rows
}

fn height(points: &[DosePoint]) -> f64 {
    BOTTOM + 14.0 + 19.0 * under(points).len() as f64
}

fn axes(points: &[DosePoint], (left, right): (f64, f64), x: Scale, y: Scale) -> Markup {
    let ys = y.ticks(4);
    html! {
        @for (tick, label) in ys.iter().zip(svg::tick_labels(&ys, true)) {
            (svg::line("grid", (left, y.at(*tick)), (right, y.at(*tick))))
            (svg::text("label muted", "end", left - 8.0, y.at(*tick) + 4.0, &label))
        }
        (svg::line("axis", (left, BOTTOM), (right, BOTTOM)))
        @for (i, (name, cells)) in under(points).iter().enumerate() {
            (svg::text("label muted", "end", left - 8.0, BOTTOM + 20.0 + 19.0 * i as f64, name))
            @for (p, cell) in points.iter().zip(cells) {
                (svg::text(if i == 1 { "name" } else { "label number" }, "middle", x.at(p.dose), BOTTOM + 20.0 + 19.0 * i as f64, cell))
            }
        }
    }
}

fn caption(view: &RunView) -> String {
    let c = &view.comparison;
    format!(
        "Greedy accuracy by the fraction of steps that were flawed on purpose, on the same {}, {}. Lines are {} intervals. \
         Valid steps are fractions of the steps that a checker could recompute.{}",
        format::counted(c.n_problems, "problem"),
        reading::replication(c),
        reading::coverage(c),
        reading::legend(c, c.dose_curve.iter().map(|p| p.arm.as_str())),
    )
}

fn spoken(points: &[DosePoint]) -> String {
    points.iter().map(said).collect::<Vec<_>>().join("; ") + "."
}

fn said(p: &DosePoint) -> String {
    let interval = (p.accuracy.interval.low, p.accuracy.interval.high);
    format!(
        "{} ({} percent): {} {}",
        p.arm,
        format::decimal(p.dose * 100.0, 0),
        format::fraction(p.accuracy.value),
        format::fraction_interval(interval)
    )
}
