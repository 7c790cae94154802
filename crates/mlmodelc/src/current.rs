//! Whether a compiled model is what compiling would write.

use crate::compile::{Options, Prepared};
use crate::compiled::{CompiledModel, read};
use crate::{Analytics, files, metadata};
use anemll_mil::text::{self, WriteError};
use anemll_mlpackage::{PackageError, Result};
use std::collections::BTreeSet;
use std::io::{BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

/// Whether `compiled` holds, byte for byte, what [`crate::compile`] would write for the package
/// `source` with these options. Weight files that are one file with the package's (hard links) are
/// not read; others are compared whole.
///
/// # Errors
/// Those of the package, as for compiling it, and files that cannot be read. A compiled model that
/// is damaged or is none is not current.
pub fn is_current(source: &Path, compiled: &Path, options: &Options) -> Result<bool> {
    if !CompiledModel::is_at(compiled) {
        return Ok(false);
    }
    let prepared = Prepared::of(source)?;
    let small = [
        (files::DESCRIPTION, prepared.data.to_bytes()),
        (files::METADATA, metadata::to_text(&prepared.summary.value).into_bytes()),
        (files::ANALYTICS, prepared.analytics.to_bytes()),
    ];
    if small.iter().any(|(name, bytes)| !read(compiled, name).is_ok_and(|found| found == *bytes)) {
        return Ok(false);
    }
    let path = compiled.join(files::PROGRAM);
    let Ok(file) = anemll_files::open(&path) else { return Ok(false) };
    let mut found = Matching { file: BufReader::with_capacity(1 << 16, file), differs: false };
    match text::write(prepared.package.model(), &options.text, &mut found) {
        Ok(()) => {}
        Err(WriteError::Output(_)) if found.differs => return Ok(false),
        Err(WriteError::Output(error)) => {
            return Err(PackageError::reading(&path, "cannot read", &error));
        }
        Err(WriteError::Model(error)) => return Err(prepared.unprintable(&error.to_string())),
    }
    Ok(found.is_at_end() && same_weights(&prepared, compiled, options.copy)?)
}

/// Whether a compiled model, whoever made it, says that it was made from the model file of the
/// package `source`, and has the same weight files.
///
/// # Errors
/// As [`is_current`].
pub fn is_made_from(source: &Path, compiled: &Path) -> Result<bool> {
    let prepared = Prepared::of(source)?;
    let analytics = read(compiled, files::ANALYTICS).ok();
    let analytics = analytics.and_then(|bytes| Analytics::from_bytes(&bytes).ok());
    let hash = |analytics: &Analytics| analytics.value("modelHash").map(str::to_owned);
    if analytics.is_none_or(|found| hash(&found) != hash(&prepared.analytics)) {
        return Ok(false);
    }
    // What it says of itself is worth nothing where the rest is gone.
    let there = |name: &str| anemll_files::open(&compiled.join(name)).is_ok();
    if ![files::PROGRAM, files::DESCRIPTION].into_iter().all(there) {
        return Ok(false);
    }
    same_weights(&prepared, compiled, false)
}

/// Compares what is written with a file.
struct Matching {
    file: BufReader<std::fs::File>,
    differs: bool,
}

impl Matching {
    fn is_at_end(&mut self) -> bool {
        matches!(self.file.read(&mut [0]), Ok(0))
    }
}

impl Write for Matching {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut piece = [0; 4096];
        let piece = &mut piece[..bytes.len().min(4096)];
        match self.file.read_exact(piece) {
            Ok(()) if *piece == bytes[..piece.len()] => Ok(piece.len()),
            Ok(()) => {
                self.differs = true;
                Err(std::io::ErrorKind::InvalidData.into())
            }
            Err(error) => {
                self.differs = error.kind() == std::io::ErrorKind::UnexpectedEof;
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether the compiled model has exactly these weight files, with the same bytes; with `copy`, none
/// of them shared with the package.
fn same_weights(prepared: &Prepared, compiled: &Path, copy: bool) -> Result<bool> {
    let mut there = BTreeSet::new();
    list(&compiled.join(files::WEIGHTS), Path::new(files::WEIGHTS), &mut there)?;
    if prepared.weights.keys().any(|inner| !there.contains(inner))
        || there.len() != prepared.weights.len()
    {
        return Ok(false);
    }
    for (inner, source) in &prepared.weights {
        let target = compiled.join(inner);
        if !target.symlink_metadata().is_ok_and(|found| found.is_file()) {
            return Ok(false);
        }
        match (is_one_file(source, &target)?, copy) {
            (true, true) => return Ok(false),
            (true, false) => {}
            (false, _) if crate::compare::first_difference(source, &target)?.is_none() => {}
            (false, _) => return Ok(false),
        }
    }
    Ok(true)
}

fn list(folder: &Path, inner: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let failed = |error: std::io::Error| PackageError::reading(folder, "cannot list", &error);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let inner = inner.join(entry.file_name());
        match entry.file_type().map_err(failed)?.is_dir() {
            true => list(&entry.path(), &inner, found)?,
            false => {
                found.insert(inner);
            }
        }
    }
    Ok(())
}

/// Whether two paths name one file, so that its bytes need not be compared.
fn is_one_file(one: &Path, other: &Path) -> Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let node = |path: &Path| {
            std::fs::metadata(path)
                .map(|found| (found.dev(), found.ino()))
                .map_err(|error| PackageError::reading(path, "cannot open", &error))
        };
        Ok(node(one)? == node(other)?)
    }
    #[cfg(not(unix))]
    {
        let _ = (one, other);
        Ok(false)
    }
}
