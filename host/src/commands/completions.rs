//! `completions` and `man`: what clap makes of the command line for shells and manuals.

use crate::cli::Cli;
use anemll_plugin_api::{Error, Result, codes};
use clap::{Args, CommandFactory as _};
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
    /// Write a page for every command into this directory, which is made if it does not exist;
    /// else the program's page is printed.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// Prints the script.
pub fn completions(arguments: &CompletionsArguments) -> Result<()> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "anemll", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}

/// Prints or writes the manual.
pub fn man(arguments: &ManArguments) -> Result<()> {
    let Some(directory) = &arguments.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|source| Error::new(codes::INTERNAL, format!("no page: {source}")))?;
        return super::print(&String::from_utf8_lossy(&page));
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|source| {
            crate::error::io(codes::OUTPUT_UNWRITABLE, "cannot write the pages", directory, &source)
        })
}
