//! The few parts that every figure is drawn from: scales, ticks, axes, whiskers. Sizes are in
//! units of the drawing, which is about one CSS pixel at full width; colour comes from classes.

use maud::{Markup, html};

use crate::format;

/// For which width of page a drawing is made. Each figure is drawn for both, and the style sheet
/// shows one, so that a phone needs no scrolling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// A desk's screen, or paper.
    Wide,
    /// A phone: 360 CSS pixels less the margins.
    Narrow,
}

impl Size {
    /// Width of the drawing.
    pub(crate) fn width(self) -> f64 {
        self.pick(640.0, 332.0)
    }

    /// The one of two values that is for this size.
    pub(crate) fn pick<T>(self, wide: T, narrow: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }

    fn name(self) -> &'static str {
        self.pick("wide", "narrow")
    }
}

/// Maps values to a coordinate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    from: (f64, f64),
    to: (f64, f64),
    log: bool,
}

impl Scale {
    /// A straight scale; an empty range is widened.
    pub(crate) fn linear(from: (f64, f64), to: (f64, f64)) -> Self {
        let from = if from.1 > from.0 {
            from
        } else {
            (from.0, from.0 + 1.0)
        };
        Self {
            from,
            to,
            log: false,
        }
    }

    /// A logarithmic scale over positive values.
    pub(crate) fn log(from: (f64, f64), to: (f64, f64)) -> Self {
        let from = if from.1 > from.0 {
            from
        } else {
            (from.0, from.0 * 2.0)
        };
        Self {
            from,
            to,
            log: true,
        }
    }

    /// The coordinate of a value, kept inside the scale.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let f = |x: f64| {
            if self.log {
                x.max(f64::MIN_POSITIVE).ln()
            } else {
                x
            }
        };
        let fraction = (f(value) - f(self.from.0)) / (f(self.from.1) - f(self.from.0));
        let fraction = if fraction.is_finite() {
            fraction.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self.to.0 + fraction * (self.to.1 - self.to.0)
    }

    /// Round values inside the scale, about `wanted` of them.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<f64> {
        if self.log {
            log_ticks(self.from, wanted)
        } else {
            linear_ticks(self.from, wanted)
        }
    }
}

/// The end of a range rounded up to a tick, so that the last gridline closes the drawing.
pub(crate) fn rounded_up(high: f64, wanted: usize) -> f64 {
    if high <= 0.0 || !high.is_finite() {
        return 1.0;
    }
    let step = step(high, wanted);
    (high / step).ceil() * step
}

fn step(range: f64, wanted: usize) -> f64 {
    let raw = range / wanted.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .find(|f| f * power >= raw * 0.999)
        .unwrap_or(10.0);
    factor * power
}

fn linear_ticks(from: (f64, f64), wanted: usize) -> Vec<f64> {
    let step = step(from.1 - from.0, wanted);
    let first = (from.0 / step - 1e-9).ceil() as i64;
    let last = (from.1 / step + 1e-9).floor() as i64;
    (first..=last).map(|k| k as f64 * step).collect()
}

fn log_ticks(from: (f64, f64), wanted: usize) -> Vec<f64> {
    let decades = (from.0.log10().floor() as i32)..=(from.1.log10().ceil() as i32);
    let candidates = |factors: &[f64]| -> Vec<f64> {
        decades
            .clone()
            .flat_map(|d| {
                factors
                    .iter()
                    .map(move |f| f * 10f64.powi(d))
                    .collect::<Vec<_>>()
            })
            .filter(|t| *t >= from.0 * 0.999 && *t <= from.1 * 1.001)
            .collect()
    };
    let dense = candidates(&[1.0, 2.0, 5.0]);
    if dense.len() <= wanted + 2 {
        dense
    } else {
        candidates(&[1.0])
    }
}

/// Tick labels with as many decimals as the ticks differ by; fractions drop their leading zero.
pub(crate) fn tick_labels(ticks: &[f64], fractions: bool) -> Vec<String> {
    let gap = ticks
        .windows(2)
        .map(|w| w[1] - w[0])
        .fold(f64::INFINITY, f64::min);
    let decimals = (0..6)
        .find(|d| ((gap * 10f64.powi(*d)).round() / 10f64.powi(*d) - gap).abs() < gap * 1e-6)
        .unwrap_or(2);
    let label = |tick: &f64| {
        let text = format::decimal(*tick, decimals.max(0) as usize);
        let zero = !text.contains(|c: char| ('1'..='9').contains(&c));
        match text.strip_prefix("0.") {
            _ if zero => "0".to_owned(),
            Some(rest) if fractions => format!(".{rest}"),
            _ => text,
        }
    };
    ticks.iter().map(label).collect()
}

/// A coordinate with one decimal, which keeps files small and equal.
pub(crate) fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// Points of a line as a path.
pub(crate) fn path(points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    for (i, (x, y)) in points.iter().enumerate() {
        out += &format!("{}{} {}", if i == 0 { "M" } else { "L" }, at(*x), at(*y));
    }
    out
}

/// What one size of a figure holds.
pub(crate) struct Drawn {
    /// Height of the drawing.
    pub(crate) height: f64,
    /// Its parts.
    pub(crate) body: Markup,
}

/// A drawing of one size with a spoken title and description. `name` is unique on the page.
pub(crate) fn drawing(
    name: &str,
    size: Size,
    title: &str,
    description: &str,
    drawn: &Drawn,
) -> Markup {
    let of = |part: &str| format!("{name}-{}-{part}", size.name());
    let (title_id, description_id) = (of("title"), of("desc"));
    let (width, height) = (at(size.width()), at(drawn.height));
    html! {
        svg class=(size.name()) xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}")) role="img"
            aria-labelledby=(format!("{title_id} {description_id}")) {
            title id=(title_id) { (format::inline(title)) }
            desc id=(description_id) { (format::inline(description)) }
            (drawn.body)
        }
    }
}

/// An area that names its values when it is pointed at.
pub(crate) fn hit(x: (f64, f64), y: (f64, f64), values: &str) -> Markup {
    html! {
        g.hit {
            title { (format::inline(values)) }
            rect x=(at(x.0)) y=(at(y.0)) width=(at(x.1 - x.0)) height=(at(y.1 - y.0)) {}
        }
    }
}

/// A straight line.
pub(crate) fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> Markup {
    html! { line class=(class) x1=(at(from.0)) y1=(at(from.1)) x2=(at(to.0)) y2=(at(to.1)) {} }
}

/// Text at a point; `anchor` is `start`, `middle` or `end`.
pub(crate) fn text(class: &str, anchor: &str, x: f64, y: f64, content: &str) -> Markup {
    html! { text class=(class) text-anchor=(anchor) x=(at(x)) y=(at(y)) { (format::inline(content)) } }
}

/// A mark whose shape distinguishes replicates: circle, square, triangle, diamond.
pub(crate) fn mark(class: &str, shape: usize, x: f64, y: f64, r: f64) -> Markup {
    match shape % 4 {
        0 => html! { circle class=(class) cx=(at(x)) cy=(at(y)) r=(at(r)) {} },
        1 => {
            html! { rect class=(class) x=(at(x - r)) y=(at(y - r)) width=(at(2.0 * r)) height=(at(2.0 * r)) {} }
        }
        2 => {
            let d = path(&[
                (x, y - 1.2 * r),
                (x + 1.1 * r, y + 0.8 * r),
                (x - 1.1 * r, y + 0.8 * r),
            ]) + "Z";
            html! { path class=(class) d=(d) {} }
        }
        _ => {
            let d = path(&[
                (x, y - 1.3 * r),
                (x + 1.3 * r, y),
                (x, y + 1.3 * r),
                (x - 1.3 * r, y),
            ]) + "Z";
            html! { path class=(class) d=(d) {} }
        }
    }
}

/// What [`mark`] draws, as text.
pub(crate) fn mark_name(shape: usize) -> &'static str {
    ["circle", "square", "triangle", "diamond"][shape % 4]
}

/// A vertical interval with short ends.
pub(crate) fn whisker_up(x: f64, low: f64, high: f64) -> Markup {
    html! {
        (line("whisker", (x, low), (x, high)))
        (line("whisker", (x - 3.0, low), (x + 3.0, low)))
        (line("whisker", (x - 3.0, high), (x + 3.0, high)))
    }
}

/// A horizontal interval with short ends.
pub(crate) fn whisker_across(y: f64, low: f64, high: f64) -> Markup {
    html! {
        (line("whisker", (low, y), (high, y)))
        (line("whisker", (low, y - 3.0), (low, y + 3.0)))
        (line("whisker", (high, y - 3.0), (high, y + 3.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let ticks = Scale::linear((0.0, 0.2), (0.0, 100.0)).ticks(5);
        assert_eq!(tick_labels(&ticks, true), ["0", ".05", ".10", ".15", ".20"]);
        assert_eq!(tick_labels(&[0.5, 1.0, 2.0], false), ["0.5", "1.0", "2.0"]);
        assert_eq!(tick_labels(&[-2.0, 0.0, 2.0], false), ["−2", "0", "2"]);
        assert_eq!(
            Scale::log((0.3, 9.5), (0.0, 1.0)).ticks(5),
            [0.5, 1.0, 2.0, 5.0]
        );
        assert!((rounded_up(0.193, 4) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn values_outside_or_not_finite_stay_inside_the_drawing() {
        let scale = Scale::linear((0.0, 1.0), (10.0, 20.0));
        assert_eq!(
            [
                scale.at(-5.0),
                scale.at(0.5),
                scale.at(7.0),
                scale.at(f64::NAN)
            ]
            .map(at),
            ["10", "15", "20", "10"]
        );
        let empty = Scale::linear((3.0, 3.0), (0.0, 1.0));
        assert!(empty.at(3.0).is_finite() && !empty.ticks(4).is_empty());
    }

    #[test]
    fn titles_are_escaped() {
        let drawn = Drawn {
            height: 10.0,
            body: html! {},
        };
        let svg = drawing("x", Size::Wide, "<script>", "a\0b", &drawn).into_string();
        assert!(
            svg.contains("&lt;script&gt;") && svg.contains("a␀b"),
            "{svg}"
        );
    }
}
