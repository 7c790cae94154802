//! What is Granite's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_granite::{GranitePlugin, frontend};
use anemll_plugin_api::testing::FrontendCase;
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<GranitePlugin>(json!({
        "architectures": ["GraniteForCausalLM"], "model_type": "granite", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": null, "attention_bias": false, "mlp_bias": false,
        "attention_multiplier": 0.0625, "embedding_multiplier": 12.0,
        "residual_multiplier": 0.25, "logits_scaling": 8.0, "tie_word_embeddings": true,
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn factors_are_within_the_weights() {
    case().plain();
    let text = case().lowered(&json!({}), 0, 1);
    // Two matrices of a layer add to the stream.
    assert_eq!(text.matches("\"scale\":0.25").count(), 2);
    assert!(!case().lowered(&json!({"residual_multiplier": "absent"}), 0, 1).contains("\"scale\""));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("attention_multiplier", json!(0)),
        ("embedding_multiplier", json!("12")),
        ("residual_multiplier", json!(-0.22)),
        ("logits_scaling", json!(0)),
        ("num_local_experts", json!(16)),
        ("layer_types", json!(["mamba", "attention"])),
    ]);
}
