//! Archives that are the same bytes whenever and wherever they are made: sorted entries, one date,
//! no owner, and two modes.

use super::files::Entry;
use crate::Result;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// 1980-01-01, the first date that a zip can say.
const DATE: u64 = 315_532_800;

/// How much is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Not at all, for trying what a build gives.
    None,
    /// As much as can be, for what is published.
    Best,
}

impl Effort {
    fn level(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Best => 9,
        }
    }
}

/// Writes a `.tar.gz`; `top` is the folder in it that all entries are below.
pub(crate) fn tar_gz(path: &Path, top: &str, entries: &[Entry], effort: Effort) -> Result<()> {
    let failed = |error: std::io::Error| super::failed("write", path, &error);
    let file = BufWriter::new(File::create(path).map_err(failed)?);
    let compression = flate2::Compression::new(effort.level());
    let gzip = flate2::GzBuilder::new().mtime(0).write(file, compression);
    let mut tar = tar::Builder::new(gzip);
    for entry in entries {
        let bytes = entry.read()?;
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(entry.mode());
        header.set_mtime(DATE);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, format!("{top}/{}", entry.name), bytes.as_slice())
            .map_err(failed)?;
    }
    let gzip = tar.into_inner().map_err(failed)?;
    gzip.finish().and_then(|mut file| file.flush()).map_err(failed)
}

/// Writes a zip. Entries are below `top`, where one is given.
pub(crate) fn zip(path: &Path, top: Option<&str>, entries: &[Entry], effort: Effort) -> Result<()> {
    let failed = |error: std::io::Error| super::failed("write", path, &error);
    let refused = |error: zip::result::ZipError| super::failed("write", path, &error.into());
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path).map_err(failed)?));
    for entry in entries {
        let options = SimpleFileOptions::default().unix_permissions(entry.mode());
        let options = match effort {
            Effort::None => options.compression_method(CompressionMethod::Stored),
            Effort::Best => options
                .compression_method(CompressionMethod::Deflated)
                .compression_level(Some(i64::from(effort.level()))),
        };
        let name = match top {
            Some(top) => format!("{top}/{}", entry.name),
            None => entry.name.clone(),
        };
        archive.start_file(name, options).map_err(refused)?;
        archive.write_all(&entry.read()?).map_err(failed)?;
    }
    let mut file = archive.finish().map_err(refused)?;
    file.flush().map_err(failed)
}

/// The SHA-256 of a file in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    use sha2::Digest as _;
    let failed = |error: std::io::Error| super::failed("read", path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut digest = sha2::Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            break;
        }
        digest.update(&piece[..count]);
    }
    Ok(hex::encode(digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("program");
        std::fs::write(&source, "program").unwrap();
        let entries = [Entry::text("README.md", "text\n"), Entry::program("bin/anemll", &source)];
        let mut made = Vec::new();
        for round in ["first", "second"] {
            let (tar, zipped) = (
                folder.path().join(format!("{round}.tar.gz")),
                folder.path().join(format!("{round}.zip")),
            );
            tar_gz(&tar, "top", &entries, Effort::Best).unwrap();
            zip(&zipped, Some("top"), &entries, Effort::Best).unwrap();
            made.push((std::fs::read(&tar).unwrap(), std::fs::read(&zipped).unwrap()));
            // Another date and another mode, which must not show.
            std::fs::remove_file(&source).unwrap();
            std::fs::write(&source, "program").unwrap();
        }
        assert_eq!(made[0], made[1]);
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(made[0].0.as_slice()));
        let found: Vec<(String, u32)> = tar
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                (path, entry.header().mode().unwrap())
            })
            .collect();
        assert_eq!(
            found,
            [("top/README.md".to_owned(), 0o644), ("top/bin/anemll".to_owned(), 0o755)]
        );
    }

    #[test]
    fn sums_are_those_of_the_standard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-4, appendix B.1.
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
