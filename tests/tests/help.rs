//! The help of every command, and its examples: they parse, and those that need nothing but a model
//! and a conversion run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_host::cli::Cli;
use anemll_tests::{anemll, convert, golden, library, model, run};
use clap::CommandFactory as _;
use std::path::Path;
use std::process::Stdio;

/// Every command that does something, with its name, such as `plugin list`.
fn commands() -> Vec<(String, clap::Command)> {
    fn collect(name: &str, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
        if command.get_name() == "help" {
            return;
        }
        found.push((name.trim().to_owned(), command.clone()));
        for inner in command.get_subcommands() {
            collect(&format!("{name} {}", inner.get_name()), inner, found);
        }
    }
    let mut root = Cli::command();
    root.build();
    let mut found = Vec::new();
    for command in root.get_subcommands() {
        collect(command.get_name(), command, &mut found);
    }
    found
}

/// The lines of a help text that begin with the program's name.
fn examples(command: &clap::Command) -> Vec<String> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("anemll "))
        .filter(|line| !line.contains("$("))
        .map(str::to_owned)
        .collect()
}

/// A line as a shell takes it apart: quotes, and no redirections, whose input it gives apart.
fn words(line: &str) -> (Vec<String>, Option<String>) {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    assert!(!quoted, "{line}");
    let redirection = words.iter().position(|word| word == "<" || word == ">" || word == "|");
    let Some(place) = redirection else { return (words, None) };
    let input = (words[place] == "<").then(|| words[place + 1].clone());
    words.truncate(place);
    (words, input)
}

#[test]
fn every_command_has_examples_and_they_parse() {
    let commands = commands();
    assert!(commands.len() > 10);
    for (name, command) in &commands {
        // Those of a group stand with the group.
        let group = name.split(' ').next().unwrap();
        let holder = commands.iter().find(|(other, _)| other == group).unwrap();
        let all = [examples(command), examples(&holder.1)].concat();
        assert!(!all.is_empty(), "`anemll {name} --help` has no examples");
        for line in examples(command) {
            let (words, _) = words(&line);
            assert!(words.iter().any(|word| word == group), "{line}: not of `{name}`");
            if let Err(error) = Cli::command().try_get_matches_from(&words) {
                panic!("{line}: {error}");
            }
        }
    }
}

/// Commands whose examples are run in a folder with a model, a conversion of it, and its logits.
const RUN: [&str; 11] = [
    "convert",
    "chat",
    "generate",
    "inspect",
    "check",
    "explain",
    "plan",
    "doctor",
    "plugin",
    "completions",
    "man",
];

/// What only the world outside has, and what needs a conversion that was begun.
const ELSEWHERE: [&str; 3] = ["Qwen/Qwen3-0.6B", "--restart", "--only"];

#[test]
fn examples_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    copy(&model("tiny-llama"), &path.join("SmolLM2-135M"));
    let chunked = ["--combiner", "chunked", "--lut", "none", "--chunk", "2"];
    convert(&path.join("SmolLM2-135M"), &path.join("out"), &chunked);
    std::fs::write(path.join("questions.txt"), "Who?\nWhen?\n").unwrap();
    for file in std::fs::read_dir(golden("tiny-llama")).unwrap().flatten() {
        std::fs::copy(file.path(), path.join(file.file_name())).unwrap();
    }
    let mut count = 0;
    for (name, command) in commands() {
        if !RUN.contains(&name.split(' ').next().unwrap()) {
            continue;
        }
        for line in examples(&command) {
            if ELSEWHERE.iter().any(|name| line.contains(name)) {
                continue;
            }
            run_example(&line, path);
            count += 1;
        }
    }
    assert!(count > 15, "only {count} examples were run");
}

fn run_example(line: &str, folder: &Path) {
    let (mut words, input) = words(line);
    // All plugins are named, and an example's own would be one too many.
    if let Some(place) = words.iter().position(|word| word == "--plugin") {
        assert!(
            library(words[place + 1].trim_start_matches("./lib").trim_end_matches(".so")).exists()
        );
        words.drain(place..place + 2);
    }
    // Answers need not be long.
    if ["chat", "generate"].contains(&words[1].as_str()) && !line.contains("--max-tokens") {
        words.extend(["--max-tokens".to_owned(), "4".to_owned()]);
    }
    // One conversion is made for the others to read; of those in examples the plan is enough.
    if words[1] == "convert" && !line.contains("--dry-run") {
        words.push("--dry-run".to_owned());
    }
    let mut command = anemll();
    command.args(&words[1..]).current_dir(folder).stdin(match &input {
        Some(file) => Stdio::from(std::fs::File::open(folder.join(file)).unwrap()),
        None => Stdio::null(),
    });
    let output = run(&mut command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{error}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten().filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// `ANEMLL_UPDATE_DOCS` does not write these: `INSTA_UPDATE=always` does.
#[test]
fn help_texts() {
    for (name, command) in commands() {
        let text = command.term_width(100).render_long_help().to_string();
        insta::assert_snapshot!(format!("help_{}", name.replace(' ', "_")), text);
    }
}
