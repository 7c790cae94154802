//! The command line as it stands in what is made.

use crate::progress::shell_word;

/// Flags that say how a run goes, not what it makes, and whether a value follows.
const RUN_FLAGS: [(&str, bool); 13] = [
    ("--restart", true),
    ("--only", true),
    ("--progress", true),
    ("--color", true),
    ("--threads", true),
    ("--force", false),
    ("--json", false),
    ("--quiet", false),
    ("-q", false),
    ("--skip-check", false),
    ("--verbose", false),
    ("-v", false),
    ("-vv", false),
];

/// A command line without the flags that change nothing in the output, so that meta.yaml is the
/// same however a conversion was carried through.
pub fn without_run_flags(arguments: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let mut skip = false;
    arguments.filter(move |argument| {
        if std::mem::take(&mut skip) {
            return false;
        }
        match RUN_FLAGS.iter().find(|(flag, _)| argument == flag) {
            Some((_, has_value)) => {
                skip = *has_value;
                false
            }
            None => {
                let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
                value.is_empty() || !RUN_FLAGS.contains(&(name, true))
            }
        }
    })
}

/// The command line as typed, for meta.yaml, which is text: bytes that are none are shown as such.
pub fn command_line() -> String {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    without_run_flags(arguments).map(|argument| shell_word(&argument)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_run_are_no_part_of_the_conversion() {
        let kept = |line: &str| {
            without_run_flags(line.split(' ').map(str::to_owned)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            kept("anemll convert --restart 3 --model m --only=4 --lut2 4 --force -v --output o"),
            "anemll convert --model m --lut2 4 --output o"
        );
        assert_eq!(
            kept(
                "anemll -q --threads 2 convert --color=never --model m --lut2 4 --output o --json"
            ),
            "anemll convert --model m --lut2 4 --output o"
        );
    }
}
