//! Opens plugin libraries.
//!
//! A library is looked at before it is opened, so that every refusal can be explained; and it is
//! never closed: its types and functions may be in use until the program ends.

use std::io::Write;
use std::path::{Path, PathBuf};

use anemll_codes as codes;
use anemll_plugin_api::__host::{
    AbiHeaderRef, LAYOUT_SYMBOL, LIBRARY_HEADER, LayoutSum, ModuleFailure, RootModule, other_epoch,
};
use anemll_plugin_api::data::Manifest;
use anemll_plugin_api::{ABI_EPOCH, Error, LoadedPlugin, Result};
use libloading::Library;

use crate::library_file::{RawManifest, read_manifest, unreadable};

/// How plugins are opened.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Where long reports go; the system's directory for temporary files when absent.
    pub log_directory: Option<PathBuf>,
}

/// Reads the manifest of a plugin from its file, without running any of it.
///
/// # Errors
/// Those of [`open`] up to the manifest's checks.
pub fn manifest_of_file(path: &Path) -> Result<Manifest> {
    Candidate::of_file(path).map(|candidate| candidate.manifest)
}

/// Opens a plugin library.
///
/// # Errors
/// In the order of the checks:
///
/// 1. [`codes::PLUGIN_UNREADABLE`]: no such file, no permission, not a file;
/// 2. [`codes::PLUGIN_NOT_A_LIBRARY`], [`codes::PLUGIN_OTHER_SYSTEM`],
///    [`codes::PLUGIN_OTHER_CPU`]: a file that this program cannot load;
/// 3. [`codes::PLUGIN_NO_MANIFEST`]: a library, but not a plugin;
/// 4. [`codes::PLUGIN_MANIFEST_INVALID`]: no readable manifest;
/// 5. [`codes::PLUGIN_OTHER_EPOCH`]: built for another plugin ABI;
/// 6. [`codes::PLUGIN_DUPLICATE_ID`], [`codes::PLUGIN_OPTIONS_SCHEMA`]: the manifest contradicts
///    itself;
/// 7. [`codes::PLUGIN_OPEN_FAILED`]: the system cannot load it (from here on, it has run);
/// 8. [`codes::PLUGIN_LAYOUT_DIFFERS`]: built with an incompatible version of this crate; the
///    long report is in a file that the hint names;
/// 9. [`codes::PLUGIN_MANIFEST_DIFFERS`]: what was loaded is not what was read.
pub fn open(path: &Path) -> Result<LoadedPlugin> {
    open_with(path, &LoadOptions::default())
}

/// Opens a plugin library with options.
///
/// # Errors
/// As [`open`].
pub fn open_with(path: &Path, options: &LoadOptions) -> Result<LoadedPlugin> {
    Candidate::of_file(path)?.open(options)
}

/// A library that says it is a plugin. Nothing of it has run.
#[derive(Debug)]
pub struct Candidate {
    path: PathBuf,
    raw: RawManifest,
    manifest: Manifest,
}

impl Candidate {
    /// Reads the manifest of a library.
    ///
    /// # Errors
    /// Those of [`open`] up to the manifest's checks.
    pub fn of_file(path: &Path) -> Result<Self> {
        let raw = read_manifest(path)?;
        let manifest = checked_manifest(&raw).map_err(|error| at_file(error, path))?;
        Ok(Self { path: path.to_owned(), raw, manifest })
    }

    /// What the plugin says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Opens the library.
    ///
    /// # Errors
    /// Those of [`open`] from the opening on.
    pub fn open(&self, options: &LoadOptions) -> Result<LoadedPlugin> {
        // A bare file name would be searched for in the system's directories.
        let absolute = std::fs::canonicalize(&self.path);
        absolute
            .map_err(|error| unreadable(&error.to_string()))
            .and_then(|path| load(&path, &self.raw, &self.manifest, options))
            .map_err(|error| at_file(error, &self.path))
    }
}

/// Loads the library with this manifest. The path has a folder in it.
pub(crate) fn load(
    path: &Path,
    raw: &RawManifest,
    manifest: &Manifest,
    options: &LoadOptions,
) -> Result<LoadedPlugin> {
    let library = open_library(path)?;
    let module =
        root_module(library).map_err(|failure| does_not_fit(&manifest.name, &failure, options))?;
    // The file may have been exchanged between reading and opening, or a library of that name be
    // loaded already. The module brings its manifest with a length, so no memory is read on trust.
    if module.manifest() != raw.json {
        return Err(differs());
    }
    module.into_plugin()
}

/// The root module of a library that has a manifest.
#[allow(unsafe_code)]
fn root_module(library: &'static Library) -> std::result::Result<RootModule, ModuleFailure> {
    // SAFETY: libraries that export this symbol give it this type; it begins with a magic string
    // and versions, which `RootModule::of` compares before it reads on.
    let header = unsafe { library.get::<AbiHeaderRef>(LIBRARY_HEADER) };
    // SAFETY: libraries that export this symbol give it this type, which is plain bytes.
    let sum = unsafe { library.get::<&LayoutSum>(LAYOUT_SYMBOL) };
    match header {
        Ok(header) => RootModule::of(*header, sum.ok().map(|sum| *sum)),
        Err(error) => Err(ModuleFailure {
            reason: "it has a manifest, but exports no root module".to_owned(),
            report: error.to_string(),
        }),
    }
}

pub(crate) fn checked_manifest(raw: &RawManifest) -> Result<Manifest> {
    if raw.epoch != ABI_EPOCH {
        // A manifest of another epoch need not have our form; its name is likely to be there.
        let json: serde_json::Value = serde_json::from_str(&raw.json).unwrap_or_default();
        let name: String = json["name"].as_str().unwrap_or("unknown").chars().take(64).collect();
        return Err(other_epoch(&name.escape_debug().to_string(), raw.epoch));
    }
    let manifest = Manifest::parse(&raw.json)?;
    match manifest.abi == raw.epoch {
        true => Ok(manifest),
        false => Err(Error::new(
            codes::PLUGIN_MANIFEST_INVALID,
            format!(
                "the plugin's manifest says ABI {}, but it was built for ABI {}",
                manifest.abi, raw.epoch
            ),
        )),
    }
}

/// Opens a library for good.
#[allow(unsafe_code)]
fn open_library(path: &Path) -> Result<&'static Library> {
    // SAFETY: opening runs the library's initializers, which is what the user asked for; the file
    // has named itself a plugin.
    #[cfg(unix)]
    let library = unsafe {
        use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
        Library::open(Some(path), RTLD_NOW | RTLD_LOCAL).map(libloading::Library::from)
    };
    // SAFETY: as above.
    #[cfg(not(unix))]
    let library = unsafe { Library::new(path) };
    match library {
        Ok(library) => Ok(Box::leak(Box::new(library))),
        Err(error) => Err(Error::new(
            codes::PLUGIN_OPEN_FAILED,
            format!("the system cannot load the library: {}", text_of(&error)),
        )
        .with_hint("a library that it needs may be missing or older than it expects")),
    }
}

/// A loader's error with what the system says.
fn text_of(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The error of a module that does not fit: one line, with the report, of up to thousands, in a file.
fn does_not_fit(name: &str, failure: &ModuleFailure, options: &LoadOptions) -> Error {
    let own = anemll_plugin_api::VERSION;
    let hint = match write_report(name, &failure.report, options) {
        Ok(path) => format!(
            "build the plugin again with anemll-plugin-api {own}; full report: {} ({} lines)",
            path.display(),
            failure.report.lines().count()
        ),
        Err(error) => format!(
            "build the plugin again with anemll-plugin-api {own} (the full report could not be \
             written: {error})"
        ),
    };
    Error::new(
        codes::PLUGIN_LAYOUT_DIFFERS,
        format!("plugin `{name}` does not fit: {}", failure.reason),
    )
    .with_hint(hint)
}

/// Writes a report to a new file: one that is there already may be a trap in a shared directory.
fn write_report(name: &str, report: &str, options: &LoadOptions) -> std::io::Result<PathBuf> {
    let directory = match &options.log_directory {
        Some(directory) => {
            std::fs::create_dir_all(directory)?;
            directory.clone()
        }
        None => std::env::temp_dir(),
    };
    let process = std::process::id();
    let mut attempt = 0;
    loop {
        let path = directory.join(format!("anemll-plugin-{name}-abi-{process}-{attempt}.txt"));
        match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(report.as_bytes())?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && attempt < 1000 => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn differs() -> Error {
    Error::new(
        codes::PLUGIN_MANIFEST_DIFFERS,
        "the library that was loaded is not the file that was checked",
    )
    .with_hint("was the file being replaced, or is a library of the same name loaded already?")
}

pub(crate) fn at_file(error: Error, path: &Path) -> Error {
    match error.code.as_str() {
        // The place inside of the manifest becomes a cause.
        codes::PLUGIN_MANIFEST_INVALID
        | codes::PLUGIN_DUPLICATE_ID
        | codes::PLUGIN_OPTIONS_SCHEMA => {
            let inside = error.at.clone();
            let error = error.with_at(path.display().to_string());
            match inside {
                Some(inside) => error.with_cause(format!("in the manifest, at {inside}")),
                None => error,
            }
        }
        _ => error.with_at(path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_report_goes_to_a_file_that_the_hint_names() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("logs");
        let options = LoadOptions { log_directory: Some(logs.clone()) };
        let report = "line\n".repeat(3000);
        let failure = ModuleFailure { reason: "its types are laid out differently".into(), report };
        for number in 0..2 {
            let error = does_not_fit("stub", &failure, &options);
            assert_eq!(error.code, codes::PLUGIN_LAYOUT_DIFFERS);
            assert!(!error.message.contains('\n'));
            let hint = error.hint.unwrap();
            let name = format!("anemll-plugin-stub-abi-{}-{number}.txt", std::process::id());
            assert!(hint.contains(&name) && hint.contains("3000 lines"), "{hint}");
            assert_eq!(std::fs::read_to_string(logs.join(name)).unwrap(), failure.report);
        }
        // Where nothing can be written, the refusal still comes.
        std::fs::write(directory.path().join("file"), "").unwrap();
        let options = LoadOptions { log_directory: Some(directory.path().join("file")) };
        assert_eq!(does_not_fit("stub", &failure, &options).code, codes::PLUGIN_LAYOUT_DIFFERS);
    }
}
