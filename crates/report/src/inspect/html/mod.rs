//! The report as one page that needs nothing else: no network, no fonts, no scripts of others.
//!
//! Templates make the page of `view::Page`. Whatever they put in is escaped, except for what the
//! program made itself, and the data for the script, which stand in a block that is no script, with
//! every `<` escaped. A policy in the page allows exactly its own style and script, by their hashes,
//! so that even a fault in this would run nothing.

mod data;
mod view;

use super::report::Inspection;
use crate::page::{self, BASE};
use anemll_plugin_api::Result;
use minijinja::value::Serde;
use minijinja::{Value, context};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A template for each section of the page.
const TEMPLATES: [(&str, &str); 8] = [
    ("size.html", include_str!("templates/size.html")),
    ("functions.html", include_str!("templates/functions.html")),
    ("layers.html", include_str!("templates/layers.html")),
    ("weights.html", include_str!("templates/weights.html")),
    ("lint.html", include_str!("templates/lint.html")),
    ("metadata.html", include_str!("templates/metadata.html")),
    ("guesses.html", include_str!("templates/guesses.html")),
    ("files.html", include_str!("templates/files.html")),
];

/// The page.
///
/// # Errors
/// When a template is wrong, which is a fault of the program.
pub fn page(found: &Inspection) -> Result<String> {
    let (shown, rest) = data::shown(found);
    let page = Value::from(Serde(view::Page::of(found, &shown, rest)));
    let data = Value::from_safe_string(data::json(found, &shown, rest));
    page::render(&page::Design {
        templates: &TEMPLATES,
        style: &[BASE, STYLE].concat(),
        script: SCRIPT,
        values: context! { command => "inspect", data => data, ..page },
    })
}

#[cfg(test)]
mod tests;
