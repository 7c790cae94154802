//! The weights of an asset: records of weight files and larger constants, equal ones once.

use anemll_aicode::Blob;
use anemll_mlpackage::{BlobFile, BlobRecord, Package};
use anemll_plugin_api::Result;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::{self, Write};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// Where the data of a blob come from.
enum Source<'a> {
    Record(&'a BlobFile, BlobRecord),
    Bytes(Vec<u8>),
}

/// The blobs of an asset that is being made.
pub(crate) struct Blobs<'a> {
    /// Those whose records are asked for, one after another.
    packages: Vec<&'a Package>,
    /// The place of the present one.
    present: usize,
    sources: Vec<Source<'a>>,
    blobs: Vec<Blob>,
    /// Places of blobs by what they hold.
    by_hash: HashMap<[u8; 32], u32>,
    /// And by where it is, so that nothing is hashed twice.
    by_record: HashMap<(usize, &'a str, u64), u32>,
}

impl<'a> Blobs<'a> {
    /// No blobs yet, of these packages.
    pub(crate) fn new(packages: Vec<&'a Package>) -> Self {
        let (sources, blobs) = (Vec::new(), Vec::new());
        let (by_hash, by_record) = (HashMap::new(), HashMap::new());
        Self { packages, present: 0, sources, blobs, by_hash, by_record }
    }

    /// Records that are asked for from now on are those of the package of this place.
    pub(crate) fn turn_to(&mut self, package: usize) {
        self.present = package;
    }

    /// The blob of a record of a weight file.
    pub(crate) fn record(&mut self, file_name: &'a str, offset: u64) -> Result<u32> {
        let place = (self.present, file_name, offset);
        if let Some(known) = self.by_record.get(&place) {
            return Ok(*known);
        }
        let package: &'a Package = self.packages[self.present];
        let file = package.weight_file(file_name)?;
        let record = file.record(offset)?;
        let mut hash = Sha256::new();
        pieces(file, &record, |piece| {
            hash.update(piece);
            Ok(())
        })
        .map_err(|failure| failure.into_error())?;
        let length = record.size_in_bytes();
        let blob = self.place(hash.finalize().into(), length, Source::Record(file, record));
        self.by_record.insert(place, blob);
        Ok(blob)
    }

    /// The blob of bytes that stand in the program.
    pub(crate) fn bytes(&mut self, bytes: Vec<u8>) -> u32 {
        let length = bytes.len() as u64;
        self.place(Sha256::digest(&bytes).into(), length, Source::Bytes(bytes))
    }

    fn place(&mut self, hash: [u8; 32], length: u64, source: Source<'a>) -> u32 {
        let next = u32::try_from(self.blobs.len()).unwrap_or(u32::MAX);
        *self.by_hash.entry(hash).or_insert_with(|| {
            // As long as the keys that Apple's writer gives.
            let key = format!("resource_{}", hex::encode(&hash[..8]));
            self.blobs.push(Blob { key, length, offset: 0 });
            self.sources.push(source);
            next
        })
    }

    /// What there is.
    pub(crate) fn list(&self) -> &[Blob] {
        &self.blobs
    }

    /// Writes the data of a blob.
    pub(crate) fn write(&self, index: usize, output: &mut dyn Write) -> io::Result<()> {
        match &self.sources[index] {
            Source::Bytes(bytes) => output.write_all(bytes),
            Source::Record(file, record) => {
                pieces(file, record, |piece| output.write_all(piece)).map_err(Failure::into_io)
            }
        }
    }
}

/// Why a record did not go through.
enum Failure {
    Reading(anemll_mlpackage::PackageError),
    Writing(io::Error),
}

impl Failure {
    fn into_io(self) -> io::Error {
        match self {
            Self::Reading(error) => io::Error::other(error),
            Self::Writing(error) => error,
        }
    }

    fn into_error(self) -> anemll_plugin_api::Error {
        match self {
            Self::Reading(error) => error.into(),
            // Hashing does not fail.
            Self::Writing(error) => anemll_plugin_api::Error::new(
                anemll_plugin_api::codes::INTERNAL,
                "a weight cannot be hashed",
            )
            .with_source(&error),
        }
    }
}

/// All of a record, piece by piece.
fn pieces(
    file: &BlobFile,
    record: &BlobRecord,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> std::result::Result<(), Failure> {
    let size = record.size_in_bytes();
    let mut piece = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
    let mut place = 0;
    while place < size {
        let length = usize::try_from(size - place).unwrap_or(PIECE).min(piece.len());
        file.read_at(record, place, &mut piece[..length]).map_err(Failure::Reading)?;
        take(&piece[..length]).map_err(Failure::Writing)?;
        place += length as u64;
    }
    Ok(())
}
