//! The weights of a model, what each takes, and the layers that they belong to.

use super::open::Opened;
use anemll_mil::{DataType, model};
use anemll_plugin_api::Result;
use anemll_services as services;
use anemll_terminal::{Bar, Unit};
use anemll_weights::{Decoder, Part, Statistics, TableUse, Weight, WeightFiles};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Bins of a weight's histogram.
pub const BINS: usize = 64;

/// A weight: what running operations see of it, and what it is stored in.
#[derive(Debug, Serialize)]
pub struct WeightInspection {
    /// Name of the value that it gives, in the first function that uses it.
    pub name: String,
    /// What it is for, guessed from its name.
    pub role: Role,
    /// The layer, guessed from its name, such as `0` or `encoder 0`.
    pub layer: Option<String>,
    /// Operation that makes it: `const`, or a constexpr.
    pub operation: String,
    /// How it is stored: `plain`, or such as `4-bit palettized`.
    pub form: String,
    /// Element type as running operations see it.
    pub dtype: &'static str,
    /// Shape as running operations see it.
    pub shape: Vec<u64>,
    /// Number of values.
    pub elements: u64,
    /// Bytes of all parts.
    pub bytes: u64,
    /// Bits for each value, all parts counted.
    pub bits: f64,
    /// Functions that share it.
    pub functions: Vec<String>,
    /// Operations of all functions that hold it.
    pub uses: u64,
    /// What it is stored in.
    pub parts: Vec<PartInspection>,
    /// Use of its lookup tables; only where values were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<TableUse>,
    /// What its values are like; only where values were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A stored tensor of a weight.
#[derive(Debug, Clone, Serialize)]
pub struct PartInspection {
    /// The operation or the argument that holds it, such as `const` or
    /// `constexpr_lut_to_dense.indices`.
    pub holder: String,
    /// Element type.
    pub dtype: &'static str,
    /// Shape.
    pub shape: Vec<u64>,
    /// Bytes.
    pub bytes: u64,
    /// The weight file as the program names it; absent where the data stand in the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Offset of the record in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// A record of the weight file.
#[derive(Debug, Serialize)]
pub struct RecordInspection {
    /// Name of the weight that it belongs to.
    pub name: String,
    /// The stored tensor.
    #[serde(flatten)]
    pub part: PartInspection,
    /// Functions that use it.
    pub functions: Vec<String>,
}

/// What a weight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Token embeddings.
    Embedding,
    /// Attention.
    Attention,
    /// The feed-forward part of a layer.
    Mlp,
    /// Scales of norms.
    Norm,
    /// The language model head.
    Head,
    /// Anything else.
    Other,
}

impl Role {
    /// All roles, in the order of legends.
    pub const ALL: [Self; 6] =
        [Self::Embedding, Self::Attention, Self::Mlp, Self::Norm, Self::Head, Self::Other];

    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Attention => "attention",
            Self::Mlp => "mlp",
            Self::Norm => "norm",
            Self::Head => "head",
            Self::Other => "other",
        }
    }

    fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        match () {
            () if has(&["norm", "ln_"]) => Self::Norm,
            () if has(&["embed", "wte", "wpe"]) => Self::Embedding,
            () if has(&["lm_head", "lmhead", "output_head"]) => Self::Head,
            () if has(&["attn", "attention", "q_proj", "k_proj", "v_proj", "o_proj", "qkv"]) => {
                Self::Attention
            }
            () if has(&["mlp", "ffn", "feed_forward", "gate_proj", "up_proj", "down_proj"]) => {
                Self::Mlp
            }
            () => Self::Other,
        }
    }
}

/// The weights of one layer, or of one role outside the layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerInspection {
    /// Such as `0`, `encoder 0`, `embedding`, `head`, `other`.
    pub name: String,
    /// Whether it is a numbered layer.
    pub numbered: bool,
    /// Number of weights.
    pub weights: u64,
    /// Number of values.
    pub elements: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bits for each value.
    pub bits: f64,
    /// Bytes by role.
    pub roles: BTreeMap<&'static str, u64>,
}

/// Number of bits for each value; 0 where there is none.
pub fn bits(bytes: u64, elements: u64) -> f64 {
    if elements == 0 { 0.0 } else { bytes as f64 * 8.0 / elements as f64 }
}

/// All weights, of one function if one is named. With `values`, every value is read.
pub fn weights(
    opened: &Opened,
    function: Option<&str>,
    values: bool,
) -> Result<Vec<WeightInspection>> {
    let program = model::program(opened.model()).ok();
    let blocks: HashMap<&str, _> = program
        .into_iter()
        .flat_map(|program| &program.functions)
        .filter_map(|(name, body)| Some((name.as_str(), model::block(body).ok()?)))
        .collect();
    let decoders: HashMap<&str, Decoder<'_>> =
        blocks.iter().map(|(name, block)| (*name, Decoder::new(block, opened.files()))).collect();
    let listed: Vec<Weight<'_>> = anemll_weights::list(opened.model())
        .into_iter()
        .filter(|weight| function.is_none_or(|name| weight.functions.contains(&name)))
        .collect();
    let several = {
        let mut places: Vec<&str> =
            listed.iter().filter_map(|weight| Some(layer_of(weight.name)?.0)).collect();
        places.dedup();
        places.windows(2).any(|pair| pair[0] != pair[1])
    };
    let bar =
        values.then(|| Bar::new("reading weights", listed.len() as u64, Unit::Count("weights")));
    let look = |weight: Weight<'_>| -> Result<WeightInspection> {
        services::check_cancelled()?;
        let decoder = weight.functions.first().and_then(|name| decoders.get(name));
        let mut found = describe(&weight, opened.files(), several);
        if let (true, None, Some(decoder)) = (values, &found.problem, decoder) {
            match decoder.values(weight.name) {
                Ok(decoded) => {
                    let statistics = Statistics::of(&decoded, BINS)?;
                    found.statistics = Some(statistics);
                    found.tables = TableUse::of(&decoded)?;
                }
                Err(problem) => found.problem = Some(problem.to_string()),
            }
        }
        if let Some(bar) = &bar {
            bar.add(1);
        }
        Ok(found)
    };
    if values {
        listed.into_par_iter().map(look).collect()
    } else {
        listed.into_iter().map(look).collect()
    }
}

fn describe(weight: &Weight<'_>, files: &WeightFiles, several: bool) -> WeightInspection {
    let kind = weight.kind.as_ref();
    let layer = layer_of(weight.name).map(|(place, number)| match several {
        true if !place.is_empty() => format!("{place} {number}"),
        _ => number.to_owned(),
    });
    WeightInspection {
        name: weight.name.to_owned(),
        role: Role::of(weight.name),
        layer,
        operation: weight.operation.to_owned(),
        form: form(weight),
        dtype: kind.map_or("unknown", |kind| kind.data_type.name()),
        shape: kind.and_then(|kind| kind.fixed_shape()).unwrap_or_default(),
        elements: weight.elements(),
        bytes: weight.bytes(),
        bits: bits(weight.bytes(), weight.elements()),
        functions: weight.functions.iter().map(|name| (*name).to_owned()).collect(),
        uses: weight.places.len() as u64,
        problem: weight.parts.iter().find_map(|part| record_problem(part, files)),
        parts: weight.parts.iter().map(PartInspection::from).collect(),
        tables: None,
        statistics: None,
    }
}

/// Whether the record of a part is there, and is what the program says.
fn record_problem(part: &Part<'_>, files: &WeightFiles) -> Option<String> {
    let place = part.place?;
    let Some(file) = files.get(place.file) else {
        return Some(format!("the weight file {:?} is missing", place.file));
    };
    let record = match file.record(place.offset) {
        Ok(record) => record,
        Err(error) => return Some(error.reason().to_owned()),
    };
    let stored = record.blob_type().data_type();
    let fits = stored == part.data_type && record.size_in_bytes() == part.bytes;
    (!fits).then(|| {
        format!(
            "record at offset {}: {} bytes of {}, but the program says {} bytes of {}",
            place.offset,
            record.size_in_bytes(),
            stored.name(),
            part.bytes,
            part.data_type.name()
        )
    })
}

/// How a weight is stored, in words.
pub fn form(weight: &Weight<'_>) -> String {
    let named = |end: &str| weight.parts.iter().find(|part| part.holder.ends_with(end));
    let mut words = Vec::new();
    if let Some(indices) = named(".indices").or_else(|| named(".indices_nonzero_data")) {
        let bits = match named(".lut") {
            // The older form packs indices of any width into bytes; its table is flat.
            Some(lut) if lut.shape.len() == 1 => lut.shape[0].max(1).ilog2(),
            _ => indices.data_type.bits().unwrap_or(0),
        };
        words.push(format!("{bits}-bit palettized"));
    }
    if let Some(data) = named(".quantized_data")
        .or_else(|| named("blockwise_shift_scale.data"))
        .or_else(|| named("sparse_blockwise_shift_scale.nonzero_data"))
    {
        words.push(format!("{} scaled", data.data_type.name()));
    } else if named(".scale").is_some() {
        words.push("scaled".to_owned());
    }
    if named("mask").is_some() {
        words.push("sparse".to_owned());
    }
    match words.is_empty() {
        true => "plain".to_owned(),
        false => words.join(", "),
    }
}

/// What stands before the word for a layer, and the number behind it: `model_layers_7_mlp` has
/// (`model`, `7`).
fn layer_of(name: &str) -> Option<(&str, &str)> {
    let mut start = 0;
    let mut before: Option<(usize, &str)> = None;
    for token in name.split(|character: char| !character.is_ascii_alphanumeric()) {
        if let Some((place, word)) = before
            && matches!(word, "layers" | "layer" | "blocks" | "block" | "h")
            && !token.is_empty()
            && token.len() <= 4
            && token.bytes().all(|byte| byte.is_ascii_digit())
        {
            let place = name[..place].trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            return Some((place, token));
        }
        before = Some((start, token));
        start += token.len() + 1;
        // Names are legal identifiers; another one may have a separator of several bytes.
        if !name.is_char_boundary(start.min(name.len())) {
            return None;
        }
    }
    None
}

/// Sums for each layer: embeddings first, then the layers in order, then the rest.
pub fn layers(weights: &[WeightInspection]) -> Vec<LayerInspection> {
    let mut rows: Vec<((u8, String, u64), LayerInspection)> = Vec::new();
    let mut places: HashMap<(u8, String, u64), usize> = HashMap::new();
    for weight in weights {
        let key = match (&weight.layer, weight.role) {
            (Some(layer), _) => {
                let (place, number) = layer.rsplit_once(' ').unwrap_or(("", layer));
                (1, place.to_owned(), number.parse().unwrap_or(0))
            }
            (None, Role::Embedding) => (0, "embedding".to_owned(), 0),
            (None, Role::Head) => (2, "head".to_owned(), 0),
            (None, _) => (3, "other".to_owned(), 0),
        };
        let place = *places.entry(key.clone()).or_insert_with(|| {
            let name = weight.layer.clone().unwrap_or_else(|| key.1.clone());
            let row = LayerInspection {
                name,
                numbered: weight.layer.is_some(),
                weights: 0,
                elements: 0,
                bytes: 0,
                bits: 0.0,
                roles: BTreeMap::new(),
            };
            rows.push((key.clone(), row));
            rows.len() - 1
        });
        let row = &mut rows[place].1;
        row.weights += 1;
        row.elements = row.elements.saturating_add(weight.elements);
        row.bytes = row.bytes.saturating_add(weight.bytes);
        let role = row.roles.entry(weight.role.name()).or_default();
        *role = role.saturating_add(weight.bytes);
    }
    rows.sort_by(|first, second| first.0.cmp(&second.0));
    rows.into_iter()
        .map(|(_, row)| LayerInspection { bits: bits(row.bytes, row.elements), ..row })
        .collect()
}

/// The records of the weight files, once each, in the order of the files.
pub fn records(weights: &[WeightInspection]) -> Vec<RecordInspection> {
    let mut found: BTreeMap<(String, u64), RecordInspection> = BTreeMap::new();
    for weight in weights {
        for part in &weight.parts {
            let (Some(file), Some(offset)) = (&part.file, part.offset) else { continue };
            let record = found.entry((file.clone(), offset)).or_insert_with(|| RecordInspection {
                name: weight.name.clone(),
                part: part.clone(),
                functions: Vec::new(),
            });
            for function in &weight.functions {
                if !record.functions.contains(function) {
                    record.functions.push(function.clone());
                }
            }
        }
    }
    found.into_values().collect()
}

impl From<&Part<'_>> for PartInspection {
    fn from(part: &Part<'_>) -> Self {
        Self {
            holder: part.holder.clone(),
            dtype: DataType::name(part.data_type),
            shape: part.shape.clone(),
            bytes: part.bytes,
            file: part.place.map(|place| place.file.to_owned()),
            offset: part.place.map(|place| place.offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_from_names() {
        assert_eq!(
            layer_of("model_model_layers_12_mlp_up_proj_weight"),
            Some(("model_model", "12"))
        );
        assert_eq!(layer_of("encoder.layer.3.bias"), Some(("encoder", "3")));
        assert_eq!(layer_of("transformer_h_0_attn"), Some(("transformer", "0")));
        assert_eq!(layer_of("layers_7"), Some(("", "7")));
        for name in
            ["model_norm", "layers", "layers_x_1", "op_12_cast", "", "layers_12345_w", "é€é"]
        {
            assert_eq!(layer_of(name), None, "{name}");
        }
    }

    #[test]
    fn roles_are_read_from_names() {
        for (name, role) in [
            ("model_layers_0_post_attention_layernorm_weight", Role::Norm),
            ("model_layers_0_self_attn_q_proj_weight", Role::Attention),
            ("model_layers_0_mlp_gate_proj_weight", Role::Mlp),
            ("model_embed_tokens_weight", Role::Embedding),
            ("lm_head8_1_weight", Role::Head),
            ("op_17", Role::Other),
        ] {
            assert_eq!(Role::of(name), role, "{name}");
        }
    }
}
