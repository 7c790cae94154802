//! Templates against jinja2: tests/reference/make_template_goldens.py renders them as transformers
//! does, and says what they give.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_chat_template::{ChatTemplate, Message, Sandbox};
use anemll_codes as codes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Snippets that differ from jinja2, and how.
const DIFFERENT: [(&str, &str); 15] = [
    ("{{ 1 < 'a' }}", "what Python refuses to compare has an order"),
    ("{{ none < 1 }}", "what Python refuses to compare has an order"),
    ("{{ 1 in '123' }}", "a number is looked for as a text"),
    (
        "{{ messages|selectattr('role', '==', 'user')|map(attribute='content')|last }}",
        "filters give lists, which have a last item",
    ),
    ("{{ messages|sum(attribute='x') }}", "what is not there counts as nothing"),
    ("{% for x in none %}x{% endfor %}", "none has no items"),
    ("{{ 'one two three'|wordwrap(7) }}", "not there: for web pages"),
    ("{{ {'class': 'a', 'id': none}|xmlattr }}", "not there: for web pages"),
    ("{{ 'see http://a.b/c x'|urlize }}", "not there: for web pages"),
    ("{{ lipsum is defined }}", "not there: for web pages"),
    ("{{ range(3) }}", "written as a list"),
    ("{{ namespace(a=1) }}", "written as a dictionary"),
    ("{{ self is defined }}", "only blocks are"),
    (
        "{% macro m(x, y='d') %}<{{ x }}{{ y }}{{ varargs }}{{ kwargs }}>{% endmacro %}\
         {{ m(1) }}{{ m(1, 2, 3) }}{{ m(1, z=4) }}",
        "macros take no more arguments than they name",
    ),
    ("{% macro m(x) %}{{ x }}{% endmacro %}{{ m.name }}{{ m.arguments }}", "a list, not a tuple"),
];

/// Snippets that mostly differ: 1 and true are equal but have different hashes, so they are two keys unless
/// a map happens to look for both in one place.
const MOSTLY_DIFFERENT: [&str; 2] =
    ["{{ {1: 'a', none: 'b', true: 'c'} }}", "{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}"];

#[test]
fn snippets_render_as_in_jinja2() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/chat/snippets.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let tokens: BTreeMap<String, String> =
        serde_json::from_value(golden["tokens"].clone()).unwrap();
    let messages: Vec<Message> = serde_json::from_value(golden["messages"].clone()).unwrap();
    let snippets = golden["snippets"].as_array().unwrap();
    assert!(snippets.len() >= 700, "{} snippets only", snippets.len());
    let mut failures = Vec::new();
    let mut different = 0;
    for snippet in snippets {
        let source = snippet["source"].as_str().unwrap();
        let rendered = ChatTemplate::with_sandbox(
            source,
            tokens.clone(),
            Path::new("snippet"),
            Sandbox::in_thread(),
        )
        .and_then(|template| template.render(&messages, &BTreeMap::new()));
        let same = match (&rendered, snippet["text"].as_str()) {
            (Ok(text), Some(expected)) => text == expected,
            // Refused as jinja2 refuses it, and not for a limit.
            (Err(error), None) => {
                [codes::TEMPLATE_INVALID, codes::PROMPT_INVALID].contains(&error.code.as_str())
            }
            _ => false,
        };
        if DIFFERENT.iter().any(|(known, _)| *known == source) {
            assert!(!same, "{source} is as in jinja2 now");
            different += 1;
        } else if !same && !MOSTLY_DIFFERENT.contains(&source) {
            let rendered = rendered.map_err(|error| error.message);
            failures
                .push(format!("{source}\n  jinja2: {}\n  here:   {rendered:?}", snippet["text"]));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(different, DIFFERENT.len());
}
