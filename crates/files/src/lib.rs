//! Files that others made, opened and read with care.
//!
//! Whoever names a file may name a pipe that never speaks, a device that never ends, or a sparse
//! file of terabytes. Here only regular files are opened, opening never waits, and nothing is read
//! whole beyond the [`Limit`] of its kind. Reading by position ([`read_exact_at`]) needs no map, so
//! that a file which another process cuts short gives an error and no signal. What is said of files in
//! many places is here, too ([`size`], [`is_lfs_pointer`]), and the one way in which folders of ours
//! get their names: whole, or not at all ([`Staging`]).

mod json;
mod pointer;
mod size;
mod staging;

pub use json::plain_json;
pub use pointer::is_lfs_pointer;
pub use size::{scaled, size};
pub use staging::{Staging, StagingError, sync_folder};

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// How large a file of some kind may be to be read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What the file is, with its article, as it stands in an error: "a tokenizer.json".
    pub what: &'static str,
    /// Largest size in bytes.
    pub bytes: u64,
}

const MB: u64 = 1_000_000;

impl Limit {
    /// Configuration of a model, and its kin: config.json, generation_config.json.
    pub const CONFIG: Self = Self::new("a configuration", 16 * MB);
    /// Index of the shards of a model.
    pub const INDEX: Self = Self::new("an index of weight files", 64 * MB);
    /// The tokenizer and the vocabularies that belong to it.
    pub const TOKENIZER: Self = Self::new("a tokenizer file", 256 * MB);
    /// Chat template.
    pub const TEMPLATE: Self = Self::new("a chat template", MB);
    /// Description of packages and compiled models: Manifest.json, metadata.json, coremldata.bin.
    pub const METADATA: Self = Self::new("a description", 64 * MB);
    /// Model of a package without its weights; those of large language models have some MB.
    pub const MODEL: Self = Self::new("a model without its weights", 512 * MB);
    /// MIL text of a compiled model.
    pub const MIL_TEXT: Self = Self::new("a MIL text", 512 * MB);
    /// What this program wrote about its own work: records of steps, reports, meta.yaml.
    pub const RECORD: Self = Self::new("a record", 64 * MB);

    /// A limit.
    pub const fn new(what: &'static str, bytes: u64) -> Self {
        Self { what, bytes }
    }

    fn exceeded(self) -> io::Error {
        io::Error::new(ErrorKind::FileTooLarge, TooLarge(self))
    }
}

/// The cause within the [`io::Error`] of a file that is larger than its [`Limit`].
#[derive(Debug)]
struct TooLarge(Limit);

impl fmt::Display for TooLarge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limit { what, bytes } = self.0;
        if bytes >= MB {
            write!(formatter, "the file is too large: {what} may have {} MB", bytes / MB)
        } else {
            write!(formatter, "the file is too large: {what} may have {bytes} bytes")
        }
    }
}

impl std::error::Error for TooLarge {}

/// Whether symbolic links are followed in the last part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    Follow,
    Refuse,
}

/// Opens a regular file for reading, through symbolic links, without ever waiting for a writer.
///
/// # Errors
/// Those of the system, and [`ErrorKind::InvalidInput`] for what is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    Ok(open_with(path, Links::Follow)?.0)
}

/// As [`open`], but a symbolic link in the last part of the path is refused.
///
/// # Errors
/// As [`open`].
pub fn open_no_follow(path: &Path) -> io::Result<File> {
    Ok(open_with(path, Links::Refuse)?.0)
}

/// Opens a regular file of ours for writing, and makes it where there is none. Nothing that is in
/// it is lost, no symbolic link is followed in the last part of the path, and opening never waits.
///
/// # Errors
/// As [`open`].
pub fn open_own(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    Ok(open_as(path, options, Links::Refuse)?.0)
}

/// Reads a regular file whole.
///
/// # Errors
/// As [`open`], and [`ErrorKind::FileTooLarge`] for more bytes than the limit, whatever size the
/// system tells beforehand.
pub fn read(path: &Path, limit: Limit) -> io::Result<Vec<u8>> {
    let (file, metadata) = open_with(path, Links::Follow)?;
    read_open(&file, &metadata, limit)
}

/// As [`read`], but a symbolic link in the last part of the path is refused.
///
/// # Errors
/// As [`read`].
pub fn read_no_follow(path: &Path, limit: Limit) -> io::Result<Vec<u8>> {
    let (file, metadata) = open_with(path, Links::Refuse)?;
    read_open(&file, &metadata, limit)
}

/// Reads a regular file of text whole.
///
/// # Errors
/// As [`read`], and [`ErrorKind::InvalidData`] for what is not valid UTF-8.
pub fn read_text(path: &Path, limit: Limit) -> io::Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

/// Fills `buffer` from `offset` on, whatever the file's own position is.
///
/// # Errors
/// Those of the system; [`ErrorKind::UnexpectedEof`] when the file ends before the buffer is full.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
    }
    #[cfg(windows)]
    {
        let (mut buffer, mut offset) = (buffer, offset);
        while !buffer.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn open_with(path: &Path, links: Links) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    options.read(true);
    open_as(path, options, links)
}

fn open_as(path: &Path, mut options: OpenOptions, links: Links) -> io::Result<(File, Metadata)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let no_follow = if links == Links::Refuse { libc::O_NOFOLLOW } else { 0 };
        // Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | no_follow);
    }
    if links == Links::Refuse && path.is_symlink() {
        return Err(no_regular_file("a symbolic link"));
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(no_regular_file(kind(&metadata)));
    }
    Ok((file, metadata))
}

fn read_open(file: &File, metadata: &Metadata, limit: Limit) -> io::Result<Vec<u8>> {
    if metadata.len() > limit.bytes {
        return Err(limit.exceeded());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // One byte more than allowed, so that a file that grew is noticed.
    file.take(limit.bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit.bytes {
        return Err(limit.exceeded());
    }
    Ok(bytes)
}

fn no_regular_file(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("it is {what}, not a regular file"))
}

fn kind(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() {
        return "a directory";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    "something else"
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limit = Limit::new("a note", 8);

    #[test]
    fn reads_up_to_the_limit_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        std::fs::write(&path, "12345678").unwrap();
        assert_eq!(read_text(&path, SMALL).unwrap(), "12345678");
        std::fs::write(&path, "123456789").unwrap();
        let error = read(&path, SMALL).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "the file is too large: a note may have 8 bytes");
    }

    #[test]
    fn a_sparse_file_is_refused_by_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read(&path, Limit::CONFIG).unwrap_err();
        assert_eq!(error.to_string(), "the file is too large: a configuration may have 16 MB");
    }

    #[test]
    fn positions_are_read_and_a_short_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, "abcdef").unwrap();
        let file = open(&path).unwrap();
        let mut buffer = [0; 3];
        read_exact_at(&file, &mut buffer, 2).unwrap();
        assert_eq!(&buffer, b"cde");
        let error = read_exact_at(&file, &mut buffer, 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_devices_directories_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let message = |path: &Path| read(path, SMALL).unwrap_err().to_string();
        assert_eq!(message(&pipe), "it is a pipe, not a regular file");
        assert_eq!(message(Path::new("/dev/zero")), "it is a device, not a regular file");
        assert_eq!(message(folder.path()), "it is a directory, not a regular file");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_unless_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "text").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(read(&link, SMALL).unwrap(), b"text");
        assert_eq!(read_no_follow(&target, SMALL).unwrap(), b"text");
        let error = read_no_follow(&link, SMALL).unwrap_err();
        assert_eq!(error.to_string(), "it is a symbolic link, not a regular file");
        assert!(open_no_follow(&link).is_err());
        assert!(open_own(&link).is_err());
    }

    #[test]
    fn own_files_are_made_and_keep_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        open_own(&path).unwrap();
        std::fs::write(&path, "text").unwrap();
        open_own(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
        assert!(open_own(folder.path()).is_err());
    }
}
