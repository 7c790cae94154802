//! What several conversions of one model share, so that it is read once.

use crate::references::Weight;
use anemll_huggingface::Fp16Report;
use anemll_services::machine;
use half::f16;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of weights that are kept where the machine does not tell its memory.
const USUAL: u64 = 1_000_000_000;

/// The values of a weight and what came of making them 16-bit floats.
type Values = (Vec<f16>, Fp16Report);

/// A model's hash and, as far as there is memory, its weights as they go to the quantizer.
pub struct Kept {
    /// SHA-256 of configuration and weights.
    pub(crate) source_sha256: String,
    /// Bytes that may be kept.
    limit: usize,
    weights: Mutex<Weights>,
}

#[derive(Default)]
struct Weights {
    bytes: usize,
    /// By what a weight is made from, and the seed of its rotation.
    values: HashMap<(String, Option<u64>), Arc<Values>>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kept").field("source_sha256", &self.source_sha256).finish()
    }
}

impl Kept {
    /// Of the model with this hash nothing yet; a quarter of the memory that is free may be used.
    pub(crate) fn new(source_sha256: String) -> Self {
        let free = machine::memory().and_then(|memory| memory.available);
        let limit = free.map_or(USUAL, |free| free / 4);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { source_sha256, limit, weights: Mutex::default() }
    }

    /// The hash of a model, and no weight.
    pub(crate) fn hash(source_sha256: String) -> Self {
        Self { source_sha256, limit: 0, weights: Mutex::default() }
    }

    /// A weight under a rotation, if it is kept.
    pub(crate) fn get(&self, weight: &Weight, rotation: Option<u64>) -> Option<Values> {
        let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        let found = weights.values.get(&(key(weight), rotation)).cloned();
        drop(weights);
        found.map(|values| (*values).clone())
    }

    /// Keeps a weight, if there is room.
    pub(crate) fn put(&self, weight: &Weight, rotation: Option<u64>, values: &Values) {
        let bytes = values.0.len() * size_of::<f16>();
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        // Two threads may have read one weight.
        let key = (key(weight), rotation);
        if weights.bytes + bytes <= self.limit && !weights.values.contains_key(&key) {
            weights.bytes += bytes;
            weights.values.insert(key, Arc::new(values.clone()));
        }
    }
}

/// What a weight is made from.
fn key(weight: &Weight) -> String {
    weight.reference.to_file_name()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::data::WeightReference;

    #[test]
    fn weights_are_kept_by_rotation_and_as_far_as_there_is_room() {
        let weight = |tensor: &str| Weight {
            id: "same".to_owned(),
            reference: WeightReference::new(tensor, [3], ""),
            shape: vec![3],
            functions: Vec::new(),
        };
        let values = |value: f32| (vec![f16::from_f32(value); 3], Fp16Report::default());
        let kept = Kept { limit: 12, ..Kept::new(String::new()) };
        // Twice, which takes room once.
        kept.put(&weight("a"), None, &values(1.0));
        kept.put(&weight("a"), None, &values(1.0));
        kept.put(&weight("a"), Some(1), &values(2.0));
        kept.put(&weight("b"), None, &values(3.0));
        let found = |name: &str, rotation| kept.get(&weight(name), rotation).map(|found| found.0);
        assert_eq!(found("a", None), Some(values(1.0).0));
        assert_eq!(found("a", Some(1)), Some(values(2.0).0));
        assert_eq!((found("a", Some(2)), found("b", None)), (None, None));
    }
}
