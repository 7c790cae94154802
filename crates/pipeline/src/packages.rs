//! Making packages from resolved functions, and what the lint says of them.

use super::report::{LintReport, LintSummary, PackageReport};
use anemll_codes as codes;
use anemll_layout::{anemll, layout_error};
use anemll_mil::{Concern, lint};
use anemll_mlpackage::{BlobFile, WeightsPlacement, WeightsSource, WriteOptions, Written};
use anemll_plugin_api::data::{CombineOptions, NamedFunction, PackageSpec};
use anemll_plugin_api::{Combiner, Error, Host, Result};
use anemll_store::StepRecord;
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
            anemll_terminal::size(bytes)
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
        let catalog = BlobFile::open(input.weights)?;
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
        )?;
        self.copies.note_placement(&written);
        Ok(PackageReport {
            path: relative_path(package).to_string_lossy().replace('\\', "/"),
            functions: anemll_mil::op_histogram(checked.model()),
            model_bytes: written.model_bytes,
            weight_file: package.weight_file.clone(),
            lint: findings(checked.model(), input.weight_bytes),
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
            encoded.iter().map(|(name, model)| NamedFunction::new(name, model)).collect();
        let options = CombineOptions::new(package.default_function.clone().unwrap_or_default())
            .with_short_description(package.short_description.clone())
            .with_metadata(package.metadata.clone());
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
        let facts = &mut metadata.user_defined;
        facts.insert(anemll::SOURCE.to_owned(), self.source_sha256.to_owned());
        facts.insert(anemll::OPTIONS.to_owned(), self.options.to_string());
    }
}

/// The package's path in the output directory.
pub(super) fn relative_path(package: &PackageSpec) -> PathBuf {
    Path::new(&package.directory).join(format!("{}.mlpackage", package.stem))
}

fn findings(model: &Model, weight_bytes: u64) -> Vec<LintReport> {
    let mut reports: Vec<LintReport> = Vec::new();
    for finding in lint::lint(model, weight_bytes) {
        let place = format!("{}: {}", finding.function, finding.place);
        match reports
            .iter_mut()
            .find(|report| report.rule == finding.rule && report.reason == finding.reason)
        {
            Some(report) => report.places.push(place),
            None => reports.push(LintReport {
                rule: finding.rule.to_owned(),
                concern: finding.concern.name().to_owned(),
                severity: finding.severity.name().to_owned(),
                evidence: finding.evidence.to_owned(),
                reason: finding.reason.clone(),
                places: vec![place],
            }),
        }
    }
    reports
}

/// What an option changes of what the lint found in these packages, by rule and reason.
pub(super) fn lint_summary<'a>(
    packages: impl Iterator<Item = &'a PackageReport>,
) -> Vec<LintSummary> {
    let mut found: BTreeMap<(&'a str, &'a str), LintSummary> = BTreeMap::new();
    for finding in packages.flat_map(|package| &package.lint) {
        let Some(flag) = flag(finding) else { continue };
        let summary =
            found.entry((&finding.rule, &finding.reason)).or_insert_with(|| LintSummary {
                rule: finding.rule.clone(),
                severity: finding.severity.clone(),
                reason: finding.reason.clone(),
                places: 0,
                flag: flag.to_owned(),
            });
        summary.places += finding.places.len();
    }
    found.into_values().collect()
}

/// The options that change what was found.
fn flag(finding: &LintReport) -> Option<&'static str> {
    let rule = lint::rule(&finding.rule)?;
    rule.cases.iter().find_map(|case| match case.concern {
        Concern::Options(flag)
            if case.severity.name() == finding.severity
                && case.concern.name() == finding.concern =>
        {
            Some(flag)
        }
        _ => None,
    })
}

/// One line for users, with the flags; none where no option changes anything.
pub(super) fn lint_line(summary: &[LintSummary], output: &Path) -> Option<String> {
    let mut flags: Vec<String> =
        summary.iter().map(|finding| format!("{}: {}", finding.rule, finding.flag)).collect();
    flags.dedup();
    let things = match flags.len() {
        0 => return None,
        1 => "1 thing".to_owned(),
        count => format!("{count} things"),
    };
    Some(format!(
        "Neural Engine lint: {things} to know: anemll inspect --lint {} ({})",
        output.display(),
        flags.join("; ")
    ))
}
