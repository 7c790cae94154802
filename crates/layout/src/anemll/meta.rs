//! How a conversion is run of which nothing is known but its `meta.yaml`.

use super::{Stem, feeds};
use crate::{INFER, MAIN, PREFILL};
use anemll_plugin_api::data::{RunOrder, RunStep};
use serde_json::Value;

/// More than any model has layers.
const MOST_CHUNKS: u64 = 999;

/// The calls that the apps make of the packages which `model_info` of a `meta.yaml` names; there are
/// no functions for evaluation.
///
/// # Errors
/// What is wrong, in a sentence about a key.
pub fn run_order(model_info: &Value) -> Result<RunOrder, String> {
    let parameters = &model_info["parameters"];
    let kind = text(model_info, "model_info", "model_type")?.or(text(
        parameters,
        PARAMETERS,
        "model_type",
    )?);
    let step = |package: &str, function: &str| RunStep::new(package, function);
    let whole = text(parameters, PARAMETERS, "monolithic_model")?;
    if kind == Some("monolithic") || whole.is_some() {
        let model = stem_of(whole, "monolithic_model")?;
        return Ok(RunOrder::default()
            .with_infer(vec![step(model, INFER)])
            .with_prefill(vec![step(model, PREFILL)])
            .with_feeds(feeds()));
    }
    let file = |key| stem_of(text(parameters, PARAMETERS, key)?, key);
    let (embeddings, head, layers) = (file("embeddings")?, file("lm_head")?, file("ffn")?);
    let count = match &parameters["num_chunks"] {
        Value::Null => 1,
        count => match count.as_u64().filter(|count| (1..=MOST_CHUNKS).contains(count)) {
            Some(count) => count as u32,
            None => {
                return Err(format!("{PARAMETERS}.num_chunks is {count}, not 1 to {MOST_CHUNKS}"));
            }
        },
    };
    let chunks = Stem::of_chunks(layers, count);
    let through = |function: &str| {
        let mut steps = vec![step(embeddings, MAIN)];
        steps.extend(chunks.iter().map(|chunk| step(chunk, function)));
        steps
    };
    let mut infer = through(INFER);
    infer.push(step(head, MAIN));
    Ok(RunOrder::default().with_infer(infer).with_prefill(through(PREFILL)).with_feeds(feeds()))
}

const PARAMETERS: &str = "model_info.parameters";

fn text<'a>(object: &'a Value, owner: &str, key: &str) -> Result<Option<&'a str>, String> {
    match &object[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other => Err(format!("{owner}.{key} is {other}, not a text")),
    }
}

/// The stem of a file that a key names.
fn stem_of<'a>(file: Option<&'a str>, key: &str) -> Result<&'a str, String> {
    let file = file.ok_or_else(|| format!("meta.yaml has no key `{PARAMETERS}.{key}`"))?;
    let file = file.trim_end_matches('/');
    let stem = file.strip_suffix(".mlmodelc").or_else(|| file.strip_suffix(".mlpackage"));
    Ok(stem.unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn packages(steps: &[RunStep]) -> Vec<&str> {
        steps.iter().map(|step| step.package.as_str()).collect()
    }

    #[test]
    fn a_model_in_chunks_runs_embeddings_chunks_and_head() {
        let info = json!({ "parameters": {
            "num_chunks": 2,
            "embeddings": "llama_embeddings.mlmodelc",
            "lm_head": "llama_lm_head_lut6.mlmodelc/",
            "ffn": "llama_FFN_PF_lut4_chunk_01of02.mlmodelc",
        }});
        let run = run_order(&info).unwrap();
        let expected = [
            "llama_embeddings",
            "llama_FFN_PF_lut4_chunk_01of02",
            "llama_FFN_PF_lut4_chunk_02of02",
            "llama_lm_head_lut6",
        ];
        assert_eq!(packages(&run.infer), expected);
        assert_eq!(packages(&run.prefill), expected[..3]);
    }

    #[test]
    fn a_whole_model_is_one_package() {
        let info = json!({
            "model_type": "monolithic",
            "parameters": { "monolithic_model": "qwen_monolithic_full.mlmodelc" },
        });
        let run = run_order(&info).unwrap();
        assert_eq!(packages(&run.infer), ["qwen_monolithic_full"]);
        assert_eq!(run.prefill[0].function, "prefill");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let parameters =
            |parameters: Value| run_order(&json!({ "parameters": parameters })).unwrap_err();
        let all = json!({ "embeddings": "a", "lm_head": "b", "ffn": "c" });
        assert!(parameters(json!({ "embeddings": "a" })).contains("parameters.lm_head"));
        assert!(parameters(json!({ "ffn": 4 })).contains("no key"));
        for count in [json!(0), json!(1_000_000_000), json!("two"), json!(-1)] {
            let mut all = all.clone();
            all["num_chunks"] = count;
            assert!(parameters(all).contains("num_chunks"));
        }
        let mut wrong = all;
        wrong["ffn"] = json!(["c"]);
        assert!(parameters(wrong).contains("not a text"));
        assert!(run_order(&Value::Null).is_err());
    }
}
