//! LoRA adapters of PEFT: their configuration, and the product that each adds to a weight.

use crate::decode::decode;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::json;
use crate::shard::Shard;
use crate::tensor::{Made, TensorData};
use crate::{SourceType, TensorInfo, to_f32};
use anemll_files::Limit;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// What stands before the names of modules.
const PREFIX: &str = "base_model.model.";

/// Starts of `init_lora_weights` with which the model itself was changed when training began.
const CHANGED: [&str; 4] = ["pissa", "olora", "loftq", "corda"];

/// An adapter that has been read.
pub(crate) struct Lora {
    /// adapter_config.json as it is.
    pub(crate) config: (PathBuf, Vec<u8>),
    pub(crate) shard: Arc<Shard>,
    /// What is added to each weight, by the name of the module.
    updates: BTreeMap<String, Update>,
}

/// The model that an adapter changes.
pub(crate) trait Base: fmt::Debug + Send + Sync {
    /// Where it is.
    fn path(&self) -> &Path;
    /// What is known of a weight.
    fn info(&self, name: &str) -> Option<&TensorInfo>;
    /// A weight.
    fn weight(&self, name: &str) -> Result<TensorData<'_>>;
}

/// What is added to a weight: `scale` times the product of `left`, rows x rank, and `right`, rank x
/// columns.
#[derive(Debug)]
struct Update {
    left: Vec<f32>,
    right: Vec<f32>,
    rank: usize,
    scale: f32,
}

/// Name, shape and values of a weight with an update added.
pub(crate) type Adapted = (String, Vec<u64>, Arc<dyn Made>);

/// A weight with an update added, in float32.
#[derive(Debug)]
struct Merged {
    base: Arc<dyn Base>,
    name: String,
    columns: usize,
    update: Update,
}

/// The two matrices of a module, as the file has them.
#[derive(Default)]
struct Pair {
    a: Option<(String, TensorInfo)>,
    b: Option<(String, TensorInfo)>,
    /// Whether the module is an embedding, whose update is transposed.
    embedding: bool,
}

impl Lora {
    /// Reads an adapter's directory.
    ///
    /// # Errors
    /// What is missing or damaged, and what cannot be merged, by name.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(CONFIG);
        if !path.is_file() {
            let reason = "this is not an adapter of PEFT: the file is missing";
            return Err(HuggingFaceError::new(ErrorKind::AdapterUnfit, path, reason)
                .with_hint("give the folder with adapter_config.json and its weights"));
        }
        let bytes = json::read(&path, Limit::CONFIG, ErrorKind::AdapterUnfit)?;
        let text = json::text(&path, &bytes, ErrorKind::AdapterUnfit)?;
        let config = json::python(CONFIG, text)
            .map_err(|error| json::invalid(ErrorKind::AdapterUnfit, &path, text, &error))?;
        let config = Settings::read(&path, &config.value)?;
        let weights = directory.join(WEIGHTS);
        if !weights.is_file() {
            let reason = "the adapter's weights are missing";
            return Err(HuggingFaceError::new(ErrorKind::AdapterUnfit, weights, reason)
                .with_hint("save the adapter as safetensors"));
        }
        let (shard, tensors) = Shard::open(&weights, 0)?;
        let shard = Arc::new(shard);
        let mut updates = BTreeMap::new();
        for (module, pair) in pairs(&weights, tensors)? {
            updates.insert(module.clone(), update(&shard, &config, &module, pair)?);
        }
        Ok(Self { config: (path, bytes), shard, updates })
    }

    /// Number of weights that the adapter changes.
    pub(crate) fn count(&self) -> usize {
        self.updates.len()
    }

    /// The weights of a model that the adapter changes, with its updates added.
    ///
    /// # Errors
    /// A module that the model does not have, or with another shape.
    pub(crate) fn merge(self, base: &Arc<dyn Base>) -> Result<Vec<Adapted>> {
        let mut merged: Vec<Adapted> = Vec::new();
        for (module, update) in self.updates {
            let name = format!("{module}.weight");
            let wrong = |reason: String| {
                HuggingFaceError::new(ErrorKind::AdapterUnfit, &self.shard.path, reason)
                    .with_key(&module)
                    .with_hint(
                        "the adapter is of another model: give the one that it was trained on",
                    )
            };
            let Some(info) = base.info(&name) else {
                return Err(wrong(format!(
                    "the adapter changes a module that the model {} does not have",
                    base.path().display()
                )));
            };
            let rank = update.rank;
            let (rows, columns) = (update.left.len() / rank, update.right.len() / rank);
            if info.shape != [rows as u64, columns as u64] {
                return Err(wrong(format!(
                    "the adapter changes a weight of shape {:?}, but the model has {:?}",
                    [rows, columns],
                    info.shape
                )));
            }
            base.weight(&name)?;
            let shape = info.shape.clone();
            let values = Merged { base: Arc::clone(base), name: name.clone(), columns, update };
            merged.push((name, shape, Arc::new(values)));
        }
        Ok(merged)
    }
}

/// The tensors of the file by module; every one must have its place.
fn pairs(file: &Path, tensors: BTreeMap<String, TensorInfo>) -> Result<BTreeMap<String, Pair>> {
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    let wrong = |name: &str, reason: &str| {
        HuggingFaceError::new(ErrorKind::AdapterUnfit, file, reason)
            .with_key(name)
            .with_hint("merge the adapter with peft, and convert the result")
    };
    for (name, info) in tensors {
        let module = name.strip_prefix(PREFIX).and_then(|rest| {
            [
                (".lora_A.weight", false, false),
                (".lora_B.weight", true, false),
                (".lora_embedding_A", false, true),
                (".lora_embedding_B", true, true),
            ]
            .into_iter()
            .find_map(|(end, second, embedding)| {
                Some((rest.strip_suffix(end)?.to_owned(), second, embedding))
            })
        });
        let Some((module, second, embedding)) = module else {
            let reason = "the tensor does not belong to a LoRA adapter";
            return Err(wrong(&name, reason));
        };
        if info.shape.len() != 2 || info.elements() == 0 {
            return Err(wrong(&name, "the tensor is not a matrix"));
        }
        let pair = pairs.entry(module).or_default();
        pair.embedding |= embedding;
        let half = if second { &mut pair.b } else { &mut pair.a };
        *half = Some((name, info));
    }
    if pairs.is_empty() {
        return Err(wrong(WEIGHTS, "the adapter holds no tensors"));
    }
    Ok(pairs)
}

fn update(shard: &Shard, settings: &Settings, module: &str, pair: Pair) -> Result<Update> {
    let wrong = |reason: String| {
        HuggingFaceError::new(ErrorKind::AdapterUnfit, &shard.path, reason)
            .with_key(module)
            .with_hint("save the adapter again")
    };
    let (Some(a), Some(b)) = (pair.a, pair.b) else {
        return Err(wrong("one of the two matrices is missing".to_owned()));
    };
    let rank = a.1.shape[0];
    if b.1.shape[1] != rank {
        return Err(wrong(format!(
            "the matrices {:?} and {:?} have no product",
            b.1.shape, a.1.shape
        )));
    }
    if settings.rank.is_some_and(|expected| expected != rank) {
        let reason = format!("the rank is {rank}, which {CONFIG} does not say");
        return Err(wrong(reason));
    }
    let read = |(name, info): &(String, TensorInfo)| {
        let tensor = TensorData::of_file(shard, name, info);
        let values = to_f32(&tensor)?;
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(wrong(format!("`{name}` has values that are not finite"))),
        }
    };
    let scale = settings.scale(module, rank);
    let (first, second) = (read(&a)?, read(&b)?);
    let (rank, scale) = (rank as usize, scale as f32);
    // An embedding's rows are tokens: the product is transposed.
    Ok(match pair.embedding {
        false => Update { left: second, right: first, rank, scale },
        true => Update {
            left: transposed(&first, rank),
            right: transposed(&second, second.len() / rank),
            rank,
            scale,
        },
    })
}

/// The transposed of a matrix of so many rows.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..values.len()).map(|at| values[at % rows * columns + at / rows]).collect()
}

/// What adapter_config.json says.
struct Settings {
    alpha: f64,
    /// By patterns of modules' names.
    alphas: Vec<(Regex, f64)>,
    /// The rank of all modules, where it is the same.
    rank: Option<u64>,
    root: bool,
}

impl Settings {
    fn read(path: &Path, config: &Value) -> Result<Self> {
        let refuse = |key: &str, reason: &str| {
            HuggingFaceError::new(ErrorKind::AdapterUnfit, path, reason)
                .with_key(key)
                .with_hint("merge the adapter with peft, and convert the result")
        };
        let given = |key: &str| config.get(key).filter(|value| is_something(value));
        match config.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            other => {
                let kind = other.unwrap_or("of no kind");
                return Err(refuse("peft_type", &format!("adapters of this kind ({kind})")));
            }
        }
        for (key, reason) in [
            ("modules_to_save", "the adapter brings whole modules, which are not merged"),
            ("use_dora", "DoRA is not merged"),
            ("lora_bias", "biases of the adapter are not merged"),
            ("trainable_token_indices", "tokens that were trained apart are not merged"),
            ("target_parameters", "changes to parameters outside of modules are not merged"),
            ("use_qalora", "QALoRA is not merged"),
            ("layer_replication", "the adapter repeats layers of the model"),
            ("megatron_config", "parallel layers are not merged"),
        ] {
            if given(key).is_some() {
                return Err(refuse(key, reason));
            }
        }
        if given("bias").is_some_and(|bias| bias != "none") {
            return Err(refuse("bias", "biases that were trained are not merged"));
        }
        if let Some(init) = config.get("init_lora_weights").and_then(Value::as_str)
            && CHANGED.iter().any(|start| init.to_lowercase().starts_with(start))
        {
            let reason = format!("`{init}` changed the model itself before training");
            return Err(refuse("init_lora_weights", &reason));
        }
        let number = |key: &str| {
            let number = config.get(key).and_then(Value::as_f64);
            number.filter(|number| number.is_finite()).ok_or_else(|| refuse(key, "not a number"))
        };
        let rank = config.get("r").and_then(Value::as_u64).filter(|rank| *rank > 0);
        let rank = rank.ok_or_else(|| refuse("r", "not a rank"))?;
        let mut alphas = Vec::new();
        let patterns = given("alpha_pattern").and_then(Value::as_object);
        for (pattern, alpha) in patterns.into_iter().flatten() {
            let regex = Regex::new(&format!(r"^(.*\.)?({pattern})$"));
            let Some((regex, alpha)) = regex.ok().zip(alpha.as_f64()) else {
                return Err(refuse("alpha_pattern", &format!("`{pattern}` cannot be used")));
            };
            alphas.push((regex, alpha));
        }
        Ok(Self {
            alpha: number("lora_alpha")?,
            alphas,
            rank: Some(rank).filter(|_| given("rank_pattern").is_none()),
            root: config.get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// The factor of a module's product.
    fn scale(&self, module: &str, rank: u64) -> f64 {
        let own = self.alphas.iter().find(|(pattern, _)| pattern.is_match(module));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        alpha / if self.root { (rank as f64).sqrt() } else { rank as f64 }
    }
}

/// Whether a value says more than that there is none.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

impl Made for Merged {
    fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        let first = (start / 4) as usize;
        let mut values = vec![0.0; buffer.len() / 4];
        let base = self.base.weight(&self.name)?;
        let width = base.source_type.width().unwrap_or(1);
        let part = base.part((first * width) as u64, ((first + values.len()) * width) as u64);
        let mut at = 0;
        part.for_each_piece(|piece| {
            let count = piece.len() / width;
            for (bytes, values) in piece
                .chunks(crate::decode::CHUNK * width)
                .zip(values[at..at + count].chunks_mut(crate::decode::CHUNK))
            {
                decode(base.source_type, bytes, values);
            }
            at += count;
            Ok(())
        })?;
        self.update.add(first, self.columns, &mut values);
        for (bytes, value) in buffer.as_chunks_mut::<4>().0.iter_mut().zip(&values) {
            *bytes = value.to_le_bytes();
        }
        Ok(())
    }
}

impl Update {
    /// Adds the elements from `first` on to as many values.
    fn add(&self, first: usize, columns: usize, values: &mut [f32]) {
        let mut sums = vec![0.0; columns];
        let mut at = 0;
        while at < values.len() {
            let (row, column) = ((first + at) / columns, (first + at) % columns);
            let count = (columns - column).min(values.len() - at);
            let sums = &mut sums[..count];
            sums.fill(0.0_f32);
            let left = &self.left[row * self.rank..(row + 1) * self.rank];
            for (factor, right) in left.iter().zip(self.right.chunks_exact(columns)) {
                for (sum, value) in sums.iter_mut().zip(&right[column..]) {
                    *sum += factor * value;
                }
            }
            for (value, sum) in values[at..at + count].iter_mut().zip(&*sums) {
                *value += sum * self.scale;
            }
            at += count;
        }
    }
}

/// A merged weight as a model directory lists it.
pub(crate) fn info(shape: Vec<u64>, file: usize) -> TensorInfo {
    let bytes = shape.iter().product::<u64>() * 4;
    TensorInfo { source_type: SourceType::Float32, shape, file, range: 0..bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_added_wherever_a_piece_begins() {
        let update = Update {
            left: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            right: vec![1.0, 0.0, 2.0, 0.0, 1.0, 1.0],
            rank: 2,
            scale: 0.5,
        };
        let mut whole = vec![10.0; 9];
        update.add(0, 3, &mut whole);
        assert_eq!(whole, [10.5, 11.0, 12.0, 11.5, 12.0, 15.0, 12.5, 13.0, 18.0]);
        let mut part = vec![10.0; 5];
        update.add(2, 3, &mut part);
        assert_eq!(part, whole[2..7]);
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn scales_follow_patterns_and_roots() {
        let settings = |text: &str| {
            Settings::read(Path::new("x"), &serde_json::from_str(text).unwrap())
                .map_err(|e| e.to_string())
        };
        let plain = settings(
            r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8,
                "alpha_pattern": {"q_proj": 2, "layers\\.1\\.mlp\\..*": 16}}"#,
        );
        let plain = plain.unwrap();
        for (module, scale) in [
            ("model.layers.0.self_attn.v_proj", 2.0),
            ("model.layers.0.self_attn.q_proj", 0.5),
            ("model.layers.0.self_attn.xq_proj", 2.0),
            ("model.layers.1.mlp.up_proj", 4.0),
        ] {
            assert_eq!(plain.scale(module, 4), scale, "{module}");
        }
        let root =
            settings(r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true}"#);
        assert_eq!(root.unwrap().scale("x", 16), 2.0);
        for (more, word) in [
            (r#""modules_to_save": ["lm_head"]"#, "modules_to_save"),
            (r#""use_dora": true"#, "use_dora"),
            (r#""bias": "all""#, "bias"),
            (r#""init_lora_weights": "pissa_niter_4""#, "init_lora_weights"),
            (r#""peft_type": "IA3""#, "IA3"),
            (r#""r": 0"#, "not a rank"),
            (r#""alpha_pattern": {"(": 1}"#, "alpha_pattern"),
        ] {
            let text = format!(r#"{{"peft_type": "LORA", "r": 4, "lora_alpha": 8, {more}}}"#);
            let told = settings(&text).err().unwrap();
            assert!(told.contains(word), "{told}");
        }
    }
}
