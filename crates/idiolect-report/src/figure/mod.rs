//! The figures, one a file. Each takes the view and gives a drawing with its caption, or `None`
//! where the run has nothing to draw, and the same numbers as CSV.

pub(crate) mod accuracy;
pub(crate) mod closeness;
pub(crate) mod dose;
pub(crate) mod gold;
pub(crate) mod training;

use maud::{Markup, html};

/// A drawing and what a reader needs to read it.
pub(crate) struct Figure {
    /// Unique on the page.
    pub(crate) name: &'static str,
    /// The drawing.
    pub(crate) drawing: Markup,
    /// What is drawn, over what n, with which intervals.
    pub(crate) caption: String,
}

impl Figure {
    /// The figure as a numbered block; the drawing scrolls by itself on narrow screens.
    pub(crate) fn html(&self, number: usize) -> Markup {
        html! {
            figure id=(self.name) {
                div.scroll tabindex="0" { (self.drawing) }
                figcaption { strong { "Figure " (number) "." } " " (crate::format::inline(&self.caption)) }
            }
        }
    }
}
