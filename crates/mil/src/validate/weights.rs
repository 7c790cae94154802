//! Values that stand in operations: size, and what weight they refer to.

use super::Weights;
use crate::literal;
use crate::references::{WEIGHT_REFERENCE_PREFIX, blob_of};
use coreml_proto::mil;

/// Checks one value: immediate data have the size of the type; a weight is what the stage wants.
pub(super) fn check(value: &mil::Value, weights: &Weights<'_>) -> Result<(), String> {
    literal::check_value(value)?;
    let Some(blob) = blob_of(value) else { return Ok(()) };
    let reference = blob.file_name.strip_prefix(WEIGHT_REFERENCE_PREFIX);
    match (weights, reference) {
        (Weights::References, Some(reference)) => {
            if blob.offset != 0 {
                return Err(format!("a weight reference has offset {}, not 0", blob.offset));
            }
            check_reference(reference)
        }
        (Weights::References, None) => {
            Err(format!("the weight stands in the file `{}`, not in a reference", blob.file_name))
        }
        (Weights::Records(_), Some(reference)) => {
            Err(format!("the weight reference {reference} is not resolved"))
        }
        (Weights::Records(catalog), None) => {
            let kind = literal::tensor_type(value)?;
            let record = catalog
                .blob(&blob.file_name, blob.offset)
                .map_err(|error| format!("weight at offset {}: {error}", blob.offset))?;
            if record.data_type != kind.data_type {
                return Err(format!(
                    "the weight at offset {} is {}, but the value is {kind}",
                    blob.offset, record.data_type
                ));
            }
            if kind.byte_size() != Some(record.size_in_bytes) {
                return Err(format!(
                    "the weight at offset {} has {} bytes, but {kind} takes {}",
                    blob.offset,
                    record.size_in_bytes,
                    kind.byte_size().unwrap_or_default()
                ));
            }
            Ok(())
        }
    }
}

/// The JSON names a tensor. What else it says is the host's business.
fn check_reference(reference: &str) -> Result<(), String> {
    let json: serde_json::Value = serde_json::from_str(reference)
        .map_err(|error| format!("the weight reference {reference} is not JSON: {error}"))?;
    match json.get("tensor") {
        Some(serde_json::Value::String(name)) if !name.is_empty() => Ok(()),
        _ => Err(format!("the weight reference {reference} names no tensor")),
    }
}
