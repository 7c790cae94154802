//! The report as one page that needs nothing else: no network, no fonts, no scripts of others.
//!
//! All text passes through `escape`; the data for the script stand in a block that is no script,
//! with every `<` escaped. A policy in the page allows exactly its own style and script, by their
//! hashes, so that even a fault in this would run nothing.

mod data;
mod sections;

use super::report::Inspection;
use anemll_terminal::plain;
use sha2::{Digest as _, Sha256};

const TEMPLATE: &str = include_str!("../page.html");
const STYLE: &str = include_str!("../page.css");
const SCRIPT: &str = include_str!("../page.js");

/// Weights that a page shows, the largest ones; a model of 30 layers has some 300.
pub(super) const MAXIMUM_ROWS: usize = 4000;
/// Letters of a name that are shown.
const MAXIMUM_NAME: usize = 300;
/// Letters of a text that are shown.
const MAXIMUM_TEXT: usize = 20_000;

/// The page.
pub fn page(found: &Inspection) -> String {
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; \
         base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let (shown, rest) = data::shown(found);
    fill(&[
        ("policy", &policy),
        ("title", &escape(&format!("{} — inspect", sections::title(found)))),
        ("style", STYLE),
        ("body", &sections::body(found, &shown, rest)),
        ("data", &data::json(found, &shown, rest)),
        ("script", SCRIPT),
    ])
}

/// Puts texts into the template. What is put in is not looked at again.
fn fill(values: &[(&str, &str)]) -> String {
    let mut pieces = TEMPLATE.split("{{");
    let mut page = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, after) = piece.split_once("}}").unwrap_or((piece, ""));
        let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        page.push_str(value.unwrap_or_default());
        page.push_str(after);
    }
    page
}

/// The hash of a style or a script, as a policy names it.
fn hash(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digest = Sha256::digest(text.as_bytes());
    let mut coded = String::with_capacity(44);
    for group in digest.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            coded.push(if place > group.len() { '=' } else { char::from(letter) });
        }
    }
    coded
}

/// A name for the page: shortened, without control characters, escaped.
pub(super) fn name(text: &str) -> String {
    escape(&shorten(text, MAXIMUM_NAME))
}

/// A longer text for the page; lines stay lines.
pub(super) fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (index, line) in shorten(text, MAXIMUM_TEXT).split('\n').enumerate() {
        if index > 0 {
            safe.push('\n');
        }
        safe.push_str(&escape(line));
    }
    safe
}

/// The text, or its beginning and a sign that there is more.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Text as it may stand in an element or in a quoted attribute; what would steer the direction of
/// writing is shown as an escape.
pub(super) fn escape(text: &str) -> String {
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
mod tests {
    use super::*;

    #[test]
    fn hashes_are_base64() {
        // `printf '' | openssl dgst -sha256 -binary | base64`
        assert_eq!(hash(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(escape("<script>\"&'"), "&lt;script&gt;&quot;&amp;&#39;");
        assert_eq!(escape("a\u{202e}b\u{1b}"), "a\\u{202e}b\\u{1b}");
        assert_eq!(text("a\n<b>"), "a\n&lt;b&gt;");
        assert_eq!(shorten("äöü", 2), "äö… (6 bytes)");
    }

    #[test]
    fn what_is_put_in_is_not_looked_at_again() {
        let page = fill(&[("title", "{{script}}"), ("script", "run()")]);
        assert!(page.contains("<title>{{script}}</title>"));
        assert_eq!(page.matches("run()").count(), 1);
    }

    #[test]
    fn the_page_holds_nothing_of_others() {
        for text in [TEMPLATE, STYLE, SCRIPT] {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("url("));
        }
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval("));
    }
}
