//! The conversion that is exported: which files of it apps load, and whether it is finished.

use crate::Progress;
use crate::error::{ErrorKind, ExportError, Result};
use crate::sums::Sums;
use crate::tree;
use crate::upload::shell_word;
use anemll_conversion::REPORT;
use anemll_files::Limit;
use anemll_mlmodelc::Analytics;
use anemll_mlpackage::Manifest;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The file by which apps find all others.
pub(crate) const META: &str = "meta.yaml";
/// What makes a folder a bundle for Apple's apps.
const BUNDLE: &str = anemll_layout::apple::METADATA;
/// The size below which a file may be a pointer of Git LFS.
const LARGEST_POINTER: u64 = 1024;

/// A finished conversion.
#[derive(Debug)]
pub(crate) struct Conversion {
    pub(crate) directory: PathBuf,
    /// Text of meta.yaml.
    pub(crate) meta_text: String,
    /// `model_info` of meta.yaml.
    pub(crate) info: Value,
    /// anemll-report.json; null where there is none.
    pub(crate) report: Value,
    /// The models that apps load, without the ending.
    pub(crate) models: Vec<String>,
}

impl Conversion {
    /// Looks whether all that apps load is there. `models` are those that meta.yaml names.
    pub(crate) fn open(directory: &Path, models: &[String], packages: bool) -> Result<Self> {
        let path = directory.join(META);
        let meta_text = anemll_files::read_text(&path, Limit::RECORD).map_err(|error| {
            ExportError::new(ErrorKind::Unfinished, &path, format!("cannot be read: {error}"))
                .with_hint(
                    "give the output directory of a finished `anemll convert`; the same command \
                     again goes on where it stopped",
                )
        })?;
        let meta: Value = serde_yaml_ng::from_str(&meta_text).map_err(|error| {
            ExportError::new(ErrorKind::Unfinished, &path, format!("not valid: {error}"))
        })?;
        let report = anemll_files::read(&directory.join(REPORT), Limit::RECORD)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or(Value::Null);
        let info = meta.get("model_info").cloned().unwrap_or(Value::Null);
        let mut all: Vec<String> = Vec::new();
        let rotated = info["parameters"]["split_rotate"] == Value::Bool(true);
        for model in models {
            if !all.contains(model) {
                all.push(model.clone());
            }
            // Conversions whose caches rotate have a second file for each chunk.
            if rotated {
                all.extend(anemll_layout::anemll::rotating(model));
            }
        }
        let conversion =
            Self { directory: directory.to_owned(), meta_text, info, report, models: all };
        conversion.refuse_assets()?;
        conversion.models.iter().try_for_each(|model| conversion.check(model, packages))?;
        Ok(conversion)
    }

    /// The folder of a compiled model.
    pub(crate) fn compiled(&self, model: &str) -> PathBuf {
        self.directory.join(format!("{model}.mlmodelc"))
    }

    /// The folder of a package.
    pub(crate) fn package(&self, model: &str) -> PathBuf {
        self.directory.join(format!("{model}.mlpackage"))
    }

    /// A conversion for Core AI alone is handed over as it is: ANEMLL's apps, for which exports are, load none.
    fn refuse_assets(&self) -> Result<()> {
        if self.models.iter().any(|model| self.compiled(model).exists()) {
            return Ok(());
        }
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut assets: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".aimodel"))
            .collect();
        assets.sort();
        if assets.is_empty() {
            return Ok(());
        }
        let names = assets.join(", ");
        let bundle = self.directory.join(BUNDLE).is_file();
        let hint = match bundle {
            true => format!(
                "copy {BUNDLE}, {names} and tokenizer/ into a folder of their own: that is the bundle; \
                 `anemll check` looks at the copy"
            ),
            false => format!("copy {names} as it is, with what else your app reads"),
        };
        let what = match bundle {
            true => "this is a bundle for Apple's Core AI apps, which is handed over as it is",
            false => "this is compiled for Core AI, and an export is for apps that load .mlmodelc",
        };
        Err(ExportError::new(ErrorKind::NotCompiled, &self.directory, what)
            .with_hint(format!("{hint}; for ANEMLL's apps, `anemll compile` first")))
    }

    fn check(&self, model: &str, packages: bool) -> Result<()> {
        let (compiled, package) = (self.compiled(model), self.package(model));
        let there = |path: &Path| fs::symlink_metadata(path).is_ok();
        if !there(&compiled) {
            let compile = format!(
                "compile it first: anemll compile {} --output-dir {}",
                shell_word(&package.to_string_lossy()),
                shell_word(&self.directory.to_string_lossy())
            );
            return Err(match there(&package) {
                true => ExportError::new(
                    ErrorKind::NotCompiled,
                    &compiled,
                    "apps load compiled models, and this package is not compiled",
                )
                .with_hint(compile),
                false => ExportError::new(
                    ErrorKind::Unfinished,
                    &compiled,
                    "apps load this model, but it is not there",
                )
                .with_hint("convert the model again, or copy the missing model"),
            });
        }
        check_folder(&compiled)?;
        for name in [anemll_mlmodelc::files::DESCRIPTION, anemll_mlmodelc::files::PROGRAM] {
            if !compiled.join(name).is_file() {
                return Err(ExportError::new(
                    ErrorKind::Unfinished,
                    &compiled,
                    format!("not a compiled model: {name} is missing"),
                )
                .with_hint("compile the package again: anemll compile --force"));
            }
        }
        if packages {
            if !there(&package) {
                return Err(ExportError::new(
                    ErrorKind::Unfinished,
                    &package,
                    "--package needs the package, which is not there",
                )
                .with_hint("leave --package out, or convert the model again"));
            }
            check_folder(&package)?;
        }
        Ok(())
    }

    /// Whether a compiled model was made from the package beside it, as far as both say: the
    /// compiled one holds the SHA-256 of the model file.
    pub(crate) fn check_origin(
        &self,
        model: &str,
        sums: &mut Sums,
        progress: Progress<'_>,
    ) -> Result<()> {
        // Other tools rewrite packages after compiling, so that sums say nothing.
        if self.report.is_null() {
            return Ok(());
        }
        let (compiled, package) = (self.compiled(model), self.package(model));
        let analytics = compiled.join(anemll_mlmodelc::files::ANALYTICS);
        let noted = anemll_files::read(&analytics, Limit::METADATA)
            .ok()
            .and_then(|bytes| Analytics::from_bytes(&bytes).ok())
            .and_then(|analytics| analytics.value("modelHash").map(str::to_owned));
        let file = Manifest::read(&package).and_then(|manifest| manifest.model_path(&package));
        let (Some(noted), Ok(file)) = (noted, file) else { return Ok(()) };
        let sum = sums.of(&file, progress)?;
        if Analytics::of_model("model", &sum.digest).value("modelHash") == Some(&noted) {
            return Ok(());
        }
        Err(ExportError::new(
            ErrorKind::NotCompiled,
            &compiled,
            "this was not compiled from the package beside it",
        )
        .with_hint(format!(
            "compile it again: anemll compile {} --output-dir {} --force",
            shell_word(&package.to_string_lossy()),
            shell_word(&self.directory.to_string_lossy())
        )))
    }

    /// A value of `model_info` as a text.
    pub(crate) fn info_text(&self, key: &str) -> Option<String> {
        match &self.info[key] {
            Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The name of the conversion.
    pub(crate) fn name(&self) -> String {
        self.info_text("name").unwrap_or_else(|| {
            let name = self.directory.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        })
    }

    /// A comment of meta.yaml, such as `source_sha256`.
    pub(crate) fn comment(&self, key: &str) -> Option<&str> {
        anemll_conversion::comment(&self.meta_text, key)
    }
}

/// A folder whose files can be exported: regular ones, all of them fetched.
fn check_folder(folder: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(folder).map_err(|e| ExportError::read(folder, &e))?;
    if !metadata.is_dir() {
        return Err(ExportError::new(
            ErrorKind::Unfinished,
            folder,
            if metadata.is_symlink() {
                "this is a symbolic link; only regular files are exported"
            } else {
                "this is not a folder"
            },
        ));
    }
    for (path, bytes) in tree::files(folder)? {
        let path = folder.join(path);
        if bytes <= LARGEST_POINTER {
            let start = anemll_files::read(&path, Limit::METADATA)
                .map_err(|error| ExportError::read(&path, &error))?;
            if anemll_files::is_lfs_pointer(&start) {
                return Err(ExportError::new(
                    ErrorKind::Unfinished,
                    &path,
                    "this is a Git LFS pointer, not the file",
                )
                .with_hint("fetch the file itself with `git lfs pull`"));
            }
        }
    }
    Ok(())
}
