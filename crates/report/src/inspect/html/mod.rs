//! The report as one page that needs nothing else: no network, no fonts, no scripts of others.
//!
//! Templates make the page of `view::Page`. Whatever they put in is escaped, except for what the
//! program made itself, and the data for the script, which stand in a block that is no script, with
//! every `<` escaped. A policy in the page allows exactly its own style and script, by their hashes,
//! so that even a fault in this would run nothing.

mod data;
mod view;

use super::report::Inspection;
use anemll_plugin_api::{Error, Result, codes};
use anemll_terminal::{count, plain, size};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Output, State, UndefinedBehavior, Value, context};
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, a template for each of its sections, and what they share.
const TEMPLATES: [(&str, &str); 10] = [
    ("page.html", include_str!("templates/page.html")),
    ("macros.html", include_str!("templates/macros.html")),
    ("size.html", include_str!("templates/size.html")),
    ("functions.html", include_str!("templates/functions.html")),
    ("layers.html", include_str!("templates/layers.html")),
    ("weights.html", include_str!("templates/weights.html")),
    ("lint.html", include_str!("templates/lint.html")),
    ("metadata.html", include_str!("templates/metadata.html")),
    ("guesses.html", include_str!("templates/guesses.html")),
    ("files.html", include_str!("templates/files.html")),
];

/// Letters of a name that are shown.
const MAXIMUM_NAME: usize = 300;
/// Letters of a text that are shown.
const MAXIMUM_TEXT: usize = 20_000;

/// The page.
///
/// # Errors
/// When a template is wrong, which is a fault of the program.
pub fn page(found: &Inspection) -> Result<String> {
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; \
         base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let (shown, rest) = data::shown(found);
    let page = Value::from(Serde(view::Page::of(found, &shown, rest)));
    let safe = |text: &str| Value::from_safe_string(text.to_owned());
    let own = context! {
        policy => safe(&policy),
        style => safe(STYLE),
        script => safe(SCRIPT),
        data => safe(&data::json(found, &shown, rest)),
        version => env!("CARGO_PKG_VERSION"),
    };
    render(context! { ..own, ..page })
        .map_err(|error| Error::new(codes::INTERNAL, format!("the page cannot be made: {error:#}")))
}

fn render(values: Value) -> std::result::Result<String, minijinja::Error> {
    let mut templates = Environment::new();
    templates.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_formatter(write);
    templates.add_filter("name", |text: &str| shorten(text, MAXIMUM_NAME));
    templates.add_filter("text", |text: &str| Value::from_safe_string(lines(text)));
    templates.add_filter("breakable", |text: &str| {
        // Long names break behind a part, not within one.
        let name = escape(&shorten(text, MAXIMUM_NAME));
        Value::from_safe_string(name.replace('_', "_<wbr>"))
    });
    templates.add_filter("size", size);
    templates.add_filter("count", count);
    templates.add_filter("decimals", |number: f64, places: usize| format!("{number:.places$}"));
    for (name, source) in TEMPLATES {
        templates.add_template(name, source)?;
    }
    templates.get_template("page.html")?.render(values)
}

/// Writes what a template puts in: escaped, unless it is markup of the program.
fn write(
    output: &mut Output<'_>,
    _: &mut State<'_, '_>,
    value: &Value,
) -> std::result::Result<(), minijinja::Error> {
    let text = value.to_string();
    output.write_str(&if value.is_safe() { text } else { escape(&text) })?;
    Ok(())
}

/// The hash of a style or a script, as a policy names it.
fn hash(text: &str) -> String {
    BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()))
}

/// A longer text for the page, escaped; lines stay lines.
fn lines(text: &str) -> String {
    let text = shorten(text, MAXIMUM_TEXT);
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// The text, or its beginning and a sign that there is more.
fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Text as it may stand in an element or in a quoted attribute; what would steer the direction of
/// writing is shown as an escape.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 16);
    for character in plain(text).chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
