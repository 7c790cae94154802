//! What is Cohere's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_cohere::{CoherePlugin, frontend};
use anemll_plugin_api::testing::FrontendCase;
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<CoherePlugin>(json!({
        "architectures": ["Cohere2ForCausalLM"], "model_type": "cohere2", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "layer_norm_eps": 1e-5, "rope_theta": 50000.0,
        "rope_scaling": null, "attention_bias": false, "logit_scale": 0.25,
        "sliding_window": 16, "sliding_window_pattern": 2, "tie_word_embeddings": true,
        "use_parallel_block": true, "use_gated_activation": true, "use_qk_norm": false,
        "position_embedding_type": "rope_gptj", "rotary_pct": 1.0,
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn layers_that_see_all_have_no_positions() {
    let turns = |layer| case().lowered(&json!({}), layer, layer + 1).contains("rotary_cos");
    assert!(turns(0) && !turns(1));
    let older = json!({"model_type": "cohere", "architectures": ["CohereForCausalLM"],
        "sliding_window": "absent", "sliding_window_pattern": "absent"});
    assert!(case().lowered(&older, 1, 2).contains("rotary_cos"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("use_qk_norm", json!(true)),
        ("use_parallel_block", json!(false)),
        ("position_embedding_type", json!("alibi")),
        ("logit_scale", json!(0)),
        ("logit_scale", json!(null)),
        ("sliding_window_pattern", json!(0)),
        ("layer_types", json!(["full_attention"])),
        ("num_experts", json!(8)),
    ]);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_cohere::CoherePlugin,
        "../../../tests/models/variants/cohere2"
    );
}
