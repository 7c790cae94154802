//! The command line: what can be typed. What it means stands in `commands`.

#![expect(missing_docs, reason = "a doc comment on a type would become help text")]

use crate::commands::{
    bench, calibrate, chat, check, combine, compile, completions, convert, dedup, diff, doctor,
    embed, eval, explain, export, generate, inspect, plan, plugin, preflight, serve, split, sweep,
    verify,
};
use clap::{
    Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, ValueHint,
};
use std::ffi::OsString;
use std::path::PathBuf;

/// Converts language models to Core ML packages for Apple's Neural Engine, on any system.
#[derive(Debug, Parser)]
#[command(name = "anemll", version, about, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// Plugin library to load for this run; may be given several times.
    #[arg(long = "plugin", value_name = "LIBRARY", global = true, help_heading = EVERYWHERE)]
    pub plugins: Vec<PathBuf>,
    /// Load no plugin but those that the lock file lists, wherever they come from.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub locked: bool,

    /// Say more on standard error (-v progress details, -vv everything).
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = EVERYWHERE)]
    pub verbose: u8,
    /// Say nothing but errors on standard error; what was asked for still goes to standard output.
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = EVERYWHERE)]
    pub quiet: bool,
    /// Colours; auto: on a terminal, unless NO_COLOR is set.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto, global = true, help_heading = EVERYWHERE)]
    pub color: When,
    /// Threads that share the work (default: one for each processor).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), global = true, help_heading = EVERYWHERE)]
    pub threads: Option<u16>,

    #[command(subcommand)]
    pub command: Command,
}

const EVERYWHERE: &str = "For every command";

/// Whether something is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

impl From<When> for clap::ColorChoice {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

impl From<When> for anstream::ColorChoice {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

/// All that can be typed, as this program reads it.
pub fn command() -> clap::Command {
    complete(Cli::command())
}

/// A command and its own, in which a negative number is a value of the option before it, and shells
/// know where a directory is wanted.
fn complete(command: clap::Command) -> clap::Command {
    let values = |argument: Arg| {
        if !argument.get_action().takes_values() {
            return argument;
        }
        let directory = argument
            .get_value_names()
            .is_some_and(|names| names.iter().any(|name| name == "DIR" || name == "MODEL"));
        let argument = argument.allow_negative_numbers(true);
        if directory { argument.value_hint(ValueHint::DirPath) } else { argument }
    };
    command.mut_args(values).mut_subcommands(complete)
}

/// Reads a command line, the program's name first. `--color` holds for its errors, too.
///
/// # Errors
/// What cannot be understood, and help or a version that was asked for.
pub fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = command().color(color(arguments).into());
    let matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// What `--color` says, before the rest is read: the errors of reading have colours as well.
pub fn color(arguments: &[OsString]) -> When {
    let mut words = arguments.iter().filter_map(|word| word.to_str()).peekable();
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.peek().copied(),
            Some(rest) => rest.strip_prefix('='),
            None if word == "--" => break,
            None => None,
        };
        if let Some(when) = value.and_then(|value| When::from_str(value, false).ok()) {
            return when;
        }
    }
    When::Auto
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Convert a Hugging Face model directory to Core ML packages.
    #[command(after_help = convert::EXAMPLES)]
    Convert(Box<convert::ConvertArguments>),
    /// Compile packages to .mlmodelc, on any system.
    #[command(after_help = compile::EXAMPLES)]
    Compile(Box<compile::CompileArguments>),
    /// Measure a conversion: against its original model, reference logits or another conversion, or on
    /// a text.
    #[command(after_help = eval::EXAMPLES)]
    Eval(Box<eval::EvalArguments>),
    /// Talk to a conversion: on a terminal, through a pipe, or with a single question.
    #[command(after_help = chat::EXAMPLES)]
    Chat(chat::ChatArguments),
    /// Continue a text with a conversion.
    #[command(after_help = generate::EXAMPLES)]
    Generate(generate::GenerateArguments),
    /// Measure how fast a conversion runs here: prompts, generated tokens, the first token, memory.
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::BenchArguments),
    /// Serve a conversion over HTTP: OpenAI's API, and a page to chat on.
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::ServeArguments),
    /// Print the vectors of texts, with a conversion that gives those.
    #[command(after_help = embed::EXAMPLES)]
    Embed(embed::EmbedArguments),
    /// Join functions of packages into one package, weights shared.
    #[command(after_help = combine::EXAMPLES)]
    Combine(Box<combine::CombineArguments>),
    /// Extract one function of a package, with only its weights.
    #[command(after_help = split::EXAMPLES)]
    Split(split::SplitArguments),
    /// Say which weights packages could share, without writing.
    #[command(after_help = dedup::EXAMPLES)]
    Dedup(dedup::DedupArguments),
    /// Lay out a finished conversion as apps load it, with a model card and checksums.
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArguments),
    /// Check an export: every file, and, if asked, its logits against the original model.
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::VerifyArguments),
    /// Show what is in a package: functions, types, operations, weights, metadata.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::InspectArguments),
    /// Say whether a model can be converted, and what would be refused; needs only config.json.
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArguments),
    /// Say how large a conversion will be, and how many chunks it needs; needs only config.json.
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::PlanArguments),
    /// Say what this machine can do, and what is missing.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArguments),
    /// Find the layers of a model whose activations exceed the range of 16-bit floats.
    #[command(after_help = preflight::EXAMPLES)]
    Preflight(preflight::PreflightArguments),
    /// Run text through a model and record the inputs of its weights, for better palettes.
    #[command(after_help = calibrate::EXAMPLES)]
    Calibrate(calibrate::CalibrateArguments),
    /// Try forms of weights: size against distance from the original model.
    #[command(after_help = sweep::EXAMPLES)]
    Sweep(sweep::SweepArguments),
    /// Say what an error code or a lint rule is about, and what to do.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::ExplainArguments),
    /// Compare two packages: signatures, operations, values of weights.
    #[command(after_help = diff::EXAMPLES)]
    Diff(diff::DiffArguments),
    /// List plugins and what they offer; add, trust and remove those of others; start your own.
    #[command(subcommand, after_help = plugin::EXAMPLES)]
    Plugin(plugin::PluginCommand),
    /// Print the script that completes command lines in a shell.
    #[command(after_help = completions::COMPLETIONS_EXAMPLES)]
    Completions(completions::CompletionsArguments),
    /// Print the manual, or write a page for every command.
    #[command(after_help = completions::MAN_EXAMPLES)]
    Man(completions::ManArguments),
}

impl Command {
    /// The model that the command reads, if it reads one.
    pub fn model(&mut self) -> Option<&mut crate::arguments::ModelArgument> {
        match self {
            Self::Convert(typed) => Some(&mut typed.model),
            Self::Check(typed) => Some(&mut typed.model),
            Self::Plan(typed) => Some(&mut typed.model),
            Self::Preflight(typed) => Some(&mut typed.model),
            Self::Calibrate(typed) => Some(&mut typed.model),
            Self::Sweep(typed) => Some(&mut typed.model),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn a_model_is_named_with_or_without_its_flag() {
        for line in [
            "anemll convert m -o o",
            "anemll convert -m m -o o",
            "anemll convert --output o --model m",
        ] {
            let Command::Convert(arguments) = parse(&words(line)).unwrap().command else {
                panic!("{line}")
            };
            assert_eq!((&*arguments.model, &*arguments.output), (Path::new("m"), Path::new("o")));
        }
        for line in ["anemll convert -o o", "anemll convert m --model m -o o"] {
            assert!(parse(&words(line)).is_err(), "{line}");
        }
    }

    #[test]
    fn flags_for_every_command_stand_anywhere() {
        for line in ["anemll -q --threads 3 plan m", "anemll plan m --quiet --threads=3"] {
            let cli = parse(&words(line)).unwrap();
            assert!(cli.quiet && cli.threads == Some(3), "{line}");
        }
        assert!(parse(&words("anemll plan m -q -v")).is_err());
        assert_eq!(color(&words("anemll plan --color never m")), When::Never);
        assert_eq!(color(&words("anemll --color=always")), When::Always);
        assert_eq!(color(&words("anemll plan m")), When::Auto);
        assert_eq!(color(&words("anemll -- --color=always")), When::Auto);
    }

    #[test]
    fn negative_numbers_are_values() {
        for line in [
            "anemll generate --meta m --prompt p --temperature -1",
            "anemll generate --meta m --prompt p --top-p -0.5",
            "anemll generate --meta m --prompt p --seed -7",
            "anemll convert m -o o --context -5",
            "anemll plan m --overhead -1",
            "anemll --threads -2 plan m",
        ] {
            let refusal = parse(&words(line)).unwrap_err();
            assert_eq!(
                refusal.kind(),
                clap::error::ErrorKind::ValueValidation,
                "{line}: {refusal}"
            );
            assert!(!refusal.to_string().contains("unexpected argument"), "{refusal}");
        }
    }
}
