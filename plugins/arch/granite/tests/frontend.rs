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

/// A small model of Granite 4, without experts.
fn hybrid() -> FrontendCase {
    FrontendCase::of::<GranitePlugin>(json!({
        "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid",
        "vocab_size": 256, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": null, "attention_bias": false, "attention_multiplier": 0.0625,
        "embedding_multiplier": 12.0, "residual_multiplier": 0.25, "logits_scaling": 8.0,
        "tie_word_embeddings": true, "layer_types": ["attention", "attention"],
        "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 96,
        "position_embedding_type": "rope", "mamba_n_heads": 8, "init_method": "mup",
        "normalization_function": "rmsnorm",
    }))
}

#[test]
fn what_experts_share_is_the_mlp_where_there_are_none() {
    hybrid().plain();
    let text = hybrid().lowered(&json!({}), 0, 1);
    // Gate and inner space of 96 elements each are rows of one tensor.
    assert!(text.contains("shared_mlp.input_linear.weight") && text.contains("\"rows\":[96,192]"));
    assert!(text.contains("rotary_cos"));
    for kind in [json!("nope"), json!("absent"), json!(null)] {
        let text = hybrid().lowered(&json!({ "position_embedding_type": kind }), 0, 1);
        assert!(!text.contains("rotary_cos"));
    }
    // Keys of widths have the family's names where weights are of another one, too.
    assert!(
        text.contains("2*shared_intermediate_size") && !text.contains("[\"intermediate_size\"")
    );
    hybrid().check_refusals(&[
        ("num_local_experts", json!(8)),
        ("num_local_experts", json!("absent")),
        ("layer_types", json!(["mamba", "attention"])),
        ("layer_types", json!(["attention"])),
        ("layer_types", json!("absent")),
        ("shared_intermediate_size", json!(0)),
        ("shared_intermediate_size", json!("wide")),
        ("shared_intermediate_size", json!(2_147_483_648_u64)),
        ("logits_scaling", json!(1e-320)),
        ("normalization_function", json!("layernorm")),
        ("position_embedding_type", json!("alibi")),
    ]);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("num_attention_heads", json!(3)),
        ("num_attention_heads", json!(64)),
        ("attention_multiplier", json!(0)),
        ("embedding_multiplier", json!("12")),
        ("residual_multiplier", json!(-0.22)),
        ("logits_scaling", json!(0)),
        ("logits_scaling", json!(1e-320)),
        ("embedding_multiplier", json!(1e300)),
        ("attention_multiplier", json!(1e300)),
        ("num_local_experts", json!(16)),
        ("layer_types", json!(["mamba", "attention"])),
    ]);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_granite::GranitePlugin,
        "../../../tests/models/variants/granite"
    );
}
