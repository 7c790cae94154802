//! The same package by two compilers, file by file.

use super::{APPLES, Job, OURS};
use crate::error::io;
use anemll_codes as codes;
use anemll_mlmodelc::Comparison;
use anemll_plugin_api::{Compiler, Host, Result};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// How each file of the two compares.
pub(super) type Files = Vec<(PathBuf, Comparison)>;

/// Compiles a package once more, with the other compiler and into a folder that goes away, and gives
/// how the files compare. `ours`: `made` is what `mlmodelc` made.
pub(super) fn run(
    job: &Job,
    made: &Path,
    other: &dyn Compiler,
    ours: bool,
    host: &Host,
) -> Result<Files> {
    let folder = tempfile::Builder::new()
        .prefix(".anemll-verify-")
        .tempdir_in(&job.directory)
        .map_err(|source| {
            io(codes::OUTPUT_UNWRITABLE, "cannot make a directory in it", &job.directory, &source)
        })?;
    let second = other.compile(&job.package, folder.path(), host)?;
    let (apples, ours) = if ours { (second.as_path(), made) } else { (made, second.as_path()) };
    Ok(anemll_mlmodelc::compare(apples, ours)?)
}

/// The comparison for people.
pub(super) fn text(files: &Files) -> String {
    let mut text = String::new();
    for (file, comparison) in files {
        let told = match comparison {
            Comparison::Equal => "equal",
            Comparison::Equivalent => "equal but for what compilers may choose",
            Comparison::Different(_) => "different",
        };
        let _ = writeln!(text, "  {}: {told}", file.display());
        let Comparison::Different(differences) = comparison else { continue };
        for difference in differences {
            let _ = writeln!(
                text,
                "    {}\n      {APPLES}: {}\n      {OURS}: {}",
                difference.place, difference.left, difference.right
            );
        }
    }
    text
}

/// The files that differ.
pub(super) fn differing(files: Files) -> Vec<PathBuf> {
    let differs =
        |(file, comparison)| matches!(comparison, Comparison::Different(_)).then_some(file);
    files.into_iter().filter_map(differs).collect()
}
