//! Writing into the cache. No symbolic link is followed on the way; only the cache itself may be
//! one. Contents get their name when they are whole and checked.

use super::digest::Sum;
use crate::cache::ABSENT;
use crate::name::is_commit;
use crate::{ErrorKind, HubError, Name, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Component, Path, PathBuf};

/// The folders of one model in a cache.
pub(super) struct Shelf {
    root: PathBuf,
    model: PathBuf,
    locks: PathBuf,
}

/// Contents that are on their way, at their end.
pub(super) struct Part {
    file: File,
    path: PathBuf,
}

impl Shelf {
    pub(super) fn new(cache: &Path, name: &Name) -> Self {
        let folder = name.folder();
        Self {
            root: cache.to_owned(),
            model: cache.join(&folder),
            locks: cache.join(".locks").join(folder),
        }
    }

    /// Makes the folders.
    pub(super) fn prepare(&self) -> Result<()> {
        fs::create_dir_all(&self.root).map_err(|source| unwritable(&self.root, &source))?;
        for path in [
            &self.model,
            &self.blobs(),
            &self.model.join("refs"),
            &self.model.join("snapshots"),
            &self.root.join(".locks"),
            &self.locks,
        ] {
            folder(path)?;
        }
        Ok(())
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.model.join("blobs")
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.model.join("snapshots").join(commit)
    }

    /// Where the file of contents on their way is.
    pub(super) fn part_path(&self, sum: &Sum) -> PathBuf {
        self.blobs().join(format!("{}.incomplete", sum.digits()))
    }

    /// Bytes that are there of contents on their way.
    pub(super) fn part_bytes(&self, sum: &Sum) -> u64 {
        self.part_path(sum).symlink_metadata().map_or(0, |part| part.len())
    }

    /// The file that whoever brings these contents locks.
    pub(super) fn lock_file(&self, sum: &Sum) -> Result<(PathBuf, File)> {
        let path = self.locks.join(format!("{}.lock", sum.digits()));
        let file = open(&path, false).map_err(|source| unwritable(&path, &source))?;
        Ok((path, file))
    }

    /// The contents on their way, to be gone on with.
    pub(super) fn part(&self, sum: &Sum) -> Result<Part> {
        let path = self.part_path(sum);
        let mut file = open(&path, false).map_err(|source| unwritable(&path, &source))?;
        if has_other_names(&file) {
            // Writing would change what another name stands for, too.
            fs::remove_file(&path).map_err(|source| unwritable(&path, &source))?;
            file = open(&path, true).map_err(|source| unwritable(&path, &source))?;
        }
        Ok(Part { file, path })
    }

    /// Whether contents of this hash and size are there.
    fn has_blob(&self, sum: &Sum, size: u64) -> bool {
        let blob = self.blobs().join(sum.digits());
        blob.symlink_metadata().is_ok_and(|file| file.is_file() && file.len() == size)
    }

    /// Whether a snapshot has a file with these contents. Contents that are there get the name.
    pub(super) fn has(&self, commit: &str, name: &str, sum: &Sum, size: u64) -> Result<bool> {
        let pointer = self.snapshot(commit).join(name);
        let there = self.has_blob(sum, size);
        match pointer.symlink_metadata() {
            // Where links are impossible, the file itself lies there.
            Ok(file) if file.is_file() && file.len() == size => return Ok(true),
            Ok(file)
                if file.is_symlink()
                    && there
                    && fs::read_link(&pointer)
                        .is_ok_and(|target| target == target_of(name, sum)) =>
            {
                return Ok(true);
            }
            _ => {}
        }
        if there {
            self.point(commit, name, sum)?;
        }
        Ok(there)
    }

    /// Gives checked contents their name, and a file of a snapshot to them.
    pub(super) fn finish(&self, part: Part, commit: &str, name: &str, sum: &Sum) -> Result<()> {
        let blob = self.blobs().join(sum.digits());
        let renamed = part.file.sync_data().and_then(|()| {
            drop(part.file);
            fs::rename(&part.path, &blob)
        });
        renamed.map_err(|source| unwritable(&blob, &source))?;
        self.point(commit, name, sum)
    }

    /// Makes a file of a snapshot stand for contents: by a relative link, so that the cache can be
    /// moved; where that is impossible, by a second name or a copy.
    fn point(&self, commit: &str, name: &str, sum: &Sum) -> Result<()> {
        folder(&self.model.join("snapshots"))?;
        let snapshot = self.snapshot(commit);
        folder(&snapshot)?;
        let (place, file) = place(snapshot, name)?;
        let pointer = place.join(file);
        let blob = self.blobs().join(sum.digits());
        let fresh = place.join(format!(".{file}.{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        link(&target_of(name, sum), &fresh)
            .or_else(|_| fs::hard_link(&blob, &fresh))
            .or_else(|_| fs::copy(&blob, &fresh).map(drop))
            .and_then(|()| fs::rename(&fresh, &pointer))
            .map_err(|source| {
                let _ = fs::remove_file(&fresh);
                unwritable(&pointer, &source)
            })
    }

    /// Notes that a commit has no file of this name, as Hugging Face's tools do.
    pub(super) fn note_absence(&self, commit: &str, name: &str) -> Result<()> {
        let absent = self.model.join(ABSENT);
        folder(&absent)?;
        let absent = absent.join(commit);
        folder(&absent)?;
        let (place, file) = place(absent, name)?;
        let path = place.join(file);
        open(&path, false).map(drop).map_err(|source| unwritable(&path, &source))
    }

    /// Notes which commit a branch or tag is; a commit needs no note.
    pub(super) fn set_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let mut path = self.model.join("refs");
        let parts: Vec<&str> = revision.split('/').collect();
        for (number, part) in parts.iter().enumerate() {
            let plain =
                Path::new(part).components().all(|part| matches!(part, Component::Normal(_)));
            if part.is_empty() || !plain {
                return Err(HubError::new(ErrorKind::Cache, "a revision cannot be a file name"));
            }
            path.push(part);
            if number + 1 < parts.len() {
                folder(&path)?;
            }
        }
        let fresh = path.with_file_name(format!(".ref.{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        open(&fresh, true)
            .and_then(|mut file| file.write_all(commit.as_bytes()))
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|source| {
                let _ = fs::remove_file(&fresh);
                unwritable(&path, &source)
            })
    }
}

impl Part {
    /// Reads what is there, piece by piece, and stands at its end afterwards.
    pub(super) fn read_all(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let failed = |source: io::Error| unwritable(&self.path, &source);
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match (&self.file).read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(count) => {
                    total += count as u64;
                    take(&buffer[..count])?;
                }
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(failed(source)),
            }
        }
    }

    /// Writes at the end.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|source| unwritable(&self.path, &source))
    }

    /// Throws away what is there.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)).map(drop))
            .map_err(|source| unwritable(&self.path, &source))
    }
}

/// Where a file of a snapshot leads.
fn target_of(name: &str, sum: &Sum) -> PathBuf {
    let up = "../".repeat(2 + name.matches('/').count());
    Path::new(&up).join("blobs").join(sum.digits())
}

/// The folder that a file with a name of at most one folder belongs into, made where it is missing, and
/// the file's own name.
fn place(root: PathBuf, name: &str) -> Result<(PathBuf, &str)> {
    let Some((inner, file)) = name.split_once('/') else { return Ok((root, name)) };
    let place = root.join(inner);
    folder(&place)?;
    Ok((place, file))
}

#[cfg(unix)]
fn link(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn link(target: &Path, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, path)
}

/// A folder, made where it is missing. A link to one is none.
fn folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => return Ok(()),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(unwritable(path, &source)),
    }
    let kind = path.symlink_metadata().map_err(|source| unwritable(path, &source))?;
    if kind.is_dir() {
        return Ok(());
    }
    let what = if kind.is_symlink() { "a symbolic link" } else { "not a folder" };
    Err(unwritable(path, &io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}"))))
}

/// A regular file for reading and writing, never through a link, and without waiting.
fn open(path: &Path, new: bool) -> io::Result<File> {
    let irregular = |what: &str| {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {what}, not a regular file"),
        ))
    };
    match path.symlink_metadata() {
        Ok(file) if file.is_symlink() => return irregular("a symbolic link"),
        Ok(file) if !file.is_file() => return irregular("something else"),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).create_new(new);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt as _;
        const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
        options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { irregular("something else") }
}

#[cfg(unix)]
fn has_other_names(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata().is_ok_and(|file| file.nlink() > 1)
}

#[cfg(not(unix))]
fn has_other_names(_: &File) -> bool {
    false
}

/// An error about the cache.
pub(super) fn unwritable(path: &Path, source: &io::Error) -> HubError {
    let hint = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or set HF_HUB_CACHE to a folder on another disk"
        }
        io::ErrorKind::InvalidInput => {
            "remove it, or set HF_HUB_CACHE to another folder: links inside the cache are not followed"
        }
        _ => "check the folder and its permissions, or set HF_HUB_CACHE to another one",
    };
    HubError::new(ErrorKind::Cache, format!("the cache cannot be written: {source}"))
        .with_at(path.display().to_string())
        .with_hint(hint)
}
