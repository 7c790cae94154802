//! `verify`: whether an export is what it was when it was made, and how far it is from its original.

mod against;

use crate::arguments::HeadArgument;
use crate::error::from_export;
use against::Comparison;
use anemll_codes as codes;
use anemll_export::{Finding, Status, Verification};
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use anemll_terminal::{self as terminal, Column, Table};
use clap::Args;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What is shown below the help.
pub const EXAMPLES: &str = "Examples:
  anemll verify release
  anemll verify release/ios --json
  anemll verify release --source ./SmolLM2-135M

DIR is what `anemll export` wrote, or one of its folders, or a download of it. Exit code 0: every file
is there and as release.json says, and nothing else is; 1: something is not. What a hub or a desktop
adds (.gitattributes, .cache, .git, .gitignore, .DS_Store) is left out of account.";

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// What can be typed.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The export.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Also run the export and this original model on a built-in text, and compare their logits.
    #[arg(long, value_name = "MODEL")]
    pub source: Option<PathBuf>,
    /// Number of tokens of the text to run.
    #[arg(long, value_name = "N", default_value_t = 128, requires = "source", value_parser = clap::value_parser!(u64).range(2..))]
    pub max_tokens: u64,
    /// Largest mean KL divergence from the original, in nats, that still passes.
    #[arg(long, value_name = "NATS", default_value_t = 1.0, requires = "source")]
    pub max_kl: f64,
    /// Which weight the original's head has, where it is tied to the embedding and another one is
    /// stored.
    #[arg(long, value_name = "HEAD", value_enum, requires = "source")]
    pub head: Option<HeadArgument>,
    /// Architecture of the original, where several accept it.
    #[arg(long, value_name = "ID", requires = "source")]
    pub arch: Option<String>,
    /// Runtime plugin.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Where the original's temporary packages go, which are as large as it is in 16-bit floats.
    #[arg(long, value_name = "DIR", requires = "source")]
    pub scratch: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    schema: u32,
    /// Whether every file is as it should be, and the original near enough.
    ok: bool,
    name: &'a str,
    #[serde(flatten)]
    verification: &'a Verification,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a Comparison>,
}

/// Runs the command.
///
/// # Errors
/// [`codes::RELEASE_DIFFERS`] when a file is not as release.json says, [`codes::RELEASE_FAR`] when
/// the original is too far away, [`codes::RELEASE_INVALID`].
pub fn run(arguments: &VerifyArguments, plugins: &Plugins) -> Result<()> {
    let directory = &arguments.directory;
    let verification = anemll_export::verify(directory, &mut |_| check_cancelled().is_ok())
        .map_err(from_export)?;
    let whole = verification.is_whole();
    let comparison = match &arguments.source {
        // What is damaged is not run.
        Some(source) if whole => {
            Some(against::compare(arguments, source, &verification.release, plugins)?)
        }
        _ => None,
    };
    let far = comparison.as_ref().filter(|comparison| !comparison.is_within(arguments.max_kl));
    if arguments.json {
        super::print_json(&Answer {
            schema: SCHEMA,
            ok: whole && far.is_none(),
            name: &verification.release.name,
            verification: &verification,
            source: comparison.as_ref(),
        })?;
    } else {
        let mut text = table(&verification.files, terminal::width());
        if let Some(comparison) = &comparison {
            text += &comparison.text();
        }
        super::print(&text)?;
    }
    if !whole {
        let (wrong, all) = (verification.wrong(), verification.files.len());
        let are = if wrong == 1 { "is" } else { "are" };
        return Err(Error::new(
            codes::RELEASE_DIFFERS,
            format!("{wrong} of {all} files {are} not as release.json says"),
        )
        .with_at(directory.display().to_string())
        .with_hint("download or copy the export again, or export anew"));
    }
    if let Some(comparison) = far {
        return Err(Error::new(codes::RELEASE_FAR, comparison.fault(arguments.max_kl))
            .with_at(directory.display().to_string())
            .with_hint(
                "it was made from another model, or has too few bits: convert with more, --lut 6 or 8",
            ));
    }
    Ok(())
}

/// One line for each model and one for the small files of each folder; what is wrong file by file.
fn table(files: &[Finding], width: Option<usize>) -> String {
    let mut folders: BTreeMap<&str, Vec<(&str, &Finding)>> = BTreeMap::new();
    for file in files {
        // Forms are the folders that are no model.
        let (folder, name) = match file.path.split_once('/') {
            Some((folder, name)) if !folder.contains(".ml") => (folder, name),
            _ => ("", file.path.as_str()),
        };
        folders.entry(folder).or_default().push((name, file));
    }
    let mut text = String::new();
    for (folder, files) in folders {
        if !folder.is_empty() {
            text += &format!("{}/\n", terminal::plain(folder));
        }
        let model = |name: &str| {
            name.split('/').next().filter(|model| model.contains(".ml")).map(str::to_owned)
        };
        let wrong: Vec<&(&str, &Finding)> =
            files.iter().filter(|(_, file)| file.status != Status::Ok).collect();
        // A model is as good as its worst file.
        let broken: BTreeSet<String> = wrong.iter().filter_map(|(name, _)| model(name)).collect();
        let mut models: BTreeMap<String, u64> = BTreeMap::new();
        let (mut others, mut other_bytes) = (0, 0);
        for (name, file) in files.iter().filter(|(_, file)| file.status == Status::Ok) {
            match model(name) {
                Some(model) => *models.entry(model).or_default() += file.bytes,
                None => (others, other_bytes) = (others + 1, other_bytes + file.bytes),
            }
        }
        let ok = || Status::Ok.word().to_owned();
        let mut table = Table::new(&[Column::Left, Column::Right, Column::Flexible]);
        for (model, bytes) in models.into_iter().filter(|(model, _)| !broken.contains(model)) {
            table.row([ok(), terminal::size(bytes), model]);
        }
        if others > 0 {
            let plural = if others == 1 { "file" } else { "files" };
            table.row([ok(), terminal::size(other_bytes), format!("{others} other {plural}")]);
        }
        text += &table.render(width);
        for (name, file) in wrong {
            // The folder of a model on a line of its own: both together are too long for many.
            let (first, second) = match (model(name), name.split_once('/')) {
                (Some(_), Some((model, inner))) => (model, format!("{inner}: {}", file.detail)),
                _ => (*name, file.detail.clone()),
            };
            text += &format!("  {:<7}  {}\n", file.status.word(), terminal::plain(first));
            text += &terminal::wrapped(second.split(' '), " ", 11, width);
        }
    }
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let wrong = files.iter().filter(|file| file.status != Status::Ok).count();
    let end = match wrong {
        0 => "all as release.json says".to_owned(),
        wrong => format!("{wrong} not as release.json says"),
    };
    text += &format!("{} files, {}: {end}\n", files.len(), terminal::size(bytes));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(path: &str, status: Status, detail: &str) -> Finding {
        let (path, detail) = (path.to_owned(), detail.to_owned());
        Finding { path, status, bytes: 41_200_000, detail }
    }

    #[test]
    fn every_line_fits_and_names_stay_readable() {
        let model = "ios/llama_FFN_PF_lut6_chunk_01of02.mlmodelc";
        let weights = "ios/llama_FFN_PF_lut6_chunk_02of02.mlmodelc/weights/weight.bin";
        let files = [
            finding("README.md", Status::Ok, ""),
            finding(&format!("{model}/model.mil"), Status::Ok, ""),
            finding(weights, Status::Changed, "its SHA-256 is another"),
            finding("ios/meta.yaml", Status::Ok, ""),
        ];
        for width in [60, 80, 120] {
            let text = table(&files, Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            for part in [
                "  ok  41.2 MB  llama_FFN_PF_lut6_chunk_01of02.mlmodelc\n",
                "  changed  llama_FFN_PF_lut6_chunk_02of02.mlmodelc\n           weights/weight.bin: its",
            ] {
                assert!(text.contains(part), "{width}:\n{text}");
            }
            assert!(text.ends_with("4 files, 165 MB: 1 not as release.json says\n"), "{text}");
        }
    }
}
