//! Making packages from resolved functions, and what the lint says of them.

use super::report::{LintReport, PackageReport};
use crate::error::from_package;
use anemll_layout::layout_error;
use anemll_mlpackage::{BlobFile, WeightsPlacement, WeightsSource, WriteOptions, Written};
use anemll_plugin_api::data::{CombineOptions, NamedFunction, PackageSpec};
use anemll_plugin_api::{Combiner, Error, Host, Result, codes};
use anemll_store::{OWN, StepRecord};
use coreml_proto::Model;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What packages are made from.
pub(super) struct PackageContext<'a> {
    pub(super) combiner: &'a dyn Combiner,
    pub(super) options: &'a Value,
    pub(super) source_sha256: &'a str,
    pub(super) host: &'a Host,
    pub(super) copies: &'a Copies,
}

/// Weights that were copied where a hard link was refused: a matter of the file system, which the
/// result of a conversion does not depend on.
#[derive(Debug, Default)]
pub(super) struct Copies(RefCell<Vec<(u64, String)>>);

impl Copies {
    fn note_placement(&self, written: &Written) {
        if let WeightsPlacement::Copied { reason: Some(reason) } = &written.weights {
            self.0.borrow_mut().push((written.weight_bytes, reason.clone()));
        }
    }

    /// A remark about the copies, if there are any.
    pub(super) fn note(&self) -> Option<String> {
        let copies = self.0.borrow();
        let (_, reason) = copies.first()?;
        let bytes = copies.iter().map(|(bytes, _)| bytes).sum();
        Some(format!(
            "the file system of the output directory refuses hard links ({reason}): {} of weights \
             were copied",
            crate::terminal::size(bytes)
        ))
    }
}

/// What a step's record says of its packages.
pub(super) fn to_record(packages: &[PackageReport]) -> Result<Value> {
    serde_json::to_value(packages)
        .map_err(|source| Error::new(codes::INTERNAL, format!("a report has no JSON: {source}")))
}

/// The packages of a step's record; none where it was changed by hand.
pub(super) fn of_record(record: &StepRecord) -> Vec<PackageReport> {
    serde_json::from_value(record.packages.clone()).unwrap_or_default()
}

/// The functions of a package, and its weights.
pub(super) struct PackageInput<'a> {
    /// Resolved functions by id.
    pub(super) models: &'a BTreeMap<String, Model>,
    /// The weight file.
    pub(super) weights: &'a Path,
    /// Bytes of the weight file.
    pub(super) weight_bytes: u64,
}

impl PackageContext<'_> {
    /// Makes one package at `path`, whose folder exists.
    pub(super) fn write(
        &self,
        package: &PackageSpec,
        input: &PackageInput<'_>,
        path: &Path,
    ) -> Result<PackageReport> {
        let mut model = self.model(package, input.models)?;
        self.describe(package, &mut model);
        let catalog = BlobFile::open(input.weights).map_err(from_package)?;
        let checked = anemll_mil::validate_resolved(model, &catalog).map_err(|source| {
            Error::new(
                codes::GRAPH_INVALID,
                format!("the package `{}` is not valid: {source}", package.stem),
            )
        })?;
        let written = anemll_mlpackage::write_package(
            path,
            &checked,
            WeightsSource::HardLink(input.weights),
            &WriteOptions::default(),
        )
        .map_err(from_package)?;
        self.copies.note_placement(&written);
        Ok(PackageReport {
            path: relative_path(package).to_string_lossy().replace('\\', "/"),
            functions: anemll_mil::op_histogram(checked.model()),
            model_bytes: written.model_bytes,
            weight_file: package.weight_file.clone(),
            lint: lint(checked.model(), input.weight_bytes),
        })
    }

    fn model(&self, package: &PackageSpec, models: &BTreeMap<String, Model>) -> Result<Model> {
        let find = |id: &str| {
            models.get(id).ok_or_else(|| {
                layout_error(format!("puts the unknown function `{id}` into `{}`", package.stem))
            })
        };
        if let [only] = package.functions.as_slice()
            && only.name == "main"
        {
            return find(&only.id).cloned();
        }
        let encoded = package
            .functions
            .iter()
            .map(|function| Ok((function.name.as_str(), coreml_proto::write(find(&function.id)?))))
            .collect::<Result<Vec<_>>>()?;
        let named: Vec<NamedFunction<'_>> =
            encoded.iter().map(|(name, model)| NamedFunction { name, model }).collect();
        let options = CombineOptions {
            default_function: package.default_function.clone().unwrap_or_default(),
            short_description: package.short_description.clone(),
            metadata: package.metadata.clone(),
        };
        let bytes = self.combiner.combine(&named, &options, self.host)?;
        coreml_proto::read_model(&bytes)
            .map_err(|source| layout_error(format!("led to no valid `{}`: {source}", package.stem)))
    }

    fn describe(&self, package: &PackageSpec, model: &mut Model) {
        let metadata = model.description.get_or_insert_default().metadata.get_or_insert_default();
        metadata.short_description.clone_from(&package.short_description);
        metadata.author = "anemll".to_owned();
        metadata.version_string = env!("CARGO_PKG_VERSION").to_owned();
        metadata.user_defined.extend(package.metadata.clone());
        metadata
            .user_defined
            .insert("com.anemll.source_sha256".to_owned(), self.source_sha256.to_owned());
        metadata.user_defined.insert("com.anemll.options".to_owned(), self.options.to_string());
    }
}

/// The package's path in the output directory.
pub(super) fn relative_path(package: &PackageSpec) -> PathBuf {
    Path::new(&package.directory).join(format!("{}.mlpackage", package.stem))
}

fn lint(model: &Model, weight_bytes: u64) -> Vec<LintReport> {
    let mut reports: Vec<LintReport> = Vec::new();
    for finding in anemll_mil::lint(model, weight_bytes) {
        let place = format!("{}: {}", finding.function, finding.place);
        match reports
            .iter_mut()
            .find(|report| report.rule == finding.rule && report.reason == finding.reason)
        {
            Some(report) => report.places.push(place),
            None => reports.push(LintReport {
                rule: finding.rule.to_owned(),
                severity: finding.severity.name().to_owned(),
                evidence: finding.evidence.to_owned(),
                reason: finding.reason.clone(),
                places: vec![place],
            }),
        }
    }
    reports
}

/// One line per rule over all packages that ship; every place is in the report.
pub(super) fn lint_warnings<'a>(packages: impl Iterator<Item = &'a PackageReport>) -> Vec<String> {
    let mut counts: BTreeMap<(&'a str, &'a str), usize> = BTreeMap::new();
    let shipped = packages.filter(|package| !package.path.starts_with(OWN));
    for finding in shipped.flat_map(|package| &package.lint) {
        if matches!(finding.severity.as_str(), "error" | "warning") {
            *counts.entry((&finding.rule, &finding.reason)).or_default() += finding.places.len();
        }
    }
    counts
        .into_iter()
        .map(|((rule, reason), count)| format!("{rule} ({count}): {reason}"))
        .collect()
}
