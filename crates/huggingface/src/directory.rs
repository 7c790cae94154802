//! A model directory: config, weights and tokenizer files.

use crate::config::ConfigFile;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::index::Index;
use crate::shard::Shard;
use crate::tensor::{TensorData, TensorInfo};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";

/// Files beside the weights that a converted model needs, or that say how to use it.
const TOKENIZER_FILES: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "spiece.model",
];

/// An opened model directory with its weights mapped into memory.
///
/// The files must not change while it is open: on most systems a change shows in the mapping, and
/// reading past a shortened end kills the process.
#[derive(Debug)]
pub struct ModelDirectory {
    path: PathBuf,
    config: ConfigFile,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl ModelDirectory {
    /// Opens a directory: reads config.json and the headers of all weights files. Those are, as in
    /// transformers: `model.safetensors`; else the shards of `model.safetensors.index.json`; else
    /// the only file whose name ends in `.safetensors`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config = ConfigFile::read(path)?;
        let mut directory =
            Self { path: path.to_owned(), config, shards: Vec::new(), tensors: BTreeMap::new() };
        let single = path.join(SINGLE_FILE);
        let index = path.join(INDEX_FILE);
        if single.exists() {
            directory.add(&single)?;
        } else if index.exists() {
            directory.add_shards(&index)?;
        } else {
            directory.add(&only_weights_file(path)?)?;
        }
        Ok(directory)
    }

    /// Maps one weights file and adds its tensors.
    fn add(&mut self, path: &Path) -> Result<()> {
        let number = self.shards.len();
        let (shard, tensors) = Shard::open(path, number)?;
        for (name, info) in tensors {
            if let Some(first) = self.tensors.get(&name) {
                let first = &self.shards[first.file].path;
                return Err(HuggingFaceError::new(
                    ErrorKind::Shard,
                    path,
                    format!("the tensor also stands in {}", first.display()),
                )
                .with_key(name)
                .with_hint("remove what is left of another download from the directory"));
            }
            self.tensors.insert(name, info);
        }
        self.shards.push(shard);
        Ok(())
    }

    fn add_shards(&mut self, index_path: &Path) -> Result<()> {
        let index = Index::read(index_path)?;
        let missing: Vec<&str> =
            index.files().into_iter().filter(|file| !self.path.join(file).exists()).collect();
        if !missing.is_empty() {
            let count = index.files().len();
            return Err(HuggingFaceError::new(
                ErrorKind::NotFound,
                self.path.join(missing[0]),
                format!("{} of {count} shards are missing: {}", missing.len(), missing.join(", ")),
            )
            .with_hint("download the model again; a download that broke off can be continued"));
        }
        for file in index.files() {
            self.add(&self.path.join(file))?;
        }
        for (tensor, file) in &index.weight_map {
            let holder = self.tensors.get(tensor).map(|info| &self.shards[info.file].path);
            if holder != Some(&self.path.join(file)) {
                return Err(HuggingFaceError::new(
                    ErrorKind::Index,
                    index_path,
                    format!("says that {file} holds the tensor, but it does not"),
                )
                .with_key(tensor)
                .with_hint("index and shards are of different versions: download both again"));
            }
        }
        Ok(())
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Text of config.json.
    pub fn config_text(&self) -> &str {
        self.config.text()
    }

    /// The object of config.json.
    pub fn config(&self) -> &Value {
        self.config.value()
    }

    /// config.json, with its path.
    pub fn config_file(&self) -> &ConfigFile {
        &self.config
    }

    /// All tensors of all weights files by name, whatever their type.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Paths of the weights files, in the order of their names.
    pub fn weight_files(&self) -> Vec<&Path> {
        self.shards.iter().map(|shard| shard.path.as_path()).collect()
    }

    /// Sizes of the weights files in bytes, in the same order.
    pub fn weight_file_sizes(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.map.len() as u64).collect()
    }

    /// Contents of the weights files, in the same order.
    pub(crate) fn weight_file_bytes(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.shards.iter().map(|shard| (shard.path.as_path(), &shard.map[..]))
    }

    /// A tensor by name. Errors: there is none, or its type is not float16, bfloat16 or float32.
    pub fn tensor<'a>(&'a self, name: &str) -> Result<TensorData<'a>> {
        let Some((name, info)) = self.tensors.get_key_value(name) else {
            return Err(self.missing(name));
        };
        let shard = &self.shards[info.file];
        let tensor = TensorData {
            file: &shard.path,
            name,
            source_type: info.source_type,
            full_shape: &info.shape,
            first_row: 0,
            rows: info.shape.first().copied(),
            bytes: shard.map.get(info.range.clone()).unwrap_or_default(),
        };
        if info.source_type.width().is_none() {
            return Err(tensor.unusable());
        }
        Ok(tensor)
    }

    /// A tensor of this shape. `dimensions` says which config key gives each dimension (shorter
    /// lists are allowed); it stands in the error message when the shape is another one.
    pub fn weight<'a>(
        &'a self,
        name: &str,
        shape: &[u64],
        dimensions: &[impl AsRef<str>],
    ) -> Result<TensorData<'a>> {
        let tensor = self.tensor(name)?;
        let found = tensor.full_shape;
        if found == shape {
            return Ok(tensor);
        }
        let key =
            |axis: usize| dimensions.get(axis).map(AsRef::as_ref).filter(|key| !key.is_empty());
        let mut reason = format!("the tensor has shape {found:?}, expected {shape:?}");
        if found.len() == shape.len() {
            let differing = (0..shape.len()).filter(|axis| found[*axis] != shape[*axis]);
            for (axis, key) in differing.filter_map(|axis| Some((axis, key(axis)?))) {
                reason.push_str(&format!(
                    "; dimension {axis} is {}, but {key} in config.json gives {}",
                    found[axis], shape[axis]
                ));
            }
        }
        Err(tensor
            .error(ErrorKind::Shape, reason)
            .with_hint("config.json and the weights are of different models"))
    }

    fn missing(&self, name: &str) -> HuggingFaceError {
        let mut error = HuggingFaceError::new(
            ErrorKind::MissingTensor,
            self.shards.first().map_or(&self.path, |shard| &shard.path),
            format!("no such tensor in the {} of the weights", self.tensors.len()),
        )
        .with_key(name);
        let quantized = name.strip_suffix("weight").and_then(|stem| {
            let packed = ["qweight", "weight_packed", "weight_quantized"];
            packed
                .iter()
                .map(|ending| format!("{stem}{ending}"))
                .find(|n| self.tensors.contains_key(n))
        });
        if let Some(quantized) = quantized {
            return error.with_hint(format!(
                "there is `{quantized}`: quantized checkpoints cannot be read, take the original"
            ));
        }
        // Names that differ in their prefix only are the usual case (a model without its head).
        let rest = name.split_once('.').map_or("", |(_, rest)| rest);
        let similar = self.tensors.keys().find(|other| {
            other.ends_with(&format!(".{name}"))
                || (rest.contains('.') && (*other == rest || other.ends_with(&format!(".{rest}"))))
        });
        if let Some(similar) = similar {
            error = error.with_hint(format!("there is `{similar}`"));
        }
        error
    }

    /// Those files of the directory that belong to the tokenizer or say how to use the model
    /// (config, generation config, chat template), in a fixed order.
    pub fn tokenizer_files(&self) -> Vec<PathBuf> {
        TOKENIZER_FILES
            .iter()
            .map(|name| self.path.join(name))
            .filter(|path| path.is_file())
            .collect()
    }
}

/// The only `.safetensors` file of a directory, or an error that says what is there instead.
fn only_weights_file(directory: &Path) -> Result<PathBuf> {
    let unreadable = |error: std::io::Error| HuggingFaceError::io(directory, "cannot list", &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let ending_in = |ending: &str| -> Vec<&str> {
        names.iter().map(String::as_str).filter(|name| name.ends_with(ending)).collect()
    };
    let wrong = |reason: String| HuggingFaceError::new(ErrorKind::NoWeights, directory, reason);
    match ending_in(".safetensors").as_slice() {
        [single] => return Ok(directory.join(single)),
        [] => {}
        several => {
            return Err(wrong(format!(
                "{} safetensors files, but no {INDEX_FILE}: {}",
                several.len(),
                several.join(", ")
            ))
            .with_hint("download the index too, or remove the files that do not belong here"));
        }
    }
    let pickled = [".bin", ".bin.index.json", ".pt", ".pth"].map(ending_in).concat();
    if let Some(name) = pickled.first() {
        return Err(wrong(format!("weights are in {name} only, not in safetensors files"))
            .with_hint(
                "save the model as safetensors: in Python, \
                 AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OTHER_DIR)",
            ));
    }
    if let Some(name) = ending_in(".gguf").first() {
        return Err(wrong(format!("weights are in {name} only, not in safetensors files"))
            .with_hint("download the original model instead of the GGUF version"));
    }
    Err(wrong(format!("no weights: neither {SINGLE_FILE} nor {INDEX_FILE}"))
        .with_hint("download the weights as well as the config"))
}
