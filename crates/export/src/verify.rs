//! Checking an export against its release.json.

use crate::Progress;
use crate::error::{ExportError, Result};
use crate::release::{self, Content, FileEntry, Release, is_inside};
use crate::sums::{Stop, Sums, sum_of};
use crate::tree::{self, Node};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use zip::ZipArchive;

/// Names that a hub, git, or a desktop puts beside what was uploaded.
const LEFT_OUT: [&str; 4] = [".cache", ".git", ".gitattributes", ".gitignore"];
/// What desktops put into every folder.
const DESKTOP: &str = ".DS_Store";

/// What came of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As release.json says.
    Ok,
    /// Another content of the same size.
    Changed,
    /// Another size.
    Size,
    /// It is not there.
    Missing,
    /// It is there, but not listed.
    Extra,
    /// A symbolic link, or no file at all.
    Link,
    /// A zip that cannot be read, or that holds something else.
    Zip,
}

impl Status {
    /// The status in one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Changed => "changed",
            Self::Size => "size",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Link => "link",
            Self::Zip => "zip",
        }
    }
}

/// A file and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Path from the folder of release.json.
    pub path: String,
    /// What came of it.
    pub status: Status,
    /// Bytes that it should have; of an extra file, that it has.
    pub bytes: u64,
    /// What is wrong, in one line; empty for what is right.
    pub detail: String,
}

/// What came of an export.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// What its release.json says.
    #[serde(skip)]
    pub release: Release,
    /// Every file, sorted by path.
    pub files: Vec<Finding>,
}

impl Verification {
    /// Whether everything is as it should be.
    pub fn is_whole(&self) -> bool {
        self.wrong() == 0
    }

    /// Files that are not as they should be.
    pub fn wrong(&self) -> usize {
        self.files.iter().filter(|file| file.status != Status::Ok).count()
    }
}

/// Checks that a folder holds what its `release.json` lists, all of it, and nothing else: sizes,
/// sums, and of zips every file in them, without unpacking to disk. A folder in it that is not listed
/// but has a `release.json` of its own is checked by that.
///
/// # Errors
/// release.json cannot be used, or the folder cannot be read. A file that is not as it should be is
/// a finding.
pub fn verify(folder: &Path, progress: Progress<'_>) -> Result<Verification> {
    let mut sums = Sums::default();
    let (release, mut files) = check(folder, &mut sums, progress)?;
    files.sort_by(|first, second| first.path.cmp(&second.path));
    Ok(Verification { release, files })
}

fn check(
    folder: &Path,
    sums: &mut Sums,
    progress: Progress<'_>,
) -> Result<(Release, Vec<Finding>)> {
    let release = Release::read(folder)?;
    let skipped = |path: &str| {
        LEFT_OUT.contains(&path) || path.rsplit('/').next().is_some_and(|name| name == DESKTOP)
    };
    let found: BTreeMap<String, Node> =
        tree::list(folder, &skipped)?.into_iter().map(|entry| (entry.path, entry.node)).collect();
    let mut findings = Vec::new();
    for entry in &release.files {
        findings.push(check_file(folder, entry, found.get(&entry.path), sums, progress)?);
    }
    let listed: BTreeSet<&str> = release.files.iter().map(|file| file.path.as_str()).collect();
    let extra: Vec<(&String, &Node)> = found
        .iter()
        .filter(|(path, _)| !listed.contains(path.as_str()) && *path != release::NAME)
        .collect();
    // Exports that were uploaded below another one.
    let own: BTreeSet<&str> = extra
        .iter()
        .filter_map(|(path, _)| path.strip_suffix(release::NAME)?.strip_suffix('/'))
        .filter(|name| !name.contains('/'))
        .collect();
    for name in &own {
        let (_, inner) = check(&folder.join(name), sums, progress)?;
        findings.extend(
            inner
                .into_iter()
                .map(|finding| Finding { path: format!("{name}/{}", finding.path), ..finding }),
        );
    }
    for (path, node) in extra {
        if path.split_once('/').is_some_and(|(name, _)| own.contains(name)) {
            continue;
        }
        findings.push(match node {
            Node::File { bytes } => {
                finding(path, Status::Extra, *bytes, "release.json does not list it")
            }
            Node::Link => finding(path, Status::Link, 0, "a symbolic link that is not listed"),
            Node::Other => {
                finding(path, Status::Extra, 0, "neither file nor folder, and not listed")
            }
        });
    }
    Ok((release, findings))
}

fn finding(path: &str, status: Status, bytes: u64, detail: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), status, bytes, detail: detail.into() }
}

fn check_file(
    folder: &Path,
    entry: &FileEntry,
    found: Option<&Node>,
    sums: &mut Sums,
    progress: Progress<'_>,
) -> Result<Finding> {
    let of = |status, detail: String| Ok(finding(&entry.path, status, entry.bytes, detail));
    let path = folder.join(&entry.path);
    let bytes = match found {
        None => return of(Status::Missing, "it is not there".to_owned()),
        Some(Node::Link) => return of(Status::Link, "a symbolic link, not the file".to_owned()),
        Some(Node::Other) => return of(Status::Link, "not a file".to_owned()),
        Some(Node::File { bytes }) => *bytes,
    };
    if bytes != entry.bytes {
        let kind = if bytes < entry.bytes { "cut short" } else { "too long" };
        return of(Status::Size, format!("{kind}: {bytes} bytes, not {}", entry.bytes));
    }
    let sum = match sums.of(&path, progress) {
        Ok(sum) => sum,
        Err(error) if error.kind() == crate::ErrorKind::Cancelled => return Err(error),
        Err(error) => return of(Status::Changed, error.reason().to_owned()),
    };
    if sum.sha256() != entry.sha256.to_ascii_lowercase() {
        return of(Status::Changed, "its SHA-256 is another".to_owned());
    }
    if let Some(contents) = &entry.contents
        && let Some(problem) = check_zip(&path, contents, progress)?
    {
        return of(Status::Zip, problem);
    }
    of(Status::Ok, String::new())
}

/// What is wrong with a zip, if anything.
fn check_zip(path: &Path, contents: &[Content], progress: Progress<'_>) -> Result<Option<String>> {
    let file =
        anemll_files::open_no_follow(path).map_err(|error| ExportError::read(path, &error))?;
    let mut archive = match ZipArchive::new(std::io::BufReader::with_capacity(1 << 20, file)) {
        Ok(archive) => archive,
        Err(error) => return Ok(Some(format!("no zip that can be read: {error}"))),
    };
    let mut expected: BTreeMap<&str, &Content> =
        contents.iter().map(|content| (content.path.as_str(), content)).collect();
    for index in 0..archive.len() {
        let mut inner = match archive.by_index(index) {
            Ok(inner) => inner,
            Err(error) => return Ok(Some(format!("file {index} cannot be read: {error}"))),
        };
        let name = String::from_utf8_lossy(inner.name_raw()).into_owned();
        if !is_inside(name.trim_end_matches('/')) {
            return Ok(Some(format!("the name {name:?} leaves the folder")));
        }
        if inner.is_symlink() {
            return Ok(Some(format!("{name:?} is a symbolic link")));
        }
        if inner.is_dir() {
            continue;
        }
        let Some(content) = expected.remove(name.as_str()) else {
            return Ok(Some(format!("it also holds {name:?}, or twice")));
        };
        match sum_of(&mut inner, content.bytes, progress, &mut |_| Ok(())) {
            Ok(Some(sum)) if sum.bytes == content.bytes => {
                if sum.sha256() != content.sha256.to_ascii_lowercase() {
                    return Ok(Some(format!("the SHA-256 of {name:?} is another")));
                }
            }
            Ok(_) => return Ok(Some(format!("{name:?} does not have {} bytes", content.bytes))),
            Err(Stop::Cancelled) => return Err(ExportError::cancelled()),
            Err(Stop::Failed(error)) => {
                return Ok(Some(format!("{name:?} cannot be read: {error}")));
            }
        }
    }
    Ok(expected.keys().next().map(|name| format!("it lacks {name:?}")))
}
