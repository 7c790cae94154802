//! What is OLMo's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_olmo::{OlmoPlugin, frontend};
use anemll_plugin_api::data::{
    FunctionSpec, LayerRange, Manifest, MatchRank, ModelDescription, ModelInput, Purpose,
};
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Host, Plugin, Result, Value, codes};
use serde_json::json;

/// A small model as transformers would save it.
fn config(changes: Value) -> Value {
    let mut config = json!({
        "architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 500000,
        "rope_scaling": null, "attention_bias": false, "sliding_window": 16,
        "tie_word_embeddings": false,
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
    let manifest: Manifest = serde_json::from_str(OlmoPlugin::MANIFEST).unwrap();
    assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
    let component = &manifest.components[0];
    let options = component.complete_options(&ComponentOptions::new()).unwrap();
    let made = OlmoPlugin::arch_frontend(&component.id, &options).unwrap();
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
fn norms_stand_behind_and_over_the_width() {
    let text = lowered(json!({"model_type": "olmo2", "sliding_window": "absent"}), 0, 2);
    for name in ["post_attention_layernorm", "post_feedforward_layernorm", "self_attn.q_norm"] {
        assert!(text.contains(&format!("model.layers.1.{name}.weight")), "{name}");
    }
    assert!(!text.contains("input_layernorm") && !text.contains("pre_feedforward"));
    // A basis that such norms tell apart stays as it is.
    assert!(!text.contains("residual"));
    let description = describe(json!({})).unwrap();
    let matrices = 64 * 64 * 2 + 32 * 64 * 2 + 80 * 64 * 3;
    assert_eq!(description.parameters, 4 * (matrices + 64 * 3 + 32) + 64 + 2 * 256 * 64);
    assert!(description.notes.is_empty(), "{:?}", description.notes);
}

#[test]
fn three_of_four_layers_have_a_window_and_no_scaling() {
    assert!(lowered(json!({}), 0, 1).contains("window_16_mask"));
    assert!(!lowered(json!({}), 3, 4).contains("window_16_mask"));
    // One rotation, where nothing is scaled.
    assert!(!lowered(json!({}), 0, 4).contains("rotary2"));
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64});
    let scaled = json!({"rope_scaling": yarn});
    assert!(lowered(scaled.clone(), 0, 1).contains("model_model_rotary2_cos"));
    let text = lowered(scaled, 3, 4);
    assert!(text.contains("model_model_rotary_cos") && !text.contains("rotary2"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    are_refused(&[
        ("layer_types", json!(["full_attention"])),
        (
            "layer_types",
            json!(["linear_attention", "full_attention", "full_attention", "full_attention"]),
        ),
        ("sliding_window", json!(0)),
        ("clip_qkv", json!(8.0)),
        ("hidden_act", json!("quick_gelu")),
        ("partial_rotary_factor", json!(0.5)),
    ]);
    let error = describe(json!({"model_type": "olmo2"})).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: sliding_window");
}
