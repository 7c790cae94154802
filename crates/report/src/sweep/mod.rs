//! Forms of weights that were tried: as a table that grows, and as a page with a plot.

mod text;
mod view;

pub use text::{Lines, front};

use crate::page::{self, BASE};
use crate::plot;
use anemll_calibration::Sweep;
use anemll_plugin_api::Result;
use minijinja::Value;
use minijinja::context;
use minijinja::value::Serde;

/// A template for each section of the page.
const TEMPLATES: [(&str, &str); 2] = [
    ("plot.html", include_str!("templates/plot.html")),
    ("forms.html", include_str!("templates/forms.html")),
];

/// The page.
///
/// # Errors
/// When a template is wrong, which is a fault of the program.
pub fn page(found: &Sweep) -> Result<String> {
    let view = Value::from(Serde(view::Page::of(found)));
    page::render(&page::Design {
        templates: &TEMPLATES,
        style: &[BASE, plot::STYLE].concat(),
        script: "",
        values: context! { command => "sweep", kind => "Size and distance", ..view },
    })
}

#[cfg(test)]
mod tests;
