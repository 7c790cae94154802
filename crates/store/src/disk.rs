//! The changes that a store makes on disk, one call of the system each, so that tests can let any
//! of them fail; and what is made of them.

use crate::error::PathError;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Changes and listings of folders, one call of the system each. The provided methods do what the
/// system does.
pub trait Disk: std::fmt::Debug + Send + Sync {
    /// Gives a file or folder another name on the same file system.
    ///
    /// # Errors
    /// Those of the system, here and below.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Makes one folder.
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    /// Removes a file or a symbolic link.
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    /// The names in a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// A second name for a file.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    /// Writes a new file and waits until it is on disk.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Waits until a file, or the names in a folder, are on disk, where the system can do that.
    fn sync(&self, path: &Path) -> io::Result<()> {
        if !cfg!(unix) {
            return Ok(());
        }
        match File::open(path).and_then(|file| file.sync_all()) {
            // File systems that know no such thing.
            Err(error)
                if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) =>
            {
                Ok(())
            }
            done => done,
        }
    }
}

/// The disk as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Disk for System {}

pub(crate) type PathResult<T> = std::result::Result<T, PathError>;

fn at(path: &Path) -> impl FnOnce(io::Error) -> PathError {
    let path = path.to_owned();
    move |source| PathError { path, source }
}

/// Whether something stands at a path, be it a link that leads nowhere.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether there is a folder at a path, and no link to one.
pub(crate) fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Removes a file or a folder with all that is in it; links are removed, not followed. What is not
/// there is removed already. Goes on after an error, and gives the first.
pub(crate) fn remove_tree(disk: &dyn Disk, path: &Path) -> PathResult<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    };
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) => return gone(Err(error)).map_err(at(path)),
    };
    if !metadata.is_dir() {
        return gone(disk.remove_file(path)).map_err(at(path));
    }
    let mut first = Ok(());
    for name in disk.list(path).map_err(at(path))? {
        first = first.and(remove_tree(disk, &path.join(name)));
    }
    first?;
    gone(disk.remove_folder(path)).map_err(at(path))
}

/// Makes the folders of `relative` below `root`, which is one, and gives the path of the last.
/// Where a link or a file stands in the way, it is an error.
pub(crate) fn make_folders(disk: &dyn Disk, root: &Path, relative: &Path) -> PathResult<PathBuf> {
    let mut path = root.to_owned();
    for part in relative {
        path.push(part);
        match disk.create_folder(&path) {
            Err(_) if is_folder(&path) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let source = io::Error::new(ErrorKind::NotADirectory, "it is a link or a file");
                return Err(PathError { path, source });
            }
            Err(source) => return Err(PathError { path, source }),
            Ok(()) => {}
        }
    }
    Ok(path)
}

/// Writes a file so that it is there completely or not at all, and on disk.
pub(crate) fn write_whole(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> PathResult<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(NEW);
    let new = folder.join(name);
    // One run writes to a directory at a time: what stands there is left of a killed one.
    remove_tree(disk, &new)?;
    let written = disk
        .write_new(&new, bytes)
        .map_err(at(&new))
        .and_then(|()| disk.rename(&new, path).map_err(at(path)));
    if written.is_err() {
        let _ = disk.remove_file(&new);
    }
    written?;
    disk.sync(folder).map_err(at(folder))
}

/// Ending of a file that is being written.
pub(crate) const NEW: &str = ".new";

/// A second name for every file of a tree, or a copy where the file system has none. Links and what
/// else is no file or folder are left out.
pub(crate) fn link_tree(disk: &dyn Disk, from: &Path, to: &Path) -> PathResult<()> {
    let metadata = from.symlink_metadata().map_err(at(from))?;
    if metadata.is_dir() {
        disk.create_folder(to).map_err(at(to))?;
        for name in disk.list(from).map_err(at(from))? {
            link_tree(disk, &from.join(&name), &to.join(&name))?;
        }
    } else if metadata.is_file() {
        disk.link(from, to).or_else(|_| fs::copy(from, to).map(|_| ())).map_err(at(to))?;
    }
    Ok(())
}

/// Brings every file of a tree to disk, and the names in its folders.
pub(crate) fn sync_tree(disk: &dyn Disk, path: &Path) -> PathResult<()> {
    if is_folder(path) {
        for name in disk.list(path).map_err(at(path))? {
            sync_tree(disk, &path.join(name))?;
        }
    }
    disk.sync(path).map_err(at(path))
}
