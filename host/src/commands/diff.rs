//! `diff`: in what two models differ, so that one sees what a new version of a tool changed.

use anemll_plugin_api::Result;
use anemll_report::asset;
use anemll_report::diff::compare;
use anemll_report::inspect::open::Opened;
use clap::Args;
use std::path::PathBuf;

/// Examples below the help text.
pub const EXAMPLES: &str = "Examples:
  anemll diff old/llama_lm_head.mlpackage new/llama_lm_head.mlpackage
  anemll diff model.mlpackage model.mlmodelc --json

The exit code is 0 when both are equal, 1 when they differ.";

/// What can be typed.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// A .mlpackage, .mlmodelc, .mlmodel or .aimodel.
    #[arg(value_name = "A")]
    pub first: PathBuf,
    /// The one to compare it with.
    #[arg(value_name = "B")]
    pub second: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &DiffArguments) -> Result<()> {
    if [&arguments.first, &arguments.second].into_iter().any(|path| asset::is_at(path)) {
        let width = anemll_terminal::width();
        let found = asset::differences(&arguments.first, &arguments.second, arguments.json, width)?;
        super::print(&found.text)?;
        return if found.equal { Ok(()) } else { Err(crate::error::different()) };
    }
    let first = Opened::open(&arguments.first)?;
    let second = Opened::open(&arguments.second)?;
    let difference = compare(&first, &second)?;
    if arguments.json {
        super::print_json(&difference)?;
    } else {
        super::print(&difference.to_text(anemll_terminal::width()))?;
    }
    if difference.is_equal() { Ok(()) } else { Err(crate::error::different()) }
}
