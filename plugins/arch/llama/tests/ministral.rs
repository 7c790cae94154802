//! What is Ministral's own: alone, and as the language model of one that sees images.
#![allow(clippy::unwrap_used)]

use anemll_arch_llama::LlamaPlugin;
use anemll_plugin_api::data::ModelInput;
use anemll_plugin_api::{ComponentOptions, Host, Plugin as _, Result, Value, codes};
use serde_json::json;

fn text() -> Value {
    json!({
        "architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "hidden_act": "silu",
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "sliding_window": null,
        "tie_word_embeddings": true, "rope_parameters": {
            "beta_fast": 32.0, "beta_slow": 1.0, "factor": 4.0, "llama_4_scaling_beta": 0.1,
            "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 256,
            "rope_theta": 1000000.0, "rope_type": "yarn", "type": "yarn",
        },
    })
}

fn images(text: Value) -> Value {
    json!({
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3",
        "text_config": text, "vision_config": {"model_type": "pixtral"}, "image_token_index": 10,
    })
}

/// The notes and warnings of a model that is opened.
fn open(config: Value, context: u64) -> Result<Vec<String>> {
    let frontend = LlamaPlugin::arch_frontend("llama", &ComponentOptions::new())?;
    let model = frontend.open(&ModelInput::new(config, context, 8), &Host::quiet())?;
    let description = model.describe();
    Ok([description.notes, description.warnings].concat())
}

#[test]
fn queries_are_plain_up_to_the_length_of_pretraining() {
    assert_eq!(open(text(), 256).unwrap(), [""; 0]);
    let error = open(text(), 257).unwrap_err();
    assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED);
    assert_eq!(error.at.unwrap(), "config.json: rope_parameters.llama_4_scaling_beta");
    assert!(error.hint.unwrap().contains("--context 256"));
    let mut plain = text();
    plain["rope_parameters"]["llama_4_scaling_beta"] = json!(0);
    assert_eq!(open(plain, 512).unwrap(), [""; 0]);
}

#[test]
fn there_is_no_model_without_rotary_parameters() {
    let mut without = text();
    without.as_object_mut().unwrap().remove("rope_parameters");
    let error = open(without, 256).unwrap_err();
    assert_eq!(error.code, codes::CONFIG_KEY_MISSING);
    assert_eq!(error.at.unwrap(), "config.json: rope_parameters");
}

#[test]
fn the_language_model_of_one_that_sees_images_is_taken() {
    let notes = open(images(text()), 256).unwrap();
    assert!(notes.iter().any(|note| note.contains("`text_config`")), "{notes:?}");
    let mut older = text();
    older["model_type"] = json!("mistral");
    older["vocab_size"] = json!(null);
    let error = open(images(older.clone()), 256).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: text_config.vocab_size");
    older["model_type"] = json!("mixtral");
    let error = open(images(older), 256).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: text_config.model_type");
}
