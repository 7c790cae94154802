//! The last steps of a conversion: small files, final names, compiling, a test run.

use super::REPORT;
use super::output::Output;
use super::packages::relative_path;
use super::report::{Report, StepReport};
use crate::cli::ConvertArguments;
use crate::engine::Engine;
use crate::error::io;
use crate::services::check_cancelled;
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::data::{Layout, ModelDescription, PackageKind, PackageSpec};
use anemll_plugin_api::{Error, Host, Result, codes};
use fs_err as fs;
use serde_json::Value;
use std::path::PathBuf;

pub(super) fn write_small_files(
    output: &Output,
    directory: &ModelDirectory,
    meta: &str,
    layout: &Layout,
) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let write = |relative: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = output.staging().join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| {
                io(codes::OUTPUT_UNWRITABLE, "cannot make a directory", parent, &source)
            })?;
        }
        fs::write(&path, bytes).map_err(|source| {
            io(codes::OUTPUT_UNWRITABLE, "cannot write a file", &path, &source)
        })?;
        Ok(PathBuf::from(relative))
    };
    for source in directory.tokenizer_files() {
        let bytes = fs::read(&source).map_err(|error| {
            io(codes::MODEL_DIRECTORY_UNREADABLE, "cannot read a tokenizer file", &source, &error)
        })?;
        if let Some(name) = source.file_name().and_then(|name| name.to_str()) {
            files.push(write(name, &bytes)?);
        }
    }
    let paths = serde_json::to_vec_pretty(&layout.paths).map_err(|source| {
        Error::new(codes::INTERNAL, format!("the order of the functions has no JSON: {source}"))
    })?;
    files.push(write(crate::engine::PATHS, &paths)?);
    files.push(write("meta.yaml", meta.as_bytes())?);
    Ok(files)
}

pub(super) fn publish(output: &Output, layout: &Layout, files: &[PathBuf]) -> Result<()> {
    for package in &layout.packages {
        output.publish(&relative_path(package))?;
    }
    for file in files {
        output.publish(file)?;
    }
    Ok(())
}

pub(super) fn write_report(output: &Output, report: &Report) -> Result<PathBuf> {
    let path = output.staging().join(REPORT);
    let text = serde_json::to_string_pretty(report)
        .map_err(|source| Error::new(codes::OUTPUT_UNWRITABLE, format!("the report: {source}")))?;
    fs::write(&path, text).map_err(|source| {
        io(codes::OUTPUT_UNWRITABLE, "cannot write the report", &path, &source)
    })?;
    Ok(PathBuf::from(REPORT))
}

/// Compiles the packages that ship, where the backend can; gives the names of what it made.
pub(super) fn compile(
    compiler: &dyn anemll_plugin_api::Compiler,
    arguments: &ConvertArguments,
    layout: &Layout,
    output: &Output,
    host: &Host,
) -> Result<(Vec<PathBuf>, StepReport)> {
    let availability = compiler.check()?;
    if !availability.available {
        let message = format!(
            "left out, {} cannot run here ({}); on a Mac with Xcode run: \
             xcrun coremlcompiler compile PACKAGE.mlpackage {}",
            arguments.compiler,
            availability.reason,
            output.directory().display()
        );
        return Ok((Vec::new(), StepReport { done: false, message }));
    }
    let mut made = Vec::new();
    for package in shipped(layout) {
        check_cancelled()?;
        let path = output.staging().join(relative_path(package));
        let compiled = compiler.compile(&path, output.staging(), &Value::Null, host)?;
        let inside = compiled.strip_prefix(output.staging()).map_err(|_| {
            Error::new(
                codes::PLUGIN_BAD_ANSWER,
                format!("the compiler `{}` wrote elsewhere than it was told", arguments.compiler),
            )
            .with_at(compiled.display().to_string())
        })?;
        made.push(inside.to_owned());
    }
    let message = format!("{} packages", made.len());
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

/// Runs a few tokens: the packages load, and what they give is finite.
pub(super) fn test(
    runtime: &dyn anemll_plugin_api::Runtime,
    output: &Output,
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
    let mut engine = Engine::open(&output.staging().join("meta.yaml"), runtime, host)?;
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
