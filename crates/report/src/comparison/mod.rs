//! A conversion beside its original model: as text, and as a page with plots.

mod text;
mod view;

pub use text::text;
pub(crate) use view::nats;

use crate::page::{self, BASE};
use crate::plot;
use anemll_calibration::Comparison;
use anemll_plugin_api::Result;
use minijinja::Value;
use minijinja::context;
use minijinja::value::Serde;

/// A template for each section of the page.
const TEMPLATES: [(&str, &str); 6] = [
    ("position.html", include_str!("templates/position.html")),
    ("stream.html", include_str!("templates/stream.html")),
    ("layers.html", include_str!("templates/layers.html")),
    ("worst.html", include_str!("templates/worst.html")),
    ("tensors.html", include_str!("templates/tensors.html")),
    ("notes.html", include_str!("templates/notes.html")),
];

/// The page.
///
/// # Errors
/// When a template is wrong, which is a fault of the program.
pub fn page(found: &Comparison) -> Result<String> {
    let view = Value::from(Serde(view::Page::of(found)));
    page::render(&page::Design {
        templates: &TEMPLATES,
        style: &[BASE, plot::STYLE].concat(),
        script: "",
        values: context! { command => "eval", kind => "Conversion and original", ..view },
    })
}

#[cfg(test)]
mod tests;
