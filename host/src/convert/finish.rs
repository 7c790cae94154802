//! The last steps of a conversion: compiling, small files, a test run.

use super::META;
use super::packages::relative_path;
use super::report::StepReport;
use super::store::Store;
use crate::engine::Engine;
use crate::error::{from_huggingface, io};
use crate::services::check_cancelled;
use anemll_huggingface::{Importance, ModelDirectory};
use anemll_plugin_api::data::{Layout, ModelDescription, PackageKind, PackageSpec};
use anemll_plugin_api::{Compiler, Error, Host, Result, Runtime, codes};
use fs_err as fs;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Copies the tokenizer and its kin, and writes meta.yaml and the order of the functions. What is
/// not what its name says is left out, of which the job has told.
pub(super) fn write_small_files(
    store: &Store,
    directory: &ModelDirectory,
    with_tokenizer: bool,
    meta: &str,
    layout: &Layout,
) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let write = |relative: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = store.place(Path::new(relative))?;
        fs::write(&path, bytes).map_err(|source| {
            io(codes::OUTPUT_UNWRITABLE, "cannot write a file", &path, &source)
        })?;
        Ok(PathBuf::from(relative))
    };
    for file in directory.companions() {
        match file.read() {
            Ok(contents) => files.push(write(file.name(), &contents.bytes)?),
            Err(_) if !with_tokenizer || file.importance() == Importance::Comfort => {}
            Err(error) => return Err(from_huggingface(error)),
        }
    }
    let paths = serde_json::to_vec_pretty(&layout.paths).map_err(|source| {
        Error::new(codes::INTERNAL, format!("the order of the functions has no JSON: {source}"))
    })?;
    files.push(write(crate::engine::PATHS, &paths)?);
    files.push(write(META, meta.as_bytes())?);
    Ok(files)
}

/// Compiles the packages that ship; gives the names of what it made. A backend that cannot run here
/// is left out, unless the user asked for just this: `demanded`.
pub(super) fn compile(
    id: &str,
    compiler: &dyn Compiler,
    demanded: bool,
    layout: &Layout,
    store: &Store,
    host: &Host,
) -> Result<(Vec<PathBuf>, StepReport)> {
    let availability = compiler.check()?;
    if !availability.available {
        let here = format!("{id} cannot run here ({})", availability.reason);
        if demanded {
            return Err(Error::new(codes::COMPILER_UNAVAILABLE, here)
                .with_hint("install the Xcode Command Line Tools, or choose another --compiler"));
        }
        let message = format!(
            "left out, {here}; on a Mac with Xcode run: \
             xcrun coremlcompiler compile PACKAGE.mlpackage DIRECTORY"
        );
        return Ok((Vec::new(), StepReport { done: false, message }));
    }
    let mut made = Vec::new();
    for package in shipped(layout) {
        check_cancelled()?;
        let path = store.locate(&relative_path(package));
        let compiled = compiler.compile(&path, store.staging(), &Value::Null, host)?;
        let inside = compiled.strip_prefix(store.staging()).map_err(|_| {
            Error::new(
                codes::PLUGIN_BAD_ANSWER,
                format!("the compiler `{id}` wrote elsewhere than it was told"),
            )
            .with_at(compiled.display().to_string())
        })?;
        made.push(inside.to_owned());
    }
    let plural = if made.len() == 1 { "" } else { "s" };
    let message = format!("{} package{plural} by {id}", made.len());
    Ok((made, StepReport { done: true, message }))
}

/// The packages that an app loads: combined ones, and parts which no combined one replaces.
pub(super) fn shipped(layout: &Layout) -> impl Iterator<Item = &PackageSpec> {
    let combined: Vec<&str> = layout
        .packages
        .iter()
        .filter(|package| package.kind == PackageKind::Combined)
        .map(|package| package.weight_file.as_str())
        .collect();
    layout.packages.iter().filter(move |package| match package.kind {
        PackageKind::Combined => true,
        PackageKind::Part => !combined.contains(&package.weight_file.as_str()),
        PackageKind::Evaluate => false,
    })
}

/// Bytes of the files of a package.
pub(super) fn size(path: &Path) -> std::io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

/// Runs a few tokens: the packages load, and what they give is finite.
pub(super) fn test(
    runtime: &dyn Runtime,
    layout: &Layout,
    store: &Store,
    description: &ModelDescription,
    host: &Host,
) -> Result<StepReport> {
    let availability = runtime.check()?;
    if !availability.available {
        return Ok(StepReport {
            done: false,
            message: format!("left out: {}", availability.reason),
        });
    }
    gather(layout, store)?;
    let mut engine = Engine::open(&store.staging().join(META), runtime, host)?;
    let count = description.context.min(4);
    for position in 0..count {
        check_cancelled()?;
        let token = position % description.vocabulary_size;
        if engine.infer(token as u32, position)?.has_not_a_number() {
            return Err(Error::new(
                codes::RUN_FAILED,
                format!(
                    "the converted model gives values that are no numbers at position {position}"
                ),
            )
            .with_hint(
                "activations may pass the range of 16-bit floats; `--runtime none` leaves this \
                 test out and keeps the packages",
            ));
        }
    }
    Ok(StepReport { done: true, message: format!("{count} tokens ran, all values finite") })
}

/// Brings what an engine opens into the staging folder, where a part of it may be under its final
/// name already.
fn gather(layout: &Layout, store: &Store) -> Result<()> {
    let packages = layout.packages.iter().map(relative_path);
    for relative in packages.chain([PathBuf::from(META), PathBuf::from(crate::engine::PATHS)]) {
        let (from, to) = (store.directory().join(&relative), store.place(&relative)?);
        if to.exists() || !from.exists() {
            continue;
        }
        link_tree(&from, &to).map_err(|source| {
            io(codes::OUTPUT_UNWRITABLE, "cannot link what was made before", &to, &source)
        })?;
    }
    Ok(())
}

/// A second name for every file of a tree; a copy where the file system has none.
fn link_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            link_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}
