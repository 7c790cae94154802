//! What is Phi-3's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_phi3::{Phi3Plugin, frontend};
use anemll_plugin_api::data::{
    FunctionSpec, LayerRange, Manifest, MatchRank, ModelDescription, ModelInput, Purpose,
};
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Host, Plugin, Result, Value, codes};
use serde_json::json;

/// A small model as transformers would save it.
fn config(changes: Value) -> Value {
    let mut config = json!({
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "original_max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
        "rope_scaling": {
            "type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.0, 2.0, 3.0, 4.0],
        },
        "attention_bias": false, "sliding_window": null, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": false, "mlp_bias": false,
        "tie_word_embeddings": true,
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
    let manifest: Manifest = serde_json::from_str(Phi3Plugin::MANIFEST).unwrap();
    assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
    let component = &manifest.components[0];
    let options = component.complete_options(&ComponentOptions::new()).unwrap();
    let made = Phi3Plugin::arch_frontend(&component.id, &options).unwrap();
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
    assert_eq!((description.head_dimension, description.tied_embeddings), (16, true));
    let matrices = 64 * 64 * 2 + 32 * 64 * 2 + 80 * 64 * 3;
    assert_eq!(description.parameters, 2 * (matrices + 2 * 64) + 64 + 256 * 64);
    assert!(description.notes.is_empty(), "{:?}", description.notes);
    assert!(description.warnings.is_empty(), "{:?}", description.warnings);
    let longer = describe(json!({"original_max_position_embeddings": 32})).unwrap();
    assert!(longer.notes[0].contains("`rope_scaling.long_factor` counts"), "{:?}", longer.notes);
}

#[test]
fn projections_are_rows_of_one_tensor() {
    let text = lowered(json!({}), 0, 1);
    for rows in ["[0,64]", "[64,96]", "[96,128]", "[0,80]", "[80,160]"] {
        assert!(text.contains(&format!("\"rows\":{rows}")), "{rows}");
    }
    assert!(text.contains("model.layers.0.self_attn.qkv_proj.weight"));
    assert!(text.contains("model.layers.0.mlp.gate_up_proj.weight"));
    assert!(text.contains("model_model_layers_0_self_attn_q_proj_weight"));
    assert!(lowered(json!({"sliding_window": 9}), 0, 1).contains("window_9_mask"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    let factors = |short: usize, long: usize| json!({"type": "longrope", "short_factor": vec![1.0; short], "long_factor": vec![1.0; long]});
    for (scaling, key) in [
        (factors(3, 3), "short_factor"),
        (factors(4, 3), "long_factor"),
        (json!({"type": "longrope", "long_factor": [1.0]}), "short_factor"),
        (
            json!({"type": "longrope", "short_factor": [1, 1, 1, 0], "long_factor": [1, 1, 1, 1]}),
            "short_factor",
        ),
        (json!({"type": "quadratic", "factor": 2.0}), "type"),
    ] {
        let error = describe(json!({"rope_scaling": scaling})).unwrap_err();
        assert_eq!(error.at.unwrap(), format!("config.json: rope_scaling.{key}"), "{scaling}");
    }
    are_refused(&[
        ("partial_rotary_factor", json!(0.45)),
        ("partial_rotary_factor", json!(0.01)),
        ("partial_rotary_factor", json!(2.0)),
        ("attention_bias", json!(true)),
        ("sliding_window", json!(0)),
        ("num_local_experts", json!(16)),
        ("hidden_act", json!("quick_gelu")),
    ]);
}
