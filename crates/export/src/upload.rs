//! The command that uploads an export.

use std::path::Path;

/// Whether a text has the form of a repository on the hub, `ORGANIZATION/NAME`.
pub fn is_repository(text: &str) -> bool {
    let legal = |part: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty()
            && part.len() <= 96
            && part.bytes().all(inside)
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
            && !part.contains("..")
            && !part.contains("--")
            && !part.ends_with(".git")
    };
    text.split_once('/').is_some_and(|(organization, name)| legal(organization) && legal(name))
}

/// The commands of Hugging Face's `hf` that upload the forms of an export. The apps look for their
/// files at the top of a repository, so a form is uploaded there; with two, the zips go below.
pub fn upload_commands(repository: &str, export: &Path, forms: &[&str]) -> Vec<String> {
    let repository = shell_word(repository);
    forms
        .iter()
        .enumerate()
        .map(|(index, form)| {
            let folder = shell_word(&export.join(form).to_string_lossy());
            let place = if index == 0 { "." } else { form };
            format!("hf upload {repository} {folder} {place}")
        })
        .collect()
}

/// A word as it can be typed in a POSIX shell.
pub fn shell_word(word: &str) -> String {
    // No path and no argument holds a NUL, which alone cannot be quoted.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories() {
        assert!(is_repository("anemll/anemll-SmolLM2-135M_0.1"));
        for text in ["", "a", "/a", "a/", "a/b/c", "a b/c", "a/..", "-a/b", "a/$(x)", "a/b.git"] {
            assert!(!is_repository(text), "{text}");
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(
            upload_commands("a/b", Path::new("/x/my $export's"), &["ios", "standard"]),
            [
                r#"hf upload a/b '/x/my $export'"'s/ios" ."#,
                r#"hf upload a/b '/x/my $export'"'s/standard" standard"#,
            ]
        );
        assert_eq!(upload_commands("a/b", Path::new("/x"), &["ios"]), ["hf upload a/b /x/ios ."]);
    }
}
