//! How large weight files will be, before a weight is read: config.json alone is enough.
//!
//! The frontend lowers the model's functions, which name every weight with its shape; what those
//! come to at the chosen bits is arithmetic. The result is exact, but for records that turn out to
//! hold the same bytes and are stored once, and for the padding after a file's last record.

use crate::lut::{Lut, Luts};
use crate::references::{Item, Weight, collect};
use anemll_mil::lint;
use anemll_plugin_api::data::{FunctionSpec, LayerRange, ModelDescription, Purpose};
use anemll_plugin_api::{ArchModel, Error, Host, Result, codes};
use coreml_proto::Model;
use serde::Serialize;
use std::collections::HashSet;

/// Bytes of a weight file's header, of a record's metadata, and what both are padded to.
const UNIT: u64 = 64;
/// Weights with this many elements or fewer stay float16 (the quantizer `lut` has it so).
const SMALL: u64 = 2048;

/// What the parts of a model take in weight files, in bytes, records and padding included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PartSizes {
    /// The embedding.
    pub embeddings: u64,
    /// Every layer.
    pub layers: Vec<u64>,
    /// What every chunk has beside its layers, whatever layers they are: tables of positions.
    pub every_chunk: u64,
    /// What only the last chunk has beside its layers: the final norm.
    pub last_chunk: u64,
    /// The head, all pieces.
    pub head: u64,
}

impl PartSizes {
    /// Bytes of the embeddings' weight file.
    pub fn embeddings_file(&self) -> u64 {
        self.embeddings.saturating_add(UNIT)
    }

    /// Bytes of the head's weight file.
    pub fn head_file(&self) -> u64 {
        self.head.saturating_add(UNIT)
    }

    /// Bytes of a weight file with all layers.
    pub fn layers_file(&self) -> u64 {
        let all = LayerRange { first: 0, end: self.layer_count() };
        self.file(&[&function("layers", false, Some(all), Purpose::Infer)])
    }

    /// Bytes of the weight file that these functions share.
    pub fn file(&self, functions: &[&FunctionSpec]) -> u64 {
        let mut bytes = UNIT;
        let mut add = |more: u64| bytes = bytes.saturating_add(more);
        if functions.iter().any(|function| function.embedding) {
            add(self.embeddings);
        }
        if functions.iter().any(|function| function.head) {
            add(self.head);
        }
        let within = |layer: u32| {
            functions
                .iter()
                .filter_map(|function| function.layers)
                .any(|range| (range.first..range.end).contains(&layer))
        };
        for (layer, bytes) in (0..).zip(&self.layers) {
            if within(layer) {
                add(*bytes);
            }
        }
        if functions.iter().any(|function| function.layers.is_some()) {
            add(self.every_chunk);
        }
        if self.layer_count().checked_sub(1).is_some_and(within) {
            add(self.last_chunk);
        }
        bytes
    }

    /// Layers, as the description counts them.
    pub fn layer_count(&self) -> u32 {
        u32::try_from(self.layers.len()).unwrap_or(u32::MAX)
    }
}

/// What a chunk may have at most, so that devices load it: the limits of the lint's rules ANE-071,
/// ANE-080 and ANE-081, which no choice of ours passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes of a chunk on a device.
    pub chunk_bytes: u64,
    /// Factor from the weight file to what a device needs.
    pub overhead: f64,
    /// Layers of a function.
    pub layers: u32,
}

impl Limits {
    /// `--max-chunk-mb`, in MB of 1000000 bytes, with a tenth for what a compiled model adds.
    pub fn of_megabytes(megabytes: u64) -> Self {
        Self {
            chunk_bytes: megabytes.saturating_mul(1_000_000),
            overhead: 1.1,
            layers: lint::LAYERS_PER_FUNCTION,
        }
    }

    /// Bytes that a weight file may have.
    pub fn file_bytes(&self) -> u64 {
        // The usual tenth as the lint reckons it, to the byte.
        if self.overhead == 1.1 {
            return lint::weight_file_limit(self.chunk_bytes);
        }
        (self.chunk_bytes as f64 / self.overhead) as u64
    }
}

/// Where in a model a weight or table belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Embeddings,
    Layer(usize),
    EveryChunk,
    LastChunk,
    Head,
}

/// Every weight and table of a model, from which sizes at any bits follow.
pub struct Inventory {
    items: Vec<(Place, Item)>,
    layers: usize,
}

impl Inventory {
    /// Has the frontend lower a model's functions.
    ///
    /// # Errors
    /// Those of the frontend, and [`codes::GRAPH_INVALID`] for answers of it that are no programs.
    pub fn read(
        model: &dyn ArchModel,
        description: &ModelDescription,
        host: &Host,
    ) -> Result<Self> {
        let lower = |spec: FunctionSpec| -> Result<Model> {
            let bytes = model.lower(&spec, host)?;
            coreml_proto::read_model(&bytes).map_err(|source| {
                let id = &spec.id;
                Error::new(codes::GRAPH_INVALID, format!("no valid model for `{id}`: {source}"))
                    .with_hint("this is an error of the arch plugin")
            })
        };
        let whole = |place: Place, spec: FunctionSpec| -> Result<Vec<(Place, Item)>> {
            let id = spec.id.clone();
            let items = collect(&[(&id, &lower(spec)?)])?;
            Ok(items.into_iter().map(|(_, item)| (place, item)).collect())
        };
        let layers = |name: &str, end: u32, purpose: Purpose| {
            lower(function(name, false, Some(LayerRange { first: 0, end }), purpose))
        };
        let embeddings = function("embeddings", true, None, Purpose::Infer);
        let mut items = whole(Place::Embeddings, embeddings)?;
        items.extend(whole(Place::Head, function("lm_head", false, None, Purpose::Infer))?);
        let infer = layers("infer", description.layers, Purpose::Infer)?;
        // Prefill and evaluation bring no weights of their own, but may bring tables.
        let first = layers("first", 1, Purpose::Infer)?;
        let prefill = layers("prefill", 1, Purpose::Prefill)?;
        let evaluate = layers("evaluate", 1, Purpose::Evaluate)?;

        // What stands in infer without being a layer's, and not in a chunk of the first layer, is
        // the last chunk's.
        let in_first: HashSet<String> =
            collect(&[("first", &first)])?.into_iter().map(|(key, _)| key).collect();
        let in_infer: HashSet<String> =
            collect(&[("infer", &infer)])?.into_iter().map(|(key, _)| key).collect();
        let count = description.layers as usize;
        let functions = [("infer", &infer), ("prefill", &prefill), ("evaluate", &evaluate)];
        for (key, item) in collect(&functions)? {
            let layer = match &item {
                Item::Weight(weight) => weight.reference.layer,
                Item::Table { .. } => None,
            };
            let place = match layer.map(|layer| layer as usize).filter(|layer| *layer < count) {
                Some(layer) => Place::Layer(layer),
                None if in_infer.contains(&key) && !in_first.contains(&key) => Place::LastChunk,
                None => Place::EveryChunk,
            };
            items.push((place, item));
        }
        Ok(Self { items, layers: count })
    }

    /// What the parts take at these bits.
    pub fn sizes(&self, luts: &Luts) -> PartSizes {
        let mut sizes = PartSizes { layers: vec![0; self.layers], ..PartSizes::default() };
        for (place, item) in &self.items {
            let bytes = item_bytes(item, luts);
            let sum = match place {
                Place::Embeddings => &mut sizes.embeddings,
                Place::Layer(layer) => &mut sizes.layers[*layer],
                Place::EveryChunk => &mut sizes.every_chunk,
                Place::LastChunk => &mut sizes.last_chunk,
                Place::Head => &mut sizes.head,
            };
            *sum = sum.saturating_add(bytes);
        }
        sizes
    }
}

/// Bytes of the weight file that these functions (id and lowered model) share.
///
/// # Errors
/// [`codes::GRAPH_INVALID`] for programs whose weights cannot be read.
pub fn weight_file(functions: &[(&str, &Model)], luts: &Luts) -> Result<u64> {
    Ok(total(functions, luts)?.saturating_add(UNIT))
}

fn total(functions: &[(&str, &Model)], luts: &Luts) -> Result<u64> {
    let items = collect(functions)?;
    Ok(items.iter().fold(0, |sum: u64, (_, item)| sum.saturating_add(item_bytes(item, luts))))
}

fn function(
    id: &str,
    embedding: bool,
    layers: Option<LayerRange>,
    purpose: Purpose,
) -> FunctionSpec {
    FunctionSpec {
        id: id.to_owned(),
        embedding,
        head: !embedding && layers.is_none(),
        layers,
        purpose,
        argmax: false,
    }
}

fn item_bytes(item: &Item, luts: &Luts) -> u64 {
    match item {
        Item::Table { bytes, .. } => record(bytes.len() as u64),
        Item::Weight(weight) => weight_bytes(weight, luts),
    }
}

fn weight_bytes(weight: &Weight, luts: &Luts) -> u64 {
    let elements = weight.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size));
    match lut_of(weight, luts).filter(|_| elements > SMALL) {
        None => record(elements.saturating_mul(2)),
        Some(lut) => {
            let rows = weight.shape.first().copied().unwrap_or(1);
            let groups = match lut.group {
                None => 1,
                Some(group) => rows / largest_divisor(rows, u64::from(group)),
            };
            let entries = 1_u64 << lut.bits.min(16);
            let indices = elements.saturating_mul(u64::from(lut.bits)).div_ceil(8);
            let tables = groups.saturating_mul(entries).saturating_mul(2);
            record(indices).saturating_add(record(tables))
        }
    }
}

/// The tables of the part that a weight belongs to, as the quantizer `lut` decides it.
fn lut_of(weight: &Weight, luts: &Luts) -> Option<Lut> {
    let role = weight.reference.role.as_str();
    if weight.shape.len() < 2 || role.ends_with(".bias") {
        return None;
    }
    match role {
        "embedding" => luts.embeddings,
        "head" => luts.head,
        _ if role.starts_with("attention.") || role.starts_with("mlp.") => luts.layers,
        _ => None,
    }
}

/// The largest divisor of `number` that is at most `limit`; a group of that many rows is taken.
fn largest_divisor(number: u64, limit: u64) -> u64 {
    let limit = limit.clamp(1, number.max(1));
    (1..=limit).rev().find(|divisor| number.is_multiple_of(*divisor)).unwrap_or(1)
}

/// A record of so many data bytes with its metadata, both padded.
fn record(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT).saturating_add(1).saturating_mul(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_all_bounds_do_not_overflow() {
        let huge = PartSizes {
            embeddings: u64::MAX,
            layers: vec![u64::MAX; 3],
            every_chunk: u64::MAX,
            last_chunk: u64::MAX,
            head: u64::MAX,
        };
        let all = Some(LayerRange { first: 0, end: 3 });
        assert_eq!(huge.file(&[&function("all", true, all, Purpose::Infer)]), u64::MAX);
        assert_eq!(record(u64::MAX), u64::MAX);
    }

    #[test]
    fn groups_are_divisors() {
        for (rows, group, taken) in
            [(576, 8, 8), (12, 8, 6), (7, 8, 7), (13, 8, 1), (0, 8, 1), (8, 0, 1)]
        {
            assert_eq!(largest_divisor(rows, group), taken, "{rows} {group}");
        }
    }
}
