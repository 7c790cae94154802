//! What the validator of `anemll-mil` asks about weight records.

use crate::WEIGHT_FILE_NAME;
use crate::blob::BlobFile;
use crate::package::Package;
use anemll_mil::{BlobCatalog, BlobInfo, Error, Result};

/// A single weight file answers for [`WEIGHT_FILE_NAME`], whatever it is called on disk.
impl BlobCatalog for BlobFile {
    fn blob(&self, file_name: &str, offset: u64) -> Result<BlobInfo> {
        if file_name != WEIGHT_FILE_NAME {
            return Err(Error::new(format!(
                "refers to the weight file {file_name:?}, expected {WEIGHT_FILE_NAME:?}"
            )));
        }
        info(self, offset)
    }
}

/// A package answers for the weight files that its program refers to.
impl BlobCatalog for Package {
    fn blob(&self, file_name: &str, offset: u64) -> Result<BlobInfo> {
        let file = self.weight_file(file_name).map_err(|error| Error::new(error.to_string()))?;
        info(file, offset)
    }
}

fn info(file: &BlobFile, offset: u64) -> Result<BlobInfo> {
    let record = file.record(offset).map_err(|error| Error::new(error.to_string()))?;
    Ok(BlobInfo {
        data_type: record.blob_type().data_type(),
        size_in_bytes: record.size_in_bytes(),
    })
}
