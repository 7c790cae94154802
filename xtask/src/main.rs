//! Development tasks, run as `cargo xtask TASK`.
//!
//! One module per task; [`TASKS`] is their only list.
// The tasks talk to a developer at a terminal, so they print.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod additions;
mod artifacts;
mod bench;
mod ci;
mod circles;
mod command;
mod demo;
mod dist;
mod folder;
mod frozen;
mod outside;
mod sdk;
mod test;
mod witness;

use std::process::ExitCode;

/// What a task answers: nothing, or one sentence on what went wrong.
type Result<T> = std::result::Result<T, String>;

/// A task: its name on the command line, its arguments, what it does, and how.
struct Task {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Result<()>,
}

/// Every task, in the order in which the help shows them.
const TASKS: &[Task] = &[
    Task {
        name: "demo",
        arguments: "",
        help: "build, convert the small model in tests/models, generate text from the result",
        run: demo::run,
    },
    Task {
        name: "test",
        arguments: "[--witness] [FILTER]",
        help: "build everything and run the tests; needs only Rust, unless --witness is given",
        run: test::run,
    },
    Task {
        name: "dist",
        arguments: "[--profile NAME] [--archive [--single] [--url URL]] [--built DIR] [--output DIR]",
        help: "build the program and its plugins into dist/ (profile: release); with --archive, make \
               what a release needs in dist/release/: archive, wheel, sums, formula",
        run: dist::run,
    },
    Task {
        name: "sdk",
        arguments: "[--output DIR]",
        help: "lay out the crates that plugins are built against in dist/sdk/; builds nothing",
        run: sdk::run,
    },
    Task {
        name: "witness",
        arguments: "[--coreai]",
        help: "let coremltools check packages of every shipped model and layout; --coreai: let Apple's own \
               runtime run Core AI assets; needs Python",
        run: witness::run,
    },
    Task {
        name: "bench",
        arguments: "palettize [--runs N] [--cases TEXT] | plugins [--profile NAME] [--pairs N] [--model DIR]",
        help: "measure palettization beside coremltools (needs Python, which ANEMLL_BENCH_PYTHON may \
               name), or what it costs that plugins are libraries",
        run: bench::run,
    },
    Task {
        name: "circles",
        arguments: "",
        help: "look for files of a crate, and crates, that use each other in a circle",
        run: circles::run,
    },
    Task {
        name: "additions",
        arguments: "",
        help: "add an architecture to a copy of the workspace, build it and convert with it",
        run: additions::run,
    },
    Task {
        name: "frozen",
        arguments: "",
        help: "build a plugin of the frozen plugin ABI by itself, and convert with it",
        run: frozen::run,
    },
    Task {
        name: "outside",
        arguments: "[--all] [--built DIR | --program PATH]",
        help: "follow the guide for plugin authors: make a plugin, build it outside of the workspace, \
               convert and compare; with --all also every stage and every example, in some 10 minutes",
        run: outside::run,
    },
    Task {
        name: "ci",
        arguments: "[--all]",
        help: "all that continuous integration does, as .ci/run has it; --all: also the oldest compiler, and Miri",
        run: ci::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{}", usage());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("error: there is no task `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    if rest.iter().any(|argument| matches!(argument.as_str(), "--help" | "-h")) {
        println!("cargo xtask {} {}\n    {}", task.name, task.arguments, task.help);
        return ExitCode::SUCCESS;
    }
    match (task.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("usage: cargo xtask TASK\n\n");
    for task in TASKS {
        let call = format!("{} {}", task.name, task.arguments);
        text.push_str(&format!("  {call:<28} {}\n", task.help));
    }
    text
}

/// Refuses arguments where a task takes none.
fn no_arguments(arguments: &[String]) -> Result<()> {
    match arguments.first() {
        None => Ok(()),
        Some(argument) => Err(format!("this task takes no argument, and got `{argument}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_lists_every_task_once() {
        let text = usage();
        for task in TASKS {
            assert_eq!(text.matches(&format!("\n  {} ", task.name)).count(), 1, "{}", task.name);
        }
    }

    #[test]
    fn stray_arguments_are_refused() {
        assert!(no_arguments(&[]).is_ok());
        assert!(no_arguments(&["--fast".to_owned()]).is_err_and(|text| text.contains("--fast")));
    }
}
