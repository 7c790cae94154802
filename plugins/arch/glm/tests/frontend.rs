//! What is GLM's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_glm::{GlmPlugin, frontend};
use anemll_plugin_api::testing::FrontendCase;
use serde_json::{Value, json};

/// A small model as transformers would save it.
fn case(kind: &str, class: &str) -> FrontendCase {
    FrontendCase::of::<GlmPlugin>(json!({
        "architectures": [class], "model_type": kind, "vocab_size": 256, "hidden_size": 64,
        "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5, "attention_bias": true, "attention_dropout": 0.0,
        "tie_word_embeddings": false,
    }))
}

fn glm() -> FrontendCase {
    case("glm", "GlmForCausalLM")
}

fn glm4() -> FrontendCase {
    case("glm4", "Glm4ForCausalLM")
}

#[test]
fn the_manifest_agrees_with_the_code() {
    glm4().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn glm4_normalizes_before_and_after() {
    glm().plain();
    glm4().plain();
    let before = glm().lowered(&json!({}), 0, 1);
    let both = glm4().lowered(&json!({}), 0, 1);
    for norm in ["post_self_attn_layernorm", "post_mlp_layernorm"] {
        let tensor = format!("model.layers.0.{norm}.weight");
        assert!(both.contains(&tensor) && !before.contains(&tensor), "{norm}");
    }
    // Gate and inner space are rows of one tensor.
    assert!(before.contains("mlp.gate_up_proj.weight") && before.contains("\"rows\":[80,160]"));
}

#[test]
fn biases_are_there_unless_they_are_switched_off() {
    let biases = |given: Value| {
        let text = glm4().lowered(&json!({ "attention_bias": given }), 0, 1);
        assert!(!text.contains("o_proj.bias"));
        text.contains("q_proj.bias")
    };
    assert!(biases(json!(true)) && biases(json!("absent")) && !biases(json!(false)));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    for case in [glm(), glm4()] {
        case.check_refusals(&[
            ("attention_bias", json!("yes")),
            ("mlp_bias", json!(true)),
            ("partial_rotary_factor", json!(0)),
            ("partial_rotary_factor", json!(0.35)),
            ("head_dim", json!(null)),
            ("sliding_window", json!(64)),
            ("n_routed_experts", json!(8)),
            ("use_qk_norm", json!(true)),
        ]);
    }
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_glm::GlmPlugin,
        "../../../tests/models/variants/glm4"
    );
}
