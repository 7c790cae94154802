//! JSON as Python's `json` module writes and reads it.

use std::borrow::Cow;

/// The numbers that Python writes and JSON does not have.
const NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// The byte order mark that some editors put before a text.
const MARK: char = '\u{feff}';

/// The text as JSON has it: without a byte order mark, and with what `replacement` says in place of
/// each `NaN`, `Infinity` and `-Infinity` that stands outside of strings.
///
/// Only these are looked at; whether the result is JSON is for its reader to say.
pub fn plain_json(text: &str, mut replacement: impl FnMut(&str) -> String) -> Cow<'_, str> {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    if !NUMBERS.iter().any(|number| text.contains(number)) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut inside_a_string = false;
    while let Some(first) = rest.chars().next() {
        if inside_a_string && first == '\\' {
            // What is escaped ends no string.
            let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            plain.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        inside_a_string ^= first == '"';
        match NUMBERS.iter().find(|number| !inside_a_string && rest.starts_with(**number)) {
            Some(number) => {
                plain.push_str(&replacement(number));
                rest = &rest[number.len()..];
            }
            None => {
                plain.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        plain_json(text, |number| format!("<{number}>")).into_owned()
    }

    #[test]
    fn numbers_that_json_lacks_are_replaced_outside_of_strings() {
        assert_eq!(
            plain(r#"{"a": [NaN, -Infinity,Infinity], "b": -1}"#),
            r#"{"a": [<NaN>, <-Infinity>,<Infinity>], "b": -1}"#
        );
        for same in [
            "",
            r#"{"a": "NaN", "Infinity": "-Infinity"}"#,
            r#"{"a": "x\" NaN", "b": "\\\" Infinity"}"#,
            r#"{"é": "Infinity é"#,
            "\"NaN\\",
        ] {
            assert_eq!(plain(same), same);
        }
        assert_eq!(plain(r#"["\\", NaN]"#), r#"["\\", <NaN>]"#);
    }

    #[test]
    fn a_byte_order_mark_is_left_out() {
        assert_eq!(plain("\u{feff}{}"), "{}");
        assert_eq!(plain("\u{feff}[NaN]"), "[<NaN>]");
    }
}
