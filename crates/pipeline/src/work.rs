//! From lowered functions to packages: the weights of each weight file are written once, in the
//! first step that needs them, and found again by all later ones.

use super::finish::SmallFiles;
use super::packages::{PackageContext, PackageInput, of_record, relative_path};
use super::report::{PackageReport, WeightFileReport};
use super::steps::Steps;
use super::weight_record::{self, Rotated, WeightRecord};
use super::weights::{self, WeightJob, Written};
use crate::event::Event;
use anemll_codes as codes;
use anemll_layout::layout_error;
use anemll_mil::{Checked, Referenced};
use anemll_mlpackage::WEIGHT_FILE_NAME;
use anemll_plugin_api::data::{Layout, WeightFile};
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use anemll_store::Store;
use coreml_proto::Model;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the steps with packages work on.
pub(super) struct Work<'a> {
    pub(super) layout: &'a Layout,
    pub(super) steps: &'a Steps<'a>,
    pub(super) functions: &'a BTreeMap<String, Checked<Referenced>>,
    pub(super) weights: WeightJob<'a>,
    pub(super) packages: PackageContext<'a>,
    pub(super) small_files: &'a SmallFiles,
    pub(super) show: &'a dyn Fn(&Event<'_>),
    /// Bytes of the weights that this run writes and has written, as 16-bit floats.
    pub(super) bytes: Cell<Bytes>,
}

/// How much of a run's weights is written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bytes {
    /// Bytes of the weight files that are written.
    done: u64,
    /// Bytes of all that the run writes.
    total: u64,
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
                self.refuse_other_rotation(step, store)?;
                self.write_weights(file, store)?;
                outputs.push(record.clone());
            }
            let record = WeightRecord::read(&store.view().locate(&record))?;
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
                Err(layout_error(format!("names the function `{id}`, which it does not define")))
            }
        }
    }

    /// Reckons what the steps of a run will write, so that its progress can be told.
    pub(super) fn expect(&self, steps: &[u32]) -> Result<()> {
        let mut total = 0;
        for file in &self.layout.weight_files {
            if steps.contains(&self.steps.owner(&file.id)) {
                let items = super::references::collect(&self.members(file)?)?;
                total += items.iter().map(|(_, item)| weights::item_bytes(item)).sum::<u64>();
            }
        }
        self.bytes.set(Bytes { done: 0, total });
        Ok(())
    }

    /// The functions of a weight file, each with its id.
    pub(super) fn members<'b>(&'b self, file: &'b WeightFile) -> Result<Vec<(&'b str, &'b Model)>> {
        file.functions.iter().map(|id| Ok((id.as_str(), self.function(id)?))).collect()
    }

    fn write_weights(&self, file: &WeightFile, store: &Store) -> Result<()> {
        let members = self.members(file)?;
        let path = store.place(Path::new(&fresh_weights(&file.id)))?;
        let before = self.bytes.get();
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
                done_bytes: before.done + written.done_bytes,
                // A plan that was not made counts this file alone.
                total_bytes: before.total.max(before.done + written.total_bytes),
            });
            if written.done == written.total {
                let done = before.done + written.total_bytes;
                self.bytes.set(Bytes { done, ..before });
            }
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
            rotation: Some(Rotated::by(self.weights.rotated_by())),
            resolved: result.resolved,
        };
        store.write_json(&weight_record::relative_path(&file.id), &record)
    }

    /// Weights of one model are rotated alike, or it computes nonsense: what an earlier run or version wrote under
    /// another calibration cannot be gone on with.
    fn refuse_other_rotation(&self, step: u32, store: &Store) -> Result<()> {
        for file in &self.layout.weight_files {
            let owner = self.steps.owner(&file.id);
            let path = store.view().locate(&weight_record::relative_path(&file.id));
            if owner >= step || !path.is_file() {
                continue;
            }
            let ours = Rotated::by(self.weights.rotated_by());
            if WeightRecord::read(&path)?.rotation.is_some_and(|theirs| theirs != ours) {
                return Err(Error::new(
                    codes::STEP_INPUT_MISSING,
                    format!(
                        "step {owner} wrote the weights `{}` with another rotation than step {step} would",
                        file.id
                    ),
                )
                .with_at(store.view().directory().display().to_string())
                .with_hint("the calibration or this program has changed since then: use `--restart 1`"));
            }
        }
        Ok(())
    }

    /// Where the weights are: just written, or in a package of an earlier step.
    fn weight_path(&self, file: &WeightFile, store: &Store) -> Result<PathBuf> {
        let view = store.view();
        let fresh = view.staging().join(fresh_weights(&file.id));
        if fresh.is_file() {
            return Ok(fresh);
        }
        let inside = WEIGHT_FILE_NAME.replace("@model_path", "Data/com.apple.CoreML");
        view.records()
            .flat_map(|record| of_record(record).into_iter().map(move |package| (record, package)))
            .filter(|(_, package)| package.weight_file == file.id)
            .find(|(record, package)| view.is_whole(record.number, &package.path))
            .map(|(_, package)| view.locate(Path::new(&package.path)).join(&inside))
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
                .with_at(view.directory().display().to_string())
                .with_hint(format!("use `--restart {owner}`"))
            })
    }
}

/// Name of a weight file in the staging folder before packages link to it.
fn fresh_weights(id: &str) -> String {
    format!("{id}.bin")
}
