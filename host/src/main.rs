//! The program `anemll`.

use anemll_codes as codes;
use anemll_host::cli::{self, Cli, Command};
use anemll_host::progress::{Display, LogWriter, Reporter};
use anemll_host::{commands, error, panics};
use anemll_pipeline::plugins::{Plugins, Search};
use anemll_plugin_api::{Error, Result};
use anemll_services as services;
use anemll_terminal as terminal;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    // In the process that renders chat templates, this is all that happens.
    if let Some(code) = anemll_chat_template::enter() {
        return code;
    }
    panics::caught(start).unwrap_or_else(|bug| {
        terminal::tell_always(&error::render_short(&bug));
        ExitCode::from(error::EXIT_BUG)
    })
}

fn start() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    anstream::ColorChoice::from(cli::color(&arguments)).write_global();
    let mut cli = match cli::parse(&arguments) {
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
    terminal::set_quiet(cli.quiet);
    log_to_stderr(&cli);
    let result = run(&mut cli);
    terminal::release_output();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if error::is_reader_left(&failure) => ExitCode::SUCCESS,
        Err(failure) if error::is_different(&failure) => ExitCode::from(error::EXIT_FAILED),
        Err(failure) => {
            terminal::tell_always(&error::render_short(&failure));
            ExitCode::from(error::exit_code(&failure))
        }
    }
}

fn run(cli: &mut Cli) -> Result<()> {
    services::handle_interrupts()?;
    // Those that only print texts work where no thread can be started.
    let prints =
        matches!(cli.command, Command::Completions(_) | Command::Man(_) | Command::Explain(_));
    if !prints {
        start_threads(cli.threads)?;
        // Plugins run in this process; what they print is not what was asked for.
        let _ = terminal::keep_output(terminal::tell);
    }
    if let Some(model) = cli.command.model() {
        let reporter = Reporter::new(Display::Lines);
        model.adapt(&|event| reporter.show(event))?;
    }
    let cli = &*cli;
    // Only those look for plugins that need them: one may be broken.
    let plugins = || find_plugins(cli);
    match &cli.command {
        Command::Completions(arguments) => {
            commands::completions::completions(arguments, cli::command(), &cli.plugins)
        }
        Command::Man(arguments) => commands::completions::man(arguments, cli::command()),
        Command::Explain(arguments) => commands::explain::run(arguments),
        Command::Combine(arguments) => commands::combine::run(arguments),
        Command::Split(arguments) => commands::split::run(arguments),
        Command::Dedup(arguments) => commands::dedup::run(arguments),
        Command::Export(arguments) => commands::export::run(arguments),
        Command::Diff(arguments) => commands::diff::run(arguments),
        Command::Inspect(arguments) => commands::inspect::run(arguments),
        Command::Convert(arguments) => commands::convert::run(arguments, &plugins()?),
        Command::Check(arguments) => commands::check::run(arguments, &plugins()?),
        Command::Plan(arguments) => commands::plan::run(arguments, &plugins()?),
        Command::Doctor(arguments) => commands::doctor::run(arguments, &plugins()?),
        Command::Compile(arguments) => commands::compile::run(arguments, &plugins()?),
        Command::Chat(arguments) => commands::chat::run(arguments, &plugins()?),
        Command::Eval(arguments) => commands::eval::run(arguments, &plugins()?),
        Command::Embed(arguments) => commands::embed::run(arguments, &plugins()?),
        Command::Bench(arguments) => commands::bench::run(arguments, &plugins()?),
        Command::Generate(arguments) => commands::generate::run(arguments, &plugins()?),
        Command::Serve(arguments) => commands::serve::run(arguments, &plugins()?),
        Command::Verify(arguments) => commands::verify::run(arguments, &plugins()?),
        Command::Preflight(arguments) => commands::preflight::run(arguments, &plugins()?),
        Command::Calibrate(arguments) => commands::calibrate::run(arguments, &plugins()?),
        Command::Sweep(arguments) => commands::sweep::run(arguments, &plugins()?),
        Command::Plugin(command) => commands::plugin::run(command, &search(cli)),
    }
}

fn search(cli: &Cli) -> Search {
    Search::of_environment(&cli.plugins, cli.locked)
}

fn find_plugins(cli: &Cli) -> Result<Plugins> {
    let plugins = Plugins::search(&search(cli))?;
    // It says these itself.
    if !matches!(cli.command, Command::Doctor(_)) {
        for text in plugins.found().warnings() {
            terminal::tell(&format!("warning: {text}"));
        }
        for text in plugins.found().overrides() {
            terminal::tell(&format!("note: {text}"));
        }
    }
    Ok(plugins)
}

/// Starts the threads that share the work, since without them nothing can be done.
fn start_threads(count: Option<u16>) -> Result<()> {
    let count = count.map_or(0, usize::from);
    rayon::ThreadPoolBuilder::new().num_threads(count).build_global().map_err(|source| {
        Error::new(codes::THREADS, format!("the threads cannot be started: {source}"))
            .with_hint("the system allows no more: end other programs, or take fewer: --threads 1")
    })
}

fn log_to_stderr(cli: &Cli) {
    let level = match cli.verbose {
        _ if cli.quiet => tracing::Level::ERROR,
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(LogWriter::default)
        .with_ansi(false)
        .without_time()
        .with_target(cli.verbose > 1)
        .init();
}
