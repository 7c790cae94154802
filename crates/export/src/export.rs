//! Writing an export.

use crate::Progress;
use crate::card::{self, Card, FormFacts, SourceCard};
use crate::error::{ExportError, Result};
use crate::model::Conversion;
use crate::place::Placer;
use crate::redact::redact;
use crate::release::{self, FileEntry, Recipe, Release};
use crate::sums::{Sums, sum_of_bytes};
use crate::swap;
use crate::text_files;
use crate::tree;
use crate::zip_folder::{self, Compression};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The form with folders, by the name that ANEMLL gives it.
const IOS: &str = "ios";
/// The form with zips.
const STANDARD: &str = "standard";

/// What an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forms {
    /// `ios/`: compiled models as folders.
    pub folders: bool,
    /// `standard/`: each compiled model in a zip.
    pub zips: bool,
    /// The packages beside the compiled models.
    pub packages: bool,
}

/// What is to be exported, and how.
#[derive(Debug)]
pub struct Request<'a> {
    /// Output directory of a conversion.
    pub conversion: &'a Path,
    /// The models that apps load, without the ending.
    pub models: &'a [String],
    /// What says how they are run, where meta.yaml alone does not: name and contents of a file.
    pub description: Option<(&'a str, &'a [u8])>,
    /// Where the export goes; made by this.
    pub target: &'a Path,
    /// What it holds.
    pub forms: Forms,
    /// How zips are stored.
    pub compression: Compression,
    /// Share files with the conversion by hard links where the file system can.
    pub link: bool,
    /// Replace an export that is there: the files that its release.json lists, and no others.
    pub force: bool,
    /// What is known of the original model; what is not said here is taken from the conversion.
    pub source: SourceCard,
    /// Version of the program.
    pub version: &'a str,
}

/// What was exported.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// Where it is.
    pub directory: PathBuf,
    /// What it holds.
    pub forms: Vec<FormSummary>,
    /// Bytes that are shared with the conversion by hard links.
    pub linked_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// One form of an export.
#[derive(Debug, Clone, Serialize)]
pub struct FormSummary {
    /// Name of its folder.
    pub name: &'static str,
    /// Models that apps load.
    pub models: usize,
    /// Files.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Exports a conversion: all of it appears at once under its final name, or nothing.
///
/// # Errors
/// [`crate::ErrorKind::Unfinished`] and [`crate::ErrorKind::NotCompiled`] for the conversion,
/// [`crate::ErrorKind::Target`] and [`crate::ErrorKind::Exists`] for the target, and what the system says.
pub fn export(request: &Request<'_>, progress: Progress<'_>) -> Result<Exported> {
    let conversion = Conversion::open(request.conversion, request.models, request.forms.packages)?;
    let target = swap::Target::check(request.target, request.conversion, request.force)?;
    let mut sums = Sums::default();
    for model in &conversion.models {
        conversion.check_origin(model, &mut sums, progress)?;
    }
    let mut texts = text_files::collect(&conversion)?;
    if let Some((name, bytes)) = request.description {
        texts.add(name, bytes);
    }
    let staging = target.staging()?;
    let mut notes = texts.notes;
    let from_report: SourceCard =
        serde_json::from_value(conversion.report["source"].clone()).unwrap_or_default();
    let source = request.source.clone().or(from_report.checked());
    if source.license.is_none() {
        notes.push(
            "the licence of the original model is not known: name the model with --model, or the \
             licence with --license"
                .to_owned(),
        );
    }
    let mut writer = Writer {
        request,
        conversion: &conversion,
        texts: &texts.files,
        sums,
        placer: Placer::new(request.link),
        written: 0,
        progress,
    };
    let mut forms = Vec::new();
    if request.forms.folders {
        forms.push(writer.form(IOS, staging.path())?);
    }
    if request.forms.zips {
        forms.push(writer.form(STANDARD, staging.path())?);
    }
    let recipe = recipe(&conversion, &source);
    let tool = recipe.tool.clone().unwrap_or_else(|| "a tool other than anemll".to_owned());
    let card = Card::new(&conversion, source, tool);
    let facts: Vec<FormFacts> = forms.iter().map(Form::facts).collect();
    let release = |names: &[&str], files: Vec<FileEntry>| Release {
        schema: release::SCHEMA,
        anemll: request.version.to_owned(),
        name: conversion.name(),
        forms: names.iter().map(|name| (*name).to_owned()).collect(),
        models: conversion.models.clone(),
        recipe: recipe.clone(),
        files,
    };
    let mut all = Vec::new();
    for form in &mut forms {
        let folder = staging.path().join(form.name);
        let text = card.text(&facts, Some(form.name));
        form.files.push(writer.text(&folder, card::NAME, text.as_bytes())?);
        form.files.sort_by(|first, second| first.path.cmp(&second.path));
        let text = release(&[form.name], form.files.clone()).to_text()?;
        let own = writer.text(&folder, release::NAME, text.as_bytes())?;
        for entry in form.files.iter().chain([&own]) {
            let path = format!("{}/{}", form.name, entry.path);
            all.push(FileEntry { path, ..entry.clone() });
        }
        form.files.push(own);
    }
    all.push(writer.text(staging.path(), card::NAME, card.text(&facts, None).as_bytes())?);
    all.sort_by(|first, second| first.path.cmp(&second.path));
    let names: Vec<&str> = forms.iter().map(|form| form.name).collect();
    let text = release(&names, all).to_text()?;
    writer.text(staging.path(), release::NAME, text.as_bytes())?;
    if !(writer.progress)(0) {
        return Err(ExportError::cancelled());
    }
    let mut exported = Exported {
        directory: request.target.to_owned(),
        forms: forms.iter().map(|form| form.summary(conversion.models.len())).collect(),
        linked_bytes: writer.placer.linked_bytes,
        written_bytes: writer.placer.copied_bytes + writer.written,
        notes,
    };
    if let Some(earlier) = target.publish(staging)? {
        exported.notes.push(format!(
            "the export that was replaced could not be removed: it is in {}",
            earlier.display()
        ));
    }
    Ok(exported)
}

/// How the conversion was made, as far as it says.
fn recipe(conversion: &Conversion, source: &SourceCard) -> Recipe {
    let ours = conversion.comment("anemll").map(|version| format!("anemll {version}"));
    let theirs = || {
        let version = conversion.comment("anemll_version")?.trim_matches('"');
        Some(format!("ANEMLL {version}"))
    };
    let command = conversion.comment("command").or_else(|| conversion.comment("command_line"));
    Recipe {
        tool: ours.or_else(theirs),
        base_model: source.base_model.clone(),
        source_sha256: anemll_conversion::source_sha256(&conversion.report, &conversion.meta_text),
        command: command.map(redact),
        options: conversion.report["options"].clone(),
        plugins: conversion.report["plugins"].clone(),
    }
}

/// A form on the way.
struct Form {
    name: &'static str,
    models: Vec<(String, u64)>,
    files: Vec<FileEntry>,
}

impl Form {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn facts(&self) -> FormFacts {
        FormFacts { name: self.name, models: self.models.clone(), bytes: self.bytes() }
    }

    fn summary(&self, models: usize) -> FormSummary {
        FormSummary { name: self.name, models, files: self.files.len(), bytes: self.bytes() }
    }
}

struct Writer<'a, 'p> {
    request: &'a Request<'a>,
    conversion: &'a Conversion,
    texts: &'a [(String, Vec<u8>)],
    sums: Sums,
    placer: Placer,
    written: u64,
    progress: Progress<'p>,
}

impl Writer<'_, '_> {
    fn form(&mut self, name: &'static str, staging: &Path) -> Result<Form> {
        let folder = staging.join(name);
        make(&folder)?;
        let mut form = Form { name, models: Vec::new(), files: Vec::new() };
        for (file, bytes) in self.texts {
            form.files.push(self.text(&folder, file, bytes)?);
        }
        for model in &self.conversion.models {
            let mut sources = vec![self.conversion.compiled(model)];
            if self.request.forms.packages {
                sources.push(self.conversion.package(model));
            }
            for source in sources {
                let before = form.files.len();
                let title = match name {
                    STANDARD => self.zip(&source, &folder, &mut form.files)?,
                    _ => self.tree(&source, &folder, &mut form.files)?,
                };
                let bytes = form.files[before..].iter().map(|file| file.bytes).sum();
                form.models.push((title, bytes));
            }
        }
        Ok(form)
    }

    /// A folder as it is.
    fn tree(&mut self, source: &Path, folder: &Path, files: &mut Vec<FileEntry>) -> Result<String> {
        let name = file_name(source);
        for (path, _) in tree::files(source)? {
            let (from, to) = (source.join(&path), folder.join(&name).join(&path));
            if let Some(parent) = to.parent() {
                make(parent)?;
            }
            self.placer.place(&from, &to)?;
            // Of what stands there now, not of what was meant to.
            let sum = self.sums.of(&to, self.progress)?;
            let path = format!("{name}/{path}");
            let (bytes, sha256) = (sum.bytes, sum.sha256());
            files.push(FileEntry { path, bytes, sha256, contents: None });
        }
        Ok(name)
    }

    /// A folder as a zip.
    fn zip(&mut self, source: &Path, folder: &Path, files: &mut Vec<FileEntry>) -> Result<String> {
        let name = file_name(source);
        let path = format!("{name}.zip");
        let target = folder.join(&path);
        let compression = self.request.compression;
        let contents = zip_folder::write(source, &name, &target, compression, self.progress)?;
        let sum = self.sums.of(&target, self.progress)?;
        self.written += sum.bytes;
        let (bytes, sha256) = (sum.bytes, sum.sha256());
        files.push(FileEntry { path: path.clone(), bytes, sha256, contents: Some(contents) });
        Ok(path)
    }

    /// A small file.
    fn text(&mut self, folder: &Path, name: &str, bytes: &[u8]) -> Result<FileEntry> {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|error| ExportError::write(&path, &error))?;
        self.written += bytes.len() as u64;
        let sum = sum_of_bytes(bytes);
        let sha256 = sum.sha256();
        Ok(FileEntry { path: name.to_owned(), bytes: sum.bytes, sha256, contents: None })
    }
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| ExportError::write(folder, &error))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
