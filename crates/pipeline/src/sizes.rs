//! How large weight files will be, before a weight is read: config.json alone is enough.
//!
//! The frontend lowers the model's functions, which name every weight with its shape; what those
//! come to at the chosen bits is arithmetic. The result is exact, but for records that turn out to
//! hold the same bytes and are stored once, and for the padding after a file's last record.

use crate::lut::{Lut, Luts};
use crate::references::{Item, Weight, collect};
use anemll_layout::layer_ranges;
use anemll_mil::lint;
use anemll_plugin_api::data::{FunctionSpec, LayerRange, ModelDescription, ModelInput, Purpose};
use anemll_plugin_api::{ArchFrontend, Error, Host, Result, codes};
use anemll_terminal::size;
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

/// Every weight and table of a model, from which sizes at any bits follow.
pub struct Inventory {
    items: Vec<(Place, Item)>,
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

    #[test]
    fn groups_are_divisors() {
        for (rows, group, taken) in
            [(576, 8, 8), (12, 8, 6), (7, 8, 7), (13, 8, 1), (0, 8, 1), (8, 0, 1)]
        {
            assert_eq!(largest_divisor(rows, group), taken, "{rows} {group}");
        }
    }
}
