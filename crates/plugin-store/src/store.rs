//! Changes of the user's folder: plugins added, trusted, removed.

use std::fs::File;
use std::path::{Path, PathBuf};

use anemll_codes as codes;
use anemll_plugin_api::data::is_legal_id;
use anemll_plugin_api::{Error, Result};
use anemll_plugin_host::{Identity, Snapshot, manifest_of_file};

use crate::found::Found;
use crate::lock::{LOCK_FILE, LockFile, Locked};
use crate::permissions::refuse_writable;
use crate::place::DATA_VARIABLE;
use crate::search::{ADDED, absolute};

/// Keeps two programs from changing the lock file at once.
const GUARD: &str = ".plugins.lock.guard";

/// The user's folder.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// What [`Store::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Files that were removed from the user's folder.
    pub files: Vec<PathBuf>,
    /// Files elsewhere, which are there still and are not trusted any more.
    pub left: Vec<PathBuf>,
}

impl Store {
    /// The store in a folder, which is made when it is first written to.
    ///
    /// # Errors
    /// [`codes::PLUGIN_LOCK_INVALID`] when it is not known where the user's folder is.
    pub fn new(folder: Option<PathBuf>) -> Result<Self> {
        folder.map(|folder| Self { folder }).ok_or_else(|| {
            Error::new(
                codes::PLUGIN_LOCK_INVALID,
                "it is not known where the user's folder is, so no plugin can be trusted",
            )
            .with_hint(format!("set HOME, or name a folder, from the root on, in {DATA_VARIABLE}"))
        })
    }

    /// Copies a plugin into the user's folder, in place of one of the same name, and trusts it.
    ///
    /// # Errors
    /// Those of [`Snapshot::of`], [`codes::PLUGIN_WRITABLE`], and [`codes::PLUGIN_LOCK_INVALID`].
    pub fn add(&self, file: &Path) -> Result<Locked> {
        let snapshot = Snapshot::of(file)?;
        let added = self.folder.join(ADDED);
        let name = &snapshot.identity().manifest.name;
        let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        let target = added.join(format!("{prefix}{name}{suffix}"));
        self.change(|lock| {
            let failed = |source: std::io::Error| unwritable(&added, &source);
            make_folder(&added).map_err(failed)?;
            refuse_writable(&added)?;
            let mut copy = tempfile::NamedTempFile::new_in(&added).map_err(failed)?;
            snapshot.copy_to(&mut copy).and_then(|()| copy.as_file().sync_all()).map_err(failed)?;
            copy.persist(&target).map_err(|error| failed(error.error))?;
            anemll_files::sync_folder(&added).map_err(failed)?;
            let plugin = locked(snapshot.identity().clone(), absolute(&target));
            lock.insert(plugin.clone());
            Ok(plugin)
        })
    }

    /// Trusts a plugin where it is: one that was found, by its name, or a library.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NOT_FOUND`] and [`codes::PLUGIN_AMBIGUOUS`] for names, those of
    /// [`Identity::of_file`] for libraries, [`codes::PLUGIN_WRITABLE`], and [`codes::PLUGIN_LOCK_INVALID`].
    pub fn trust(&self, named: &Path, found: &Found) -> Result<Locked> {
        let path = match plugin_name(named) {
            Some(name) => found_file(name, found)?,
            None => absolute(named),
        };
        // It would be listed, and still not be loaded.
        refuse_writable(&path)?;
        let identity = Identity::of_file(&path)?;
        self.change(|lock| {
            let plugin = locked(identity, path);
            lock.insert(plugin.clone());
            Ok(plugin)
        })
    }

    /// Stops trusting all plugins of a name, and removes those that are in the user's folder.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NOT_FOUND`] when there is none, and [`codes::PLUGIN_LOCK_INVALID`].
    pub fn remove(&self, name: &str) -> Result<Removed> {
        self.change(|lock| {
            let mut files = self.added(name);
            let mut left = Vec::new();
            for plugin in lock.remove(name) {
                let own = plugin.path.parent() == Some(&*absolute(&self.folder.join(ADDED)));
                let list = if own { &mut files } else { &mut left };
                if !list.contains(&plugin.path) {
                    list.push(plugin.path);
                }
            }
            if files.is_empty() && left.is_empty() {
                return Err(self.unknown(name, lock));
            }
            files.retain(|file| file.exists());
            left.retain(|file| file.exists());
            Ok(Removed { files, left })
        })
        .and_then(|removed| {
            // What is not listed any more is not loaded, also where it cannot be removed.
            for file in &removed.files {
                std::fs::remove_file(file).map_err(|source| unwritable(file, &source))?;
            }
            Ok(removed)
        })
    }

    /// Libraries in the user's folder that have this name.
    fn added(&self, name: &str) -> Vec<PathBuf> {
        let listing = std::fs::read_dir(absolute(&self.folder.join(ADDED)));
        let paths = listing.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<PathBuf> = paths
            .filter(|path| manifest_of_file(path).is_ok_and(|manifest| manifest.name == name))
            .collect();
        files.sort();
        files
    }

    fn unknown(&self, name: &str, lock: &LockFile) -> Error {
        let mut names: Vec<&str> =
            lock.plugins().iter().map(|plugin| plugin.name.as_str()).collect();
        names.dedup();
        let has = match names.is_empty() {
            true => "it lists none".to_owned(),
            false => format!("it lists {}", names.join(", ")),
        };
        Error::new(
            codes::PLUGIN_NOT_FOUND,
            format!("no plugin `{}` was added or trusted", name.escape_debug()),
        )
        .with_at(self.folder.join(LOCK_FILE).display().to_string())
        .with_hint(format!("{has}; plugins that came with the program are not removed"))
    }

    /// Reads the lock file, changes and writes it, while nobody else does.
    fn change<R>(&self, change: impl FnOnce(&mut LockFile) -> Result<R>) -> Result<R> {
        let failed = |source: std::io::Error| unwritable(&self.folder, &source);
        make_folder(&self.folder).map_err(failed)?;
        refuse_writable(&self.folder)?;
        let guard = anemll_files::open_own(&self.folder.join(GUARD)).map_err(failed)?;
        File::lock(&guard).map_err(failed)?;
        let path = self.folder.join(LOCK_FILE);
        let before = LockFile::read(&path)?;
        let mut lock = before.clone();
        let result = change(&mut lock)?;
        if lock != before {
            lock.write(&path)?;
        }
        Ok(result)
    }
}

/// The name of a plugin, if a word is one and no path.
fn plugin_name(word: &Path) -> Option<&str> {
    word.to_str().filter(|text| is_legal_id(text))
}

/// The file of the one plugin of this name that needs to be trusted, or else of the one there is.
fn found_file(name: &str, found: &Found) -> Result<PathBuf> {
    let named = |entry: &&crate::Entry| {
        entry.path.is_some() && entry.manifest.as_ref().is_ok_and(|it| it.name == name)
    };
    let all: Vec<_> = found.entries().iter().filter(named).collect();
    let waiting: Vec<_> = all.iter().copied().filter(|entry| entry.needs_trust()).collect();
    let candidates = if waiting.is_empty() { all } else { waiting };
    match candidates.as_slice() {
        [] => Err(Error::new(
            codes::PLUGIN_NOT_FOUND,
            format!("no library of a plugin `{name}` was found"),
        )
        .with_cause(found.searched())
        .with_hint("name the library itself, such as ./libNAME.so")),
        [one] => Ok(one.path.clone().unwrap_or_default()),
        [one, other, ..] => Err(Error::new(
            codes::PLUGIN_AMBIGUOUS,
            format!(
                "several plugins have the name `{name}`: {} and {}",
                one.location(),
                other.location()
            ),
        )
        .with_hint("name the library that you mean by its path")),
    }
}

fn locked(identity: Identity, path: PathBuf) -> Locked {
    Locked {
        name: identity.manifest.name,
        version: identity.manifest.version,
        sha256: identity.sha256,
        bytes: identity.bytes,
        path,
    }
}

/// Makes a folder and those above it; a new one is the user's alone.
fn make_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn unwritable(path: &Path, source: &std::io::Error) -> Error {
    Error::new(
        codes::PLUGIN_LOCK_INVALID,
        format!("the user's folder of plugins cannot be changed: {source}"),
    )
    .with_at(path.display().to_string())
}
