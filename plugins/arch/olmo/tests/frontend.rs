//! What is OLMo's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_olmo::{OlmoPlugin, frontend};
use anemll_plugin_api::testing::FrontendCase;
use anemll_plugin_api::{ComponentOptions, codes};
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<OlmoPlugin>(json!({
        "architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 500000,
        "rope_scaling": null, "attention_bias": false, "sliding_window": 16,
        "tie_word_embeddings": false,
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn norms_stand_behind_and_over_the_width() {
    let text = case().lowered(&json!({"model_type": "olmo2", "sliding_window": "absent"}), 0, 2);
    for name in ["post_attention_layernorm", "post_feedforward_layernorm", "self_attn.q_norm"] {
        assert!(text.contains(&format!("model.layers.1.{name}.weight")), "{name}");
    }
    assert!(!text.contains("input_layernorm") && !text.contains("pre_feedforward"));
    // A basis that such norms tell apart stays as it is.
    assert!(!text.contains("residual"));
    let description = case().plain();
    let matrices = 64 * 64 * 2 + 32 * 64 * 2 + 80 * 64 * 3;
    assert_eq!(description.parameters, 4 * (matrices + 64 * 3 + 32) + 64 + 2 * 256 * 64);
}

#[test]
fn three_of_four_layers_have_a_window_and_no_scaling() {
    assert!(case().lowered(&json!({}), 0, 1).contains("window_16_mask"));
    assert!(!case().lowered(&json!({}), 3, 4).contains("window_16_mask"));
    // The pattern is fixed.
    assert!(
        case().lowered(&json!({"sliding_window_pattern": 2}), 0, 4)
            == case().lowered(&json!({}), 0, 4)
    );
    let description = case().describe(&json!({"sliding_window_pattern": 2})).unwrap();
    assert!(description.warnings[0].contains("`sliding_window_pattern` = 2 is not known"));
    // One rotation, where nothing is scaled.
    assert!(!case().lowered(&json!({}), 0, 4).contains("rotary2"));
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64});
    let scaled = json!({"rope_scaling": yarn});
    assert!(case().lowered(&scaled.clone(), 0, 1).contains("model_model_rotary2_cos"));
    let text = case().lowered(&scaled, 3, 4);
    assert!(text.contains("model_model_rotary_cos") && !text.contains("rotary2"));
}

#[test]
fn a_stream_that_is_read_without_a_norm_cannot_be_scaled() {
    let of = |scale: f64| {
        let options = ComponentOptions::new().with("residual_scale", scale);
        FrontendCase::with_options::<OlmoPlugin>(case().config(&json!({})), &options)
            .describe(&json!({}))
    };
    let error = of(0.125).unwrap_err();
    assert_eq!(
        (error.code.as_ref(), error.at.unwrap().as_str()),
        (codes::PLUGIN_OPTION_INVALID, "residual_scale")
    );
    assert_eq!(of(1.0).unwrap(), case().describe(&json!({})).unwrap());
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("layer_types", json!(["full_attention"])),
        (
            "layer_types",
            json!(["linear_attention", "full_attention", "full_attention", "full_attention"]),
        ),
        ("sliding_window", json!(0)),
        ("clip_qkv", json!(8.0)),
        ("hidden_act", json!("quick_gelu")),
        ("partial_rotary_factor", json!(0.5)),
    ]);
    let error = case().describe(&json!({"model_type": "olmo2"})).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: sliding_window");
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_olmo::OlmoPlugin,
        "../../../tests/models/variants/olmo2"
    );
}
