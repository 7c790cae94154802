//! The prefix of package names.

use crate::LayoutOptions;
use anemll_plugin_api::data::ModelDescription;
use anemll_plugin_api::{Error, Result, codes};

/// Most characters of a prefix. The longest suffix is far below the 255 bytes that file systems
/// allow a name, and paths stay readable.
const LONGEST_PREFIX: usize = 64;

/// The prefix of all package names: the one that the user gave, else the model's own.
///
/// # Errors
/// [`codes::LAYOUT_OPTION_INVALID`] for a prefix that is not letters, digits, `_`, `-` and `.`,
/// begins with `.` or `-`, is empty, or is longer than 64 characters: it becomes part of file names
/// on every system, and of a command line.
pub fn prefix(model: &ModelDescription, options: &LayoutOptions) -> Result<String> {
    let prefix = options.prefix.as_deref().unwrap_or(&model.default_prefix);
    let legal = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    let problem = if prefix.is_empty() {
        "is empty"
    } else if prefix.len() > LONGEST_PREFIX {
        "is longer than 64 characters"
    } else if !prefix.chars().all(legal) {
        "has characters other than letters, digits, `_`, `-` and `.`"
    } else if prefix.starts_with(['.', '-']) {
        "begins with `.` or `-`"
    } else {
        return Ok(prefix.to_owned());
    };
    let shown: String = prefix.chars().take(LONGEST_PREFIX).collect();
    Err(Error::new(
        codes::LAYOUT_OPTION_INVALID,
        format!("the prefix {shown:?} {problem}, so it cannot begin the packages' names"),
    )
    .with_at("--prefix")
    .with_hint("give a prefix such as `llama`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(given: Option<&str>) -> Result<String> {
        let model = ModelDescription::default().with_default_prefix("llama");
        let options = LayoutOptions { prefix: given.map(str::to_owned), ..Default::default() };
        prefix(&model, &options)
    }

    #[test]
    fn the_given_prefix_wins() {
        assert_eq!(chosen(None).unwrap(), "llama");
        for legal in ["qwen25", "SmolLM2-135M_v1.0", "_x", "7b"] {
            assert_eq!(chosen(Some(legal)).unwrap(), legal);
        }
    }

    #[test]
    fn prefixes_that_are_no_part_of_a_file_name_are_refused() {
        let long = "x".repeat(65);
        let illegal =
            ["", "a/b", "a\\b", "..", ".hidden", "-flag", "a b", "a\0", "ünï", "a:b", "a\n", &long];
        for prefix in illegal {
            let error = chosen(Some(prefix)).unwrap_err();
            assert_eq!(error.code, codes::LAYOUT_OPTION_INVALID, "{prefix:?}");
            assert!(!error.message.contains(['\0', '\n']), "{:?}", error.message);
        }
    }
}
