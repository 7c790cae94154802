//! What the files of a model directory say beyond what a frontend asks, for all commands that read
//! one.

use crate::event::Event;
use anemll_codes as codes;
use anemll_generation::chat_template;
use anemll_huggingface::{Companion, ErrorKind, Importance, ModelDirectory};
use anemll_plugin_api::data::{ModelDescription, ModelInput, TensorInfo};
use anemll_plugin_api::{ArchFrontend, ArchModel, ComponentOptions, DType, Error, Host, Result};
use anemll_services::check_cancelled;
use anemll_tokenizer::Tokenizer;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The file without which no text becomes tokens.
pub const TOKENIZER: &str = "tokenizer.json";
/// What the model is.
const CONFIG: &str = "config.json";
/// The weight of a head of its own.
const HEAD: &str = "lm_head.weight";
/// How the model's makers sample.
const GENERATION: &str = "generation_config.json";
/// What of it is used.
const SAMPLING: [&str; 8] = [
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "bos_token_id",
    "eos_token_id",
];

/// Which weight the head has, where the configuration ties it to the embedding and another is
/// stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadChoice {
    /// The embedding, as transformers 4 has it.
    Tied,
    /// The stored weight, as transformers 5 has it.
    Stored,
}

impl HeadChoice {
    /// As it is typed, and told to frontends.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tied => "tied",
            Self::Stored => "stored",
        }
    }
}

/// What is asked of the frontend that is chosen: pieces of the head, which weight it has, and whether
/// weights may be missing.
pub fn frontend_options(
    pieces: Option<u64>,
    head: Option<HeadChoice>,
    allow_missing_weights: bool,
) -> ComponentOptions {
    let mut options = ComponentOptions::new();
    if let Some(pieces) = pieces {
        options.insert("split_lm_head", pieces);
    }
    if let Some(head) = head {
        options.insert("head", head.name());
    }
    if allow_missing_weights {
        options.insert("allow_missing_weights", true);
    }
    options
}

/// Names, types and shapes of all tensors, for a frontend.
pub fn tensor_infos(directory: &ModelDirectory) -> BTreeMap<String, TensorInfo> {
    let info = |info: &anemll_huggingface::TensorInfo| {
        TensorInfo::new(DType::named(&info.source_type.name()), info.shape.clone())
    };
    directory.tensors().iter().map(|(name, tensor)| (name.clone(), info(tensor))).collect()
}

/// A model as a frontend has read it.
pub struct OpenModel {
    /// By which its functions are lowered.
    pub model: Box<dyn ArchModel>,
    /// What the frontend says of it, with the remarks on its files.
    pub description: ModelDescription,
}

/// Has a frontend read a model. Where the weights are there, the remarks of the directory are added,
/// and a stored head is compared with the embedding that it is tied to.
///
/// # Errors
/// Those of the frontend, where a tensor is missing that the index names with the reason; a stored
/// head that differs from the embedding.
pub fn open(
    frontend: &dyn ArchFrontend,
    input: &ModelInput,
    directory: Option<&ModelDirectory>,
    head: Option<HeadChoice>,
    host: &Host,
) -> Result<OpenModel> {
    let Some(directory) = directory else {
        let model = frontend.open(input, host)?;
        let description = model.describe();
        return Ok(OpenModel { model, description });
    };
    let model = frontend.open(input, host).map_err(|error| explain(error, directory))?;
    let description = with_remarks(model.describe(), directory, head)?;
    Ok(OpenModel { model, description })
}

fn with_remarks(
    mut description: ModelDescription,
    directory: &ModelDirectory,
    head: Option<HeadChoice>,
) -> Result<ModelDescription> {
    description.notes.extend(directory.notes().iter().cloned());
    let Some(stored) = &description.stored_head else {
        if description.tied_embeddings && head.is_none() {
            refuse_lost_head(directory)?;
        }
        return Ok(description);
    };
    let tensor = |name| directory.tensor(name).map_err(Error::from);
    let (head, embedding) = (tensor(&stored.head)?, tensor(&stored.embedding)?);
    if head.has_values_of(&embedding)? {
        description.notes.push(format!(
            "`{}` is stored and equal to the embedding that the head is tied to",
            stored.head
        ));
        return Ok(description);
    }
    Err(Error::new(
        codes::HEAD_AMBIGUOUS,
        format!(
            "`tie_word_embeddings` is true, but `{}` is stored, and differs from `{}`",
            stored.head, stored.embedding
        ),
    )
    .with_at(stored.head.clone())
    .with_cause(
        "transformers 4 takes the embedding for the head; transformers 5 takes the stored weight",
    )
    .with_hint("say which one counts: --head tied (the embedding), or --head stored"))
}

/// A head that is tied, and stored too in a shard that is missing, may be another one than the
/// embedding.
fn refuse_lost_head(directory: &ModelDirectory) -> Result<()> {
    let lost = directory.lost().find(|name| *name == HEAD || name.ends_with(".lm_head.weight"));
    let Some((name, absence)) = lost.and_then(|name| Some((name, directory.absence(name)?))) else {
        return Ok(());
    };
    let hint = absence.hint().map_or(String::new(), |hint| format!("{hint}; "));
    Err(Error::from(absence)
        .with_cause(format!(
            "`tie_word_embeddings` is true, but the index says that `{name}` is stored, and it \
             cannot be compared with the embedding"
        ))
        .with_hint(format!("{hint}or say that the embedding counts: --head tied")))
}

/// A weight that is missing although the index names it: the index or the download is at fault.
fn explain(error: Error, directory: &ModelDirectory) -> Error {
    let absence = || directory.absence(error.at.as_deref()?);
    match absence().filter(|_| error.code == codes::WEIGHT_MISSING) {
        Some(absence) => Error::from(absence).with_cause(error.message),
        None => error,
    }
}

/// What was found of the files beside the weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompanionFindings {
    /// What was read otherwise than it stands there.
    pub notes: Vec<String>,
    /// What suffers: chat, or how tokens are drawn.
    pub warnings: Vec<String>,
}

/// Reads the tokenizer's files and those that say how to use the model, and checks that each is what
/// its name says. config.json is left to its own reader.
///
/// # Errors
/// The first without which text becomes no tokens, or wrong ones; the others are its causes.
pub fn check_companions(directory: &Path) -> Result<CompanionFindings> {
    let mut findings = CompanionFindings::default();
    let mut failure: Option<Error> = None;
    let mut left_out = false;
    for file in Companion::all(directory) {
        if file.name() == CONFIG {
            continue;
        }
        match file.read() {
            Ok(contents) => findings.notes.extend(contents.notes),
            Err(error) if file.importance() == Importance::Comfort => {
                left_out = true;
                let hint = error.hint().map_or(String::new(), |hint| format!("; {hint}"));
                findings.warnings.push(format!(
                    "{} is left out: {}{hint}",
                    file.name(),
                    error.reason()
                ));
            }
            Err(error) => {
                let also = format!("also: {}: {}", file.name(), error.reason());
                failure = Some(match failure {
                    Some(first) => first.with_cause(also),
                    None => unusable(error),
                });
            }
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    let (_, unusable) = generation(directory);
    findings.warnings.extend(unusable);
    if directory.join(TOKENIZER).exists() {
        findings.warnings.extend(match left_out {
            false => conversation_problems(directory),
            true => {
                usable_files(directory).ok().and_then(|kept| conversation_problems(kept.path()))
            }
        });
    }
    Ok(findings)
}

/// A folder with those files alone that a conversion takes along.
fn usable_files(directory: &Path) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for file in Companion::all(directory) {
        if let Ok(contents) = file.read() {
            fs_err::write(folder.path().join(file.name()), contents.bytes)?;
        }
    }
    Ok(folder)
}

/// What of a tokenizer will not work once the model is converted, found by trying it: its own
/// library takes it, and its chat template renders a question. Apps may have other libraries, so it
/// is no reason not to convert.
fn conversation_problems(directory: &Path) -> Option<String> {
    let said = |error: &Error| {
        let at = error.at.as_deref().map(Path::new).and_then(Path::file_name);
        let at = at.map_or(String::new(), |name| format!("{}: ", name.to_string_lossy()));
        format!("{at}{}", error.message)
    };
    let tokenizer = match Tokenizer::open(directory) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            return Some(format!("chat, generate and eval --text will not work: {}", said(&error)));
        }
    };
    let template = chat_template::find(directory, tokenizer.settings());
    let tried = template.and_then(|found| match found {
        Some((source, path)) => chat_template::check(&source, &path),
        None => Ok(()),
    });
    let error = tried.err()?;
    Some(format!("chat will not work, except with --no-template: {}", said(&error)))
}

fn unusable(error: anemll_huggingface::HuggingFaceError) -> Error {
    let hint = error.hint().map_or(String::new(), |hint| format!("{hint}; "));
    Error::from(error).with_hint(format!("{hint}to convert without the tokenizer: --no-tokenizer"))
}

/// generation_config.json without the settings that are no numbers, each of which is warned of; null
/// where there is none, or a broken one.
pub fn generation(directory: &Path) -> (Value, Vec<String>) {
    let file = Companion::all(directory).into_iter().find(|file| file.name() == GENERATION);
    let mut value = file.map_or(Value::Null, |file| file.value());
    let mut warnings = Vec::new();
    for key in SAMPLING {
        let number = value.get(key).and_then(Value::as_str);
        if let Some(number @ ("NaN" | "Infinity" | "-Infinity")) = number {
            warnings.push(format!("{GENERATION}: `{key}` is {number}, so the default is taken"));
            if let Some(keys) = value.as_object_mut() {
                keys.shift_remove(key);
            }
        }
    }
    (value, warnings)
}

/// Whether there are weights in a form that cannot be read.
pub fn has_weights(directory: &Path) -> bool {
    let known = ["safetensors", "bin", "pt", "pth", "gguf"];
    std::fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|end| known.iter().any(|known| end == *known))
    })
}

/// The weights, if there are any, and a line about them.
pub fn weights(directory: &Path) -> (Result<Option<ModelDirectory>>, String) {
    match ModelDirectory::open(directory) {
        Ok(model) => {
            let files = match model.weight_files().len() {
                1 => "1 file".to_owned(),
                count => format!("{count} files"),
            };
            let line = format!("names and shapes of {} tensors in {files}", model.tensors().len());
            (Ok(Some(model)), line)
        }
        Err(error) if error.kind() == ErrorKind::NoWeights && !has_weights(directory) => {
            (Ok(None), "none here; only the configuration was looked at".to_owned())
        }
        Err(error) => {
            let line = error.reason().to_owned();
            (Err(Error::from(error)), line)
        }
    }
}

/// The hash of all that is read of a model.
pub(crate) fn hash_source(directory: &ModelDirectory, show: &dyn Fn(&Event<'_>)) -> Result<String> {
    let progress = |done, total| {
        show(&Event::Source { done, total });
        check_cancelled().is_ok()
    };
    directory.source_sha256(progress).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const POINTER: &str =
        "version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 11422654\n";

    const TINY: &str = r#"{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel",
        "vocab": {"a": 0}, "unk_token": "a"}}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn what_chat_alone_needs_is_a_warning() {
        let files = folder(&[
            ("chat_template.jinja", POINTER),
            ("generation_config.json", "{"),
            ("tokenizer.model", ""),
            ("tokenizer.json", TINY),
            ("tokenizer_config.json", "{\"model_max_length\": Infinity}"),
        ]);
        let found = check_companions(files.path()).unwrap();
        assert_eq!(
            found.notes,
            ["tokenizer_config.json: `model_max_length` is Infinity, which JSON does not have"]
        );
        assert_eq!(found.warnings.len(), 3, "{found:?}");
        for (warning, words) in
            found.warnings.iter().zip(["not valid JSON", "the file is empty", "git lfs pull"])
        {
            assert!(warning.contains(" is left out: ") && warning.contains(words), "{warning}");
        }
    }

    #[test]
    fn what_will_not_work_is_said_before_the_work_begins() {
        let warnings = |tokenizer: &str, settings: &str| {
            let files =
                folder(&[("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)]);
            check_companions(files.path()).unwrap().warnings
        };
        for fine in ["{}", r#"{"chat_template": "{{ messages[0].content }}"}"#] {
            assert_eq!(warnings(TINY, fine), [""; 0], "{fine}");
        }
        // A refusal in the template's own words is one of this conversation.
        let refusing = r#"{"chat_template": "{{ raise_exception('no system here') }}"}"#;
        assert_eq!(warnings(TINY, refusing), [""; 0]);
        let unknown = r#"{"model": {"type": "Later", "vocab": {}}}"#;
        let told = warnings(unknown, "{}");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("chat, generate and eval --text will not work"), "{told:?}");
        assert!(told[0].contains("tokenizer.json: "), "{told:?}");
        for broken in ["{% if %}", "{{ messages | no_such_filter }}"] {
            let settings = serde_json::json!({ "chat_template": broken }).to_string();
            let told = warnings(TINY, &settings);
            assert_eq!(told.len(), 1, "{broken}: {told:?}");
            assert!(told[0].starts_with("chat will not work, except with --no-template"));
        }
    }

    #[test]
    fn what_tokens_need_is_an_error() {
        for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
            let error = check_companions(folder(&[(name, POINTER)]).path()).unwrap_err();
            assert_eq!(error.code, codes::TOKENIZER_INVALID);
            assert!(error.message.contains("Git LFS") && error.at.unwrap().ends_with(name));
            let hint = error.hint.unwrap();
            assert!(hint.contains("git lfs pull") && hint.contains("--no-tokenizer"), "{hint}");
        }
        let both = folder(&[("tokenizer.json", ""), ("tokenizer_config.json", "<html>")]);
        let error = check_companions(both.path()).unwrap_err();
        assert_eq!(
            error.causes,
            ["also: tokenizer_config.json: this is a web page, not the file itself"]
        );
    }

    #[test]
    fn settings_that_are_no_numbers_are_named_and_left_out() {
        let files =
            folder(&[(GENERATION, "{\"temperature\": NaN, \"top_k\": 5, \"x\": Infinity}")]);
        let (value, warnings) = generation(files.path());
        assert_eq!(value, serde_json::json!({"top_k": 5, "x": "Infinity"}));
        assert_eq!(
            warnings,
            ["generation_config.json: `temperature` is NaN, so the default is taken"]
        );
        assert_eq!(check_companions(files.path()).unwrap().warnings, warnings);
    }
}
