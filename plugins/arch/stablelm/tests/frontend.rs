//! What is StableLM's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_stablelm::{StableLmPlugin, frontend};
use anemll_plugin_api::data::{
    FunctionSpec, LayerRange, Manifest, MatchRank, ModelDescription, ModelInput, Purpose,
};
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Host, Plugin, Result, Value, codes};
use serde_json::json;

/// A small model as transformers would save it.
fn config(changes: Value) -> Value {
    let mut config = json!({
        "architectures": ["StableLmForCausalLM"], "model_type": "stablelm", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "layer_norm_eps": 1e-5, "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25, "qk_layernorm": false, "use_parallel_residual": false,
        "use_qkv_bias": false, "rope_scaling": null, "tie_word_embeddings": false,
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
    let manifest: Manifest = serde_json::from_str(StableLmPlugin::MANIFEST).unwrap();
    assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
    let component = &manifest.components[0];
    let options = component.complete_options(&ComponentOptions::new()).unwrap();
    let made = StableLmPlugin::arch_frontend(&component.id, &options).unwrap();
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
fn norms_have_biases_and_keep_the_basis() {
    let description = describe(json!({})).unwrap();
    assert!(description.notes.is_empty(), "{:?}", description.notes);
    assert_eq!(description, describe(json!({"partial_rotary_factor": "absent"})).unwrap());
    let text = lowered(json!({}), 0, 2);
    for name in ["input_layernorm.bias", "post_attention_layernorm.bias"] {
        assert!(text.contains(&format!("model.layers.1.{name}")), "{name}");
    }
    assert!(text.contains("model.norm.bias") && !text.contains("residual"));
    assert!(!text.contains("q_proj.bias"));
    assert!(lowered(json!({"use_qkv_bias": true}), 0, 2).contains("q_proj.bias"));
}

#[test]
fn attention_and_mlp_may_stand_side_by_side() {
    let text = lowered(json!({"use_parallel_residual": true}), 0, 2);
    assert!(text.contains("model.layers.1.input_layernorm.weight"));
    assert!(!text.contains("post_attention_layernorm"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    are_refused(&[
        ("qk_layernorm", json!(true)),
        ("use_parallel_residual", json!("no")),
        ("partial_rotary_factor", json!(0.01)),
        ("layer_norm_eps", json!(-1.0)),
        ("sliding_window", json!(16)),
    ]);
}
