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

/// Values of `init_lora_weights` with which the model itself stays as it is when training begins. Others
/// change it, such as PiSSA, or may do so.
const STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Keys that are read, and those that say nothing about the products.
const KNOWN: &[&str] = &[
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// Keys that ask for more than products, where they say something.
const REFUSED: &[(&str, &str)] = &[
    ("modules_to_save", "the adapter brings whole modules, which are not merged"),
    ("use_dora", "DoRA is not merged"),
    ("lora_bias", "biases of the adapter are not merged"),
    ("trainable_token_indices", "tokens that were trained apart are not merged"),
    ("target_parameters", "changes to parameters outside of modules are not merged"),
    ("use_qalora", "QALoRA is not merged"),
    ("layer_replication", "the adapter repeats layers of the model"),
    ("megatron_config", "parallel layers are not merged"),
    (
        "alora_invocation_tokens",
        "the adapter acts behind some tokens alone, so it cannot be merged",
    ),
    ("arrow_config", "a choice between adapters for each token cannot be merged"),
    ("use_bdlora", "adapters in blocks are not merged"),
];

/// An adapter that has been read.
pub(crate) struct Lora {
    /// adapter_config.json as it is.
    pub(crate) config: (PathBuf, Vec<u8>),
    pub(crate) shard: Arc<Shard>,
    /// What is added to each weight, by the name of the module.
    updates: BTreeMap<String, Update>,
    /// Remarks on its configuration.
    pub(crate) notes: Vec<String>,
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
    /// The adapter's weights.
    file: PathBuf,
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
        Ok(Self { config: (path, bytes), shard, updates, notes: config.notes })
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
            let file = self.shard.path.clone();
            let values =
                Merged { base: Arc::clone(base), name: name.clone(), columns, update, file };
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
    let expected = settings.rank(module);
    if expected != rank {
        return Err(wrong(format!("the matrices have rank {rank}, but {CONFIG} says {expected}")));
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
    rank: u64,
    /// By patterns of modules' names.
    ranks: Vec<(Regex, u64)>,
    root: bool,
    notes: Vec<String>,
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
            Some(kind) => {
                let reason = format!("adapters of the kind {kind} are not merged");
                return Err(refuse("peft_type", &reason));
            }
            None => return Err(refuse("peft_type", "does not say which kind of adapter this is")),
        }
        for (key, reason) in REFUSED {
            if given(key).is_some() {
                return Err(refuse(key, reason));
            }
        }
        if given("bias").is_some_and(|bias| bias != "none") {
            return Err(refuse("bias", "biases that were trained are not merged"));
        }
        if let Some(init) = config.get("init_lora_weights").and_then(Value::as_str)
            && !STARTS.contains(&init.to_lowercase().as_str())
        {
            let reason = format!(
                "a start of training of the kind `{init}` may have changed the model itself"
            );
            return Err(refuse("init_lora_weights", &reason));
        }
        let wrong =
            |key: &str, reason: &str| refuse(key, reason).with_hint("save the adapter again");
        let is = |key: &str, wanted: &str| {
            let value = config.get(key).unwrap_or(&Value::Null);
            wrong(key, &format!("is {value}, not {wanted}"))
        };
        let alpha = config.get("lora_alpha").and_then(finite);
        let rank = config.get("r").and_then(positive);
        let alphas = by_patterns(given("alpha_pattern"), finite);
        let ranks = by_patterns(given("rank_pattern"), positive);
        let root = match config.get("use_rslora") {
            None | Some(Value::Null) => Some(false),
            Some(value) => value.as_bool(),
        };
        let unknown = config.as_object().into_iter().flatten().filter(|(key, value)| {
            let listed = KNOWN.contains(&key.as_str());
            !listed && !REFUSED.iter().any(|(name, _)| name == key) && is_something(value)
        });
        Ok(Self {
            alpha: alpha.ok_or_else(|| is("lora_alpha", "a finite number"))?,
            alphas: alphas.map_err(|reason| wrong("alpha_pattern", &reason))?,
            rank: rank.ok_or_else(|| is("r", "a whole number from 1 on"))?,
            ranks: ranks.map_err(|reason| wrong("rank_pattern", &reason))?,
            root: root.ok_or_else(|| is("use_rslora", "true or false"))?,
            notes: unknown
                .map(|(key, _)| format!("{CONFIG}: `{key}` is not known and was ignored"))
                .collect(),
        })
    }

    /// The rank of a module's matrices.
    fn rank(&self, module: &str) -> u64 {
        let own = self.ranks.iter().find(|(pattern, _)| pattern.is_match(module));
        own.map_or(self.rank, |(_, rank)| *rank)
    }

    /// The factor of a module's product.
    fn scale(&self, module: &str, rank: u64) -> f64 {
        let own = self.alphas.iter().find(|(pattern, _)| pattern.is_match(module));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        alpha / if self.root { (rank as f64).sqrt() } else { rank as f64 }
    }
}

fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

fn positive(value: &Value) -> Option<u64> {
    value.as_u64().filter(|number| *number > 0)
}

/// Values for modules whose names suit a pattern, or what is wrong with one.
fn by_patterns<T>(
    patterns: Option<&Value>,
    read: fn(&Value) -> Option<T>,
) -> std::result::Result<Vec<(Regex, T)>, String> {
    let Some(patterns) = patterns else { return Ok(Vec::new()) };
    let patterns = patterns.as_object().ok_or("is not an object of patterns and values")?;
    let one = |(pattern, value): (&String, &Value)| {
        let regex = Regex::new(&format!(r"^(.*\.)?({pattern})$"));
        let regex = regex.map_err(|_| format!("`{pattern}` is not a pattern that can be read"))?;
        let number = read(value).ok_or_else(|| format!("`{pattern}` is given {value}"))?;
        Ok((regex, number))
    };
    patterns.iter().map(one).collect()
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
        let sound = values.iter().all(|value| value.is_finite());
        self.update.add(first, self.columns, &mut values);
        if sound && !values.iter().all(|value| value.is_finite()) {
            let reason = "what the adapter adds is beyond 32-bit floats";
            return Err(HuggingFaceError::new(ErrorKind::AdapterUnfit, &self.file, reason)
                .with_key(&self.name)
                .with_hint("the adapter is damaged, or `lora_alpha` is wrong: save it again"));
        }
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
            (r#""r": 0"#, "`r`: is 0"),
            (r#""alpha_pattern": {"(": 1}"#, "alpha_pattern"),
        ] {
            let text = format!(r#"{{"peft_type": "LORA", "r": 4, "lora_alpha": 8, {more}}}"#);
            let told = settings(&text).err().unwrap();
            assert!(told.contains(word), "{told}");
        }
    }
}
