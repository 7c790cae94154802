//! What is kept of a written weight file, so that later steps and runs put its records into
//! programs without reading or encoding a weight again.

use super::references::Resolved;
use super::report::WeightFileReport;
use anemll_codes as codes;
use anemll_files::Limit;
use anemll_plugin_api::{Error, Result};
use anemll_store::OWN;
use anemll_store::io_error as io;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The record of one weight file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WeightRecord {
    /// What the report says of it.
    pub(super) report: WeightFileReport,
    /// The seed of the rotation that its weights are written with, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rotation: Option<u64>,
    /// What stands in programs in place of its references.
    pub(super) resolved: Resolved,
}

/// Where the record of a weight file is, in an output directory.
pub(super) fn relative_path(id: &str) -> PathBuf {
    folder().join(format!("{id}.json"))
}

/// The folder of the records, in an output directory.
pub(super) fn folder() -> PathBuf {
    Path::new(OWN).join("weights")
}

impl WeightRecord {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = anemll_files::read_no_follow(path, Limit::RECORD).map_err(|source| {
            io(codes::OUTPUT_UNWRITABLE, "cannot read the record of a weight file", path, &source)
        })?;
        serde_json::from_slice(&text).map_err(|source| {
            Error::new(
                codes::STEP_INPUT_MISSING,
                format!("the record of a weight file cannot be read: {source}"),
            )
            .with_at(path.display().to_string())
            .with_hint("run the conversion again with --force")
        })
    }
}
