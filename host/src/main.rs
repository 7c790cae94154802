//! The program `anemll`.

use anemll_host::cli::{Cli, Command};
use anemll_host::plugins::Plugins;
use anemll_host::progress::{Display, Event, Reporter};
use anemll_host::{commands, convert, error, services, terminal};
use anemll_plugin_api::Result;
use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => {
            let _ = refusal.print();
            return if refusal.use_stderr() {
                ExitCode::from(error::EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    log_to_stderr(cli.verbose);
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if error::is_reader_left(&failure) => ExitCode::SUCCESS,
        Err(failure) if error::is_different(&failure) => ExitCode::from(error::EXIT_FAILED),
        Err(failure) => {
            say(&error::render_short(&failure));
            ExitCode::from(error::exit_code(&failure))
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    services::handle_interrupts()?;
    // These need no plugins, and work where one of them is broken.
    match &cli.command {
        Command::Completions(arguments) => return commands::completions::completions(arguments),
        Command::Man(arguments) => return commands::completions::man(arguments),
        Command::Explain(arguments) => return commands::explain::run(arguments),
        Command::Combine(arguments) => return commands::combine::run(arguments),
        Command::Split(arguments) => return commands::split::run(arguments),
        Command::Dedup(arguments) => return commands::dedup::run(arguments),
        Command::Diff(arguments) => return commands::diff::run(arguments),
        Command::Inspect(arguments) => return commands::inspect::run(arguments),
        _ => {}
    }
    let plugins = Plugins::discover(&cli.plugins)?;
    let quiet = match &cli.command {
        Command::Convert(arguments) => arguments.display() == Display::Quiet,
        // They say it themselves.
        Command::Plugin(_) | Command::Doctor(_) => true,
        _ => false,
    };
    for text in plugins.warnings().iter().filter(|_| !quiet) {
        say(&format!("warning: {}", terminal::plain(text)));
    }
    match &cli.command {
        Command::Convert(arguments) => {
            let reporter = Reporter::new(arguments.display());
            let show = |event: &Event<'_>| reporter.show(event);
            convert::run(arguments, &plugins, &command_line(), &show)
        }
        Command::Check(arguments) => commands::check::run(arguments, &plugins),
        Command::Plan(arguments) => commands::plan::run(arguments, &plugins),
        Command::Doctor(arguments) => commands::doctor::run(arguments, &plugins),
        Command::Completions(_)
        | Command::Man(_)
        | Command::Explain(_)
        | Command::Combine(_)
        | Command::Split(_)
        | Command::Dedup(_)
        | Command::Diff(_)
        | Command::Inspect(_) => Ok(()),
        Command::Compile(arguments) => commands::compile::run(arguments, &plugins),
        Command::Chat(arguments) => commands::chat::run(arguments, &plugins),
        Command::Eval(arguments) => commands::eval::run(arguments, &plugins),
        Command::Generate(arguments) => commands::generate::run(arguments, &plugins),
        Command::Preflight(arguments) => commands::preflight::run(arguments, &plugins),
        Command::Plugin(command) => commands::plugin::run(command, &plugins),
    }
}

/// A line for the user. Nothing can be done when standard error is closed.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(verbose > 1)
        .init();
}

/// The command line as typed, for meta.yaml, which is text: bytes that are none are shown as such.
fn command_line() -> String {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    convert::without_run_flags(arguments)
        .map(|argument| quote(&argument))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quote(argument: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=,:+@".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}
