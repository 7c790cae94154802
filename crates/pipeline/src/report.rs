//! anemll-report.json: every decision, size, warning and time of a conversion.
//!
//! The schema is described in docs/reference/report.md.

use super::weight_report::WeightReport;
use anemll_calibration::Quality;
use anemll_plugin_api::data::ModelDescription;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the report's schema.
pub(super) const SCHEMA: u32 = 3;

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Version of this schema.
    pub(super) schema: u32,
    /// Version of the program.
    pub(super) anemll: String,
    /// The options that decide the output, as typed or by default.
    pub(super) options: serde_json::Value,
    /// sha256 over config.json and the weights, in hexadecimal.
    pub(super) source_sha256: String,
    /// What the model's own card says: its name on the hub, licence, languages.
    pub(super) source: anemll_export::SourceCard,
    /// The frontend that lowered the model.
    pub(super) arch: String,
    /// What the frontend says of the model.
    pub(super) model: ModelDescription,
    /// Plugins that took part: component id, plugin name and version.
    pub(super) plugins: Vec<PluginReport>,
    /// Every weight file.
    pub(super) weight_files: Vec<WeightFileReport>,
    /// Every package.
    pub(super) packages: Vec<PackageReport>,
    /// Remarks that a user should read.
    pub(super) warnings: Vec<String>,
    /// What the lint found in the packages that ship and an option changes.
    pub(super) lint: Vec<LintSummary>,
    /// The compile step.
    pub(super) compile: StepReport,
    /// The test step.
    pub(super) test: StepReport,
}

/// A plugin that took part.
#[derive(Debug, Serialize)]
pub(super) struct PluginReport {
    /// Stage, such as `arch`.
    pub(super) stage: String,
    /// Component id.
    pub(super) id: String,
    /// Version of the plugin.
    pub(super) version: String,
}

impl WeightFileReport {
    /// What a user should read: the remarks of the quantizer's plan, each once, with the number of
    /// weights it is about, what was clamped, and what vanishes in 16-bit floats.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for note in self.weights.iter().filter_map(|weight| weight.note.as_deref()) {
            *counts.entry(note).or_default() += 1;
        }
        let notes = counts.into_iter().map(|(note, count)| format!("{note} ({count} weights)"));
        let clamped = self.weights.iter().filter(|weight| weight.clamped > 0).map(|weight| {
            format!(
                "{} values of `{}` were clamped to the range of 16-bit floats",
                weight.clamped, weight.tensor
            )
        });
        let missing = self.weights.iter().filter(|weight| weight.missing).map(|weight| {
            format!("`{}` is missing from the model directory: it is all zeros", weight.tensor)
        });
        let vanishing = super::weight_report::vanishing(&self.weights);
        notes.chain(clamped).chain(missing).chain(vanishing).collect()
    }
}

/// One weight.bin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WeightFileReport {
    /// Its id in the layout, such as `chunk_01`.
    pub(super) id: String,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Bytes saved since equal records are stored once.
    pub(super) deduplicated_bytes: u64,
    /// The weights in it.
    pub(super) weights: Vec<WeightReport>,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PackageReport {
    /// Path in the output directory.
    pub(super) path: String,
    /// Functions, with the operation types of each and how often.
    pub(super) functions: BTreeMap<String, BTreeMap<String, u64>>,
    /// Bytes of the program text (model.mlmodel).
    pub(super) model_bytes: u64,
    /// The weight file, by id.
    pub(super) weight_file: String,
    /// Findings of the Neural Engine lint, rule by rule.
    pub(super) lint: Vec<LintReport>,
}

/// Findings of one lint rule in one package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LintReport {
    /// Rule, such as `ANE-028`.
    pub(super) rule: String,
    /// Whom it concerns: `graph`, `model`, `options` or `foreign`.
    #[serde(default)]
    pub(super) concern: String,
    /// `error`, `warning`, `performance` or `note`.
    pub(super) severity: String,
    /// Evidence level: M measured, A stated by Apple, F folklore, I inference.
    pub(super) evidence: String,
    /// Why it matters.
    pub(super) reason: String,
    /// Function and value, each place.
    pub(super) places: Vec<String>,
}

impl StepReport {
    /// A step that was done or left out, and what came of it.
    pub(super) fn told(done: bool, message: impl Into<String>) -> Self {
        Self { done, message: message.into(), quality: None }
    }

    /// A step that a flag leaves out.
    pub(super) fn left_out(flag: &str) -> Self {
        Self::told(false, format!("left out ({flag})"))
    }
}

/// What the lint found in the packages that ship, under one rule and for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LintSummary {
    /// Rule, such as `ANE-080`.
    pub(super) rule: String,
    /// `error`, `warning`, `performance` or `note`.
    pub(super) severity: String,
    /// What is wrong and what happens.
    pub(super) reason: String,
    /// At how many places.
    pub(super) places: usize,
    /// The options that change it.
    pub(super) flag: String,
}

/// A step that may be left out.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct StepReport {
    /// Whether it ran.
    pub(super) done: bool,
    /// What came of it, or why it was left out.
    pub(super) message: String,
    /// How far the model is from the original, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quality: Option<Quality>,
}
