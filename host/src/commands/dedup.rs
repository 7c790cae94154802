//! `dedup`: which weights packages could share, without writing anything.

use crate::error::from_multifunction;
use anemll_multifunction::{Tolerance, compare};
use anemll_plugin_api::Result;
use anemll_report::sharing;
use anemll_services as services;
use clap::Args;
use std::path::PathBuf;

/// Shown below the options.
pub const EXAMPLES: &str = "Examples:
  anemll dedup A.mlpackage B.mlpackage
  anemll dedup A.mlpackage B.mlpackage --tolerance cos=0.9999,mae=0.001 --tensors";

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "a doc comment on the type would become help text")]
pub struct DedupArguments {
    /// Packages; weights of later ones are compared with those of earlier ones.
    #[arg(value_name = "PACKAGE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Count palettized weights that are nearly the same as one, such as cos=0.9999,mae=0.001.
    #[arg(long, value_name = "BOUNDS")]
    pub tolerance: Option<Tolerance>,
    /// List every weight, not only those that are not shared exactly.
    #[arg(long, conflicts_with = "json")]
    pub tensors: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &DedupArguments) -> Result<()> {
    let cancelled = || services::check_cancelled().is_err();
    let report = compare(&arguments.paths, arguments.tolerance.as_ref(), &cancelled)
        .map_err(from_multifunction)?;
    if arguments.json {
        return super::print_json(&report);
    }
    super::print(&sharing::report_text(&report, arguments.tensors))
}
