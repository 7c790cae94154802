//! How large weight files will be, before a weight is read: config.json alone is enough.
//!
//! The frontend lowers the model's functions, which name every weight with its shape; the quantizer's
//! plan says as what each will be stored. The result is exact, but for records that turn out to hold
//! the same bytes and are stored once, and for the padding after a file's last record.

use crate::quantization::Quantization;
use crate::references::{Item, collect};
use anemll_codes as codes;
use anemll_mil::lint;
use anemll_plugin_api::data::{
    Decision, FunctionSpec, LayerRange, ModelDescription, Outline, Plan, Purpose,
};
use anemll_plugin_api::{ArchModel, DType, Error, Host, Result};
use coreml_proto::Model;
use serde::Serialize;
use std::collections::HashSet;

/// Bytes of a weight file's header, of a record's metadata, and what both are padded to.
const UNIT: u64 = 64;

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
        let all = LayerRange::new(0, self.layer_count());
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

/// Functions that a quantizer plans together, with their weights and tables.
struct Group {
    /// Their ids and programs.
    functions: Vec<(&'static str, Model)>,
    /// What stands in them, by key.
    items: Vec<(String, Item)>,
    /// Where each of the items belongs.
    places: Vec<Place>,
}

impl Group {
    fn new(
        functions: Vec<(&'static str, Model)>,
        place: impl Fn(&str, &Item) -> Place,
    ) -> Result<Self> {
        let items = collect(&members(&functions))?;
        let places = items.iter().map(|(key, item)| place(key, item)).collect();
        Ok(Self { functions, items, places })
    }
}

fn members<'a>(functions: &'a [(&'static str, Model)]) -> Vec<(&'a str, &'a Model)> {
    functions.iter().map(|(id, model)| (*id, model)).collect()
}

/// Every weight and table of a model, from which sizes with any quantizer follow.
pub struct Inventory {
    groups: Vec<Group>,
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
                    .with_hint("this is a bug in the arch plugin; please report it to its author")
            })
        };
        let layers = |name: &str, end: u32, purpose: Purpose| {
            lower(function(name, false, Some(LayerRange::new(0, end)), purpose))
        };
        let purposes = match description.embedding.is_some() {
            true => [Purpose::Embed; 3],
            false => [Purpose::Infer, Purpose::Prefill, Purpose::Evaluate],
        };
        let embeddings = lower(function("embeddings", true, None, purposes[0]))?;
        let head = lower(function("lm_head", false, None, purposes[0]))?;
        let infer = layers("infer", description.layers, purposes[0])?;
        // Prefill and evaluation bring no weights of their own, but may bring tables.
        let first = layers("first", 1, purposes[0])?;
        let prefill = layers("prefill", 1, purposes[1])?;
        let evaluate = layers("evaluate", 1, purposes[2])?;

        // What stands in infer without being a layer's, and not in a chunk of the first layer, is
        // the last chunk's.
        let keys = |id: &str, model: &Model| -> Result<HashSet<String>> {
            Ok(collect(&[(id, model)])?.into_iter().map(|(key, _)| key).collect())
        };
        let (in_first, in_infer) = (keys("first", &first)?, keys("infer", &infer)?);
        let count = description.layers as usize;
        let place = |key: &str, item: &Item| {
            let layer = match item {
                Item::Weight(weight) => weight.reference.layer,
                Item::Table { .. } => None,
            };
            match layer.map(|layer| layer as usize).filter(|layer| *layer < count) {
                Some(layer) => Place::Layer(layer),
                None if in_infer.contains(key) && !in_first.contains(key) => Place::LastChunk,
                None => Place::EveryChunk,
            }
        };
        let chunk = vec![("infer", infer), ("prefill", prefill), ("evaluate", evaluate)];
        let groups = vec![
            Group::new(vec![("embeddings", embeddings)], |_, _| Place::Embeddings)?,
            Group::new(vec![("lm_head", head)], |_, _| Place::Head)?,
            Group::new(chunk, place)?,
        ];
        Ok(Self { groups, layers: count })
    }

    /// What the parts take as a quantizer stores them; without one, as 16-bit floats.
    ///
    /// # Errors
    /// Those of the quantizer's plan.
    pub fn sizes(
        &self,
        quantization: Option<&Quantization>,
        outline: &Outline,
        host: &Host,
    ) -> Result<PartSizes> {
        let mut sizes = PartSizes { layers: vec![0; self.layers], ..PartSizes::default() };
        for group in &self.groups {
            let plan = match quantization {
                Some(stage) => {
                    stage.plan(outline, &group.items, &members(&group.functions), host)?
                }
                None => Plan::default(),
            };
            for (place, (_, item)) in group.places.iter().zip(&group.items) {
                let sum = match place {
                    Place::Embeddings => &mut sizes.embeddings,
                    Place::Layer(layer) => &mut sizes.layers[*layer],
                    Place::EveryChunk => &mut sizes.every_chunk,
                    Place::LastChunk => &mut sizes.last_chunk,
                    Place::Head => &mut sizes.head,
                };
                *sum = sum.saturating_add(item_bytes(item, &plan));
            }
        }
        Ok(sizes)
    }
}

/// Bytes of the weight file that these functions (id and lowered model) share.
///
/// # Errors
/// [`codes::GRAPH_INVALID`] for programs whose weights cannot be read; those of the quantizer's plan.
pub(crate) fn weight_file(
    functions: &[(&str, &Model)],
    quantization: Option<&Quantization>,
    outline: &Outline,
    host: &Host,
) -> Result<u64> {
    let items = collect(functions)?;
    let plan = match quantization {
        Some(stage) => stage.plan(outline, &items, functions, host)?,
        None => Plan::default(),
    };
    let bytes = items.iter().map(|(_, item)| item_bytes(item, &plan));
    Ok(bytes.fold(UNIT, u64::saturating_add))
}

fn function(
    id: &str,
    embedding: bool,
    layers: Option<LayerRange>,
    purpose: Purpose,
) -> FunctionSpec {
    FunctionSpec::new(id, purpose)
        .with_embedding(embedding)
        .with_head(!embedding && layers.is_none())
        .with_layers(layers)
}

/// Bytes of the records of an item.
fn item_bytes(item: &Item, plan: &Plan) -> u64 {
    let weight = match item {
        Item::Table { bytes, .. } => return record(bytes.len() as u64),
        Item::Weight(weight) => weight,
    };
    weight_bytes(&weight.shape, plan.decisions.get(&weight.id))
}

/// Bytes of the records of a weight of this shape, as it is decided; without a decision, or one that
/// encodes it, it is float16.
pub(crate) fn weight_bytes(shape: &[u64], decision: Option<&Decision>) -> u64 {
    let bytes = |dtype: DType, shape: &[u64]| dtype.byte_length(shape).unwrap_or(u64::MAX);
    match decision.and_then(|decision| Some((decision, decision.encoding.as_ref()?))) {
        None => record(bytes(DType::FLOAT16, shape)),
        Some((decision, encoding)) => {
            let arguments = encoding.arguments.values();
            let scale = decision
                .output_scale
                .then(|| record(bytes(DType::FLOAT16, shape.get(..1).unwrap_or_default())));
            arguments
                .map(|argument| record(bytes(argument.dtype, &argument.shape)))
                .chain(scale)
                .fold(0, u64::saturating_add)
        }
    }
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
        let all = Some(LayerRange::new(0, 3));
        assert_eq!(huge.file(&[&function("all", true, all, Purpose::Infer)]), u64::MAX);
        assert_eq!(record(u64::MAX), u64::MAX);
    }
}
