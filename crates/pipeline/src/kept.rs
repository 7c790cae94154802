//! What several conversions of one model share, so that it is read once.

use crate::references::Weight;
use anemll_huggingface::Fp16Report;
use anemll_plugin_api::Tensor;
use anemll_plugin_api::data::{Decision, EncodingError};
use anemll_services::machine;
use half::f16;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of weights that are kept where the machine does not tell its memory, and of encoded ones.
const USUAL: u64 = 1_000_000_000;

/// The values of a weight and what came of making them 16-bit floats.
type Values = (Vec<f16>, Fp16Report);

/// A weight that was encoded.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// One for each argument of the encoding.
    pub(crate) tensors: Vec<Tensor>,
    /// What came of making its values 16-bit floats.
    pub(crate) fp16: Fp16Report,
    /// How far off it is, if that was measured.
    pub(crate) error: Option<EncodingError>,
}

/// A model's hash and, as far as there is memory, its weights as they go to the quantizer, and, among
/// conversions that differ in nothing but decisions, as they come from it.
pub struct Kept {
    /// SHA-256 of configuration and weights.
    pub(crate) source_sha256: String,
    values: Mutex<Room<Values>>,
    encoded: Mutex<Room<Encoded>>,
}

/// What is kept, by what a weight is made from: the reference, the seed of its rotation, and the
/// decision.
struct Room<T> {
    /// Bytes that may be kept.
    limit: usize,
    bytes: usize,
    items: HashMap<String, Arc<T>>,
}

impl<T> Room<T> {
    fn new(limit: usize) -> Mutex<Self> {
        Mutex::new(Self { limit, bytes: 0, items: HashMap::new() })
    }

    /// Keeps an item of so many bytes, if there is room.
    fn put(&mut self, key: String, bytes: usize, item: impl FnOnce() -> Arc<T>) {
        // Two threads may have made one item.
        if self.bytes + bytes <= self.limit && !self.items.contains_key(&key) {
            self.bytes += bytes;
            self.items.insert(key, item());
        }
    }
}

fn lock<T>(room: &Mutex<Room<T>>) -> MutexGuard<'_, Room<T>> {
    room.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kept").field("source_sha256", &self.source_sha256).finish()
    }
}

impl Kept {
    /// Of the model with this hash nothing yet; a quarter of the memory that is free may be used.
    pub(crate) fn new(source_sha256: String) -> Self {
        Self { encoded: Room::new(0), ..Self::for_plans(source_sha256) }
    }

    /// For conversions with one quantizer, its options and statistics, which differ in nothing but
    /// decisions: a weight that is decided alike is encoded once. A quarter of the memory that is free
    /// may be used for weights, and another for encoded ones.
    pub(crate) fn for_plans(source_sha256: String) -> Self {
        let free = machine::memory().and_then(|memory| memory.available);
        let limit = free.map_or(USUAL, |free| free / 4);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { source_sha256, values: Room::new(limit), encoded: Room::new(limit) }
    }

    /// The hash of a model, and no weight.
    pub(crate) fn hash(source_sha256: String) -> Self {
        Self { source_sha256, values: Room::new(0), encoded: Room::new(0) }
    }

    /// A weight under a rotation, if it is kept.
    pub(crate) fn get(&self, weight: &Weight, rotation: Option<u64>) -> Option<Values> {
        let found = lock(&self.values).items.get(&key(weight, rotation, None)).cloned();
        found.map(|values| (*values).clone())
    }

    /// Keeps a weight, if there is room.
    pub(crate) fn put(&self, weight: &Weight, rotation: Option<u64>, values: &Values) {
        let bytes = values.0.len() * size_of::<f16>();
        let key = key(weight, rotation, None);
        lock(&self.values).put(key, bytes, || Arc::new(values.clone()));
    }

    /// A weight under a rotation, encoded as decided, if it is kept.
    pub(crate) fn encoded(
        &self,
        weight: &Weight,
        rotation: Option<u64>,
        decision: &Decision,
    ) -> Option<Arc<Encoded>> {
        lock(&self.encoded).items.get(&key(weight, rotation, Some(decision))).cloned()
    }

    /// Keeps an encoded weight, if there is room.
    pub(crate) fn put_encoded(
        &self,
        weight: &Weight,
        rotation: Option<u64>,
        decision: &Decision,
        encoded: &Arc<Encoded>,
    ) {
        let bytes = encoded.tensors.iter().map(|tensor| tensor.bytes.len()).sum();
        let key = key(weight, rotation, Some(decision));
        lock(&self.encoded).put(key, bytes, || Arc::clone(encoded));
    }
}

/// What a weight is made from, and what becomes of it.
fn key(weight: &Weight, rotation: Option<u64>, decision: Option<&Decision>) -> String {
    let decided = decision.map(|decision| {
        serde_json::json!([decision.encoding, decision.parameters, decision.output_scale])
    });
    let shape = &weight.shape;
    format!("{} {shape:?} {rotation:?} {decided:?}", weight.reference.to_file_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::DType;
    use anemll_plugin_api::data::{Encoding, WeightReference};

    fn weight(tensor: &str) -> Weight {
        Weight {
            id: "same".to_owned(),
            reference: WeightReference::new(tensor, [3], ""),
            shape: vec![3],
            functions: Vec::new(),
        }
    }

    #[test]
    fn weights_are_kept_by_rotation_and_as_far_as_there_is_room() {
        let values = |value: f32| (vec![f16::from_f32(value); 3], Fp16Report::default());
        let kept = Kept { values: Room::new(12), ..Kept::new(String::new()) };
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

    #[test]
    fn encoded_weights_are_kept_by_what_was_decided() {
        let decision = |bits: u32| {
            let encoding = Encoding::new("lut").with_argument("indices", DType::UINT8, [3]);
            Decision::default().with_encoding(encoding).with_parameters(bits)
        };
        let encoded = || {
            let tensors = vec![Tensor::new("indices", DType::UINT8, [3], vec![0; 3]).unwrap()];
            Arc::new(Encoded { tensors, fp16: Fp16Report::default(), error: None })
        };
        let kept = Kept { encoded: Room::new(8), ..Kept::for_plans(String::new()) };
        for bits in [4, 6, 8] {
            kept.put_encoded(&weight("a"), Some(1), &decision(bits), &encoded());
        }
        let found = |name: &str, rotation, bits| {
            kept.encoded(&weight(name), rotation, &decision(bits)).is_some()
        };
        assert!(found("a", Some(1), 4) && found("a", Some(1), 6));
        // There was no room.
        assert!(!found("a", Some(1), 8));
        assert!(!found("a", None, 4) && !found("b", Some(1), 4) && !found("a", Some(1), 2));
        let noted = decision(4).with_note("a remark".to_owned());
        assert!(kept.encoded(&weight("a"), Some(1), &noted).is_some());
        // Conversions with different quantizers share none.
        let kept = Kept::new(String::new());
        kept.put_encoded(&weight("a"), None, &decision(4), &encoded());
        assert!(kept.encoded(&weight("a"), None, &decision(4)).is_none());
    }
}
