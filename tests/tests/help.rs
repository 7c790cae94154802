//! The help of every command, and its examples: they parse, and those that need nothing but a model
//! and a conversion run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_host::cli;
use anemll_tests::{anemll, convert, example, golden, library, model, run, succeed, workspace};
use std::collections::BTreeSet;
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
    let mut root = cli::command();
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
            let named =
                examples(command).iter().any(|line| line.split(' ').any(|word| word == group));
            assert!(named, "{line}: not of `{name}`");
            if let Err(error) = cli::command().try_get_matches_from(&words) {
                panic!("{line}: {error}");
            }
        }
    }
}

/// What only the world outside has, and what does not end by itself.
const ELSEWHERE: [&str; 2] = ["Qwen/Qwen3-0.6B", "anemll serve "];

/// Flags that say how many bits weights have, or what is measured to choose them.
const BITS: [&str; 5] = ["--lut", "--quantizer", "--target-bits", "--budget-mb", "--max-kl"];

/// Every example of every command, as it is written, in a folder with what examples speak of.
#[test]
fn examples_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    prepare(path);
    let guide = workspace().join("docs/guide/calibrate.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let in_guide = guide.lines().filter_map(|line| line.strip_prefix("    anemll "));
    let in_guide = in_guide.map(|line| format!("anemll {line}"));
    let in_help = commands().into_iter().flat_map(|(_, command)| examples(&command));
    let in_help = in_help.filter(|line| !ELSEWHERE.iter().any(|name| line.contains(name)));
    // Some stand in both.
    let mut done = BTreeSet::new();
    let mut measured = false;
    for line in in_help.chain(in_guide) {
        if done.insert(line.clone()) {
            // Bits are measured in the first conversion that leaves them open; that takes long.
            let open =
                line.starts_with("anemll convert") && !BITS.iter().any(|flag| line.contains(flag));
            let further: &[&str] = match line.split_whitespace().nth(1) {
                _ if open && measured => &["--lut", "4"],
                Some("sweep") => &["--max-tokens", "256"],
                _ => &[],
            };
            measured |= open;
            run_example(&line, further, path);
        }
    }
    assert!(done.len() > 40, "only {} examples were run", done.len());
}

/// Models, conversions, packages and texts by the names that examples use.
fn prepare(path: &Path) {
    for name in ["SmolLM2-135M", "Qwen3-0.6B"] {
        copy(&model("tiny-llama"), &path.join(name));
    }
    let source = path.join("SmolLM2-135M");
    let chunked = ["--chunk", "2", "--skip-quality", "--lut"];
    convert(&source, &path.join("out"), &[&chunked[..], &["none"]].concat());
    convert(&source, &path.join("out4"), &[&chunked[..], &["none", "--lut2", "4"]].concat());
    for part in ["lut4_chunk_01of02", "lut4_chunk_02of02"] {
        let name = format!("llama_FFN_PF_{part}.mlpackage");
        copy(&path.join("out4").join(&name), &path.join("out").join(&name));
        for kind in ["FFN", "prefill"] {
            let name = format!("llama_{kind}_{part}.mlpackage");
            copy(&path.join("out4").join(&name), &path.join("parts").join(&name));
        }
    }
    let embedder = path.join("embedder");
    copy(&source, &embedder);
    let module = |kind: &str, path: &str| serde_json::json!({ "path": path, "type": kind });
    let modules = [module("Transformer", ""), module("Pooling", "1_Pooling")];
    std::fs::create_dir(embedder.join("1_Pooling")).unwrap();
    for (name, value) in [
        ("modules.json", serde_json::json!(modules)),
        ("1_Pooling/config.json", serde_json::json!({ "pooling_mode_lasttoken": true })),
        (
            "config_sentence_transformers.json",
            serde_json::json!({ "prompts": { "query": "Query: " } }),
        ),
    ] {
        std::fs::write(embedder.join(name), value.to_string()).unwrap();
    }
    convert(&embedder, &path.join("vectors"), &["--lut", "none"]);
    let whole = path.join("whole");
    convert(&source, &whole, &["--combiner", "monolithic", "--lut", "none"]);
    for (from, to) in [
        ("llama_monolithic", "parts/llama_monolithic"),
        ("llama_monolithic_prefill", "parts/llama_monolithic_prefill"),
        ("llama_monolithic", "A"),
        ("llama_monolithic_prefill", "B"),
        ("llama_monolithic_combined", "C"),
        ("llama_monolithic_combined", "Y"),
        ("llama_monolithic_combined", "model"),
    ] {
        copy(&whole.join(format!("{from}.mlpackage")), &path.join(format!("{to}.mlpackage")));
    }
    copy(&whole.join("llama_monolithic_combined.mlmodelc"), &path.join("model.mlmodelc"));
    let mut compile = anemll();
    compile.current_dir(path).args(["compile", "out/llama_lm_head.mlpackage"]);
    succeed(compile.args(["--compiler", "coreai", "--output-dir", "out"]));
    for version in ["old", "new"] {
        let name = "llama_lm_head.mlpackage";
        copy(&path.join("out").join(name), &path.join(version).join(name));
    }
    std::fs::copy(example("uniform"), path.join("libuniform.so")).unwrap();
    std::fs::write(path.join("questions.txt"), "Who?\nWhen?\n").unwrap();
    let text = "Alice was beginning to get very tired of sitting by her sister on the bank. ";
    std::fs::write(path.join("prompt.txt"), text).unwrap();
    std::fs::write(path.join("book.txt"), text.repeat(4)).unwrap();
    for name in ["a.txt", "b.txt"] {
        std::fs::write(path.join(name), text.repeat(40)).unwrap();
    }
    let messages = [("user", "Who?"), ("assistant", "Alice.")]
        .map(|(role, content)| serde_json::json!({ "role": role, "content": content }));
    std::fs::write(
        path.join("chat.json"),
        serde_json::json!(vec![messages.to_vec(); 90]).to_string(),
    )
    .unwrap();
    for file in ["ids.npy", "logits.npy"] {
        std::fs::copy(golden("tiny-llama").join(file), path.join(file)).unwrap();
    }
}

fn run_example(line: &str, further: &[&str], folder: &Path) {
    let (mut words, input) = words(line);
    words.extend(further.iter().map(|&word| word.to_owned()));
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
    // Conversions do not meet those that other examples read, or each other.
    let own = tempfile::tempdir().unwrap();
    let folder = if words[1] == "convert" {
        copy(&folder.join("SmolLM2-135M"), &own.path().join("SmolLM2-135M"));
        // An example before has made it.
        if line.contains("stats.safetensors") {
            let name = "stats.safetensors";
            std::fs::copy(folder.join(name), own.path().join(name)).unwrap();
        }
        own.path()
    } else {
        folder
    };
    let run_words = |words: &[String]| {
        let mut command = anemll();
        command.env("ANEMLL_DATA", folder.join("data"));
        command.args(&words[1..]).current_dir(folder).stdin(match &input {
            Some(file) => Stdio::from(std::fs::File::open(folder.join(file)).unwrap()),
            None => Stdio::null(),
        });
        let output = run(&mut command);
        let error = String::from_utf8_lossy(&output.stderr);
        // A finding is an answer, too.
        let found = line.contains("--strict") && output.status.code() == Some(1);
        assert!(output.status.success() || found, "{line}\n{error}");
    };
    // What is done again must have been done, and what is written must not be there.
    if let Some(place) = words.iter().position(|word| word == "--restart" || word == "--only") {
        let mut first = words.clone();
        first.drain(place..place + 2);
        run_words(&first);
    }
    let target = words.iter().position(|word| word == "--output" || word == "--output-dir");
    if let Some(target) =
        target.and_then(|place| words.get(place + 1)).map(|name| folder.join(name))
        && ["compile", "combine", "split"].contains(&words[1].as_str())
        && !words.iter().any(|word| word == "./parts")
        && target.exists()
    {
        std::fs::remove_dir_all(target).unwrap();
    }
    run_words(&words);
}

/// Copies a folder with all below it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(file.file_name());
        if file.path().is_dir() {
            copy(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
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
