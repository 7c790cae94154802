//! Records of steps and of whole conversions, written by us and read with care.

use crate::disk::{Disk, write_whole};
use crate::error::invalid_record;
use crate::{FileRecord, Identity, OutputName};
use anemll_codes as codes;
use anemll_files::Limit;
use anemll_plugin_api::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

/// What one finished step made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its number.
    pub number: u32,
    /// Its outputs (packages, compiled models, files), with every file in them.
    pub outputs: BTreeMap<OutputName, Vec<FileRecord>>,
    /// What the report says of its packages; the store does not look into it.
    pub packages: Value,
    /// The plugin that did it, where another one could have: the compiler or the runtime.
    pub by: String,
    /// SHA-256 over what it reads and no other record covers; empty for nothing.
    #[serde(default)]
    pub inputs: String,
    /// Whether it did what its name says, or was left out for the reason in `message`.
    pub done: bool,
    /// What came of it.
    pub message: String,
    /// What else the report says of it; the store does not look into it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub findings: Value,
}

/// The record of a conversion whose outputs have their final names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Conversion {
    #[serde(flatten)]
    pub(crate) identity: Identity,
    pub(crate) steps: BTreeMap<u32, StepRecord>,
    /// The report, which no step makes.
    #[serde(default)]
    pub(crate) report: BTreeMap<OutputName, Vec<FileRecord>>,
    /// Outputs of a conversion before, which earlier versions of the program removed late. Nothing
    /// is known of them but their names.
    #[serde(default, skip_serializing)]
    pub(crate) replaced: BTreeSet<OutputName>,
}

/// Reads a record of ours; none where there is none.
///
/// # Errors
/// [`codes::OUTPUT_RECORD_INVALID`] for a link, a pipe, a file that is too large, and a text that is
/// no such record.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match anemll_files::read_no_follow(path, Limit::RECORD) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(invalid_record(path, &error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| invalid_record(path, &error))
}

/// The record of the conversion in an output directory; none where there is none.
///
/// # Errors
/// As [`read`], and for one that a later version of the program wrote: what it lists may mean
/// something else.
pub(crate) fn read_conversion(path: &Path) -> Result<Option<Conversion>> {
    match read::<Conversion>(path)? {
        Some(found) if found.identity.is_of_the_future() => {
            Err(invalid_record(path, &"a later version of this program wrote it"))
        }
        found => Ok(found),
    }
}

/// The text of a record.
pub(crate) fn to_text(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|source| Error::new(codes::INTERNAL, format!("a record has no JSON: {source}")))?;
    text.push(b'\n');
    Ok(text)
}

/// Writes a record so that it is there completely or not at all.
pub(crate) fn write(disk: &dyn Disk, path: &Path, value: &impl Serialize) -> Result<()> {
    Ok(write_whole(disk, path, &to_text(value)?)?)
}
