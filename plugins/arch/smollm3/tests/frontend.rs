//! What is SmolLM3's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_smollm3::{SmolLm3Plugin, frontend};
use anemll_plugin_api::Value;
use anemll_plugin_api::testing::FrontendCase;
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<SmolLm3Plugin>(json!({
        "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 5000000.0,
        "rope_scaling": null, "attention_bias": false, "mlp_bias": false, "pretraining_tp": 2,
        "max_window_layers": 28, "sliding_window": null, "use_sliding_window": false,
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn a_model_is_described() {
    let description = case().plain();
    assert_eq!((description.layers, description.tied_embeddings), (4, true));
    assert_eq!(description.default_prefix, "smollm3");
}

#[test]
fn layers_without_positions_have_no_tables() {
    let rotates =
        |changes: Value, layer| case().lowered(&changes, layer, layer + 1).contains("rotary_cos");
    let found = |changes: &Value| [0, 1, 2, 3].map(|layer| rotates(changes.clone(), layer));
    assert_eq!(found(&json!({})), [true, true, true, false]);
    assert_eq!(found(&json!({"no_rope_layer_interval": 2})), [true, false, true, false]);
    assert_eq!(found(&json!({"no_rope_layers": [0, 1, 1, 0]})), [false, true, true, false]);
    // What the apps give stays an input, though nothing asks for a position.
    assert!(case().lowered(&json!({}), 3, 4).contains("position_ids_tmp"));
}

#[test]
fn windows_are_where_the_list_has_them() {
    let types = json!(["full_attention", "full_attention", "full_attention", "sliding_attention"]);
    let windowed = json!({"layer_types": types, "sliding_window": 16, "use_sliding_window": true});
    assert!(case().lowered(&windowed.clone(), 3, 4).contains("window_16_mask"));
    assert!(!case().lowered(&windowed, 0, 3).contains("window_16_mask"));
    // Without the list, the layers without positions have the window.
    let derived = |positions: Value| {
        let changes = json!({"sliding_window": 16, "use_sliding_window": true,
            "max_window_layers": 0, "no_rope_layers": positions});
        [0, 1, 2, 3]
            .map(|layer| case().lowered(&changes, layer, layer + 1).contains("window_16_mask"))
    };
    assert_eq!(derived(json!("absent")), [false, false, false, true]);
    assert_eq!(derived(json!([0, 1, 0, 1])), [true, false, true, false]);
    let off = json!({"sliding_window": 16});
    assert!(!case().lowered(&off, 0, 4).contains("window_16_mask"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("no_rope_layers", json!([1, 1, 1])),
        ("no_rope_layers", json!([1, 1, 1, "no"])),
        ("no_rope_layer_interval", json!(0)),
        ("layer_types", json!(["full_attention"])),
        ("hidden_act", json!("quick_gelu")),
        ("num_experts", json!(8)),
        ("num_hidden_layers", json!(5000)),
    ]);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_smollm3::SmolLm3Plugin,
        "../../../tests/models/variants/smollm3"
    );
}
