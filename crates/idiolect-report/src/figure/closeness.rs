//! Accuracy against closeness: one labelled point an arm.

use idiolect_core::comparison::{Closeness, Estimate, MetricDescription};
use idiolect_core::record::Decoding;
use maud::{Markup, html};

use super::Figure;
use super::accuracy::{capital, shorten};
use crate::format;
use crate::reading::{self, BASE};
use crate::svg::{self, Drawn, Scale, Size};
use crate::table::{csv, csv_number};
use crate::view::RunView;

const TOP: f64 = 16.0;

/// Where the points are drawn.
#[derive(Clone, Copy)]
struct Area {
    left: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    fn of(size: Size) -> Self {
        Self {
            left: size.pick(58.0, 48.0),
            right: size.width() - size.pick(20.0, 12.0),
            bottom: size.pick(330.0, 300.0),
        }
    }
}

struct Point<'a> {
    arm: &'a str,
    near: Closeness,
    accuracy: Estimate,
}

/// The figure; `None` where fewer than two arms have both numbers.
pub(crate) fn figure(view: &RunView) -> Option<Figure> {
    let comparison = &view.comparison;
    let decoding = reading::leading(comparison);
    let metric = reading::drawn_metric(comparison)?;
    let points = points(view, metric, decoding);
    if points.len() < 2 {
        return None;
    }
    let base = reading::arm(comparison, BASE)
        .and_then(|arm| reading::accuracy(arm, decoding))
        .map(|a| a.value);
    let measure = reading::measure(comparison, decoding);
    let draw = |size: Size| {
        let area = Area::of(size);
        let (x, y) = scales(&points, area);
        let body = html! {
            (axes(area, (x, y), metric, &measure, size.pick(6, 4)))
            @if let Some(base) = base {
                (svg::line("reference", (area.left, y.at(base)), (area.right, y.at(base))))
                (svg::text("label muted", "end", area.right, y.at(base) - 5.0, "base"))
            }
            @for p in &points {
                (svg::whisker_up(x.at(p.near.value), y.at(p.accuracy.interval.low), y.at(p.accuracy.interval.high)))
                @if let Some(near) = p.near.interval {
                    (svg::line("whisker", (x.at(near.low), y.at(p.accuracy.value)), (x.at(near.high), y.at(p.accuracy.value))))
                }
            }
            @for p in &points { (svg::mark("mean", 0, x.at(p.near.value), y.at(p.accuracy.value), 4.2)) }
            (labels(&points, area, x, y, base))
            @for p in &points {
                @let (px, py) = (x.at(p.near.value), y.at(p.accuracy.value));
                (svg::hit((px - 11.0, px + 11.0), (py - 11.0, py + 11.0), &said(p)))
            }
        };
        Drawn {
            height: area.bottom + 50.0,
            body,
        }
    };
    let title = format!(
        "{} against {}",
        capital(&measure),
        reading::metric_name(&metric.name)
    );
    Some(Figure::new(
        "figure-closeness",
        &title,
        &spoken(&points),
        caption(view, metric, decoding, &points),
        draw,
    ))
}

/// One line per arm and metric.
pub(crate) fn rows(view: &RunView) -> String {
    let comparison = &view.comparison;
    let decoding = reading::leading(comparison);
    let mut rows = Vec::new();
    for metric in &comparison.metrics {
        for p in points(view, metric, decoding) {
            let near = p.near.interval;
            let near = [
                Some(p.near.value),
                near.map(|i| i.low),
                near.map(|i| i.high),
            ]
            .map(|number| number.map_or(String::new(), csv_number));
            let accuracy = [
                p.accuracy.value,
                p.accuracy.interval.low,
                p.accuracy.interval.high,
            ];
            rows.push(
                [
                    vec![metric.name.clone(), p.arm.to_owned()],
                    near.to_vec(),
                    accuracy.map(csv_number).to_vec(),
                ]
                .concat(),
            );
        }
    }
    csv(
        &[
            "metric",
            "arm",
            "value",
            "low",
            "high",
            "accuracy",
            "accuracy_low",
            "accuracy_high",
        ],
        rows,
    )
}

fn points<'a>(view: &'a RunView, metric: &MetricDescription, decoding: Decoding) -> Vec<Point<'a>> {
    let both = reading::ordered(&view.comparison)
        .into_iter()
        .filter_map(|arm| {
            let near = *arm.closeness.get(&metric.name)?;
            Some(Point {
                arm: &arm.arm,
                near,
                accuracy: reading::accuracy(arm, decoding)?,
            })
        });
    both.filter(|p| p.near.value.is_finite()).collect()
}

/// Closeness runs on a logarithmic scale where it spans more than a factor of five.
fn scales(points: &[Point<'_>], area: Area) -> (Scale, Scale) {
    let fold = |f: fn(f64, f64) -> f64, start: f64, of: &dyn Fn(&Point<'_>) -> f64| {
        points
            .iter()
            .map(of)
            .filter(|v| v.is_finite())
            .fold(start, f)
    };
    let low = fold(f64::min, f64::INFINITY, &|p| {
        p.near
            .interval
            .map_or(p.near.value, |i| p.near.value.min(i.low))
    });
    let high = fold(f64::max, f64::NEG_INFINITY, &|p| {
        p.near
            .interval
            .map_or(p.near.value, |i| p.near.value.max(i.high))
    });
    let x = if low > 0.0 && high / low > 5.0 {
        Scale::log((low / 1.25, high * 1.25), (area.left, area.right))
    } else {
        let margin = ((high - low) * 0.08).max(1e-3);
        Scale::linear((low - margin, high + margin), (area.left, area.right))
    };
    let top = fold(f64::max, 0.0, &|p| {
        p.accuracy.value.max(p.accuracy.interval.high)
    });
    (
        x,
        Scale::linear((0.0, svg::rounded_up(top, 5)), (area.bottom, TOP)),
    )
}

fn axes(
    area: Area,
    (x, y): (Scale, Scale),
    metric: &MetricDescription,
    measure: &str,
    wanted: usize,
) -> Markup {
    let (xs, ys) = (x.ticks(wanted), y.ticks(5));
    let name = format!(
        "{} ({})",
        reading::metric_name(&metric.name),
        reading::unit_and_direction(metric)
    );
    let middle = (TOP + area.bottom) / 2.0;
    html! {
        @for (tick, label) in ys.iter().zip(svg::tick_labels(&ys, true)) {
            (svg::line("grid", (area.left, y.at(*tick)), (area.right, y.at(*tick))))
            (svg::text("label muted", "end", area.left - 8.0, y.at(*tick) + 4.0, &label))
        }
        @for tick in &xs {
            (svg::line("tick", (x.at(*tick), area.bottom), (x.at(*tick), area.bottom + 5.0)))
            (svg::text("label muted", "middle", x.at(*tick), area.bottom + 19.0, &plain(*tick)))
        }
        (svg::line("axis", (area.left, area.bottom), (area.right, area.bottom)))
        (svg::text("label", "middle", (area.left + area.right) / 2.0, area.bottom + 42.0, &name))
        text.label text-anchor="middle" x=(svg::at(-middle)) y="13" transform="rotate(-90)" { (format::inline(measure)) }
    }
}

fn plain(tick: f64) -> String {
    let text = format::decimal(tick, 3);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Each label takes the free place nearest its point: right, left, above, below, then the corners.
fn labels(points: &[Point<'_>], area: Area, x: Scale, y: Scale, base: Option<f64>) -> Markup {
    let mut taken: Vec<Box> = points
        .iter()
        .flat_map(|p| {
            let (px, py) = (x.at(p.near.value), y.at(p.accuracy.value));
            [
                Box {
                    x: (px - 6.0, px + 6.0),
                    y: (py - 6.0, py + 6.0),
                },
                Box {
                    x: (px - 3.0, px + 3.0),
                    y: (
                        y.at(p.accuracy.interval.high),
                        y.at(p.accuracy.interval.low),
                    ),
                },
            ]
        })
        .collect();
    if let Some(base) = base {
        taken.push(Box {
            x: (area.right - 36.0, area.right),
            y: (y.at(base) - 16.0, y.at(base)),
        });
        taken.push(Box {
            x: (area.left, area.right),
            y: (y.at(base) - 1.0, y.at(base) + 1.0),
        });
    }
    let mut placed = Vec::new();
    for p in points {
        let name = shorten(p.arm);
        let (px, py) = (x.at(p.near.value), y.at(p.accuracy.value));
        let (anchor, lx, ly, label) = place(&name, area, (px, py), &taken);
        taken.push(label);
        placed.push(svg::text("name", anchor, lx, ly, &name));
    }
    html! { @for label in placed { (label) } }
}

#[derive(Clone, Copy)]
struct Box {
    x: (f64, f64),
    y: (f64, f64),
}

impl Box {
    fn overlap(&self, other: &Self) -> f64 {
        let along = |a: (f64, f64), b: (f64, f64)| (a.1.min(b.1) - a.0.max(b.0)).max(0.0);
        along(self.x, other.x) * along(self.y, other.y)
    }
}

fn place(
    name: &str,
    area: Area,
    (x, y): (f64, f64),
    taken: &[Box],
) -> (&'static str, f64, f64, Box) {
    let width = 8.4 * name.chars().count() as f64;
    let boxed = |anchor: &'static str, lx: f64, ly: f64| {
        let left = match anchor {
            "start" => lx,
            "end" => lx - width,
            _ => lx - width / 2.0,
        };
        (
            anchor,
            lx,
            ly,
            Box {
                x: (left, left + width),
                y: (ly - 11.0, ly + 2.0),
            },
        )
    };
    let mut candidates = Vec::new();
    for far in [0.0, 10.0, 22.0] {
        candidates.extend([
            boxed("start", x + 9.0 + far, y + 4.5),
            boxed("end", x - 9.0 - far, y + 4.5),
            boxed("start", x + 8.0, y - 8.0 - far),
            boxed("end", x - 8.0, y - 8.0 - far),
            boxed("start", x + 8.0, y + 16.0 + far),
            boxed("end", x - 8.0, y + 16.0 + far),
            boxed("middle", x, y - 11.0 - far),
            boxed("middle", x, y + 20.0 + far),
        ]);
    }
    let cost = |label: &Box| {
        let inside = Box {
            x: (area.left + 2.0, area.right + 8.0),
            y: (TOP - 6.0, area.bottom - 2.0),
        };
        let whole = (label.x.1 - label.x.0) * (label.y.1 - label.y.0);
        taken.iter().map(|t| t.overlap(label)).sum::<f64>() + 20.0 * (whole - inside.overlap(label))
    };
    let mut best = candidates[0];
    for candidate in &candidates[1..] {
        if cost(&candidate.3) + 0.01 < cost(&best.3) {
            best = *candidate;
        }
    }
    best
}

fn caption(
    view: &RunView,
    metric: &MetricDescription,
    decoding: Decoding,
    points: &[Point<'_>],
) -> String {
    let (comparison, n) = (&view.comparison, points.len());
    let mut out = format!(
        "{} against closeness to the untrained student: {} of each arm's traces ({}). {n} arms; lines are {} intervals.",
        capital(&reading::measure(comparison, decoding)),
        reading::metric_name(&metric.name),
        reading::unit_and_direction(metric),
        reading::coverage(comparison),
    );
    if let Some(c) = reading::correlation(comparison, &metric.name, decoding) {
        out += &format!(
            " Rank correlation of closeness and accuracy: Spearman ρ\u{a0}=\u{a0}{}, {}; Kendall τ\u{a0}=\u{a0}{}, {} ({}).",
            format::decimal(c.spearman, 2),
            format::p_equals(c.p_spearman),
            format::decimal(c.kendall, 2),
            format::p_equals(c.p_kendall),
            if c.exact {
                "exact permutation tests"
            } else {
                "permutation tests by random draws"
            },
        );
    }
    out + &reading::legend(comparison, points.iter().map(|p| p.arm))
}

fn spoken(points: &[Point<'_>]) -> String {
    points.iter().map(said).collect::<Vec<_>>().join("; ") + "."
}

fn said(p: &Point<'_>) -> String {
    format!(
        "{}: closeness {}, accuracy {}",
        p.arm,
        format::quantity(p.near.value),
        format::fraction(p.accuracy.value)
    )
}
