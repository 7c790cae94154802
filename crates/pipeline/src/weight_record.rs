//! What is kept of a written weight file, so that later steps and runs put its records into
//! programs without reading or encoding a weight again.

use super::references::Resolved;
use super::report::WeightFileReport;
use super::rotation::SCHEME;
use anemll_codes as codes;
use anemll_files::Limit;
use anemll_plugin_api::Error;
use anemll_store::OWN;
use anemll_store::io_error as io;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::{Path, PathBuf};

/// The record of one weight file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WeightRecord {
    /// What the report says of it.
    pub(super) report: WeightFileReport,
    /// The basis that its weights are written in; none where it is not known.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub(super) rotation: Option<Rotated>,
    /// What stands in programs in place of its references.
    pub(super) resolved: Resolved,
}

/// What was done to channels; none where they are as the model has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rotated(pub(super) Option<Way>);

/// A way of changing the basis of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    pub(super) seed: u64,
    /// What a seed means: [`super::rotation::SCHEME`] of the program that wrote it.
    pub(super) scheme: u32,
}

impl Rotated {
    /// What this program does with a seed.
    pub(super) fn by(seed: Option<u64>) -> Self {
        Self(seed.map(|seed| Way { seed, scheme: SCHEME }))
    }
}

/// A rotation that is there: null says that nothing is rotated.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rotated>, D::Error> {
    Rotated::deserialize(deserializer).map(Some)
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
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_rotation_that_is_not_recorded_is_not_known() {
        let record = |rotation: Option<Value>| -> WeightRecord {
            let mut record = json!({ "report": { "id": "a", "bytes": 1, "deduplicated_bytes": 0, "weights": [] }, "resolved": {} });
            if let Some(rotation) = rotation {
                record["rotation"] = rotation;
            }
            serde_json::from_value(record).unwrap()
        };
        for (written, read) in [
            (None, None),
            (Some(Value::Null), Some(Rotated(None))),
            (Some(json!({ "seed": 7, "scheme": SCHEME })), Some(Rotated::by(Some(7)))),
            (
                Some(json!({ "seed": 7, "scheme": 1 })),
                Some(Rotated(Some(Way { seed: 7, scheme: 1 }))),
            ),
        ] {
            let found = record(written.clone());
            assert_eq!(found.rotation, read);
            assert_eq!(serde_json::to_value(&found).unwrap().get("rotation"), written.as_ref());
        }
    }
}
