//! What is EXAONE 4's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_exaone4::{Exaone4Plugin, frontend};
use anemll_plugin_api::testing::FrontendCase;
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<Exaone4Plugin>(json!({
        "architectures": ["Exaone4ForCausalLM"], "model_type": "exaone4", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
        "rope_scaling": null, "sliding_window": null, "sliding_window_pattern": null,
        "layer_types": ["full_attention", "full_attention"], "tie_word_embeddings": true,
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn layers_that_see_all_have_no_positions_where_others_have_a_window() {
    case().plain();
    let kinds = json!(["sliding_attention", "full_attention"]);
    let hybrid =
        json!({"sliding_window": 16, "sliding_window_pattern": "LG", "layer_types": kinds});
    let turns = |changes, layer| case().lowered(&changes, layer, layer + 1).contains("rotary_cos");
    assert!(turns(json!({}), 0) && turns(json!({}), 1));
    assert!(turns(hybrid.clone(), 0) && !turns(hybrid.clone(), 1));
    assert!(case().lowered(&hybrid, 0, 1).contains("window_16_mask"));
    // By the pattern where nothing is listed.
    let pattern =
        json!({"sliding_window": 16, "sliding_window_pattern": 2, "layer_types": "absent"});
    assert!(turns(pattern.clone(), 0) && !turns(pattern, 1));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("attention_bias", json!(true)),
        ("layer_types", json!(["full_attention"])),
        ("layer_types", json!(["full_attention", "recurrent"])),
        ("num_experts", json!(8)),
    ]);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_exaone4::Exaone4Plugin,
        "../../../tests/models/variants/exaone4"
    );
}
