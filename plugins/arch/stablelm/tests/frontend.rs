//! What is StableLM's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_stablelm::{StableLmPlugin, frontend};
use anemll_plugin_api::testing::FrontendCase;
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<StableLmPlugin>(json!({
        "architectures": ["StableLmForCausalLM"], "model_type": "stablelm", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "layer_norm_eps": 1e-5, "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25, "qk_layernorm": false, "use_parallel_residual": false,
        "use_qkv_bias": false, "rope_scaling": null, "tie_word_embeddings": false,
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn norms_have_biases_and_keep_the_basis() {
    case().plain();
    let text = case().lowered(&json!({}), 0, 2);
    let rotated = |share| case().lowered(&json!({ "partial_rotary_factor": share }), 0, 2);
    assert!(rotated(json!("absent")) == text && rotated(json!(0.5)) != text);
    for name in ["input_layernorm.bias", "post_attention_layernorm.bias"] {
        assert!(text.contains(&format!("model.layers.1.{name}")), "{name}");
    }
    assert!(text.contains("model.norm.bias") && !text.contains("residual"));
    assert!(!text.contains("q_proj.bias"));
    assert!(case().lowered(&json!({"use_qkv_bias": true}), 0, 2).contains("q_proj.bias"));
}

#[test]
fn attention_and_mlp_may_stand_side_by_side() {
    let text = case().lowered(&json!({"use_parallel_residual": true}), 0, 2);
    assert!(text.contains("model.layers.1.input_layernorm.weight"));
    assert!(!text.contains("post_attention_layernorm"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("qk_layernorm", json!(true)),
        ("use_parallel_residual", json!("no")),
        ("partial_rotary_factor", json!(0.01)),
        ("layer_norm_eps", json!(-1.0)),
        ("sliding_window", json!(16)),
    ]);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_stablelm::StableLmPlugin,
        "../../../tests/models/variants/stablelm"
    );
}
