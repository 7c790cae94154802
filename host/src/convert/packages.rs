//! Making packages from resolved functions, and what the lint says of them.

use super::output::{self, Output};
use super::report::{LintReport, PackageReport, WeightFileReport};
use super::{layout_error, options_json};
use crate::cli::ConvertArguments;
use crate::error::{from_package, io};
use anemll_mlpackage::{BlobFile, WeightsPlacement, WeightsSource, WriteOptions};
use anemll_plugin_api::data::{CombineOptions, NamedFunction, PackageSpec};
use anemll_plugin_api::{Combiner, Error, Host, Result, codes};
use coreml_proto::Model;
use fs_err as fs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What packages are made from.
pub(super) struct PackageContext<'a> {
    pub(super) arguments: &'a ConvertArguments,
    pub(super) combiner: &'a dyn Combiner,
    pub(super) output: &'a Output,
    pub(super) models: &'a BTreeMap<String, Model>,
    pub(super) source_sha256: &'a str,
    pub(super) weight_files: &'a [WeightFileReport],
    pub(super) host: &'a Host,
}

impl PackageContext<'_> {
    /// Makes one package in the staging folder.
    pub(super) fn write(&self, package: &PackageSpec) -> Result<PackageReport> {
        let mut model = self.model(package)?;
        self.describe(package, &mut model);
        let weights = self.output.staging().join(format!("{}.bin", package.weight_file));
        let catalog = BlobFile::open(&weights).map_err(from_package)?;
        let checked = anemll_mil::validate_resolved(model, &catalog).map_err(|source| {
            Error::new(
                codes::GRAPH_INVALID,
                format!("the package `{}` is not valid: {source}", package.stem),
            )
        })?;
        let relative = relative_path(package);
        let path = self.output.staging().join(&relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| {
                io(codes::OUTPUT_UNWRITABLE, "cannot make a directory", parent, &source)
            })?;
        }
        let written = anemll_mlpackage::write_package(
            &path,
            &checked,
            WeightsSource::HardLink(&weights),
            &WriteOptions::default(),
        )
        .map_err(from_package)?;
        let bytes = self
            .weight_files
            .iter()
            .find(|file| file.id == package.weight_file)
            .map_or(0, |file| file.bytes);
        Ok(PackageReport {
            path: relative.display().to_string(),
            functions: anemll_mil::op_histogram(checked.model()),
            model_bytes: written.model_bytes,
            weight_file: package.weight_file.clone(),
            weights_by: match written.weights {
                WeightsPlacement::Copied { .. } => "copy",
                _ => "hard link",
            }
            .to_owned(),
            lint: lint(checked.model(), bytes),
        })
    }

    fn model(&self, package: &PackageSpec) -> Result<Model> {
        let find = |id: &str| {
            self.models.get(id).ok_or_else(|| {
                layout_error(&format!("puts the unknown function `{id}` into `{}`", package.stem))
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
        coreml_proto::read_model(&bytes).map_err(|source| {
            layout_error(&format!("led to no valid `{}`: {source}", package.stem))
        })
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
        metadata
            .user_defined
            .insert("com.anemll.options".to_owned(), options_json(self.arguments).to_string());
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
pub(super) fn lint_warnings(packages: &[PackageReport]) -> Vec<String> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let shipped = packages.iter().filter(|package| !package.path.starts_with(output::OWN));
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
