use super::super::features::{Feature, FunctionInspection};
use super::super::open::{Form, Part};
use super::*;
use crate::page::{escape, hash, lines, shorten};
use std::collections::BTreeMap;

/// A small report whose texts are hostile wherever they come from a file.
fn hostile() -> Inspection {
    let bad = "{{ 7 * 7 }}</script><script>bad()\u{202e}\"'&";
    let feature = Feature {
        name: bad.to_owned(),
        dtype: bad.to_owned(),
        description: bad.to_owned(),
        ..Feature::default()
    };
    Inspection {
        schema: 1,
        path: format!("/tmp/{}.mlpackage", bad.replace('/', "")),
        form: Form::Package,
        specification_version: 9,
        minimum_system: "iOS 18, macOS 15",
        default_function: None,
        short_description: format!("first\n{bad}"),
        author: bad.to_owned(),
        license: String::new(),
        version: String::new(),
        metadata: BTreeMap::from([(bad.to_owned(), bad.to_owned())]),
        files: vec![Part { name: bad.to_owned(), bytes: 1_234_567 }],
        model_bytes: 1,
        weight_file_bytes: 0,
        unused_bytes: 0,
        elements: 0,
        bits: 0.0,
        unshared_bytes: 0,
        functions: vec![FunctionInspection {
            name: bad.to_owned(),
            opset: bad.to_owned(),
            inputs: vec![feature],
            outputs: Vec::new(),
            states: Vec::new(),
            operations: (0..20).map(|number| (format!("{bad}{number}"), number)).collect(),
        }],
        layers: Vec::new(),
        weights: Vec::new(),
        records: Vec::new(),
        findings: Vec::new(),
        build_info: BTreeMap::new(),
        guesses: None,
    }
}

#[test]
fn hashes_are_base64() {
    // `printf '' | openssl dgst -sha256 -binary | base64`
    assert_eq!(hash(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

#[test]
fn text_stays_text() {
    assert_eq!(escape("<script>\"&'"), "&lt;script&gt;&quot;&amp;&#39;");
    assert_eq!(escape("a\u{202e}b\u{1b}"), "a\\u{202e}b\\u{1b}");
    assert_eq!(lines("a\n<b>"), "a\n&lt;b&gt;");
    assert_eq!(shorten("äöü", 2), "äö… (6 bytes)");
}

#[test]
fn what_is_put_in_runs_nothing_and_is_not_looked_at_again() {
    let page = page(&hostile()).unwrap();
    // The data and the script.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(page.contains("{{ 7 * 7 }}&lt;/script&gt;") && !page.contains('\u{202e}'));
    assert!(page.contains("<p class=\"about\">first\n{{ 7 * 7 }}"));
    assert!(page.contains(SCRIPT) && page.contains(STYLE));
    assert!(page.contains("<td class=\"n\">1.23 MB</td>"));
    assert!(page.contains("<summary>8 more</summary>"));
    assert!(page.contains("No rule of the Neural Engine lint is broken."));
    assert!(!page.contains("id=\"layers\"") && !page.contains("id=\"guesses\""));
}

#[test]
fn the_page_holds_nothing_of_others() {
    let templates = page::TEMPLATES.iter().chain(&TEMPLATES).map(|(_, source)| *source);
    for text in templates.chain([BASE, STYLE, SCRIPT]) {
        let text = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("url("));
    }
    assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval("));
}
