//! The same package by two compilers, file by file.

use super::{APPLES, Job, OURS};
use crate::error::io;
use anemll_mlmodelc::Comparison;
use anemll_plugin_api::{Compiler, Host, Result, codes};
use std::path::Path;

/// Compiles a package once more, with the other compiler and into a folder that goes away, and tells
/// how the files compare; whether they agree. `ours`: `made` is what `mlmodelc` made.
pub(super) fn run(
    job: &Job,
    made: &Path,
    other: &dyn Compiler,
    ours: bool,
    host: &Host,
) -> Result<bool> {
    let folder = tempfile::Builder::new()
        .prefix(".anemll-verify-")
        .tempdir_in(&job.directory)
        .map_err(|source| {
            io(codes::OUTPUT_UNWRITABLE, "cannot make a directory in it", &job.directory, &source)
        })?;
    let second = other.compile(&job.package, folder.path(), host)?;
    let (apples, ours) = if ours { (second.as_path(), made) } else { (made, second.as_path()) };
    let mut agree = true;
    for (file, comparison) in anemll_mlmodelc::compare(apples, ours)? {
        let told = match &comparison {
            Comparison::Equal => "equal",
            Comparison::Equivalent => "equal but for what compilers may choose",
            Comparison::Different(_) => "different",
        };
        super::super::print(&format!("  {}: {told}\n", file.display()))?;
        let Comparison::Different(differences) = comparison else { continue };
        agree = false;
        for difference in differences {
            super::super::print(&format!(
                "    {}\n      {APPLES}: {}\n      {OURS}: {}\n",
                difference.place, difference.left, difference.right
            ))?;
        }
    }
    Ok(agree)
}
