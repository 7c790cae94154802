//! The model that a conversion reads, which no conversion may touch.

use crate::disk::exists;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What of the output directory belongs to the model.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The output directory by its true name.
    output: PathBuf,
    /// The model's directory, and files that its links lead to, by their true names.
    parts: Vec<PathBuf>,
    /// Whether the output directory lies in the model's.
    around: bool,
}

impl Source {
    /// Compares the directories of a model and of its conversion, whatever links lead to them.
    ///
    /// # Errors
    /// [`codes::OUTPUT_IS_MODEL`] where both are one.
    pub(crate) fn new(model: &Path, output: &Path) -> Result<Self> {
        let output_true = true_name(output);
        let model_true = true_name(model);
        if output_true == model_true || is_same(output, model) {
            return Err(Error::new(
                codes::OUTPUT_IS_MODEL,
                "the output directory is the model's: a conversion would replace its files",
            )
            .with_at(output.display().to_string())
            .with_hint("choose another --output; --force does not help here"));
        }
        let around = output_true.ancestors().any(|folder| is_same(folder, &model_true));
        let entries = std::fs::read_dir(model).into_iter().flatten().flatten();
        let mut parts: Vec<PathBuf> =
            entries.filter_map(|entry| entry.path().canonicalize().ok()).collect();
        parts.push(model_true);
        Ok(Self { output: output_true, parts, around })
    }

    /// Whether the output `name` would take the place of something of the model. What stands below
    /// the model's directory and is not known to be `ours` is the model's.
    pub(crate) fn holds(&self, name: &Path, ours: bool) -> bool {
        let path = self.output.join(name);
        self.parts.iter().any(|part| part.starts_with(&path))
            || (self.around && !ours && exists(&path))
    }
}

/// The path without links, also where its last parts do not exist yet.
fn true_name(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest: Vec<OsString> = Vec::new();
    let mut folder = path.as_path();
    loop {
        if let Ok(found) = folder.canonicalize() {
            return rest.iter().rev().fold(found, |path, part| path.join(part));
        }
        match (folder.file_name(), folder.parent()) {
            (Some(name), Some(parent)) => {
                rest.push(name.to_owned());
                folder = parent;
            }
            _ => return path,
        }
    }
}

/// Whether two paths are one folder, be it mounted at two places.
fn is_same(first: &Path, second: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let id = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
        id(first).is_some_and(|first| Some(first) == id(second))
    }
    #[cfg(not(unix))]
    {
        matches!((first.canonicalize(), second.canonicalize()), (Ok(one), Ok(two)) if one == two)
    }
}
