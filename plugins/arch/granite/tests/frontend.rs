//! What is Granite's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_granite::{GranitePlugin, frontend};
use anemll_plugin_api::data::{
    FunctionSpec, LayerRange, Manifest, MatchRank, ModelDescription, ModelInput, Purpose,
};
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Host, Plugin, Result, Value, codes};
use serde_json::json;

/// A small model as transformers would save it.
fn config(changes: Value) -> Value {
    let mut config = json!({
        "architectures": ["GraniteForCausalLM"], "model_type": "granite", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": null, "attention_bias": false, "mlp_bias": false,
        "attention_multiplier": 0.0625, "embedding_multiplier": 12.0,
        "residual_multiplier": 0.25, "logits_scaling": 8.0, "tie_word_embeddings": true,
    });
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::String(text) if text == "absent" => {
                config.as_object_mut().unwrap().remove(key);
            }
            value => config[key] = value.clone(),
        }
    }
    config
}

fn input(config: Value) -> ModelInput {
    ModelInput::new(config, 64, 8)
}

fn describe(changes: Value) -> Result<ModelDescription> {
    Ok(frontend().open(&input(config(changes)), &Host::quiet())?.describe())
}

/// The weights and operations of layers `first` to `end`, as text.
fn lowered(changes: Value, first: u32, end: u32) -> String {
    let function =
        FunctionSpec::new("infer", Purpose::Infer).with_layers(LayerRange::new(first, end));
    let opened = frontend().open(&input(config(changes)), &Host::quiet()).unwrap();
    let bytes = opened.lower(&function, &Host::quiet()).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_manifest_agrees_with_the_code() {
    let manifest: Manifest = serde_json::from_str(GranitePlugin::MANIFEST).unwrap();
    assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
    let component = &manifest.components[0];
    let options = component.complete_options(&ComponentOptions::new()).unwrap();
    let made = GranitePlugin::arch_frontend(&component.id, &options).unwrap();
    let description = made.open(&input(config(json!({}))), &Host::quiet()).unwrap().describe();
    assert_eq!(description, describe(json!({})).unwrap());
    for (model_type, architecture) in component.model_types.iter().zip(&component.architectures) {
        let rank = |config: &Value| frontend().accepts(&config.to_string()).unwrap().rank;
        let typed = config(json!({"model_type": model_type, "architectures": [architecture]}));
        assert_eq!(rank(&typed), MatchRank::ModelType, "{model_type}");
        let untyped = config(json!({"model_type": "absent", "architectures": [architecture]}));
        assert_eq!(rank(&untyped), MatchRank::Architecture, "{architecture}");
    }
    let other = frontend().accepts(&config(json!({"model_type": "llama"})).to_string()).unwrap();
    assert_eq!(other.rank, MatchRank::None);
}

/// Each change is refused by its key, or by another one that is named.
fn are_refused(cases: &[(&str, Value)]) {
    for (key, value) in cases {
        let error = describe(json!({ *key: value })).expect_err(key);
        let codes = [codes::CONFIG_KEY_UNSUPPORTED, codes::CONFIG_KEY_INVALID];
        assert!(codes.contains(&error.code.as_str()), "{key} = {value}: {error}");
        assert_eq!(error.at.unwrap(), format!("config.json: {key}"), "{value}");
    }
}

#[test]
fn factors_are_within_the_weights() {
    let description = describe(json!({})).unwrap();
    assert!(description.notes.is_empty(), "{:?}", description.notes);
    let text = lowered(json!({}), 0, 1);
    // Two matrices of a layer add to the stream.
    assert_eq!(text.matches("\"scale\":0.25").count(), 2);
    assert!(!lowered(json!({"residual_multiplier": "absent"}), 0, 1).contains("\"scale\""));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    are_refused(&[
        ("attention_multiplier", json!(0)),
        ("embedding_multiplier", json!("12")),
        ("residual_multiplier", json!(-0.22)),
        ("logits_scaling", json!(0)),
        ("num_local_experts", json!(16)),
        ("layer_types", json!(["mamba", "attention"])),
    ]);
}
