//! Under which terms a model may be used: what its card says, or else what its licence file is.

/// The identifier of a licence, as the hub writes it, by words that only its text has, in the order
/// in which they are looked for.
const TEXTS: [(&str, &[&str]); 9] = [
    ("apache-2.0", &["Apache License", "Version 2.0"]),
    ("mpl-2.0", &["Mozilla Public License", "2.0"]),
    ("llama3.3", &["LLAMA 3.3 COMMUNITY LICENSE"]),
    ("llama3.2", &["LLAMA 3.2 COMMUNITY LICENSE"]),
    ("llama3.1", &["LLAMA 3.1 COMMUNITY LICENSE"]),
    ("llama3", &["META LLAMA 3 COMMUNITY LICENSE"]),
    ("llama2", &["LLAMA 2 COMMUNITY LICENSE"]),
    ("bsd-3-clause", &["Redistribution and use in source and binary forms", "Neither the name"]),
    (
        "mit",
        &[
            "Permission is hereby granted, free of charge",
            "The above copyright notice and this permission notice shall be included",
        ],
    ),
];

/// The identifier of the licence that a text is, if it is one that is known.
pub(crate) fn identify(text: &str) -> Option<&'static str> {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let text = words(text);
    TEXTS
        .iter()
        .find(|(_, parts)| parts.iter().all(|part| text.contains(&words(part))))
        .map(|(identifier, _)| *identifier)
}

/// Whether a text has the form of an identifier, so that it cannot be anything else.
pub(crate) fn is_identifier(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_known_by_their_text() {
        let here = |name: &str| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
            std::fs::read_to_string(format!("{path}{name}")).unwrap()
        };
        assert_eq!(identify(&here("LICENSE-MIT")), Some("mit"));
        assert_eq!(identify(&here("LICENSE-APACHE")), Some("apache-2.0"));
        assert_eq!(identify("Llama 3.2 Community\n License Agreement"), Some("llama3.2"));
        assert_eq!(identify("All rights reserved."), None);
    }

    #[test]
    fn identifiers_have_no_room_for_anything_else() {
        assert!(is_identifier("cc-by-nc-4.0"));
        for text in ["", "mit\n- x: y", "a b", "<script>", "é"] {
            assert!(!is_identifier(text), "{text:?}");
        }
    }
}
