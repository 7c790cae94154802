//! Assets on disk: the folder `X.aimodel` with its program, the program's hash and a description.

use crate::program::{Blob, Program};
use crate::{decode, encode, verify};
use anemll_files::{Limit, Staging, StagingError};
use anemll_plugin_api::{Error, codes};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Extension of the folder's name.
pub const EXTENSION: &str = "aimodel";
/// The program.
pub const PROGRAM: &str = "main.mlirb";
/// The SHA-256 of the program, 32 bytes.
pub const HASH: &str = "main.hash";
/// The description.
pub const METADATA: &str = "metadata.json";
/// Version of assets that is written.
pub const ASSET_VERSION: &str = "2.0";

/// What helps where an asset cannot be read.
const AGAIN: &str = "the file is damaged, or was written for another version of Core AI: \
                     copy it again, or compile the package again";

/// What an asset's description says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The program that wrote it. Readers take its absence for a sign of a broken writer.
    pub producer: String,
    /// Author.
    pub author: Option<String>,
    /// License.
    pub license: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// Anything else.
    pub custom: Map<String, Value>,
}

impl Metadata {
    /// The same bytes for the same content: no date, keys in order.
    fn to_json(&self) -> String {
        let mut keys = Map::new();
        keys.insert("assetVersion".to_owned(), json!(ASSET_VERSION));
        let texts = [
            ("author", &self.author),
            ("license", &self.license),
            ("description", &self.description),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                keys.insert(key.to_owned(), json!(text));
            }
        }
        keys.insert("producer".to_owned(), json!(self.producer));
        if !self.custom.is_empty() {
            keys.insert("creatorDefinedMetadata".to_owned(), Value::Object(self.custom.clone()));
        }
        format!("{:#}\n", Value::Object(keys))
    }
}

/// Writes an asset, whole or not at all. `blob` writes the data of the blob of an index; what it
/// writes is not kept in memory. The same program and blobs give the same bytes.
///
/// # Errors
/// [`codes::COMPILE_FAILED`] for a program that [`crate::verify`] refuses,
/// [`codes::OUTPUT_EXISTS`] and [`codes::OUTPUT_UNWRITABLE`] for the folder, and those of `blob`.
pub fn write(
    destination: &Path,
    program: &Program,
    metadata: &Metadata,
    replace: bool,
    mut blob: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let refused = |message: String| {
        Error::new(codes::COMPILE_FAILED, format!("the program would not load: {message}"))
            .with_at(destination.display().to_string())
    };
    verify(program).map_err(|error| refused(error.to_string()))?;
    let document = encode::document(program).map_err(|error| refused(error.to_string()))?;
    let staging =
        Staging::create(destination, replace).map_err(|error| staged(&error, destination))?;
    let unwritable = |source: &io::Error, name: &str| {
        Error::new(codes::OUTPUT_UNWRITABLE, format!("cannot write {name}"))
            .with_at(destination.display().to_string())
            .with_source(source)
    };
    let file = File::create(staging.path().join(PROGRAM));
    let file = file.map_err(|error| unwritable(&error, PROGRAM))?;
    let mut output =
        Hashed { output: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new() };
    anemll_mlirbc::write(&document, &mut blob, &mut output).map_err(|error| match error {
        anemll_mlirbc::Error::System(source) => unwritable(&source, PROGRAM),
        other => refused(other.to_string()),
    })?;
    let Hashed { output, hash } = output;
    let file = output.into_inner().map_err(|error| unwritable(error.error(), PROGRAM))?;
    file.sync_all().map_err(|error| unwritable(&error, PROGRAM))?;
    let files: [(&str, Vec<u8>); 2] =
        [(HASH, hash.finalize().to_vec()), (METADATA, metadata.to_json().into_bytes())];
    for (name, bytes) in files {
        std::fs::write(staging.path().join(name), bytes)
            .map_err(|error| unwritable(&error, name))?;
    }
    staging.publish(replace).map_err(|error| staged(&error, destination))?;
    Ok(())
}

fn staged(error: &StagingError, destination: &Path) -> Error {
    let code = match error {
        StagingError::Exists => codes::OUTPUT_EXISTS,
        _ => codes::OUTPUT_UNWRITABLE,
    };
    Error::new(code, error.to_string()).with_at(destination.display().to_string())
}

/// Hashes what goes through.
struct Hashed<W> {
    output: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// An asset that was opened.
#[derive(Debug)]
pub struct Asset {
    path: PathBuf,
    /// The program.
    pub program: Program,
    /// The description, empty where there is none.
    pub metadata: Map<String, Value>,
    /// Bytes of the program's file.
    pub size: u64,
    file: File,
}

impl Asset {
    /// Whether a path is that of an asset.
    pub fn is_at(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == EXTENSION)
            && path.join(PROGRAM).is_file()
    }

    /// Opens an asset: its program is read, blobs stay in the file.
    ///
    /// # Errors
    /// [`codes::PACKAGE_UNREADABLE`] where files are missing, [`codes::PACKAGE_INVALID`] for what
    /// is no asset.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unreadable = |source: &io::Error, name: &str| {
            let hint = format!(
                "an asset is a folder with {PROGRAM}, {HASH} and {METADATA}: copy all of it"
            );
            Error::new(codes::PACKAGE_UNREADABLE, format!("cannot read {name} of the asset"))
                .with_at(path.display().to_string())
                .with_source(source)
                .with_hint(hint)
        };
        let invalid = |message: String| {
            Error::new(
                codes::PACKAGE_INVALID,
                format!("{PROGRAM} is not a Core AI program: {message}"),
            )
            .with_at(path.display().to_string())
            .with_hint(AGAIN)
        };
        let file = anemll_files::open(&path.join(PROGRAM));
        let file = file.map_err(|error| unreadable(&error, PROGRAM))?;
        let size = file.metadata().map_err(|error| unreadable(&error, PROGRAM))?.len();
        let document = anemll_mlirbc::read(&file).map_err(|error| match error {
            anemll_mlirbc::Error::System(source) => unreadable(&source, PROGRAM),
            other => invalid(other.to_string()),
        })?;
        let program = decode::program(&document).map_err(|error| invalid(error.to_string()))?;
        let metadata = metadata(path)?;
        Ok(Self { path: path.to_owned(), program, metadata, size, file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `buffer` with the data of a blob from its byte `start` on.
    ///
    /// # Errors
    /// Those of the system, and [`io::ErrorKind::UnexpectedEof`] beyond the blob's end.
    pub fn read_blob(&self, blob: &Blob, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = start.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > blob.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        anemll_files::read_exact_at(&self.file, buffer, blob.offset + start)
    }

    /// Whether the hash beside the program is the program's; `None` where there is no hash.
    ///
    /// # Errors
    /// Those of the system.
    pub fn hash_fits(&self) -> io::Result<Option<bool>> {
        let stored = match anemll_files::read(&self.path.join(HASH), Limit::CONFIG) {
            Ok(stored) => stored,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 20];
        let mut place = 0;
        while place < self.size {
            let length = usize::try_from(self.size - place).unwrap_or(usize::MAX).min(piece.len());
            anemll_files::read_exact_at(&self.file, &mut piece[..length], place)?;
            hash.update(&piece[..length]);
            place += length as u64;
        }
        Ok(Some(hash.finalize().as_slice() == stored))
    }
}

/// The description of an asset, whose version must be one that loaders take.
fn metadata(path: &Path) -> Result<Map<String, Value>, Error> {
    let invalid = |message: String| {
        Error::new(codes::PACKAGE_INVALID, message)
            .with_at(path.join(METADATA).display().to_string())
            .with_hint(AGAIN)
    };
    let text = match anemll_files::read_text(&path.join(METADATA), Limit::CONFIG) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(invalid(format!("{METADATA} cannot be read")).with_source(&error)),
    };
    let parsed: Value = serde_json::from_str(&text)
        .map_err(|error| invalid(format!("{METADATA} is not JSON: {error}")))?;
    let Value::Object(keys) = parsed else {
        return Err(invalid(format!("{METADATA} does not hold an object")));
    };
    match keys.get("assetVersion").and_then(Value::as_str) {
        Some(version) if version.split('.').next() == Some("2") => Ok(keys),
        Some(version) => Err(invalid(format!("the asset has version {version}; loaders take 2"))),
        None => Err(invalid(format!(
            "{METADATA} has no assetVersion, without which an asset does not load"
        ))),
    }
}
