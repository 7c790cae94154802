//! The name of a new plugin, in all its spellings.

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};

/// Longest name, so that the names made of it are names everywhere.
const LONGEST: usize = 48;

/// Words that no crate, no module or no file can be called.
const RESERVED: &[&str] = &[
    // Rust's.
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    // Cargo's folders.
    "build",
    "deps",
    "examples",
    "incremental",
    // Windows' devices.
    "aux",
    "com1",
    "com2",
    "com3",
    "com4",
    "com5",
    "com6",
    "com7",
    "com8",
    "com9",
    "con",
    "lpt1",
    "lpt2",
    "lpt3",
    "lpt4",
    "lpt5",
    "lpt6",
    "lpt7",
    "lpt8",
    "lpt9",
    "nul",
    "prn",
    // Where the template's own folder names stand.
    "sdk",
];

/// A name that a plugin, its crates and its library can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// As it was typed: `my-plugin`.
    pub(crate) plain: String,
    /// As Rust writes it: `my_plugin`.
    pub(crate) snake: String,
    /// As types are called: `MyPlugin`.
    pub(crate) camel: String,
}

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// [`codes::NEW_PLUGIN_NAME`] with what is wrong.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let refuse = |why: String| {
            Err(Error::new(codes::NEW_PLUGIN_NAME, why).with_hint(
                "a name has lower-case letters, digits, `-` and `_`, a letter first: starcoder2",
            ))
        };
        let legal = |character: char| {
            character.is_ascii_lowercase() || character.is_ascii_digit() || "-_".contains(character)
        };
        if name.is_empty() {
            return refuse("the new plugin has no name".to_owned());
        }
        if let Some(other) = name.chars().find(|character| !legal(*character)) {
            return refuse(format!("a plugin cannot be called {name:?}: it has {other:?}"));
        }
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return refuse(format!("a plugin cannot be called {name:?}: a letter comes first"));
        }
        if name.len() > LONGEST {
            let count = name.len();
            return refuse(format!("the name has {count} characters, more than {LONGEST}"));
        }
        if name.ends_with(['-', '_']) || ["--", "__", "-_", "_-"].iter().any(|it| name.contains(it))
        {
            return refuse(format!(
                "a plugin cannot be called {name:?}: a letter or digit comes after each `-` and `_`"
            ));
        }
        let snake = name.replace('-', "_");
        if RESERVED.contains(&snake.as_str()) {
            return refuse(format!("a plugin cannot be called {name:?}: the word is reserved"));
        }
        let camel = snake.split('_').map(capitalized).collect();
        Ok(Self { plain: name.to_owned(), snake, camel })
    }
}

fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_three_spellings() {
        let spellings = |name: &str| {
            let name = Name::new(name).unwrap();
            [name.plain, name.snake, name.camel]
        };
        assert_eq!(spellings("starcoder2"), ["starcoder2", "starcoder2", "Starcoder2"]);
        assert_eq!(spellings("a-b_c9"), ["a-b_c9", "a_b_c9", "ABC9"]);
    }

    #[test]
    fn what_no_crate_can_be_called_is_refused() {
        let long = "a".repeat(LONGEST + 1);
        for (name, word) in [
            ("", "no name"),
            ("Big", "'B'"),
            ("a/b", "'/'"),
            ("..", "'.'"),
            ("naïve", "'ï'"),
            ("a b", "' '"),
            ("a\u{1b}[31m", "\\u{1b}"),
            ("7up", "a letter comes first"),
            ("-a", "a letter comes first"),
            ("a-", "comes after"),
            ("a--b", "comes after"),
            ("fn", "reserved"),
            ("proc-macro", "reserved"),
            ("nul", "reserved"),
            ("test", "reserved"),
            (&long, "more than 48"),
        ] {
            let error = Name::new(name).unwrap_err();
            assert_eq!(error.code, codes::NEW_PLUGIN_NAME, "{name:?}");
            assert!(error.message.contains(word), "{name:?}: {error}");
            assert!(!error.message.contains('\u{1b}'), "{error:?}");
        }
    }
}
