//! What a model is converted for: text, or the vectors of texts.

use crate::event::Event;
use anemll_codes as codes;
use anemll_conversion::Embedding;
use anemll_huggingface::{ModelDirectory, SentenceModel};
use anemll_plugin_api::data::{Layout, ModelDescription};
use anemll_plugin_api::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// What a conversion gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelTask {
    /// Text, token by token.
    Generate,
    /// The vector of a text.
    Embed,
}

impl std::str::FromStr for ModelTask {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "generate" => Ok(Self::Generate),
            "embed" => Ok(Self::Embed),
            _ => Err("take generate or embed".to_owned()),
        }
    }
}

/// What follows the model of a directory where it is converted for vectors: because that was asked for,
/// or, where nothing was, because the directory says so.
///
/// # Errors
/// A directory that says nothing of vectors, though they were asked for, or says what cannot be honoured.
pub fn sentence_model(
    asked: Option<ModelTask>,
    directory: &Path,
    show: &dyn Fn(&Event<'_>),
) -> Result<Option<SentenceModel>> {
    if asked == Some(ModelTask::Generate) {
        return Ok(None);
    }
    let found = SentenceModel::read(directory).map_err(Error::from)?;
    match (asked, &found) {
        (None, Some(_)) => show(&Event::Note {
            text: "modules.json says that the model gives the vectors of texts: --task embed is taken",
        }),
        (Some(ModelTask::Embed), None) => {
            return Err(Error::new(
                codes::USAGE,
                "--task embed: the model's directory has no modules.json, which says how tokens are pooled",
            )
            .with_at(directory.display().to_string())
            .with_hint(
                "give the whole directory of a model for sentence-transformers, with modules.json and \
                 the folders that it names, such as 1_Pooling",
            ));
        }
        _ => {}
    }
    Ok(found)
}

/// The weights with those of the layers behind a pooling.
///
/// # Errors
/// A layer whose weights cannot be read.
pub fn with_layers(
    directory: ModelDirectory,
    sentence: Option<&SentenceModel>,
) -> Result<ModelDirectory> {
    match sentence {
        Some(sentence) => directory.with_layers_of(sentence).map_err(Error::from),
        None => Ok(directory),
    }
}

/// What to know where sentence-transformers cuts texts that these packages take whole.
pub(crate) fn longer_texts(sentence: Option<&SentenceModel>, context: u64) -> Option<String> {
    let longest = sentence?.longest.filter(|longest| *longest < context)?;
    Some(format!(
        "sentence-transformers cuts texts of this model after {longest} tokens; with --context {longest} \
         longer ones are refused, or cut by `anemll embed --truncate`"
    ))
}

/// That the frontend gives vectors where they are asked for.
pub(crate) fn check_frontend(asked: bool, arch: &str, model: &ModelDescription) -> Result<()> {
    if model.embedding.is_some() == asked {
        return Ok(());
    }
    Err(Error::new(
        codes::PLUGIN_BAD_ANSWER,
        format!("the frontend `{arch}` knows nothing of models that give vectors"),
    )
    .with_at("--task")
    .with_hint("ask its author for a later version, or convert with --task generate"))
}

/// That the combiner lays out what the model is for.
pub(crate) fn check_combiner(
    combiner: &str,
    model: &ModelDescription,
    layout: &Layout,
) -> Result<()> {
    if model.embedding.is_some() == anemll_layout::is_embedding(layout) {
        return Ok(());
    }
    Err(Error::new(
        codes::LAYOUT_OPTION_INVALID,
        format!("the combiner `{combiner}` knows nothing of models that give vectors"),
    )
    .with_at("--combiner")
    .with_hint("take --combiner monolithic or --combiner chunked"))
}

/// What the description of a conversion says of its vectors.
pub(crate) fn embedding(model: &ModelDescription, sentence: &SentenceModel) -> Option<Embedding> {
    let output = model.embedding.as_ref()?;
    Some(Embedding {
        dimension: output.dimension,
        vocabulary: model.vocabulary_size,
        pooling: sentence.head.pooling,
        normalized: sentence.head.normalize,
        bidirectional: output.bidirectional,
        lowercase: sentence.lowercase,
        prompts: sentence.prompts.clone(),
        default_prompt: sentence.default_prompt.clone(),
    })
}

/// What decides the output of a conversion to vectors, beside the options of every conversion.
pub(crate) fn options(sentence: &SentenceModel) -> Value {
    json!({
        "head": sentence.head,
        "prompts": sentence.prompts,
        "default_prompt": sentence.default_prompt,
        "lowercase": sentence.lowercase,
    })
}
