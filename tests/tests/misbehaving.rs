//! A plugin that does all it can to go wrong, through the program: each time one error, which names
//! it, and no output; nothing that it says reaches a terminal raw, and nothing that it prints gets
//! between what the program prints.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, example, model, run};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A conversion with one component of the plugin.
fn conversion(target: &Path, stage: &str, misdeed: &str) -> Command {
    let mut command = anemll();
    command.arg("--plugin").arg(example("misbehaving"));
    command.args([
        "convert",
        "--no-tokenizer",
        "--context",
        "64",
        "--batch",
        "8",
        "--skip-quality",
    ]);
    for (flag, of, other) in [
        ("--arch", "misbehaving", None),
        ("--combiner", "misbehaving-combiner", Some("monolithic")),
        ("--compiler", "misbehaving-compiler", Some("none")),
        ("--runtime", "misbehaving-runtime", Some("none")),
        ("--quantizer", "misbehaving-quantizer", None),
    ] {
        let value = if flag == format!("--{stage}") { Some(of) } else { other };
        if let Some(value) = value {
            command.args([flag, value]);
        }
        if value == Some(of) {
            command.args(["-O", &format!("{of}.misdeed={misdeed}")]);
        }
    }
    if stage != "quantizer" {
        command.args(["--lut", "none"]);
    }
    command.arg("--model").arg(model("tiny-llama")).arg("--output").arg(target);
    command.env("RUST_BACKTRACE", "0");
    command
}

/// Whether nothing was published: what later runs can take up is in a hidden folder.
fn nothing_but_our_own(target: &Path) -> bool {
    let names = std::fs::read_dir(target).into_iter().flatten().flatten();
    names.into_iter().all(|entry| entry.file_name() == ".anemll")
}

/// What it does where, with the code of the error that comes of it, and a part of its text.
const MISDEEDS: &[(&str, &str, &str, &str)] = &[
    ("arch", "panic in new", "A0113", "panicked in `new_arch`: boom in new"),
    ("arch", "panic in open", "A0113", "panicked in `arch.open`: boom in open"),
    ("arch", "panic in describe", "A0113", "panicked in `model.describe`: boom in describe"),
    ("arch", "panic in lower", "A0113", "panicked in `model.lower`: boom in lower"),
    ("arch", "fail in open", "A0115", "plugin `misbehaving` failed in"),
    ("arch", "nothing", "A04", "model"),
    ("arch", "control characters", "A0", "u{1b}"),
    ("quantizer", "panic in scheme", "A0113", "panicked in `quantizer.scheme`"),
    ("quantizer", "panic in plan", "A0113", "panicked in `quantizer.plan`"),
    ("quantizer", "panic in encode", "A0113", "panicked in `quantizer.encode`"),
    ("quantizer", "fail in encode", "A0115", "plugin `misbehaving` failed in"),
    ("quantizer", "wrong operation", "A0115", "add"),
    ("quantizer", "wrong sizes", "A01", "misbehaving-quantizer"),
    ("quantizer", "past the end", "A0116", "do not fit"),
    ("quantizer", "past the end, unnoticed", "A0116", "do not fit"),
    ("quantizer", "another tensor", "A0116", "no tensor with id"),
    ("quantizer", "too little", "A0116", "not complete"),
    ("quantizer", "wrong type", "A0115", "lut"),
    ("quantizer", "left out", "A0115", "lut"),
    ("combiner", "panic in layout", "A0113", "panicked in `combiner.layout`"),
    ("combiner", "panic in combine", "A0113", "panicked in `combiner.combine`"),
    ("combiner", "outside", "A0125", "../whole"),
    ("combiner", "control characters", "A0125", "u{1b}"),
    ("combiner", "nothing", "A0125", "no valid `whole`"),
    ("compiler", "panic in compile", "A0113", "panicked in `compiler.compile`"),
    ("compiler", "nothing", "A0115", "nothing.mlmodelc"),
    ("compiler", "elsewhere", "A0115", "misbehaving-compiler"),
    ("runtime", "panic in open", "A0113", "panicked in `runtime.open`"),
    ("runtime", "panic in describe", "A0113", "panicked in `session.describe`"),
    ("runtime", "panic in run", "A0113", "panicked in `session.run`"),
    ("runtime", "no functions", "A0702", "no function `infer`"),
    ("runtime", "wrong size", "A0115", "`logits1` has the shape [1, 1, 3]"),
    ("runtime", "wrong type", "A0115", "`logits1` is int8"),
    ("runtime", "huge", "A0116", "logits1"),
    ("runtime", "nothing", "A0115", "`logits1`"),
];

#[test]
fn whatever_a_plugin_does_is_one_error_and_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (number, (stage, misdeed, code, text)) in MISDEEDS.iter().enumerate() {
        let target = folder.path().join(number.to_string());
        let output = run(&mut conversion(&target, stage, misdeed));
        let said = stderr(&output);
        let raw = said.chars().any(|character| character.is_control() && character != '\n');
        let is_right = output.status.code() == Some(1)
            && said.matches("error[").count() == 1
            && said.contains(&format!("error[{code}"))
            && said.contains(text)
            && !raw
            && output.stdout.is_empty()
            && said.len() < 8000
            && nothing_but_our_own(&target);
        if !is_right {
            wrong.push(format!("{stage}: {misdeed}: {}, {said:?}", output.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What a plugin prints is told as such on standard error, and the program's own answer is whole.
#[cfg(unix)]
#[test]
fn what_a_plugin_prints_is_not_the_programs_answer() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out");
    let mut command = conversion(&target, "quantizer", "print in scheme");
    let output = run(command.arg("--json").env("COLUMNS", "100"));
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(!answer.is_empty() && !answer.contains("printed"), "{answer}");
    for line in answer.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value.is_object(), "{line}");
    }
    assert!(
        said.contains("note: a plugin wrote to standard output: \\u{1b}]0;evil\\u{7}printed"),
        "{said}"
    );
    assert!(said.contains("and \\u{1b}[2Jmore") && !said.contains('\u{1b}'), "{said:?}");
}

/// A plugin that never returns does not heed Ctrl-C; the program says so, and ends at the second one.
#[cfg(unix)]
#[test]
fn a_plugin_that_never_returns_is_left_with_a_second_interrupt() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = conversion(&folder.path().join("out"), "quantizer", "stay in scheme");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let id = child.id().to_string();
    let interrupt =
        || assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let mut wait_for = |word: &str| {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(told.read_line(&mut line).unwrap() > 0, "it ended by itself before `{word}`");
        }
    };
    wait_for("staying");
    interrupt();
    wait_for("Ctrl-C again");
    interrupt();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
