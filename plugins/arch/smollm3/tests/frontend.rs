//! What is SmolLM3's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_smollm3::{SmolLm3Plugin, frontend};
use anemll_plugin_api::data::{
    FunctionSpec, LayerRange, Manifest, MatchRank, ModelDescription, ModelInput, Purpose,
};
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Host, Plugin, Result, Value, codes};
use serde_json::json;

/// A small model as transformers would save it.
fn config(changes: Value) -> Value {
    let mut config = json!({
        "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 5000000.0,
        "rope_scaling": null, "attention_bias": false, "mlp_bias": false, "pretraining_tp": 2,
        "max_window_layers": 28, "sliding_window": null, "use_sliding_window": false,
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
    let manifest: Manifest = serde_json::from_str(SmolLm3Plugin::MANIFEST).unwrap();
    assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
    let component = &manifest.components[0];
    let options = component.complete_options(&ComponentOptions::new()).unwrap();
    let made = SmolLm3Plugin::arch_frontend(&component.id, &options).unwrap();
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
fn a_model_is_described() {
    let description = describe(json!({})).unwrap();
    assert_eq!((description.layers, description.tied_embeddings), (4, true));
    assert_eq!(description.default_prefix, "smollm3");
    assert!(description.notes.is_empty(), "{:?}", description.notes);
    assert!(description.warnings.is_empty(), "{:?}", description.warnings);
}

#[test]
fn layers_without_positions_have_no_tables() {
    let rotates = |changes: Value, layer| lowered(changes, layer, layer + 1).contains("rotary_cos");
    let found = |changes: &Value| [0, 1, 2, 3].map(|layer| rotates(changes.clone(), layer));
    assert_eq!(found(&json!({})), [true, true, true, false]);
    assert_eq!(found(&json!({"no_rope_layer_interval": 2})), [true, false, true, false]);
    assert_eq!(found(&json!({"no_rope_layers": [0, 1, 1, 0]})), [false, true, true, false]);
    // What the apps give stays an input, though nothing asks for a position.
    assert!(lowered(json!({}), 3, 4).contains("position_ids_tmp"));
}

#[test]
fn windows_are_where_the_list_has_them() {
    let types = json!(["full_attention", "full_attention", "full_attention", "sliding_attention"]);
    let windowed = json!({"layer_types": types, "sliding_window": 16, "use_sliding_window": true});
    assert!(lowered(windowed.clone(), 3, 4).contains("window_16_mask"));
    assert!(!lowered(windowed, 0, 3).contains("window_16_mask"));
    let error = describe(json!({"sliding_window": 16, "use_sliding_window": true})).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: layer_types");
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    are_refused(&[
        ("no_rope_layers", json!([1, 1, 1])),
        ("no_rope_layers", json!([1, 1, 1, "no"])),
        ("no_rope_layer_interval", json!(0)),
        ("layer_types", json!(["full_attention"])),
        ("hidden_act", json!("quick_gelu")),
        ("num_experts", json!(8)),
        ("num_hidden_layers", json!(5000)),
    ]);
}
