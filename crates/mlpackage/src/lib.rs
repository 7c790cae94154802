//! Core ML packages on disk: manifest, model, and the weight file (blob storage v2).
//!
//! Reading is strict: every size, offset and path that a file gives is checked before it is used.
//! Writing is atomic: a package stands under its final name only when all of it is on disk.

mod blob;
mod blob_type;
mod blob_writer;
mod catalog;
mod error;
mod manifest;
mod package;
mod paths;
mod place;
mod references;
mod staging;
mod writer;

pub use blob::{BlobFile, BlobRecord, Records};
pub use blob_type::BlobType;
pub use blob_writer::{Appended, BlobWriter, RecordWriter, Summary};
pub use error::{ErrorKind, PackageError, Result};
pub use manifest::{Item, Manifest};
pub use package::{Package, check_weight_records, open_weight_files};
pub use place::{Placement, place_file};
pub use staging::{Staging, sync_folder};
pub use writer::{WeightsPlacement, WeightsSource, WriteOptions, Written, write_package};

/// Name under which a program refers to the weight file that [`write_package`] writes.
pub const WEIGHT_FILE_NAME: &str = "@model_path/weights/weight.bin";
