//! A folder as a zip: the same bytes each time. Entries are sorted, dates are those of nothing
//! (1980-01-01), and modes are 0644 and 0755, whatever the files have.

use crate::Progress;
use crate::error::{ExportError, Result};
use crate::release::Content;
use crate::sums::sum_of;
use crate::tree;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// How the files of a zip are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// By deflate: smaller, and read by every tool.
    #[default]
    Deflated,
    /// As they are: fast; palettized weights hardly shrink.
    Stored,
}

/// Level of deflate; more takes much longer and gives little.
const LEVEL: i64 = 6;

/// Writes the folder `source` as the folder `name` into the new zip `target`; gives what is in it.
pub(crate) fn write(
    source: &Path,
    name: &str,
    target: &Path,
    compression: Compression,
    progress: Progress<'_>,
) -> Result<Vec<Content>> {
    let failed = |error: std::io::Error| ExportError::write(target, &error);
    let refused = |error: zip::result::ZipError| ExportError::write(target, &error.into());
    let file = File::create_new(target).map_err(failed)?;
    let mut archive = ZipWriter::new(BufWriter::with_capacity(1 << 20, file));
    let options = match compression {
        Compression::Deflated => SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(LEVEL)),
        Compression::Stored => {
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
        }
    };
    let files = tree::files(source)?;
    let mut entries: BTreeSet<String> = BTreeSet::from([format!("{name}/")]);
    for (path, _) in &files {
        let path = format!("{name}/{path}");
        entries.extend(path.match_indices('/').map(|(at, _)| path[..=at].to_owned()));
    }
    for folder in entries {
        archive.add_directory(folder, options.unix_permissions(0o755)).map_err(refused)?;
    }
    let mut contents = Vec::with_capacity(files.len());
    for (path, bytes) in files {
        let entry = format!("{name}/{path}");
        // Also deflated bytes may be more than a zip of 32 bits can count.
        let large = bytes >= u64::from(u32::MAX) - (1 << 24);
        let options = options.unix_permissions(0o644).large_file(large);
        archive.start_file(&*entry, options).map_err(refused)?;
        let inner = source.join(&path);
        let input = anemll_files::open_no_follow(&inner)
            .map_err(|error| ExportError::read(&inner, &error))?;
        let mut unwritable = None;
        let sum = sum_of(&input, u64::MAX, progress, &mut |piece| {
            archive.write_all(piece).inspect_err(|error| {
                unwritable = Some(ExportError::write(target, error));
            })
        });
        let sum = sum.map_err(|stop| unwritable.take().unwrap_or_else(|| stop.at(&inner)))?;
        if let Some(sum) = sum {
            contents.push(Content { path: entry, bytes: sum.bytes, sha256: sum.sha256() });
        }
    }
    let file = archive.finish().map_err(refused)?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(contents)
}
