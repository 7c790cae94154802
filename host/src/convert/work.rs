//! From lowered functions to packages: the weights of each weight file are written once, in the
//! first step that needs them, and found again by all later ones.

use super::layout_error;
use super::packages::{PackageContext, PackageInput, relative_path};
use super::report::{PackageReport, WeightFileReport};
use super::steps::Steps;
use super::store::Store;
use super::weight_record::{self, WeightRecord};
use super::weights::{WeightJob, Written};
use crate::progress::Event;
use crate::services::check_cancelled;
use anemll_mil::{Checked, Referenced};
use anemll_mlpackage::WEIGHT_FILE_NAME;
use anemll_plugin_api::data::{Layout, WeightFile};
use anemll_plugin_api::{Error, Result, codes};
use coreml_proto::Model;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the steps with packages work on.
pub(super) struct Work<'a> {
    pub(super) layout: &'a Layout,
    pub(super) steps: &'a Steps<'a>,
    pub(super) functions: &'a BTreeMap<String, Checked<Referenced>>,
    pub(super) weights: WeightJob<'a>,
    pub(super) packages: PackageContext<'a>,
    pub(super) show: &'a dyn Fn(&Event<'_>),
}

impl Work<'_> {
    /// Makes the packages of a step; gives its outputs and what the report says of the packages.
    pub(super) fn run(
        &self,
        step: u32,
        store: &Store,
    ) -> Result<(Vec<PathBuf>, Vec<PackageReport>)> {
        let mut outputs = Vec::new();
        let mut reports = Vec::new();
        for file in &self.layout.weight_files {
            let packages: Vec<_> =
                self.steps.packages(step).filter(|spec| spec.weight_file == file.id).collect();
            if packages.is_empty() {
                continue;
            }
            let record = weight_record::relative_path(&file.id);
            if self.steps.owner(&file.id) == step {
                self.write_weights(file, store)?;
                outputs.push(record.clone());
            }
            let record = WeightRecord::read(&store.locate(&record))?;
            let weights = self.weight_path(file, store)?;
            for package in packages {
                check_cancelled()?;
                let mut models = BTreeMap::new();
                for function in &package.functions {
                    let mut model = self.function(&function.id)?.clone();
                    super::references::resolve(&mut model, &record.resolved)?;
                    models.insert(function.id.clone(), model);
                }
                let input = PackageInput {
                    models: &models,
                    weights: &weights,
                    weight_bytes: record.report.bytes,
                };
                let relative = relative_path(package);
                let path = store.place(&relative)?;
                reports.push(self.packages.write(package, &input, &path)?);
                outputs.push(relative);
            }
        }
        Ok((outputs, reports))
    }

    fn function(&self, id: &str) -> Result<&Model> {
        match self.functions.get(id) {
            Some(checked) => Ok(checked.model()),
            None => {
                Err(layout_error(&format!("names the function `{id}`, which it does not define")))
            }
        }
    }

    fn write_weights(&self, file: &WeightFile, store: &Store) -> Result<()> {
        let members = file
            .functions
            .iter()
            .map(|id| Ok((id.as_str(), self.function(id)?)))
            .collect::<Result<Vec<_>>>()?;
        let path = store.place(Path::new(&fresh_weights(&file.id)))?;
        let files = &self.layout.weight_files;
        let number =
            files.iter().position(|other| other.id == file.id).map_or(1, |place| place + 1);
        let progress = |written: Written| {
            (self.show)(&Event::Weights {
                file: &file.id,
                number,
                files: files.len(),
                done: written.done,
                total: written.total,
                done_bytes: written.done_bytes,
                total_bytes: written.total_bytes,
            });
        };
        let result = self.weights.write(&members, &path, &progress)?;
        tracing::info!("weights {}: {} bytes", file.id, result.bytes);
        let record = WeightRecord {
            report: WeightFileReport {
                id: file.id.clone(),
                bytes: result.bytes,
                deduplicated_bytes: result.deduplicated,
                weights: result.weights,
            },
            resolved: result.resolved,
        };
        record.write(&store.place(&weight_record::relative_path(&file.id))?)
    }

    /// Where the weights are: just written, or in a package of an earlier step.
    fn weight_path(&self, file: &WeightFile, store: &Store) -> Result<PathBuf> {
        let fresh = store.staging().join(fresh_weights(&file.id));
        if fresh.is_file() {
            return Ok(fresh);
        }
        let inside = WEIGHT_FILE_NAME.replace("@model_path", "Data/com.apple.CoreML");
        store
            .records()
            .flat_map(|record| record.packages.iter().map(move |package| (record, package)))
            .filter(|(_, package)| package.weight_file == file.id)
            .find(|(record, package)| store.is_whole(record.number, &package.path))
            .map(|(_, package)| store.locate(Path::new(&package.path)).join(&inside))
            .ok_or_else(|| {
                let owner = self.steps.owner(&file.id);
                Error::new(
                    codes::STEP_INPUT_MISSING,
                    format!(
                        "the weights `{}`, which step {owner} writes, are in no package that is \
                         still there",
                        file.id
                    ),
                )
                .with_at(store.directory().display().to_string())
                .with_hint(format!("use `--restart {owner}`"))
            })
    }
}

/// Name of a weight file in the staging folder before packages link to it.
fn fresh_weights(id: &str) -> String {
    format!("{id}.bin")
}
