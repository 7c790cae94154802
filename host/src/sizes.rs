//! How large weight files will be, before a weight is read: config.json alone is enough.
//!
//! The frontend lowers the model's functions, which name every weight with its shape; the quantizer's
//! plan says as what each will be stored. The result is exact, but for records that turn out to hold
//! the same bytes and are stored once, and for the padding after a file's last record.

use crate::convert::quantization::{Quantization, encoding_of};
use crate::convert::references::{Item, collect};
use crate::terminal::size;
use anemll_layout::layer_ranges;
use anemll_mil::lint;
use anemll_plugin_api::data::{
    FunctionSpec, LayerRange, ModelDescription, ModelInput, Outline, Plan, Purpose,
};
use anemll_plugin_api::{ArchFrontend, DType, Error, Host, Result, codes};
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

    /// Bytes of the weight file of a chunk with these layers, which infer and prefill share.
    pub fn chunk_file(&self, layers: LayerRange) -> u64 {
        let range = layers.first as usize..layers.end as usize;
        let last = if range.end == self.layers.len() { self.last_chunk } else { 0 };
        let own = self.layers.get(range).unwrap_or_default();
        own.iter()
            .fold(UNIT, |sum, bytes| sum.saturating_add(*bytes))
            .saturating_add(self.every_chunk)
            .saturating_add(last)
    }

    /// Bytes of each chunk's weight file.
    ///
    /// # Errors
    /// [`codes::LAYOUT_OPTION_INVALID`] unless there is at least one chunk, and a layer for each.
    pub fn chunk_files(&self, chunks: u32) -> Result<Vec<u64>> {
        let ranges = layer_ranges(self.layer_count(), chunks)?;
        Ok(ranges.into_iter().map(|range| self.chunk_file(range)).collect())
    }

    /// The smallest number of chunks whose weight files and layers are within the limits; none
    /// when not even a layer of its own fits.
    pub fn chunks_within(&self, limits: &Limits) -> Option<u32> {
        let most = limits.file_bytes();
        (1..=self.layer_count()).find(|chunks| {
            self.layer_count().div_ceil(*chunks) <= limits.layers
                && self.chunk_files(*chunks).is_ok_and(|all| all.iter().all(|one| *one <= most))
        })
    }

    /// Bytes of the one weight file of a monolithic conversion.
    pub fn monolithic_file(&self) -> u64 {
        let layers = self.chunk_file(LayerRange { first: 0, end: self.layer_count() });
        layers.saturating_add(self.embeddings).saturating_add(self.head)
    }

    /// Bytes of all weight files of a chunked conversion.
    ///
    /// # Errors
    /// As [`Self::chunk_files`].
    pub fn chunked_files(&self, chunks: u32) -> Result<u64> {
        let ends = self.embeddings_file().saturating_add(self.head_file());
        Ok(self.chunk_files(chunks)?.into_iter().fold(ends, u64::saturating_add))
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

/// Beyond this a model is cut into chunks, even if one file would be small enough: ANEMLL's advice
/// for its monolithic models is 1 to 3 B parameters.
const WHOLE_PARAMETERS: u64 = 3_000_000_000;

/// Why a model is not to be one package of `bytes` of weights; none where it may be.
pub fn why_not_whole(
    description: &ModelDescription,
    bytes: u64,
    limits: &Limits,
) -> Option<String> {
    let (parameters, layers) = (description.parameters, description.layers);
    if parameters > WHOLE_PARAMETERS {
        Some(format!("{:.1} B parameters are more than 3 B", parameters as f64 / 1e9))
    } else if layers > limits.layers {
        Some(format!("{layers} layers are more than {} in one function", limits.layers))
    } else if bytes > limits.file_bytes() {
        let megabytes = limits.chunk_bytes / 1_000_000;
        Some(format!(
            "{} of weights in one file would pass --max-chunk-mb {megabytes}",
            size(bytes)
        ))
    } else {
        None
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
    /// Has the frontend lower a model's functions; `input` needs no tensors.
    ///
    /// # Errors
    /// Those of the frontend, and [`codes::GRAPH_INVALID`] for answers of it that are no programs.
    pub fn read(
        frontend: &dyn ArchFrontend,
        input: &ModelInput,
        description: &ModelDescription,
        host: &Host,
    ) -> Result<Self> {
        let lower = |spec: FunctionSpec| -> Result<Model> {
            let bytes = frontend.lower(input, &spec, host)?;
            coreml_proto::read_model(&bytes).map_err(|source| {
                let id = &spec.id;
                Error::new(codes::GRAPH_INVALID, format!("no valid model for `{id}`: {source}"))
                    .with_hint("this is an error of the arch plugin")
            })
        };
        let layers = |name: &str, end: u32, purpose: Purpose| {
            lower(function(name, false, Some(LayerRange { first: 0, end }), purpose))
        };
        let embeddings = lower(function("embeddings", true, None, Purpose::Infer))?;
        let head = lower(function("lm_head", false, None, Purpose::Infer))?;
        let infer = layers("infer", description.layers, Purpose::Infer)?;
        // Prefill and evaluation bring no weights of their own, but may bring tables.
        let first = layers("first", 1, Purpose::Infer)?;
        let prefill = layers("prefill", 1, Purpose::Prefill)?;
        let evaluate = layers("evaluate", 1, Purpose::Evaluate)?;

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
    pub(crate) fn sizes(
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
    FunctionSpec {
        id: id.to_owned(),
        embedding,
        head: !embedding && layers.is_none(),
        layers,
        purpose,
        argmax: false,
    }
}

/// Bytes of the records of an item.
fn item_bytes(item: &Item, plan: &Plan) -> u64 {
    let weight = match item {
        Item::Table { bytes, .. } => return record(bytes.len() as u64),
        Item::Weight(weight) => weight,
    };
    let bytes = |dtype: DType, shape: &[u64]| dtype.byte_length(shape).unwrap_or(u64::MAX);
    match encoding_of(plan, weight) {
        None => record(bytes(DType::FLOAT16, &weight.shape)),
        Some((_, encoding)) => encoding
            .arguments
            .values()
            .map(|argument| record(bytes(argument.dtype, &argument.shape)))
            .fold(0, u64::saturating_add),
    }
}

/// A record of so many data bytes with its metadata, both padded.
fn record(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT).saturating_add(1).saturating_mul(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> PartSizes {
        PartSizes {
            embeddings: 1000,
            layers: vec![100, 100, 100, 200, 100],
            every_chunk: 10,
            last_chunk: 5,
            head: 2000,
        }
    }

    #[test]
    fn chunks_have_their_layers_and_what_every_chunk_has() {
        let sizes = sizes();
        assert_eq!(sizes.chunk_files(1).unwrap(), [64 + 600 + 10 + 5]);
        assert_eq!(sizes.chunk_files(2).unwrap(), [64 + 300 + 10, 64 + 300 + 10 + 5]);
        assert_eq!(sizes.monolithic_file(), 64 + 1000 + 600 + 15 + 2000);
        assert_eq!(sizes.chunked_files(2).unwrap(), 1064 + 2064 + 374 + 379);
        for chunks in [0, 6] {
            let error = sizes.chunk_files(chunks).unwrap_err();
            assert_eq!(error.code, codes::LAYOUT_OPTION_INVALID);
        }
    }

    #[test]
    fn the_fewest_chunks_that_fit() {
        let sizes = sizes();
        let within = |sizes: &PartSizes, chunk_bytes: u64, layers: u32| {
            sizes.chunks_within(&Limits { chunk_bytes, overhead: 1.0, layers })
        };
        assert_eq!(within(&sizes, 679, 20), Some(1));
        assert_eq!(within(&sizes, 678, 20), Some(2));
        assert_eq!(within(&sizes, 379, 20), Some(2));
        assert_eq!(within(&sizes, 378, 20), Some(3));
        assert_eq!(within(&sizes, 274, 20), Some(4));
        assert_eq!(within(&sizes, 273, 20), None);
        assert_eq!(within(&sizes, 679, 5), Some(1));
        assert_eq!(within(&sizes, 679, 4), Some(2));
        assert_eq!(within(&sizes, 679, 1), Some(5));
        assert_eq!(within(&PartSizes::default(), u64::MAX, 20), None);
    }

    /// What is chosen here is what the lint accepts: to the byte, and to the layer.
    #[test]
    fn the_limits_are_those_of_the_lint() {
        let limits = Limits::of_megabytes(950);
        let found = |bytes: u64| anemll_mil::lint(&coreml_proto::Model::default(), bytes).len();
        assert_eq!(found(limits.file_bytes()), 0);
        assert_eq!(found(limits.file_bytes() + 1), 1);
        let model = |parameters: u64, layers: u32| ModelDescription {
            parameters,
            layers,
            ..ModelDescription::default()
        };
        let why = |model: ModelDescription, bytes: u64| why_not_whole(&model, bytes, &limits);
        assert_eq!(why(model(3_000_000_000, 20), limits.file_bytes()), None);
        let reason = why(model(134_515_008, 30), 78_800_000).unwrap();
        assert_eq!(reason, "30 layers are more than 20 in one function");
        let reason = why(model(1, 20), limits.file_bytes() + 1).unwrap();
        assert_eq!(reason, "864 MB of weights in one file would pass --max-chunk-mb 950");
        assert!(why(model(3_100_000_000, 1), 1).unwrap().contains("3.1 B parameters"));
    }

    #[test]
    fn sizes_beyond_all_bounds_do_not_overflow() {
        let huge = PartSizes {
            embeddings: u64::MAX,
            layers: vec![u64::MAX; 3],
            every_chunk: u64::MAX,
            last_chunk: u64::MAX,
            head: u64::MAX,
        };
        assert_eq!(huge.monolithic_file(), u64::MAX);
        assert_eq!(huge.chunked_files(3).unwrap(), u64::MAX);
        assert_eq!(record(u64::MAX), u64::MAX);
    }
}
