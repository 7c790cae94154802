//! Where plugins are looked for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use anemll_plugin_host::builtin_plugins;

use crate::entry::Entry;
use crate::folder::Folder;
use crate::found::Found;
use crate::lock::{LOCK_FILE, LockFile};
use crate::place::{Origin, PATH_VARIABLE, data_folder};

/// The folder of added plugins in the user's folder.
pub(crate) const ADDED: &str = "plugins";

/// Where to look for plugins, and what may be loaded. Neither the current directory nor the folder of
/// a model is ever among it.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Libraries that the user named.
    pub named: Vec<PathBuf>,
    /// Folders that the user named, as they stand in `ANEMLL_PLUGIN_PATH`.
    pub path: Option<OsString>,
    /// The folder of the program, without links and dots.
    pub program: Option<PathBuf>,
    /// The user's folder.
    pub data: Option<PathBuf>,
    /// Whether nothing is loaded but what the lock file lists, wherever it comes from.
    pub locked: bool,
}

impl Search {
    /// Where this program looks, in this environment.
    pub fn of_environment(named: &[PathBuf], locked: bool) -> Self {
        let program = std::env::current_exe().and_then(|path| path.canonicalize());
        Self {
            named: named.to_vec(),
            path: std::env::var_os(PATH_VARIABLE),
            program: program.ok().and_then(|path| path.parent().map(Path::to_owned)),
            data: data_folder(),
            locked,
        }
    }

    /// Looks everywhere. Files that are no plugins, or may not be loaded, are found as such.
    ///
    /// # Errors
    /// [`codes::PLUGIN_PATH_INVALID`] for folders that are not absolute; for a library that the user
    /// named, why it cannot be used.
    pub fn run(&self) -> Result<Found> {
        let lock = self.lock_file();
        let mut entries = Vec::new();
        for path in &self.named {
            let entry = self.entry(Origin::CommandLine, 0, absolute(path), &lock);
            entry.usable()?;
            entries.push(entry);
        }
        let mut folders = Vec::new();
        for (number, (origin, path)) in self.folders()?.into_iter().enumerate() {
            let (folder, libraries) = Folder::search(origin, &path);
            let place = number + 1;
            for library in libraries {
                // A library that was named is found once, as links are the same library.
                let true_path = absolute(&library);
                if entries.iter().any(|entry: &Entry| {
                    entry.origin == Origin::CommandLine && entry.path.as_ref() == Some(&true_path)
                }) {
                    continue;
                }
                entries.push(self.entry(origin, place, library, &lock).refused_if_writable());
            }
            folders.push(folder);
        }
        // inventory promises no order; lists must not change from build to build.
        let mut builtin: Vec<_> = builtin_plugins().collect();
        builtin.sort_by_key(|plugin| plugin.manifest());
        let place = folders.len() + 1;
        entries.extend(builtin.into_iter().map(|plugin| Entry::builtin(place, plugin)));
        Ok(Found::new(entries, folders, lock))
    }

    /// A library by itself, whether it may be loaded or not. None of it is run.
    pub fn look_at(&self, library: &Path) -> Entry {
        Entry::locked(Origin::CommandLine, 0, absolute(library), &self.lock_file())
    }

    /// The lock file's path, if it is known where the user's folder is.
    pub fn lock_path(&self) -> Option<PathBuf> {
        self.data.as_ref().map(|data| data.join(LOCK_FILE))
    }

    fn lock_file(&self) -> Result<LockFile> {
        self.lock_path().map_or_else(|| Ok(LockFile::default()), |path| LockFile::read(&path))
    }

    fn entry(&self, origin: Origin, place: usize, path: PathBuf, lock: &Result<LockFile>) -> Entry {
        match self.locked || origin.needs_trust() {
            true => Entry::locked(origin, place, path, lock),
            false => Entry::of_file(origin, place, path),
        }
    }

    /// The folders, in the order in which they are searched.
    fn folders(&self) -> Result<Vec<(Origin, PathBuf)>> {
        let mut folders = Vec::new();
        let listed = self.path.as_deref().unwrap_or_default();
        for folder in std::env::split_paths(listed) {
            if folder.as_os_str().is_empty() {
                continue;
            }
            if !folder.is_absolute() {
                return Err(relative(&folder));
            }
            folders.push((Origin::Path, folder));
        }
        if let Some(program) = &self.program {
            folders.push((Origin::Installed, program.join("plugins")));
            // As package managers have it: `../lib/anemll/plugins`.
            let above = program.parent().unwrap_or(program);
            folders.push((Origin::Installed, above.join("lib/anemll/plugins")));
        }
        folders.extend(self.data.iter().map(|data| (Origin::User, data.join(ADDED))));
        Ok(folders)
    }
}

/// A bare file name means a file here, never one of the system's library folders. A file that is
/// there gets its one true name, so that it is not loaded twice.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

fn relative(folder: &Path) -> Error {
    Error::new(
        codes::PLUGIN_PATH_INVALID,
        format!(
            "{PATH_VARIABLE} has the folder `{}`, which depends on where the program is started",
            folder.display()
        ),
    )
    .with_hint(format!("write folders of {PATH_VARIABLE} out, from the root on"))
}
