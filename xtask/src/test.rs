//! `test`: the tests of the whole workspace.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::process::{Command, Stdio};

use crate::command::{cargo, shown, succeeds, workspace_root};
use crate::{Result, artifacts, sdk, witness};

/// How many of the slowest tests are named at the end.
const SLOWEST: usize = 20;

/// What a runner told.
#[derive(Debug, Default)]
struct Outcome {
    counts: Counts,
    /// Seconds and name of each test, where the runner tells them.
    times: Vec<(f64, String)>,
}

/// How the tests went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut with_witness = false;
    let mut filter = None;
    for argument in arguments {
        match argument.as_str() {
            "--witness" => with_witness = true,
            flag if flag.starts_with('-') => {
                return Err(format!(
                    "`test` does not know `{flag}`; usage: cargo xtask test [--witness] [FILTER]"
                ));
            }
            word if filter.is_none() => filter = Some(word),
            word => return Err(format!("`test` takes one filter, and got `{word}` too")),
        }
    }

    let built = artifacts::build_for_tests()?;
    // What the tests of an earlier run converted; those of one run share theirs.
    if let Some(folder) = built.host.parent().map(|folder| folder.join("conversions"))
        && folder.exists()
    {
        std::fs::remove_dir_all(&folder)
            .map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
    }
    // What `plugin new` takes from beside the program.
    if let Some(folder) = built.host.parent() {
        sdk::write(&folder.join("sdk"))?;
    }
    if with_witness {
        witness::run(&[])?;
    }

    // The examples in the documentation first: cargo-nextest leaves them out, and the last summary
    // is then that of the tests.
    let examples = ["test", "--workspace", "--doc", "--quiet"];
    let examples = counted(&mut test_command(&built, filter, &examples)?, Stream::Output)?;
    let tests = if succeeds(cargo().args(["nextest", "--version"])) {
        let color =
            if std::io::stderr().is_terminal() { "--color=always" } else { "--color=never" };
        let runner = ["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass", color];
        counted(&mut test_command(&built, filter, &runner)?, Stream::Error)?
    } else {
        let runner = ["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"];
        counted(&mut test_command(&built, filter, &runner)?, Stream::Output)?
    };
    let counts = sum(examples.counts, tests.counts);

    println!();
    print!("{}", slowest(tests.times));
    if !with_witness {
        println!(
            "left out: the Python witness, which checks written packages with coremltools \
             (`cargo xtask witness`)"
        );
    }
    println!("{}", closing_line(counts));
    if counts.failed > 0 {
        return Err(format!("{} of the tests failed", counts.failed));
    }
    if counts.passed == 0 {
        let filter =
            filter.map_or_else(String::new, |filter| format!(" whose name has `{filter}`"));
        return Err(format!("there is no test{filter}"));
    }
    Ok(())
}

/// The line by which people and machines see at once how it went.
fn closing_line(counts: Counts) -> String {
    format!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped)
}

/// The tests that took longest, and how long all of them took, one after another.
fn slowest(mut times: Vec<(f64, String)>) -> String {
    if times.is_empty() {
        return String::new();
    }
    let total: f64 = times.iter().map(|(seconds, _)| seconds).sum();
    let count = times.len();
    times.sort_by(|one, other| other.0.total_cmp(&one.0));
    times.truncate(SLOWEST);
    let mut text = format!("tests: {count}, {total:.1} s in all; the slowest {}:\n", times.len());
    for (seconds, name) in times {
        text.push_str(&format!("{seconds:8.1} s  {name}\n"));
    }
    text
}

fn sum(one: Counts, other: Counts) -> Counts {
    Counts {
        passed: one.passed + other.passed,
        failed: one.failed + other.failed,
        skipped: one.skipped + other.skipped,
    }
}

/// A test runner, with what the tests across crates need to find the program and the plugins.
fn test_command(
    built: &artifacts::Artifacts,
    filter: Option<&str>,
    arguments: &[&str],
) -> Result<Command> {
    let mut command = cargo();
    command.current_dir(workspace_root()?).args(arguments).args(filter);
    command.env("ANEMLL_TEST_HOST", &built.host);
    if let Some(folder) = built.host.parent() {
        command.env("ANEMLL_CACHE", folder.join("anemll-cache"));
        // Plugins of a developer must not matter.
        command.env("ANEMLL_DATA", folder.join("anemll-data")).env_remove("ANEMLL_PLUGIN_PATH");
    }
    if let Some(directory) = built.plugins.first().and_then(|path| path.parent()) {
        command.env("ANEMLL_TEST_PLUGINS", directory);
    }
    Ok(command)
}

/// The stream on which a runner prints its summary.
#[derive(Clone, Copy)]
enum Stream {
    Output,
    Error,
}

/// Runs, passes everything on as it comes, and counts from the summary lines. A runner that fails
/// without a failed test (a test that does not build, say) is an error.
fn counted(command: &mut Command, stream: Stream) -> Result<Outcome> {
    let line = shown(command);
    eprintln!("$ {line}");
    match stream {
        Stream::Output => command.stdout(Stdio::piped()),
        Stream::Error => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().map_err(|error| format!("`{line}` did not start: {error}"))?;
    let piped: Option<Box<dyn Read>> = match stream {
        Stream::Output => child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
        Stream::Error => child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
    };
    let (mut outcome, mut ended) = (Outcome::default(), false);
    if let Some(pipe) = piped {
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        // Bytes, not text: a test may print anything.
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let written = match stream {
                Stream::Output => std::io::stdout().write_all(&bytes),
                Stream::Error => std::io::stderr().write_all(&bytes),
            };
            written.map_err(|error| format!("cannot print the test runner's output: {error}"))?;
            let line = without_colors(&String::from_utf8_lossy(&bytes));
            match counts_of_line(&line, stream) {
                Some(found) => {
                    outcome.counts = sum(outcome.counts, found);
                    ended = true;
                }
                // Behind the summary, failed tests are named once more.
                None if !ended => outcome.times.extend(time_of_line(&line)),
                None => {}
            }
            bytes.clear();
        }
    }
    let status = child.wait().map_err(|error| format!("`{line}` was lost: {error}"))?;
    if !status.success() && outcome.counts.failed == 0 {
        return Err(format!("`{line}` failed ({status})"));
    }
    Ok(outcome)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …` of cargo test, on standard output, and
/// `Summary [ 0.1s] 4 tests run: 3 passed, 1 failed, 1 skipped` of cargo-nextest, on standard error,
/// where it also shows what a failed test printed.
fn counts_of_line(line: &str, stream: Stream) -> Option<Counts> {
    let line = line.trim();
    let rest = match stream {
        Stream::Output => line.strip_prefix("test result: ")?,
        Stream::Error => line.strip_prefix("Summary ")?.split_once(" run: ")?.1,
    };
    let mut counts = Counts::default();
    let words: Vec<&str> =
        rest.split([' ', ',', ';', '.', '(']).filter(|word| !word.is_empty()).collect();
    for pair in words.windows(2) {
        let Ok(number) = pair[0].parse::<u64>() else { continue };
        match pair[1] {
            "passed" => counts.passed = number,
            "failed" => counts.failed += number,
            // A test that nextest stops for its time, or that could not be run at all.
            "timed" | "exec" => counts.failed += number,
            "ignored" | "skipped" => counts.skipped = number,
            _ => {}
        }
    }
    Some(counts)
}

/// Reads `PASS [   0.021s] (3/8) anemll-tests::chat a_test` of cargo-nextest.
fn time_of_line(line: &str) -> Option<(f64, String)> {
    let (state, rest) = line.trim().split_once(" [")?;
    if !["PASS", "FAIL", "LEAK", "TIMEOUT"].contains(&state) {
        return None;
    }
    let (seconds, rest) = rest.split_once("s]")?;
    let rest = rest.trim_start();
    let name = match rest.split_once(") ") {
        Some((count, name)) if count.starts_with('(') => name,
        _ => rest,
    };
    Some((seconds.trim().parse().ok()?, name.trim().to_owned()))
}

/// Takes out the terminal's color sequences: escape, `[`, and all up to a letter.
fn without_colors(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            for skipped in characters.by_ref() {
                if skipped.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners_are_read() {
        let cases = [
            (
                "test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                Some((12, 0, 2)),
            ),
            (
                "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.01s",
                Some((1, 3, 0)),
            ),
            ("     Summary [   0.123s] 40 tests run: 40 passed, 1 skipped", Some((40, 0, 1))),
            (
                "\u{1b}[32;1m     Summary\u{1b}[0m [   0.123s] \u{1b}[1m4/40\u{1b}[0m tests run: \u{1b}[1m3\u{1b}[0m passed (1 slow), 1 \u{1b}[31mfailed\u{1b}[0m, 1 timed out, 7 skipped",
                Some((3, 2, 7)),
            ),
            ("Summary of the novel: none", None),
            ("running 12 tests", None),
            ("    test result: FAILED. 0 passed; 1 failed; 0 ignored", None),
        ];
        for (line, expected) in cases {
            let expected =
                expected.map(|(passed, failed, skipped)| Counts { passed, failed, skipped });
            let stream = if line.starts_with("test") { Stream::Output } else { Stream::Error };
            assert_eq!(counts_of_line(&without_colors(line), stream), expected, "{line}");
        }
    }

    #[test]
    fn the_slowest_tests_come_first() {
        let lines = [
            "        PASS [   0.250s] (  1/800) anemll-tests::chat answers",
            "\u{1b}[32;1m        PASS\u{1b}[0m [  12.500s] \u{1b}[35;1manemll-tests::logits\u{1b}[0m tied",
            "        FAIL [   1.000s] (3/800) xtask::bin/xtask test::fails",
            "        SLOW [> 60.000s] (4/800) anemll-tests::logits whole",
            "test result: ok. 12 passed",
        ];
        let times: Vec<_> =
            lines.iter().filter_map(|line| time_of_line(&without_colors(line))).collect();
        assert_eq!(
            slowest(times),
            "tests: 3, 13.8 s in all; the slowest 3:\n    12.5 s  anemll-tests::logits tied\n     \
             1.0 s  xtask::bin/xtask test::fails\n     0.2 s  anemll-tests::chat answers\n"
        );
        assert_eq!(slowest(Vec::new()), "");
        let many = vec![(1.0, String::new()); SLOWEST + 1];
        assert_eq!(slowest(many).lines().count(), SLOWEST + 1);
    }

    #[test]
    fn the_closing_line_is_in_plain_form() {
        let counts = Counts { passed: 3, failed: 0, skipped: 1 };
        assert_eq!(closing_line(counts), "3 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn unknown_flags_are_refused_before_anything_is_built() {
        for arguments in [vec!["--fast"], vec!["one", "two"]] {
            let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
            assert!(run(&arguments).is_err());
        }
    }
}
