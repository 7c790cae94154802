//! What all pages share: one file that needs nothing else, in light and dark, at any width.

mod file;
mod parts;

pub use file::{refuse_unwritable, write_page};
pub(crate) use parts::{Fact, List, Section};

use anemll_plugin_api::{Error, Result, codes};
use anemll_terminal::{count, plain, size};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Output, State, UndefinedBehavior, Value, context};
use sha2::{Digest as _, Sha256};

/// The style that all pages have.
pub(crate) const BASE: &str = include_str!("base.css");

/// The page, and what sections share.
pub(crate) const TEMPLATES: [(&str, &str); 2] =
    [("page.html", include_str!("page.html")), ("macros.html", include_str!("macros.html"))];

/// Letters of a name that are shown.
pub(crate) const MAXIMUM_NAME: usize = 300;
/// Letters of a text that are shown.
const MAXIMUM_TEXT: usize = 20_000;

/// What a page is made from.
pub(crate) struct Design<'a> {
    /// A template for each section, `ID.html`.
    pub(crate) templates: &'a [(&'static str, &'static str)],
    pub(crate) style: &'a str,
    /// Empty where the page needs none.
    pub(crate) script: &'a str,
    /// What the templates put in: title, command, kind, about, facts, sections, and their own.
    pub(crate) values: Value,
}

/// The page.
///
/// # Errors
/// When a template is wrong, which is a fault of the program.
pub(crate) fn render(design: &Design<'_>) -> Result<String> {
    let script = match design.script {
        "" => "'none'".to_owned(),
        script => format!("'sha256-{}'", hash(script)),
    };
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src {script}; img-src data:; \
         base-uri 'none'; form-action 'none'",
        hash(design.style),
    );
    let safe = |text: &str| Value::from_safe_string(text.to_owned());
    let own = context! {
        policy => safe(&policy),
        style => safe(design.style),
        script => safe(design.script),
        version => env!("CARGO_PKG_VERSION"),
    };
    fill(design.templates, context! { ..own, ..design.values.clone() })
        .map_err(|error| Error::new(codes::INTERNAL, format!("the page cannot be made: {error:#}")))
}

fn fill(
    templates_of_page: &[(&'static str, &'static str)],
    values: Value,
) -> std::result::Result<String, minijinja::Error> {
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
    templates.add_filter("svg", |text: &str| Value::from_safe_string(text.to_owned()));
    templates.add_filter("size", size);
    templates.add_filter("count", count);
    templates.add_filter("decimals", |number: f64, places: usize| format!("{number:.places$}"));
    for (name, source) in TEMPLATES.iter().chain(templates_of_page) {
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
pub(crate) fn hash(text: &str) -> String {
    BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()))
}

/// A longer text for the page, escaped; lines stay lines.
pub(crate) fn lines(text: &str) -> String {
    let text = shorten(text, MAXIMUM_TEXT);
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// The text, or its beginning and a sign that there is more.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Text as it may stand in an element or in a quoted attribute; what would steer the direction of
/// writing is shown as an escape.
pub(crate) fn escape(text: &str) -> String {
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
