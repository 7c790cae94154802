//! `split`: one function of a package as a package of its own.

use crate::error::from_multifunction;
use anemll_codes as codes;
use anemll_multifunction::{JoinPlan, Output};
use anemll_plugin_api::{Error, Result};
use anemll_report::sharing;
use anemll_services as services;
use clap::Args;
use std::path::PathBuf;

/// Shown below the options.
pub const EXAMPLES: &str = "Example:
  anemll split Y.mlpackage --function infer --output infer.mlpackage";

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "a doc comment on the type would become help text")]
pub struct SplitArguments {
    /// The package.
    #[arg(value_name = "PACKAGE")]
    pub path: PathBuf,
    /// The function to take out; it becomes `main`.
    #[arg(long, value_name = "NAME")]
    pub function: String,
    /// The package to write, with the weights of this function only.
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// Replace a package that exists.
    #[arg(long)]
    pub force: bool,
    /// Copy the weights, even where a second name (hard link) of the weight file would do.
    #[arg(long)]
    pub copy: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &SplitArguments) -> Result<()> {
    let output = &arguments.output;
    if output.extension().is_none_or(|extension| extension != "mlpackage") {
        return Err(Error::new(
            codes::USAGE,
            "the name of the package to write does not end in .mlpackage",
        )
        .with_at(output.display().to_string())
        .with_hint("add --output Y.mlpackage"));
    }
    if let (Ok(there), Ok(source)) = (output.canonicalize(), arguments.path.canonicalize())
        && there == source
    {
        return Err(Error::new(codes::USAGE, "the package to write is the one to be split")
            .with_at(output.display().to_string())
            .with_hint("choose another name"));
    }
    let cancelled = || services::check_cancelled().is_err();
    let plan = JoinPlan::split(&arguments.path, &arguments.function, &cancelled)
        .map_err(from_multifunction)?;
    let output = Output { path: output, replace: arguments.force, copy: arguments.copy };
    let done = plan.write(output, &cancelled).map_err(from_multifunction)?;
    let written = sharing::Written::new(&done);
    if arguments.json {
        return super::print_json(&written);
    }
    super::print(&written.to_text(false))
}
