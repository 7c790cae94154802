//! Bundles of language models for Apple's Core AI apps: what the apps would fail on, as far as it can be seen here.

mod dynamic;
mod folder;
mod ports;
mod static_form;

use crate::asset::{Fault, Shown, faults, faults_text};
use anemll_aicode::asset::Asset;
use anemll_codes as codes;
use anemll_files::Limit;
use anemll_layout::apple;
use anemll_plugin_api::{Error, Result};
use folder::Language;
use serde::Serialize;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;

/// Version of the JSON form; keys may be added within one.
const SCHEMA: u32 = 1;

/// What is found out about a bundle.
#[derive(Debug, Serialize)]
pub struct BundleCheck {
    schema: u32,
    /// The folder as given.
    pub path: String,
    /// The model's name; empty where the folder does not say it.
    pub name: String,
    /// Which of the two forms its functions have, if they have one.
    pub form: Option<Form>,
    /// Tokens of the longest text, as the folder says.
    pub context: Option<u64>,
    /// Tokens that the model knows, as the folder says.
    pub vocabulary: Option<u64>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// The two forms of bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Functions for contexts and numbers of tokens, which phones run.
    Static,
    /// One function for any number of tokens, which computers run.
    Dynamic,
}

/// What is wrong, as it is found.
#[derive(Debug, Default)]
struct Findings(Vec<Fault>);

impl Findings {
    /// Something with which apps fail.
    fn fatal(&mut self, file: &str, message: impl Into<String>) {
        self.0.push(Fault { fatal: true, file: file.to_owned(), message: message.into() });
    }

    /// Something that apps may take, or not.
    fn doubt(&mut self, file: &str, message: impl Into<String>) {
        self.0.push(Fault { fatal: false, file: file.to_owned(), message: message.into() });
    }
}

/// Whether a path is meant to be a bundle: a folder with a `metadata.json` that names assets.
pub fn is_at(path: &Path) -> bool {
    let file = path.join(apple::METADATA);
    if !path.is_dir() || !file.is_file() {
        return false;
    }
    let text = anemll_files::read_text(&file, Limit::CONFIG).ok();
    let parsed: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
    let says = |key: &str| parsed.as_ref().is_some_and(|parsed| parsed.get(key).is_some());
    says("metadata_version") || says("assets") || (parsed.is_none() && has_asset(path))
}

fn has_asset(folder: &Path) -> bool {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.extension() == Some(OsStr::new("aimodel")))
}

impl BundleCheck {
    /// Looks at the folder, and at the asset that it names.
    pub fn of(path: &Path) -> Self {
        let mut found = Findings::default();
        let said = folder::read(path, &mut found);
        let mut form = None;
        if let Some(name) = &said.asset {
            match Asset::open(&path.join(name)) {
                Ok(asset) => form = look(&asset, name, &said.language, &mut found),
                Err(error) => found.fatal(name, error.message),
            }
        }
        Self {
            schema: SCHEMA,
            path: path.display().to_string(),
            name: said.name,
            form,
            context: said.language.context,
            vocabulary: said.language.vocabulary,
            faults: found.0,
        }
    }

    /// The first fault as an error; that of one with which apps fail before others.
    ///
    /// # Errors
    /// [`codes::BUNDLE_UNFIT`].
    pub fn verdict(&self) -> Result<()> {
        let fatal = self.faults.iter().find(|fault| fault.fatal);
        let Some(fault) = fatal.or(self.faults.first()) else { return Ok(()) };
        let what = if fault.fatal {
            "apps would not load the bundle"
        } else {
            "apps may not like the bundle"
        };
        Err(Error::new(codes::BUNDLE_UNFIT, format!("{what}: {}: {}", fault.file, fault.message))
            .with_at(self.path.clone())
            .with_hint("mend what the list names, or convert again: --combiner coreai-bundle"))
    }

    fn to_text(&self, width: Option<usize>) -> String {
        let form = match self.form {
            Some(Form::Static) => "static form",
            Some(Form::Dynamic) => "dynamic form",
            None => "no form that apps know",
        };
        let number = |number: Option<u64>| number.map_or("?".to_owned(), |it| it.to_string());
        let (context, vocabulary) = (number(self.context), number(self.vocabulary));
        let name = if self.name.is_empty() { "?" } else { &self.name };
        let head = format!("{name}: {form}, context {context}, vocabulary {vocabulary}\n");
        format!("{}{}", anemll_terminal::plain_lines(&head), faults_text(&self.faults, width))
    }
}

/// Looks at a bundle; what is wrong is an error, too.
///
/// # Errors
/// Where the result cannot be written as JSON.
pub fn show(path: &Path, as_json: bool, width: Option<usize>) -> Result<Shown> {
    let checked = BundleCheck::of(path);
    let text = if as_json { crate::asset::json(&checked)? } else { checked.to_text(width) };
    Ok(Shown { text, verdict: checked.verdict() })
}

/// What is wrong with an asset by itself, then with its functions for apps. These choose by names: a static model has
/// functions `extend…` and one that gives the table, any other `main`.
fn look(asset: &Asset, name: &str, language: &Language, found: &mut Findings) -> Option<Form> {
    for fault in faults(asset) {
        let file = format!("{name}/{}", fault.file);
        found.0.push(Fault { file, ..fault });
    }
    let functions: Vec<_> = asset.program.functions.iter().filter(|one| !one.private).collect();
    let has = |name: &str| functions.iter().any(|function| function.name == name);
    let extends = functions.iter().any(|function| function.name.starts_with("extend"));
    if extends && has(apple::LOAD_EMBEDDINGS) {
        static_form::check(name, &functions, language, found);
        return Some(Form::Static);
    }
    if has(language.main.as_str()) {
        dynamic::check(name, &functions, language, found);
        return Some(Form::Dynamic);
    }
    let what = if extends { apple::LOAD_EMBEDDINGS } else { language.main.as_str() };
    found.fatal(name, format!("it has no function `{what}`: apps know neither of their two forms"));
    None
}

#[cfg(test)]
mod tests;
