//! What is Qwen3's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_qwen3::{Qwen3Plugin, frontend};
use anemll_plugin_api::data::MatchRank;
use anemll_plugin_api::testing::FrontendCase;
use anemll_plugin_api::{ComponentOptions, Plugin as _, codes};
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<Qwen3Plugin>(json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16",
        "vocab_size": 256, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 1000000,
        "rope_scaling": null, "attention_bias": false, "sliding_window": null,
        "use_sliding_window": false, "max_window_layers": 2, "tie_word_embeddings": true,
        "transformers_version": "4.51.0",
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
    let other = Qwen3Plugin::arch_frontend("qwen", &ComponentOptions::new());
    assert_eq!(other.err().unwrap().code, codes::PLUGIN_NO_SUCH_COMPONENT);
    for other in ["qwen3_moe", "qwen3_next", "qwen2", "llama"] {
        assert_eq!(case().rank(&json!({"model_type": other})), MatchRank::None, "{other}");
    }
}

#[test]
fn a_model_is_described() {
    let description = case().plain();
    assert_eq!(
        (description.architecture.as_str(), description.model_type.as_str()),
        ("Qwen3ForCausalLM", "qwen3")
    );
    assert_eq!((description.default_prefix.as_str(), description.head_dimension), ("qwen", 32));
    assert_eq!(description.head_splits, [16; 16]);
    assert_eq!(description.states[0].shape, [4, 2, 64, 32]);
    let matrices = 128 * 48 * 2 + 64 * 48 * 2 + 80 * 48 * 3;
    assert_eq!(description.parameters, 2 * (matrices + 48 * 2 + 32 * 2) + 48 + 256 * 48);
}

#[test]
fn absent_keys_have_the_values_of_transformers() {
    // hidden_size / num_attention_heads would be 12.
    let description = case().describe(&json!({"head_dim": "absent"})).unwrap();
    assert_eq!(description.head_dimension, 128);
    assert!(
        description.notes[0].contains("`head_dim` is not given; 128"),
        "{:?}",
        description.notes
    );
    let error = case().describe(&json!({"head_dim": null})).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.at.as_deref()),
        (codes::CONFIG_KEY_INVALID, Some("config.json: head_dim"))
    );
    assert_eq!(case().describe(&json!({"num_key_value_heads": null})).unwrap().key_value_heads, 4);
    assert!(case().describe(&json!({"num_key_value_heads": "absent"})).is_err());
    for key in ["attention_bias", "sliding_window", "use_sliding_window", "max_window_layers"] {
        assert_eq!(
            case().describe(&json!({key: "absent"})).unwrap(),
            case().describe(&json!({})).unwrap(),
            "{key}"
        );
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    for (key, value) in [
        ("layer_types", json!(["sliding_attention", "full_attention"])),
        ("num_experts", json!(128)),
        ("moe_intermediate_size", json!(768)),
        ("mlp_only_layers", json!([0])),
        ("mlp_bias", json!(true)),
        ("use_qk_norm", json!(false)),
        ("hidden_act", json!("quick_gelu")),
        ("partial_rotary_factor", json!(0.25)),
    ] {
        let error = case().describe(&json!({key: value})).expect_err(key);
        assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED, "{key}: {error}");
        assert_eq!(error.at.unwrap(), format!("config.json: {key}"));
    }
    let error = case().describe(&json!({"layer_types": ["full_attention"]})).unwrap_err();
    assert_eq!(error.code, codes::CONFIG_KEY_INVALID);
}

#[test]
fn attention_bias_is_on_all_four_projections() {
    let text = case().lowered(&json!({"attention_bias": true}), 0, 2);
    for name in ["q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"] {
        assert!(text.contains(&format!("model.layers.1.self_attn.{name}")), "{name}");
    }
    let text = case().lowered(&json!({}), 0, 2);
    assert!(!text.contains("proj.bias"));
    assert!(text.contains("model.layers.1.self_attn.q_norm.weight"));
    assert!(text.contains("model.layers.0.self_attn.k_norm.weight"));
    assert!(!text.contains("linear") && text.contains("softmax") && !text.contains("reduce_max"));
}

#[test]
fn the_final_norm_is_in_the_last_chunk_only() {
    assert!(!case().lowered(&json!({}), 0, 1).contains("\"model.norm.weight\""));
    assert!(case().lowered(&json!({}), 1, 2).contains("\"model.norm.weight\""));
}

#[test]
fn windows_act_where_they_are_shorter_than_the_context() {
    let note = |changes| {
        case().describe(&changes).unwrap().notes.into_iter().find(|note| note.contains("window"))
    };
    let on = |window: u64, first: u64| json!({"use_sliding_window": true, "sliding_window": window, "max_window_layers": first});
    assert_eq!(note(on(8, 2)).unwrap(), "config.json: `sliding_window` = 8 is in no layer");
    assert!(note(on(64, 1)).unwrap().contains("= 64 does not act within a context of 64 tokens"));
    assert_eq!(note(on(63, 1)), None);
    assert!(case().lowered(&on(63, 1), 1, 2).contains("window_63_mask"));
    assert!(!case().lowered(&on(63, 1), 0, 1).contains("window_63_mask"));
    // Off, as most models have it: nothing to say.
    let off = json!({"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 0});
    assert_eq!(note(off), None);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_qwen3::Qwen3Plugin,
        "../../../tests/models/variants/qwen3-tied"
    );
}
