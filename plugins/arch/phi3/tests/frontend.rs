//! What is Phi-3's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_phi3::{Phi3Plugin, frontend};
use anemll_plugin_api::testing::FrontendCase;
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<Phi3Plugin>(json!({
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
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn a_model_is_described() {
    let description = case().plain();
    assert_eq!((description.head_dimension, description.tied_embeddings), (16, true));
    let matrices = 64 * 64 * 2 + 32 * 64 * 2 + 80 * 64 * 3;
    assert_eq!(description.parameters, 2 * (matrices + 2 * 64) + 64 + 256 * 64);
    let longer = case().describe(&json!({"original_max_position_embeddings": 32})).unwrap();
    assert!(
        longer.notes[0].contains("`rope_scaling.long_factor` applies to"),
        "{:?}",
        longer.notes
    );
}

#[test]
fn projections_are_rows_of_one_tensor() {
    let text = case().lowered(&json!({}), 0, 1);
    for rows in ["[0,64]", "[64,96]", "[96,128]", "[0,80]", "[80,160]"] {
        assert!(text.contains(&format!("\"rows\":{rows}")), "{rows}");
    }
    assert!(text.contains("model.layers.0.self_attn.qkv_proj.weight"));
    assert!(text.contains("model.layers.0.mlp.gate_up_proj.weight"));
    assert!(text.contains("model_model_layers_0_self_attn_q_proj_weight"));
    assert!(case().lowered(&json!({"sliding_window": 9}), 0, 1).contains("window_9_mask"));
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
        let error = case().describe(&json!({"rope_scaling": scaling})).unwrap_err();
        assert_eq!(error.at.unwrap(), format!("config.json: rope_scaling.{key}"), "{scaling}");
    }
    let unknown = json!({"rope_scaling": {"type": "quadratic", "factor": 2.0}});
    let hint = case().describe(&unknown).unwrap_err().hint.unwrap();
    assert!(hint.contains("longrope") && !hint.contains("yarn"), "{hint}");
    case().check_refusals(&[
        ("partial_rotary_factor", json!(0.45)),
        ("partial_rotary_factor", json!(0.01)),
        ("partial_rotary_factor", json!(2.0)),
        ("attention_bias", json!(true)),
        ("sliding_window", json!(0)),
        ("num_local_experts", json!(16)),
        ("hidden_act", json!("quick_gelu")),
    ]);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_phi3::Phi3Plugin,
        "../../../tests/models/variants/phi3-window"
    );
}
