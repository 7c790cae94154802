//! Reading meta.yaml: which packages make up a conversion.

use anemll_files::Limit;
use anemll_plugin_api::data::{EvaluationPaths, RunStep};
use anemll_plugin_api::{Error, Result, codes};
use serde::Deserialize;
use std::path::{Component, Path, PathBuf};

/// File with the evaluation functions' order, below the folder of our own files.
pub const PATHS: &str = ".anemll/paths.json";

/// The file that describes a conversion, in its directory.
pub const FILE: &str = "meta.yaml";

/// More than any model has layers.
const MOST_CHUNKS: u32 = 999;

/// What is read of meta.yaml.
#[derive(Debug)]
pub struct Meta {
    /// The directory that the file is in.
    pub directory: PathBuf,
    /// Calls for one token, for a batch into the state, and for a batch to all logits.
    pub paths: EvaluationPaths,
    /// Which of X.mlpackage and X.mlmodelc is opened where both are there.
    pub form: Form,
}

/// The two forms of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// .mlpackage, from which all else is made.
    #[default]
    Package,
    /// .mlmodelc, which apps load.
    Compiled,
}

#[derive(Debug, Deserialize)]
struct Document {
    model_info: ModelInfo,
}

#[derive(Debug, Deserialize)]
struct ModelInfo {
    #[serde(default)]
    model_type: Option<String>,
    parameters: Parameters,
}

#[derive(Debug, Deserialize)]
struct Parameters {
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    num_chunks: Option<u32>,
    #[serde(default)]
    embeddings: Option<String>,
    #[serde(default)]
    lm_head: Option<String>,
    #[serde(default)]
    ffn: Option<String>,
    #[serde(default)]
    monolithic_model: Option<String>,
}

/// The meta.yaml that a path means: the file itself, or that of the directory.
pub fn locate(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE) } else { path.to_owned() }
}

impl Meta {
    /// Reads meta.yaml, and the evaluation functions' order beside it if there is one.
    pub fn read(path: &Path) -> Result<Self> {
        let text = anemll_files::read_text(path, Limit::RECORD).map_err(|source| {
            Error::new(codes::META_INVALID, format!("meta.yaml cannot be read: {source}"))
                .with_at(path.display().to_string())
                .with_hint("take the output directory of `anemll convert`, or the meta.yaml in it")
        })?;
        let document: Document = serde_yaml_ng::from_str(&text).map_err(|source| {
            Error::new(codes::META_INVALID, format!("meta.yaml is not valid: {source}"))
                .with_at(path.display().to_string())
        })?;
        let directory = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let mut paths = document.model_info.paths(path)?;
        let own = directory.join(PATHS);
        if own.exists() {
            let text = anemll_files::read_text(&own, Limit::RECORD).map_err(|source| {
                Error::new(codes::META_INVALID, format!("this file cannot be read: {source}"))
                    .with_at(own.display().to_string())
            })?;
            let found: EvaluationPaths = serde_json::from_str(&text).map_err(|source| {
                Error::new(codes::META_INVALID, format!("not valid: {source}"))
                    .with_at(own.display().to_string())
            })?;
            paths.evaluate = found.evaluate;
        }
        for step in paths.infer.iter().chain(&paths.prefill).chain(&paths.evaluate) {
            check_inside(&step.package, path)?;
        }
        Ok(Self { directory, paths, form: Form::default() })
    }

    /// The models that apps load, without the ending, in the order of their first call.
    pub fn models(&self) -> Vec<String> {
        let mut models: Vec<String> = Vec::new();
        for step in self.paths.infer.iter().chain(&self.paths.prefill) {
            if !models.contains(&step.package) {
                models.push(step.package.clone());
            }
        }
        models
    }

    /// The model of a step: X.mlpackage, or else X.mlmodelc; where [`Form::Compiled`] is wanted, the
    /// other way round.
    pub fn package(&self, step: &RunStep) -> Result<PathBuf> {
        let package = self.directory.join(format!("{}.mlpackage", step.package));
        let compiled = self.directory.join(format!("{}.mlmodelc", step.package));
        let (first, second) = match self.form {
            Form::Package => (&package, &compiled),
            Form::Compiled => (&compiled, &package),
        };
        if first.exists() {
            Ok(first.clone())
        } else if second.exists() {
            Ok(second.clone())
        } else {
            Err(Error::new(
                codes::META_INVALID,
                format!(
                    "meta.yaml names `{}`, but neither .mlpackage nor .mlmodelc is there",
                    step.package
                ),
            )
            .with_at(package.display().to_string())
            .with_hint("convert the model again, or copy the missing package"))
        }
    }
}

impl ModelInfo {
    fn paths(&self, path: &Path) -> Result<EvaluationPaths> {
        let parameters = &self.parameters;
        let kind = self.model_type.as_deref().or(parameters.model_type.as_deref());
        let step = |package: &str, function: &str| RunStep {
            package: package.to_owned(),
            function: function.to_owned(),
        };
        if kind == Some("monolithic") || parameters.monolithic_model.is_some() {
            let model = required(path, "monolithic_model", parameters.monolithic_model.as_deref())?;
            return Ok(EvaluationPaths {
                infer: vec![step(model, "infer")],
                prefill: vec![step(model, "prefill")],
                evaluate: Vec::new(),
            });
        }
        let embeddings = required(path, "embeddings", parameters.embeddings.as_deref())?;
        let head = required(path, "lm_head", parameters.lm_head.as_deref())?;
        let ffn = required(path, "ffn", parameters.ffn.as_deref())?;
        let count = parameters.num_chunks.unwrap_or(1);
        if !(1..=MOST_CHUNKS).contains(&count) {
            return Err(Error::new(
                codes::META_INVALID,
                format!("model_info.parameters.num_chunks is {count}, not 1 to {MOST_CHUNKS}"),
            )
            .with_at(path.display().to_string()));
        }
        let chunks = chunk_stems(ffn, count);
        let layers =
            |function: &str| chunks.iter().map(|chunk| step(chunk, function)).collect::<Vec<_>>();
        let mut infer = vec![step(embeddings, "main")];
        infer.extend(layers("infer"));
        infer.push(step(head, "main"));
        let mut prefill = vec![step(embeddings, "main")];
        prefill.extend(layers("prefill"));
        Ok(EvaluationPaths { infer, prefill, evaluate: Vec::new() })
    }
}

/// The stem of a file that a key of `model_info.parameters` names.
fn required<'a>(path: &Path, key: &str, value: Option<&'a str>) -> Result<&'a str> {
    value.map(stem).ok_or_else(|| {
        Error::new(
            codes::META_INVALID,
            format!("meta.yaml has no key `model_info.parameters.{key}`"),
        )
        .with_at(path.display().to_string())
    })
}

/// The file name without `.mlmodelc` or `.mlpackage`.
fn stem(file: &str) -> &str {
    let file = file.trim_end_matches('/');
    file.strip_suffix(".mlmodelc").or_else(|| file.strip_suffix(".mlpackage")).unwrap_or(file)
}

/// `P_chunk_01of03` names the first of three; the others differ in the number.
fn chunk_stems(first: &str, count: u32) -> Vec<String> {
    match first.rfind("_chunk_") {
        Some(at) => (1..=count)
            .map(|number| format!("{}_chunk_{number:02}of{count:02}", &first[..at]))
            .collect(),
        None => vec![first.to_owned()],
    }
}

fn check_inside(package: &str, meta: &Path) -> Result<()> {
    let inside = !package.is_empty()
        && Path::new(package).components().all(|part| matches!(part, Component::Normal(_)));
    if inside {
        return Ok(());
    }
    Err(Error::new(
        codes::META_INVALID,
        format!("the package name `{package}` leaves the directory of meta.yaml"),
    )
    .with_at(meta.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Meta> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meta.yaml");
        std::fs::write(&path, text).unwrap();
        Meta::read(&path)
    }

    #[test]
    fn a_chunked_conversion_runs_embeddings_chunks_and_head() {
        let meta = read(
            "model_info:\n  parameters:\n    num_chunks: 2\n    embeddings: llama_embeddings.mlmodelc\n    \
             lm_head: llama_lm_head_lut6.mlmodelc\n    ffn: llama_FFN_PF_lut4_chunk_01of02.mlmodelc\n",
        )
        .unwrap();
        let names: Vec<&str> = meta.paths.infer.iter().map(|step| step.package.as_str()).collect();
        assert_eq!(
            names,
            [
                "llama_embeddings",
                "llama_FFN_PF_lut4_chunk_01of02",
                "llama_FFN_PF_lut4_chunk_02of02",
                "llama_lm_head_lut6"
            ]
        );
        assert_eq!(meta.paths.prefill.len(), 3);
    }

    #[test]
    fn a_monolithic_conversion_is_one_package() {
        let meta = read(
            "model_info:\n  model_type: monolithic\n  parameters:\n    \
             monolithic_model: qwen_monolithic_full.mlmodelc\n",
        )
        .unwrap();
        assert_eq!(meta.paths.infer.len(), 1);
        assert_eq!(meta.paths.infer[0].package, "qwen_monolithic_full");
    }

    #[test]
    fn a_directory_means_the_file_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("meta.yaml");
        assert_eq!(locate(directory.path()), file);
        assert_eq!(locate(&file), file);
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = read("model_info:\n  parameters:\n    embeddings: a\n").unwrap_err();
        assert_eq!(error.code, codes::META_INVALID);
        assert!(error.message.contains("model_info.parameters.lm_head"), "{error}");
    }

    #[test]
    fn a_number_of_chunks_that_no_model_has_is_refused() {
        for count in ["0", "1000000000"] {
            let text = format!(
                "model_info:\n  parameters:\n    embeddings: a\n    lm_head: b\n    ffn: c\n    \
                 num_chunks: {count}\n"
            );
            let error = read(&text).unwrap_err();
            assert!(error.message.contains("num_chunks"), "{error}");
        }
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["../other", "/etc/x", "a/../../b"] {
            let text =
                format!("model_info:\n  parameters:\n    monolithic_model: {name}.mlmodelc\n");
            let error = read(&text).unwrap_err();
            assert!(error.message.contains("leaves the directory"), "{error}");
        }
    }
}
