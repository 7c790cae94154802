//! anemll-report.json: every decision, size, warning and time of a conversion.
//!
//! The schema is described in docs/reference/report.md.

use super::weights::WeightReport;
use anemll_plugin_api::data::ModelDescription;
use serde::{Deserialize, Serialize};

/// Version of the report's schema.
pub const SCHEMA: u32 = 1;

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this schema.
    pub schema: u32,
    /// Version of the program.
    pub anemll: String,
    /// The options that decide the output, as typed or by default.
    pub options: serde_json::Value,
    /// sha256 over config.json and the weights, in hexadecimal.
    pub source_sha256: String,
    /// The frontend that lowered the model.
    pub arch: String,
    /// What the frontend says of the model.
    pub model: ModelDescription,
    /// Plugins that took part: component id, plugin name and version.
    pub plugins: Vec<PluginReport>,
    /// Every weight file.
    pub weight_files: Vec<WeightFileReport>,
    /// Every package.
    pub packages: Vec<PackageReport>,
    /// Remarks that a user should read.
    pub warnings: Vec<String>,
    /// The compile step.
    pub compile: StepReport,
    /// The test step.
    pub test: StepReport,
    /// Wall time of the conversion in seconds.
    pub seconds: f64,
}

/// A plugin that took part.
#[derive(Debug, Serialize)]
pub struct PluginReport {
    /// Stage, such as `arch`.
    pub stage: String,
    /// Component id.
    pub id: String,
}

/// One weight.bin.
#[derive(Debug, Serialize)]
pub struct WeightFileReport {
    /// Its id in the layout, such as `chunk_01`.
    pub id: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes saved since equal records are stored once.
    pub deduplicated_bytes: u64,
    /// The weights in it.
    pub weights: Vec<WeightReport>,
}

/// One package.
#[derive(Debug, Serialize)]
pub struct PackageReport {
    /// Path in the output directory.
    pub path: String,
    /// Functions, with the operation types of each and how often.
    pub functions: std::collections::BTreeMap<String, std::collections::BTreeMap<String, u64>>,
    /// Bytes of the program text (model.mlmodel).
    pub model_bytes: u64,
    /// The weight file, by id.
    pub weight_file: String,
    /// How weight.bin came into the package: `hard link` or `copy`.
    pub weights_by: String,
    /// Findings of the Neural Engine lint, rule by rule.
    pub lint: Vec<LintReport>,
}

/// Findings of one lint rule in one package.
#[derive(Debug, Serialize)]
pub struct LintReport {
    /// Rule, such as `A-028`.
    pub rule: String,
    /// `error`, `warning`, `performance` or `note`.
    pub severity: String,
    /// Evidence level: M measured, A stated by Apple, F folklore, I inference.
    pub evidence: String,
    /// Why it matters.
    pub reason: String,
    /// Function and value, each place.
    pub places: Vec<String>,
}

/// A step that may be left out.
#[derive(Debug, Default, Clone, Serialize)]
pub struct StepReport {
    /// Whether it ran.
    pub done: bool,
    /// What came of it, or why it was left out.
    pub message: String,
}

/// What a later run reads of an earlier report.
#[derive(Debug, Deserialize)]
pub struct EarlierReport {
    /// sha256 of the earlier source.
    pub source_sha256: String,
}
