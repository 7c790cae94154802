//! Guides that are followed to the letter: commands are run, and files that are shown are written.
//!
//! A line that is indented by four spaces is a command. A fenced block whose head names a file, as in
//! "```rust src/config.rs", is that file.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::run as run_command;

/// What a guide asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A command line, in words.
    Run(Vec<String>),
    /// A file, by path from the present folder, and its text.
    Write(String, String),
}

/// The steps of a guide, in order.
pub(crate) fn steps(markdown: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if let Some(head) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if let Some((_, path)) = head.split_once(' ') {
                steps.push(Step::Write(path.to_owned(), text.join("\n") + "\n"));
            }
        } else if let Some(command) = line.strip_prefix("    ") {
            // Behind the command may stand a remark.
            let command = command.split(" # ").next().unwrap_or(command);
            steps.push(Step::Run(words(command)));
        }
    }
    steps
}

/// A command line taken apart at its spaces, but for those within quotation marks.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.trim().chars() {
        match (character, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            (' ', _) if !quoted => words.push(String::new()),
            (other, Some(word)) => word.push(other),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Follows steps from a folder on. `prepare` says what a command is given beside its words.
pub(crate) fn follow(
    steps: &[Step],
    folder: &mut PathBuf,
    prepare: &dyn Fn(&mut Command),
) -> Result<()> {
    for step in steps {
        match step {
            Step::Run(words) => run(words, folder, prepare)?,
            Step::Write(path, text) => {
                let path = folder.join(path);
                std::fs::write(&path, text)
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
        }
    }
    Ok(())
}

fn run(words: &[String], folder: &mut PathBuf, prepare: &dyn Fn(&mut Command)) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Ok(()),
        ["cd", inner] => {
            *folder = folder.join(inner);
            Ok(())
        }
        ["cp", "-r", from, to] => crate::folder::copy(&folder.join(from), &folder.join(to)),
        [program, rest @ ..] => {
            let mut command = Command::new(program);
            command.args(rest).current_dir(Path::new(folder));
            prepare(&mut command);
            run_command(&mut command)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_files_are_steps() {
        let guide = "# Title\n\ntext\n\n    cd a\n    anemll chat out -p \"Who are you?\"  # asks\n\n\
                     ```rust src/lib.rs\nfn a() {\n    b();\n}\n```\n\n```text\n    not run\n```\n    ls\n";
        let run = |words: &[&str]| Step::Run(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(
            steps(guide),
            [
                run(&["cd", "a"]),
                run(&["anemll", "chat", "out", "-p", "Who are you?"]),
                Step::Write("src/lib.rs".to_owned(), "fn a() {\n    b();\n}\n".to_owned()),
                run(&["ls"]),
            ]
        );
    }
}
