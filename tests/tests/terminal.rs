//! What is the same for every command on a terminal: widths, colours, `--quiet`, `--json`, threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, model, run, succeed};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Commands that print tables, over a conversion in `out` of the model `model`.
fn tables(folder: &Path) -> Vec<Command> {
    let package = "out/llama_FFN_PF_chunk_01of02.mlpackage";
    [
        &["plan", "model", "--lut1", "8", "--lut2", "4,16"][..],
        &["doctor"],
        &["plugin", "list"],
        &["inspect", package],
        &["inspect", package, "--weights"],
        &["diff", package, "out/llama_FFN_PF_chunk_02of02.mlpackage"],
        &["convert", "model", "-o", "new", "--dry-run", "--chunk", "2"],
    ]
    .into_iter()
    .map(|words| {
        let mut command = anemll();
        command.current_dir(folder).args(words);
        command
    })
    .collect()
}

#[test]
fn tables_are_readable_at_any_width() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("model")).unwrap();
    for file in std::fs::read_dir(model("tiny-llama")).unwrap().flatten() {
        if file.path().is_file() {
            std::fs::copy(file.path(), path.join("model").join(file.file_name())).unwrap();
        }
    }
    convert(&path.join("model"), &path.join("out"), &["--chunk", "2"]);
    for width in [60, 80, 120] {
        for mut command in tables(path) {
            let output = run(command.env("COLUMNS", width.to_string()));
            let said = text(&output.stdout);
            assert!(!said.is_empty(), "{command:?}: {}", text(&output.stderr));
            let table = said.lines().filter(|line| !line.starts_with("note:"));
            for line in table.filter(|line| line.contains("  ")) {
                // What is one word, such as a path, cannot be broken.
                let longest = line.split(' ').map(str::len).max().unwrap_or(0);
                let columns = line.chars().count();
                assert!(columns <= width.max(longest + 34), "{command:?}, {width}:\n{line}");
                assert!(!line.contains("  …"), "a name was cut to nothing:\n{line}");
            }
        }
    }
    let [.., inspect, _, _] = &mut tables(path)[..] else { panic!() };
    let wide = text(&succeed(inspect).stdout);
    assert!(wide.contains("SHAPE") && !wide.contains("no room for"), "a pipe gets all:\n{wide}");
    let narrow = text(&succeed(inspect.env("COLUMNS", "60")).stdout);
    assert!(narrow.contains("names begin with ") && narrow.contains("no room for "), "{narrow}");
}

#[test]
fn colours_are_where_they_are_wanted() {
    let has_colours = |set: &[(&str, &str)], arguments: &[&str]| {
        let mut command = anemll();
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env_remove("CLICOLOR");
        command.envs(set.iter().copied()).args(arguments);
        let output = run(&mut command);
        let escape = |bytes: &[u8]| bytes.contains(&0x1b);
        (escape(&output.stdout), escape(&output.stderr))
    };
    // An answer, an error of the command line, and an error of a command.
    for (arguments, expected) in [
        (&["doctor"][..], (true, false)),
        (&["plan"], (false, true)),
        (&["plan", "/nowhere/at/all"], (false, true)),
    ] {
        let with =
            |more: &[&str], set: &[(&str, &str)]| has_colours(set, &[arguments, more].concat());
        assert_eq!(with(&[], &[]), (false, false), "{arguments:?} in a pipe");
        assert_eq!(with(&["--color", "always"], &[]), expected, "{arguments:?}");
        assert_eq!(with(&[], &[("CLICOLOR_FORCE", "1")]), expected, "{arguments:?}");
        let forced = [("CLICOLOR_FORCE", "1")];
        assert_eq!(with(&["--color=never"], &forced), (false, false), "{arguments:?}");
        let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
        assert_eq!(with(&[], &both), (false, false), "{arguments:?}");
    }
}

#[test]
fn quiet_leaves_the_answer_and_the_errors() {
    let mut command = anemll();
    command.arg("check").arg(model("tiny-llama")).arg("--quiet");
    let output = succeed(&mut command);
    assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let output = run(anemll().args(["-q", "check", "/nowhere/at/all"]));
    let said = text(&output.stderr);
    assert!(said.starts_with("error[") && !said.contains("note:"), "{said}");
}

#[test]
fn json_stands_alone_on_standard_output() {
    let tiny = model("tiny-llama");
    let tiny = tiny.to_str().unwrap();
    for arguments in [
        &["check", tiny][..],
        &["plan", tiny],
        &["doctor"],
        &["plugin", "list"],
        &["convert", tiny, "-o", "new", "--dry-run"],
    ] {
        let output = run(anemll().args(arguments).arg("--json"));
        let document: Result<Value, _> = serde_json::from_slice(&output.stdout);
        assert!(document.is_ok(), "{arguments:?}: {}", text(&output.stdout));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn threads_that_cannot_start_are_an_error() {
    let one = anemll_tests::anemll();
    let program: Vec<String> = std::iter::once(one.get_program())
        .chain(one.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // 1024 stacks of 2 MB do not fit into this address space.
    let script = "ulimit -v 1500000 && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(&program).args(["--threads", "1024", "doctor"]);
    let output = run(&mut command);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error[A0820]") && said.contains("--threads 1"), "{said}");
    let output = run(anemll().args(["--threads", "1", "doctor"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn completions_know_the_plugins() {
    let script = text(&succeed(anemll().args(["completions", "zsh"])).stdout);
    for words in ["chunked coreai-bundle monolithic auto", "cpu none", "lut"] {
        assert!(script.contains(words), "{words}:\n{script}");
    }
    let alone = run(Command::new(anemll_tests::program()).args(["completions", "bash"]));
    assert!(alone.status.success(), "without plugins too");
}
