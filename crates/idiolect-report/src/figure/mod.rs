//! The figures, one a file. Each takes the view and gives a drawing with its caption, or `None`
//! where the run has nothing to draw, and the same numbers as CSV.

pub(crate) mod accuracy;
pub(crate) mod closeness;
pub(crate) mod dose;
pub(crate) mod gold;
pub(crate) mod training;

use maud::{Markup, html};

use crate::svg::{self, Drawn, Size};

/// A drawing and what a reader needs to read it.
pub(crate) struct Figure {
    /// Unique on the page.
    pub(crate) name: &'static str,
    /// The drawing, for wide and for narrow pages.
    pub(crate) drawings: [Markup; 2],
    /// What is drawn, over what n, with which intervals.
    pub(crate) caption: String,
}

impl Figure {
    /// A figure drawn for both sizes, with a spoken title and description.
    pub(crate) fn new(
        name: &'static str,
        title: &str,
        description: &str,
        caption: String,
        draw: impl Fn(Size) -> Drawn,
    ) -> Self {
        let drawing = |size| svg::drawing(name, size, title, description, &draw(size));
        Self {
            name,
            drawings: [Size::Wide, Size::Narrow].map(drawing),
            caption,
        }
    }

    /// The figure as a numbered block.
    pub(crate) fn html(&self, number: usize) -> Markup {
        html! {
            figure id=(self.name) {
                @for drawing in &self.drawings { (drawing) }
                figcaption { strong { "Figure " (number) "." } " " (crate::format::inline(&self.caption)) }
            }
        }
    }
}
