//! Models that give the vector of a text, as sentence-transformers lays them out: `modules.json` lists
//! what follows the model, each in a folder of its own.

use crate::directory::ModelDirectory;
use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::json;
use anemll_files::Limit;
use anemll_plugin_api::data::{DenseActivation, DenseLayer, EmbeddingHead, Pooling};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// Lists the modules.
const MODULES: &str = "modules.json";
/// Texts that stand before texts of a kind.
const PROMPTS: &str = "config_sentence_transformers.json";
/// How the first module cuts its texts.
const TRANSFORMER: &str = "sentence_bert_config.json";
/// More modules than any model has.
const MOST_MODULES: usize = 32;
/// Longest prompt in bytes.
const LONGEST_PROMPT: usize = 100_000;

/// The ways to pool, by their keys in a pooling's config.json.
const POOLINGS: [(&str, Pooling); 3] = [
    ("pooling_mode_cls_token", Pooling::First),
    ("pooling_mode_mean_tokens", Pooling::Mean),
    ("pooling_mode_lasttoken", Pooling::Last),
];

/// What follows a model that gives vectors, and how its texts are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SentenceModel {
    /// Pooling, layers and normalization. Tensors are named by their folder: `2_Dense/linear.weight`.
    pub head: EmbeddingHead,
    /// Texts that stand before texts of a kind, by its name.
    pub prompts: BTreeMap<String, String>,
    /// The kind of a text of which nothing is said.
    pub default_prompt: Option<String>,
    /// Whether texts are put into lower case first.
    pub lowercase: bool,
    /// Tokens of a text, where it says; longer texts are cut.
    pub longest: Option<u64>,
    /// The folders of layers.
    folders: Vec<String>,
}

impl SentenceModel {
    /// Reads what a directory says of itself; nothing where it has no modules.json.
    ///
    /// # Errors
    /// Files that are not what their names say, and modules, poolings or activations that cannot be
    /// honoured, by name.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(MODULES);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let modules = value(&path)?;
        let modules = modules.as_array().filter(|list| (1..=MOST_MODULES).contains(&list.len()));
        let Some(modules) = modules else {
            return Err(HuggingFaceError::new(ErrorKind::Config, &path, "not a list of modules")
                .with_hint("download the file again"));
        };
        let mut model = Self::default();
        for (number, module) in modules.iter().enumerate() {
            model.add(directory, &path, number, module)?;
        }
        if model.head.pooling == Pooling::Unknown {
            return Err(unsupported(
                &path,
                "has no Pooling module: the model would give one vector for each token, not one for the text",
            ));
        }
        model.read_texts(directory)?;
        Ok(Some(model))
    }

    fn add(&mut self, directory: &Path, path: &Path, number: usize, module: &Value) -> Result<()> {
        let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        let (kind, folder) = (text("type"), text("path"));
        let name = kind.rsplit('.').next().unwrap_or_default();
        let key = format!("[{number}].type");
        let out_of_order = || {
            unsupported(path, format!("= \"{kind}\" stands where it cannot")).with_key(key.clone())
        };
        let pooled = self.head.pooling != Pooling::Unknown;
        match name {
            "Transformer" => {
                if number != 0 || !folder.is_empty() {
                    return Err(unsupported(
                        path,
                        format!("= \"{kind}\" is taken only as the first module, of the directory itself"),
                    )
                    .with_key(key));
                }
            }
            _ if number == 0 => return Err(out_of_order()),
            "Pooling" if !pooled => {
                self.head.pooling = pooling(&module_config(directory, path, folder)?)?
            }
            "Dense" if pooled && !self.head.normalize => {
                let config = module_config(directory, path, folder)?;
                self.head.dense.push(dense(&config, folder)?);
                self.folders.push(folder.to_owned());
            }
            "Normalize" if pooled => self.head.normalize = true,
            "Pooling" | "Dense" | "Normalize" => return Err(out_of_order()),
            _ => {
                return Err(unsupported(path, format!("= \"{kind}\" is not known here"))
                    .with_key(key)
                    .with_hint(
                        "known are Transformer, Pooling, Dense and Normalize; to convert the language \
                         model alone: --task generate",
                    ));
            }
        }
        Ok(())
    }

    /// Prompts, and how texts are cut.
    fn read_texts(&mut self, directory: &Path) -> Result<()> {
        let path = directory.join(PROMPTS);
        if path.symlink_metadata().is_ok() {
            let config = value(&path)?;
            let wrong = |key: &str| {
                HuggingFaceError::new(ErrorKind::Config, &path, "is not a text").with_key(key)
            };
            for (name, prompt) in config["prompts"].as_object().into_iter().flatten() {
                let prompt = prompt.as_str().filter(|text| text.len() <= LONGEST_PROMPT);
                let prompt = prompt.ok_or_else(|| wrong(&format!("prompts.{name}")))?;
                self.prompts.insert(name.clone(), prompt.to_owned());
            }
            self.default_prompt = match &config["default_prompt_name"] {
                Value::Null => None,
                Value::String(name) if self.prompts.contains_key(name) => Some(name.clone()),
                _ => {
                    let reason = "names none of the prompts";
                    return Err(HuggingFaceError::new(ErrorKind::Config, &path, reason)
                        .with_key("default_prompt_name"));
                }
            };
        }
        let path = directory.join(TRANSFORMER);
        if path.symlink_metadata().is_ok() {
            let config = value(&path)?;
            self.lowercase = config["do_lower_case"].as_bool().unwrap_or(false);
            self.longest = config["max_seq_length"].as_u64().filter(|longest| *longest > 0);
        }
        Ok(())
    }
}

impl ModelDirectory {
    /// The same directory with the tensors of the layers behind a pooling, which are named by their
    /// folders.
    ///
    /// # Errors
    /// A layer whose weights cannot be read.
    pub fn with_layers_of(mut self, model: &SentenceModel) -> Result<Self> {
        for folder in &model.folders {
            self.add_folder(folder)?;
        }
        Ok(self)
    }
}

/// The config.json of a module, and where it is.
struct ModuleConfig {
    path: std::path::PathBuf,
    value: Value,
}

impl ModuleConfig {
    fn unsupported(&self, key: &str, reason: impl Into<String>) -> HuggingFaceError {
        unsupported(&self.path, reason).with_key(key)
    }

    fn size(&self, key: &str) -> Result<u64> {
        self.value[key].as_u64().filter(|size| *size > 0).ok_or_else(|| {
            let reason = format!("is {}, not a number of elements", self.value[key]);
            HuggingFaceError::new(ErrorKind::Config, &self.path, reason).with_key(key)
        })
    }

    /// A switch, off where it is absent.
    fn is_on(&self, key: &str) -> bool {
        self.value[key].as_bool().unwrap_or(false)
    }
}

fn module_config(directory: &Path, modules: &Path, folder: &str) -> Result<ModuleConfig> {
    let mut parts = Path::new(folder).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if !plain || folder.contains(['\\', ':']) {
        let reason =
            format!("the module's path {folder:?} is not the name of a folder beside the file");
        return Err(HuggingFaceError::new(ErrorKind::Config, modules, reason));
    }
    let path = directory.join(folder).join("config.json");
    let value = value(&path)?;
    Ok(ModuleConfig { path, value })
}

fn pooling(config: &ModuleConfig) -> Result<Pooling> {
    const WORDS: &str = "known are cls_token, mean_tokens and lasttoken, each alone";
    let modes = config.value.as_object().into_iter().flatten();
    let on: Vec<&String> = modes
        .filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true))
        .map(|(key, _)| key)
        .collect();
    if config.value["include_prompt"] == Value::Bool(false) {
        let reason = "= false: the tokens of prompts cannot be left out of the pooling here";
        return Err(config.unsupported("include_prompt", reason));
    }
    if let Some(mode) = config.value["pooling_mode"].as_str().filter(|_| on.is_empty()) {
        return match mode {
            "cls" => Ok(Pooling::First),
            "mean" => Ok(Pooling::Mean),
            "lasttoken" => Ok(Pooling::Last),
            _ => Err(config
                .unsupported("pooling_mode", format!("= \"{mode}\" cannot be expressed"))
                .with_hint(WORDS)),
        };
    }
    match on.as_slice() {
        [] => Err(HuggingFaceError::new(ErrorKind::Config, &config.path, "no pooling is chosen")
            .with_hint(WORDS)),
        [only] => match POOLINGS.into_iter().find(|(key, _)| key == only) {
            Some((_, pooling)) => Ok(pooling),
            None => Err(config.unsupported(only, "cannot be expressed").with_hint(WORDS)),
        },
        [first, second, ..] => Err(config
            .unsupported(
                second,
                format!("beside `{first}` makes longer vectors of several poolings"),
            )
            .with_hint(WORDS)),
    }
}

fn dense(config: &ModuleConfig, folder: &str) -> Result<DenseLayer> {
    let (inputs, outputs) = (config.size("in_features")?, config.size("out_features")?);
    let name = config.value["activation_function"].as_str().unwrap_or("Tanh");
    let activation = match name.rsplit('.').next() {
        Some("Identity") => DenseActivation::Identity,
        Some("Tanh") => DenseActivation::Tanh,
        _ => {
            return Err(config
                .unsupported("activation_function", format!("= \"{name}\" cannot be expressed"))
                .with_hint("known are Identity and Tanh"));
        }
    };
    // As sentence-transformers takes it where nothing is said.
    let has_bias = config.value["bias"].is_null() || config.is_on("bias");
    let tensor = |kind: &str| format!("{folder}/linear.{kind}");
    Ok(DenseLayer::new(tensor("weight"), inputs, outputs)
        .with_bias(has_bias.then(|| tensor("bias")))
        .with_activation(activation))
}

fn value(path: &Path) -> Result<Value> {
    let bytes = json::read(path, Limit::CONFIG, ErrorKind::Config)?;
    let text = json::text(path, &bytes, ErrorKind::Config)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let read = json::python(&name, text)
        .map_err(|error| json::invalid(ErrorKind::Config, path, text, &error))?;
    Ok(read.value)
}

fn unsupported(path: &Path, reason: impl Into<String>) -> HuggingFaceError {
    HuggingFaceError::new(ErrorKind::Module, path, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn folder(modules: &Value, files: &[(&str, Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MODULES), modules.to_string()).unwrap();
        for (name, value) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value.to_string()).unwrap();
        }
        folder
    }

    fn module(kind: &str, path: &str) -> Value {
        json!({ "path": path, "type": format!("sentence_transformers.models.{kind}") })
    }

    fn read(modules: Value, files: &[(&str, Value)]) -> Result<Option<SentenceModel>> {
        SentenceModel::read(folder(&modules, files).path())
    }

    #[test]
    fn modules_are_read_in_their_order() {
        let modules = json!([
            module("Transformer", ""),
            module("Pooling", "1_Pooling"),
            module("Dense", "2_Dense"),
            module("Normalize", "3_Normalize")
        ]);
        let files = [
            (
                "1_Pooling/config.json",
                json!({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true, "include_prompt": true}),
            ),
            (
                "2_Dense/config.json",
                json!({"in_features": 8, "out_features": 24, "bias": false, "activation_function": "torch.nn.modules.linear.Identity"}),
            ),
            (
                "config_sentence_transformers.json",
                json!({"prompts": {"query": "task: "}, "default_prompt_name": null}),
            ),
            ("sentence_bert_config.json", json!({"max_seq_length": 2048, "do_lower_case": false})),
        ];
        let model = read(modules, &files).unwrap().unwrap();
        assert_eq!(model.head.pooling, Pooling::Mean);
        assert_eq!(model.head.dense, [DenseLayer::new("2_Dense/linear.weight", 8, 24)]);
        assert!(model.head.normalize && !model.lowercase && model.default_prompt.is_none());
        assert_eq!((model.longest, model.prompts["query"].as_str()), (Some(2048), "task: "));
        let none = tempfile::tempdir().unwrap();
        assert_eq!(SentenceModel::read(none.path()).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        let refused = |modules: &[Value], pooling: Value, dense: Value| {
            let files = [("1_Pooling/config.json", pooling), ("2_Dense/config.json", dense)];
            read(json!(modules), &files).unwrap_err().to_string()
        };
        let (first, pool) = (module("Transformer", ""), module("Pooling", "1_Pooling"));
        let both = [first.clone(), pool.clone()];
        let mean = json!({"pooling_mode_mean_tokens": true});
        for (pooling, named) in [
            (json!({"pooling_mode_max_tokens": true}), "`pooling_mode_max_tokens`"),
            (
                json!({"pooling_mode_weightedmean_tokens": true}),
                "`pooling_mode_weightedmean_tokens`",
            ),
            (
                json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}),
                "longer vectors",
            ),
            (json!({}), "no pooling is chosen"),
            (
                json!({"pooling_mode_mean_tokens": true, "include_prompt": false}),
                "`include_prompt`",
            ),
        ] {
            let told = refused(&both, pooling, Value::Null);
            assert!(told.contains(named), "{told}");
        }
        let many = |more: Value| [first.clone(), pool.clone(), more];
        let told = refused(&many(module("WordWeights", "2_W")), mean.clone(), Value::Null);
        assert!(told.contains("WordWeights"), "{told}");
        let dense = json!({"in_features": 8, "out_features": 8, "activation_function": "torch.nn.modules.activation.GELU"});
        let told = refused(&many(module("Dense", "2_Dense")), mean.clone(), dense);
        assert!(told.contains("`activation_function`") && told.contains("GELU"), "{told}");
        for (modules, named) in [
            (vec![pool.clone()], "stands where it cannot"),
            (vec![first.clone(), module("Dense", "2_Dense")], "stands where it cannot"),
            (vec![first.clone()], "no Pooling module"),
            (vec![module("Transformer", "0_Transformer"), pool.clone()], "the directory itself"),
            (vec![first, module("Pooling", "../1_Pooling")], "not the name of a folder"),
            (Vec::new(), "not a list of modules"),
        ] {
            let told = refused(&modules, mean.clone(), Value::Null);
            assert!(told.contains(named), "{told}");
        }
    }
}
