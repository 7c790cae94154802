//! Bringing files into an export: by hard link where the file system can, else by copy. Names of one
//! file stay names of one file.

use crate::error::{ExportError, Result};
use crate::sums::{FileId, file_id};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Places files, and counts.
#[derive(Debug)]
pub(crate) struct Placer {
    /// Whether to link to the conversion's own files.
    link: bool,
    /// The first copy of each file.
    copies: HashMap<FileId, PathBuf>,
    /// Bytes that are shared with the conversion by hard links, each file counted once.
    pub(crate) linked_bytes: u64,
    /// Bytes that were written.
    pub(crate) copied_bytes: u64,
    linked: HashMap<FileId, ()>,
}

impl Placer {
    pub(crate) fn new(link: bool) -> Self {
        Self {
            link,
            copies: HashMap::new(),
            linked_bytes: 0,
            copied_bytes: 0,
            linked: HashMap::new(),
        }
    }

    /// Gives the file `source` the new name `target`, whose folder is there.
    pub(crate) fn place(&mut self, source: &Path, target: &Path) -> Result<()> {
        let mut input = anemll_files::open_no_follow(source)
            .map_err(|error| ExportError::read(source, &error))?;
        let metadata = input.metadata().map_err(|error| ExportError::read(source, &error))?;
        let id = file_id(&metadata);
        if self.link && fs::hard_link(source, target).is_ok() {
            if id.is_none_or(|id| self.linked.insert(id, ()).is_none()) {
                self.linked_bytes += metadata.len();
            }
            return Ok(());
        }
        if let Some(first) = id.and_then(|id| self.copies.get(&id))
            && fs::hard_link(first, target).is_ok()
        {
            return Ok(());
        }
        let failed = |error: std::io::Error| ExportError::write(target, &error);
        let mut output = File::create_new(target).map_err(failed)?;
        // Both ends are files, so that the system can share or copy the blocks by itself.
        let bytes = std::io::copy(&mut input, &mut output).map_err(failed)?;
        output.sync_all().map_err(failed)?;
        self.copied_bytes += bytes;
        if let Some(id) = id {
            self.copies.insert(id, target.to_owned());
        }
        Ok(())
    }
}
