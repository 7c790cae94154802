//! `completions` and `man`: what clap makes of the command line for shells and manuals.

use anemll_codes as codes;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::data::Stage;
use anemll_plugin_api::{Error, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;
use std::path::PathBuf;

/// For `--help`.
pub const COMPLETIONS_EXAMPLES: &str = "Examples:
  anemll completions bash > ~/.local/share/bash-completion/completions/anemll
  anemll completions zsh > ~/.zfunc/_anemll
  anemll completions fish > ~/.config/fish/completions/anemll.fish
  anemll completions powershell
  anemll completions elvish";

/// For `--help`.
pub const MAN_EXAMPLES: &str = "Examples:
  anemll man > anemll.1
  anemll man --output ./man";

/// What can be typed after `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell to complete for.
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// What can be typed after `man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// Write a page for every command into this directory, which is created if it does not exist;
    /// else the program's page is printed.
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// Prints the script. It completes the ids of the plugins that are found now; where that fails, for
/// instance since one of them is broken, it goes without.
pub fn completions(
    arguments: &CompletionsArguments,
    command: clap::Command,
    libraries: &[PathBuf],
) -> Result<()> {
    let mut command = match Plugins::discover(libraries) {
        Ok(plugins) => with_ids(command, &plugins),
        Err(_) => command,
    };
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "anemll", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}

/// A command and its own, whose options for a plugin know the ids.
fn with_ids(command: clap::Command, plugins: &Plugins) -> clap::Command {
    let ids = |argument: clap::Arg| {
        let (stage, more): (_, &[&str]) = match argument.get_id().as_str() {
            "arch" => (Stage::Arch, &[]),
            "quantizer" => (Stage::Quantizer, &[]),
            "combiner" => (Stage::Combiner, &["auto"]),
            "compiler" => (Stage::Compiler, &["auto", "none"]),
            "runtime" => (Stage::Runtime, &["none"]),
            _ => return argument,
        };
        let found = plugins.components(stage).into_iter().map(|(_, component)| &component.id);
        let values: Vec<String> =
            found.cloned().chain(more.iter().map(|word| (*word).to_owned())).collect();
        argument.value_parser(PossibleValuesParser::new(values))
    };
    command.mut_args(ids).mut_subcommands(|inner| with_ids(inner, plugins))
}

/// Prints or writes the manual.
pub fn man(arguments: &ManArguments, command: clap::Command) -> Result<()> {
    let Some(directory) = &arguments.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|source| Error::new(codes::INTERNAL, format!("no page: {source}")))?;
        return super::print(&String::from_utf8_lossy(&page));
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .map_err(|source| {
            crate::error::io(codes::OUTPUT_UNWRITABLE, "cannot write the pages", directory, &source)
        })
}
