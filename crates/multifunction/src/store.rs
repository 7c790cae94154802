//! The weight records of all packages under one numbering, and their data in pieces.
//!
//! While functions are joined, a weight value of a program holds the number of its record instead
//! of an offset. Records of one place in one file have one number, whatever package names them.

use crate::error::{Error, Result};
use anemll_mil::{Symbols, ValueType, blob_references, blob_references_mut, model};
use anemll_mlpackage::{BlobFile, BlobRecord, Package, WEIGHT_FILE_NAME};
use coreml_proto::mil::value::Value as Storage;
use coreml_proto::{Model, mil};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Number of a record in a [`RecordStore`].
pub(crate) type RecordId = usize;

#[derive(Debug)]
struct Stored {
    file: usize,
    record: BlobRecord,
}

/// Place and kind of data in a file: metadata that are equal in these are one record.
type Place = (usize, u64, u64, u32, u64);

/// All records that were registered.
#[derive(Debug, Default)]
pub(crate) struct RecordStore {
    files: Vec<BlobFile>,
    known_files: HashMap<FileIdentity, usize>,
    records: Vec<Stored>,
    places: HashMap<Place, RecordId>,
}

/// Packages made together often share one weight file by hard links.
#[derive(Debug, PartialEq, Eq, Hash)]
enum FileIdentity {
    #[cfg(unix)]
    Node(u64, u64),
    Path(PathBuf),
}

fn identity(path: &Path) -> FileIdentity {
    #[cfg(unix)]
    if let Ok(metadata) = std::fs::metadata(path) {
        use std::os::unix::fs::MetadataExt as _;
        return FileIdentity::Node(metadata.dev(), metadata.ino());
    }
    FileIdentity::Path(path.canonicalize().unwrap_or_else(|_| path.to_owned()))
}

impl RecordStore {
    /// Registers every record that the package's program refers to, and gives the model with
    /// numbers in the place of file names and offsets. The package is closed.
    ///
    /// Errors: records that are not in the file or not of the declared type and size; weights in
    /// attributes of the program or of a function.
    pub(crate) fn adopt(&mut self, package: Package) -> Result<Model> {
        let path = package.path().to_owned();
        let invalid = |message: String| Error::Invalid { message, at: Some(path.clone()) };
        refuse_weights_in_attributes(package.model()).map_err(invalid)?;
        let mut numbers: HashMap<(String, u64), RecordId> = HashMap::new();
        for reference in blob_references(package.model()) {
            let file = package.weight_file(reference.file_name)?;
            let record = file.record(reference.offset)?;
            check_type(reference.value, &record).map_err(|reason| {
                invalid(format!(
                    "function `{}`, `{}` of operation {}: {reason}",
                    reference.function, reference.parameter, reference.operation.r#type
                ))
            })?;
            let key = (reference.file_name.to_owned(), reference.offset);
            if let std::collections::hash_map::Entry::Vacant(entry) = numbers.entry(key) {
                let file = self.file(file.path())?;
                entry.insert(self.register(file, record));
            }
        }
        let mut model = package.into_model();
        for value in blob_references_mut(&mut model) {
            if let Some(Storage::BlobFileValue(blob)) = &mut value.value {
                let key = (std::mem::take(&mut blob.file_name), blob.offset);
                let id = numbers.get(&key).copied().unwrap_or_default();
                WEIGHT_FILE_NAME.clone_into(&mut blob.file_name);
                blob.offset = id as u64;
            }
        }
        Ok(model)
    }

    fn file(&mut self, path: &Path) -> Result<usize> {
        let identity = identity(path);
        if let Some(known) = self.known_files.get(&identity) {
            return Ok(*known);
        }
        self.files.push(BlobFile::open(path)?);
        let number = self.files.len() - 1;
        self.known_files.insert(identity, number);
        Ok(number)
    }

    fn register(&mut self, file: usize, record: BlobRecord) -> RecordId {
        let place = (
            file,
            record.data_offset(),
            record.size_in_bytes(),
            record.blob_type().code(),
            record.padding_bits(),
        );
        let next = self.records.len();
        let id = *self.places.entry(place).or_insert(next);
        if id == next {
            self.records.push(Stored { file, record });
        }
        id
    }

    /// How many records there are; their numbers are below it.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The record of a number that this store gave.
    pub(crate) fn record(&self, id: RecordId) -> &BlobRecord {
        &self.records[id].record
    }

    /// A file that holds a record equal to each of these, and little beside them: its number, and
    /// for each of `records` the number of the one in that file. `first` gives equal records one
    /// number; `needed` are the bytes of a file with just these records; `spare` is the share of
    /// the file, in percent, that may be something else.
    pub(crate) fn whole_file(
        &self,
        records: &[RecordId],
        first: &[RecordId],
        needed: u64,
        spare: u64,
    ) -> Option<(usize, Vec<RecordId>)> {
        let mut held: HashMap<(usize, RecordId), RecordId> = HashMap::new();
        for (id, equal) in first.iter().enumerate() {
            held.entry((self.records[id].file, *equal)).or_insert(id);
        }
        (0..self.files.len()).find_map(|file| {
            let inside: Option<Vec<RecordId>> =
                records.iter().map(|id| held.get(&(file, *id)).copied()).collect();
            let size = std::fs::metadata(self.files[file].path()).ok()?.len();
            let fits = size.saturating_sub(needed) <= size / 100 * spare;
            inside.filter(|_| fits).map(|inside| (file, inside))
        })
    }

    /// The path of a file by its number.
    pub(crate) fn path(&self, file: usize) -> &Path {
        self.files[file].path()
    }

    /// The file of a record.
    pub(crate) fn reader(&self, id: RecordId) -> &BlobFile {
        &self.files[self.records[id].file]
    }

    /// Fills `buffer` with a record's bytes from `start` on.
    pub(crate) fn read(&self, id: RecordId, start: u64, buffer: &mut [u8]) -> Result<()> {
        Ok(self.reader(id).read_at(self.record(id), start, buffer)?)
    }
}

/// The number that stands in a value of an adopted model.
pub(crate) fn record_id(value: &mil::Value) -> Option<RecordId> {
    match &value.value {
        Some(Storage::BlobFileValue(blob)) => usize::try_from(blob.offset).ok(),
        _ => None,
    }
}

fn check_type(value: &mil::Value, record: &BlobRecord) -> Result<(), String> {
    let kind = value.r#type.as_ref().ok_or("a weight has no type")?;
    let kind = ValueType::from_proto(kind, &Symbols::default())?;
    let tensor = kind.tensor().ok_or_else(|| format!("a weight of type {kind}"))?;
    let declared = (tensor.data_type, tensor.byte_size());
    let stored = (record.blob_type().data_type(), Some(record.size_in_bytes()));
    if declared != stored {
        return Err(format!(
            "the weight at offset {} is {} bytes of {}, but the program declares {tensor}",
            record.offset(),
            record.size_in_bytes(),
            record.blob_type(),
        ));
    }
    Ok(())
}

/// Weights belong to operations. One in an attribute of a function would keep its old offset.
fn refuse_weights_in_attributes(model: &Model) -> Result<(), String> {
    let program = model::program(model).map_err(|error| error.to_string())?;
    let of_functions = program.functions.values().flat_map(|function| function.attributes.values());
    if program
        .attributes
        .values()
        .chain(of_functions)
        .any(|value| anemll_mil::references::blob_of(value).is_some())
    {
        return Err("an attribute of the program or of a function lies in a weight file".to_owned());
    }
    Ok(())
}
