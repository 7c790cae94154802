//! Writing meta.yaml, by which chat programs find the files of a conversion.

use anemll_calibration::Quality;
use anemll_codes as codes;
use anemll_huggingface::SentenceModel;
use anemll_plugin_api::data::{Layout, ModelDescription};
use anemll_plugin_api::{Error, Result};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// What meta.yaml is made from.
pub(super) struct Source<'a> {
    pub(super) model_name: &'a str,
    pub(super) description: &'a ModelDescription,
    pub(super) layout: &'a Layout,
    /// generation_config.json of the model; null where there is none.
    pub(super) generation: &'a Value,
    /// What follows the model, where it is converted for vectors.
    pub(super) sentence: Option<&'a SentenceModel>,
    /// As typed.
    pub(super) command_line: &'a str,
    /// Of config.json and the weights.
    pub(super) sha256: &'a str,
    /// How far the model is from the original, if that was measured.
    pub(super) quality: Option<Quality>,
}

/// The text of meta.yaml: the keys that ANEMLL's apps read, then the conversion as comments.
pub(super) fn meta_yaml(source: &Source<'_>) -> Result<String> {
    let Source { model_name, description, layout, generation, sentence, .. } = source;
    let Source { command_line, sha256, quality, .. } = source;
    let mut parameters = Map::new();
    parameters.insert("context_length".into(), json!(description.context));
    parameters.insert("batch_size".into(), json!(description.batch));
    parameters.insert("model_prefix".into(), json!(layout.prefix));
    parameters.insert("vocab_size".into(), json!(description.vocabulary_size));
    match (sentence, &description.embedding) {
        (Some(sentence), Some(output)) => {
            parameters.insert("embedding_dimension".into(), json!(output.dimension));
            parameters.insert("pooling".into(), json!(sentence.head.pooling));
            parameters.insert("normalized".into(), json!(sentence.head.normalize));
            parameters.insert("bidirectional".into(), json!(output.bidirectional));
        }
        _ => {
            parameters.insert("split_lm_head".into(), json!(description.head_splits.len()));
            parameters.insert("lm_head_chunk_sizes".into(), json!(description.head_splits));
            if let Some(sampling) = recommended_sampling(generation) {
                parameters.insert("recommended_sampling".into(), sampling);
            }
        }
    }
    // What the combiner knows (files, chunks, bits) has the last word.
    parameters.extend(layout.meta.clone());
    let kind = parameters.get("model_type").cloned().unwrap_or_else(|| json!(layout.combiner));
    let document = json!({
        "model_info": {
            "name": format!("anemll-{model_name}-ctx{}", description.context),
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "{model_name} for Apple's Neural Engine, context length {}, batch size {}",
                description.context, description.batch
            ),
            "architecture": description.model_type,
            "model_type": kind,
            "parameters": Value::Object(parameters),
        }
    });
    let mut text = serde_yaml_ng::to_string(&document).map_err(|source| {
        Error::new(codes::OUTPUT_UNWRITABLE, format!("meta.yaml cannot be written: {source}"))
    })?;
    text.push_str("\n# Conversion\n");
    let _ = writeln!(text, "# command: {}", command_line.replace(['\n', '\r'], " "));
    let _ = writeln!(text, "# anemll: {}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "# source_sha256: {}", sha256);
    let _ = writeln!(text, "# parameters: {}", description.parameters);
    if let Some(quality) = quality {
        let _ = writeln!(text, "# quality: {quality}");
    }
    Ok(text)
}

/// How the model's makers sample, in the keys that the apps read; what they leave out is as
/// transformers has it (`GenerationConfig`). None where generation_config.json says nothing of it.
fn recommended_sampling(generation: &Value) -> Option<Value> {
    let defaults = json!({ "do_sample": false, "temperature": 1.0, "top_p": 1.0, "top_k": 50 });
    let keys = defaults.as_object()?;
    let given = |key: &str| generation.get(key).filter(|value| !value.is_null());
    keys.keys().any(|key| given(key).is_some()).then(|| {
        keys.iter().map(|(key, value)| (key.clone(), given(key).unwrap_or(value).clone())).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_recommended_where_the_model_does() {
        let smollm =
            json!({ "bos_token_id": 1, "temperature": 0.2, "top_p": 0.9, "do_sample": true });
        assert_eq!(
            recommended_sampling(&smollm).unwrap(),
            json!({ "do_sample": true, "temperature": 0.2, "top_p": 0.9, "top_k": 50 })
        );
        assert_eq!(recommended_sampling(&json!({ "bos_token_id": 1, "top_k": null })), None);
        assert_eq!(recommended_sampling(&Value::Null), None);
    }
}
