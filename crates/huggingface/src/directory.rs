//! A model directory: config, weights and tokenizer files.

use crate::adapter::{self, Adapter};
use crate::companions::Companion;
use crate::config::ConfigFile;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::gguf::Gguf;
use crate::index::Index;
use crate::info::TensorInfo;
use crate::lora::{self, Base, Lora};
use crate::shard::Shard;
use crate::tensor::{Bytes, Made, TensorData};
use crate::view::{View, Weights};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";

/// Names that remarks show.
const SHOWN: usize = 3;

/// An opened model directory: its configuration, and where each tensor is.
///
/// Weights are read when they are asked for, by position. A file that another process changes
/// meanwhile is found out by [`Self::check_unchanged`], or when reading passes its end.
#[derive(Debug, Clone)]
pub struct ModelDirectory {
    path: PathBuf,
    config: ConfigFile,
    shards: Vec<Arc<Shard>>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Those whose bytes are made while they are read.
    made: BTreeMap<String, Arc<dyn Made>>,
    /// Tensors that the index names, but that are not in the file that it names.
    absent: BTreeMap<String, String>,
    /// Shards that the index names, and how many of them are missing.
    missing_shards: Option<(usize, Vec<String>)>,
    /// Files that the numbers come from beside config.json and the weights: of an adapter.
    more: Vec<(PathBuf, Vec<u8>)>,
    notes: Vec<String>,
}

impl ModelDirectory {
    /// Opens a directory: reads config.json and the headers of all weights files. Those are, as in
    /// transformers: `model.safetensors`; else the shards of `model.safetensors.index.json`; else
    /// the only file whose name ends in `.safetensors` and that is no adapter's. Of a view
    /// ([`crate::of_gguf`]), it is the file that the view names.
    ///
    /// Where a tensor stands in several shards, the index says which counts. What the index names
    /// and no file holds is an error only when it is asked for.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config = ConfigFile::read(path)?;
        let mut directory = Self {
            path: path.to_owned(),
            notes: config.notes().to_vec(),
            config,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            made: BTreeMap::new(),
            absent: BTreeMap::new(),
            missing_shards: None,
            more: Vec::new(),
        };
        match View::read(path)?.map(|view| view.weights) {
            None => {}
            Some(Weights::Gguf(file)) => {
                directory.add_gguf(&file)?;
                return Ok(directory);
            }
            Some(Weights::Adapted { model, adapter }) => {
                return directory.adapted(&model, &adapter);
            }
        }
        let adapter = adapter::find(path);
        let single = path.join(SINGLE_FILE);
        let index = path.join(INDEX_FILE);
        if single.exists() {
            if index.exists() {
                directory
                    .notes
                    .push(format!("{SINGLE_FILE} was taken, not the shards of {INDEX_FILE}"));
            }
            directory.add_single(&single)?;
        } else if index.exists() {
            directory.add_shards(&index)?;
        } else {
            directory.add_single(&only_weights_file(path, adapter.as_ref())?)?;
        }
        directory.refuse_unmerged(adapter.as_ref())?;
        if let Some(adapter) = adapter {
            directory.notes.push(format!(
                "beside the model is {}, which was not used; to convert the two together, put it \
                 into a folder of its own and name that: --adapter DIR",
                adapter.describe()
            ));
        }
        if directory.tensors.is_empty() {
            let file = directory.shards.first().map_or(path, |shard| &shard.path);
            return Err(HuggingFaceError::new(
                ErrorKind::NoWeights,
                file,
                "the file holds no tensor",
            )
            .with_hint("download the weights again"));
        }
        Ok(directory)
    }

    fn add_single(&mut self, path: &Path) -> Result<()> {
        let (shard, tensors) = Shard::open(path, 0)?;
        self.tensors = tensors;
        self.shards.push(Arc::new(shard));
        Ok(())
    }

    /// Adds the tensors of the weights file of a folder, by the folder's name and their own.
    pub(crate) fn add_folder(&mut self, folder: &str) -> Result<()> {
        let path = self.path.join(folder).join(SINGLE_FILE);
        let (shard, tensors) = Shard::open(&path, self.shards.len())?;
        self.shards.push(Arc::new(shard));
        let named = tensors.into_iter().map(|(name, info)| (format!("{folder}/{name}"), info));
        self.tensors.extend(named);
        Ok(())
    }

    fn add_gguf(&mut self, path: &Path) -> Result<()> {
        let gguf = Gguf::open(path)?;
        self.shards.extend(gguf.shards);
        self.tensors = gguf.tensors;
        self.made = gguf.made;
        self.notes.push(gguf.note);
        Ok(())
    }

    /// The weights of another directory, with an adapter's updates added.
    fn adapted(self, model: &Path, adapter: &Path) -> Result<Self> {
        let base = Self::open_unadapted(model)?;
        let Self { path, config, .. } = self;
        let mut directory = Self { path, config, ..base.clone() };
        let mut lora = Lora::open(adapter)?;
        directory.notes.append(&mut lora.notes);
        let (shard, config, count) = (Arc::clone(&lora.shard), lora.config.clone(), lora.count());
        for (name, shape, values) in lora.merge(&(Arc::new(base) as Arc<dyn Base>))? {
            let file = directory.tensors.get(&name).map_or(0, |info| info.file);
            directory.tensors.insert(name.clone(), lora::info(shape, file));
            directory.made.insert(name, values);
        }
        directory.shards.push(shard);
        directory.more.push(config);
        directory.notes.push(format!(
            "the adapter {} is merged into {count} weights of {}",
            adapter.display(),
            model.display()
        ));
        Ok(directory)
    }

    /// As [`Self::open`], but for what is a model with an adapter already.
    fn open_unadapted(path: &Path) -> Result<Self> {
        let view = View::read(path)?.map(|view| view.weights);
        if let Some(Weights::Adapted { .. }) = view {
            let reason = "the model has an adapter already";
            return Err(HuggingFaceError::new(ErrorKind::AdapterUnfit, path, reason)
                .with_hint("one adapter can be merged at a time"));
        }
        Self::open(path)
    }

    /// Files that the numbers come from beside config.json and the weights.
    pub(crate) fn more(&self) -> &[(PathBuf, Vec<u8>)] {
        &self.more
    }

    fn add_shards(&mut self, index_path: &Path) -> Result<()> {
        let mut index = Index::read(index_path)?;
        self.notes.append(&mut index.notes);
        let names = index.files();
        let count = names.len();
        let (present, missing): (Vec<&str>, Vec<&str>) =
            names.into_iter().partition(|file| self.path.join(file).exists());
        if !missing.is_empty() {
            self.missing_shards = Some((count, missing.iter().map(|&name| name.into()).collect()));
        }
        if present.is_empty() {
            return Err(self.missing_shard(missing[0]));
        }
        let mut found: BTreeMap<&str, BTreeMap<String, TensorInfo>> = BTreeMap::new();
        for file in present {
            let (shard, tensors) = Shard::open(&self.path.join(file), self.shards.len())?;
            self.shards.push(Arc::new(shard));
            found.insert(file, tensors);
        }
        for (tensor, file) in &index.weight_map {
            match found.get(file.as_str()).and_then(|tensors| tensors.get(tensor)) {
                Some(info) => {
                    self.tensors.insert(tensor.clone(), info.clone());
                }
                None => {
                    self.absent.insert(tensor.clone(), file.clone());
                }
            }
        }
        let mut copies = Vec::new();
        for tensors in found.into_values() {
            for (name, info) in tensors {
                match self.tensors.get(&name) {
                    Some(chosen) if *chosen == info => {}
                    Some(_) if index.weight_map.contains_key(&name) => copies.push(name),
                    Some(first) => {
                        let first = self.shards[first.file].path.display().to_string();
                        return Err(HuggingFaceError::new(
                            ErrorKind::Shard,
                            &self.shards[info.file].path,
                            format!(
                                "the tensor also stands in {first}, and the index does not say \
                                 which counts"
                            ),
                        )
                        .with_key(name)
                        .with_hint("remove what is left of another download from the directory"));
                    }
                    // What the index says to be elsewhere is not taken from here.
                    None if self.absent.contains_key(&name) => {}
                    None => {
                        self.tensors.insert(name, info);
                    }
                }
            }
        }
        copies.sort();
        copies.dedup();
        if !copies.is_empty() {
            let which = "the index says which counts";
            self.notes.push(format!("in several weight files, {which}: {}", shown(&copies)));
        }
        if !self.absent.is_empty() {
            let names: Vec<String> = self.absent.keys().cloned().collect();
            self.notes.push(format!("the index names what no file holds: {}", shown(&names)));
        }
        Ok(())
    }

    /// An adapter's tensors among the weights change what the model computes, unless merged.
    fn refuse_unmerged(&self, adapter: Option<&Adapter>) -> Result<()> {
        match self.tensors.iter().find(|(name, _)| adapter::is_tensor(name)) {
            Some((name, info)) => {
                Err(adapter::unmerged(&self.shards[info.file].path, name, adapter))
            }
            None => Ok(()),
        }
    }

    fn missing_shard(&self, file: &str) -> HuggingFaceError {
        let (count, missing) = match &self.missing_shards {
            Some((count, missing)) => (*count, missing.as_slice()),
            None => (0, &[][..]),
        };
        HuggingFaceError::new(
            ErrorKind::NotFound,
            self.path.join(file),
            format!("{} of {count} shards are missing: {}", missing.len(), missing.join(", ")),
        )
        .with_hint("download the model again; a download that broke off can be continued")
    }

    /// Why a tensor that the index names is not there; `None` for those that it does not name.
    pub fn absence(&self, tensor: &str) -> Option<HuggingFaceError> {
        let file = self.absent.get(tensor)?;
        if self.missing_shards.as_ref().is_some_and(|(_, missing)| missing.contains(file)) {
            return Some(self.missing_shard(file));
        }
        let error = HuggingFaceError::new(
            ErrorKind::Index,
            self.path.join(INDEX_FILE),
            format!("says that {file} holds the tensor, but it does not"),
        );
        Some(
            error
                .with_key(tensor)
                .with_hint("index and shards are of different versions: download both again"),
        )
    }

    /// Tensors that the index says to be in shards which are missing.
    pub fn lost(&self) -> impl Iterator<Item = &str> {
        let missing = self.missing_shards.iter().flat_map(|(_, missing)| missing);
        self.absent.iter().filter_map(move |(tensor, file)| {
            missing.clone().any(|missing| missing == file).then_some(tensor.as_str())
        })
    }

    /// Checks that no weights file changed since it was opened.
    ///
    /// # Errors
    /// The first that did, with what changed.
    pub fn check_unchanged(&self) -> Result<()> {
        self.shards.iter().try_for_each(|shard| shard.check_unchanged())
    }

    /// Remarks on the files, for the report.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Text of config.json; see [`ConfigFile::text`].
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
        self.shards.iter().map(|shard| shard.bytes()).collect()
    }

    /// The weights files, in the same order.
    pub(crate) fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// A tensor by name. Errors: there is none, or its type is not float16, bfloat16 or float32.
    pub fn tensor<'a>(&'a self, name: &str) -> Result<TensorData<'a>> {
        let Some((name, info)) = self.tensors.get_key_value(name) else {
            return Err(self.missing(name));
        };
        let mut tensor = TensorData::of_file(&self.shards[info.file], name, info);
        if let Some(values) = self.made.get(name) {
            let length = info.size_in_bytes();
            tensor.bytes = Bytes::Made { values: values.as_ref(), start: 0, length };
        }
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
        if let Some(error) = self.absence(name) {
            return error;
        }
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
    pub fn companions(&self) -> Vec<Companion> {
        Companion::all(&self.path)
    }
}

impl Base for ModelDirectory {
    fn path(&self) -> &Path {
        self.path()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    fn weight(&self, name: &str) -> Result<TensorData<'_>> {
        self.tensor(name)
    }
}

/// Names for a remark, the first few of them.
fn shown(names: &[String]) -> String {
    let first = names[..names.len().min(SHOWN)].join("`, `");
    match names.len().saturating_sub(SHOWN) {
        0 => format!("`{first}`"),
        more => format!("`{first}` and {more} more"),
    }
}

/// The only `.safetensors` file of a directory, or an error that says what is there instead.
fn only_weights_file(directory: &Path, adapter: Option<&Adapter>) -> Result<PathBuf> {
    let unreadable = |error: std::io::Error| HuggingFaceError::io(directory, "cannot list", &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    // An adapter is never the model.
    names.retain(|name| !adapter::is_weights(name));
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
            .with_hint(format!("give the GGUF file itself: {}", directory.join(name).display())));
    }
    if let Some(adapter) = adapter {
        return Err(adapter.refusal(directory));
    }
    Err(wrong(format!("no weights: neither {SINGLE_FILE} nor {INDEX_FILE}"))
        .with_hint("download the weights as well as the config"))
}
