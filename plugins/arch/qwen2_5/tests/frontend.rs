//! What is Qwen2's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_qwen2_5::{Qwen25Plugin, frontend};
use anemll_plugin_api::data::{FunctionSpec, LayerRange, MatchRank, Purpose};
use anemll_plugin_api::testing::FrontendCase;
use anemll_plugin_api::{ComponentOptions, Host, Plugin as _, codes};
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<Qwen25Plugin>(json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16",
        "vocab_size": 152, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
        "sliding_window": 4096, "use_sliding_window": false, "max_window_layers": 21,
        "tie_word_embeddings": true, "use_mrope": false, "transformers_version": "4.43.1",
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
    let other = Qwen25Plugin::arch_frontend("qwen2", &ComponentOptions::new());
    assert_eq!(other.err().unwrap().code, codes::PLUGIN_NO_SUCH_COMPONENT);
    for other in ["qwen2_moe", "qwen2_vl", "qwen3", "llama"] {
        assert_eq!(case().rank(&json!({"model_type": other})), MatchRank::None, "{other}");
    }
}

#[test]
fn a_model_is_described() {
    let description = case().plain();
    assert_eq!(
        (description.architecture.as_str(), description.model_type.as_str()),
        ("Qwen2ForCausalLM", "qwen2")
    );
    assert_eq!((description.default_prefix.as_str(), description.head_dimension), ("qwen25", 12));
    // 152 rows in 16 pieces: multiples of 8, and the rest.
    assert_eq!(description.head_splits.len(), 16);
    assert_eq!(description.head_splits[15], 32);
    let matrices = 48 * 48 * 2 + 24 * 48 * 2 + 80 * 48 * 3;
    let layer = matrices + 48 * 2 + 48 + 24 * 2;
    assert_eq!(description.parameters, 2 * layer + 48 + 152 * 48);
}

#[test]
fn absent_keys_have_the_values_of_transformers() {
    let heads = |changes| {
        case().describe(&changes).map(|d| (d.attention_heads, d.key_value_heads, d.head_dimension))
    };
    // Absent is 32 and null is as many as heads.
    assert_eq!(
        heads(json!({"num_key_value_heads": "absent"})).unwrap_err().at.unwrap(),
        "config.json: num_key_value_heads"
    );
    let wide = json!({"num_key_value_heads": "absent", "num_attention_heads": 32, "head_dim": 4});
    assert_eq!(heads(wide).unwrap(), (32, 32, 4));
    assert_eq!(heads(json!({"num_key_value_heads": null})).unwrap(), (4, 4, 12));
    assert_eq!(
        case()
            .describe(&json!({"max_position_embeddings": "absent"}))
            .unwrap()
            .max_position_embeddings,
        32768
    );
    assert!(!case().describe(&json!({"tie_word_embeddings": "absent"})).unwrap().tied_embeddings);
    let windows = json!({
        "sliding_window": "absent", "use_sliding_window": "absent", "max_window_layers": "absent",
        "layer_types": ["full_attention", "full_attention"], "rope_scaling": null,
        "mlp_bias": false, "qkv_bias": true, "attention_bias": true,
    });
    assert_eq!(case().describe(&windows).unwrap(), case().describe(&json!({})).unwrap());
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    for (key, value) in [
        ("layer_types", json!(["full_attention", "sliding_attention"])),
        ("num_experts", json!(60)),
        ("shared_expert_intermediate_size", json!(5632)),
        ("mlp_bias", json!(true)),
        ("qkv_bias", json!(false)),
        ("use_mrope", json!(true)),
        ("hidden_act", json!("quick_gelu")),
        ("quantization_config", json!({"quant_method": "awq"})),
        ("vision_config", json!({"depth": 32})),
    ] {
        let error = case().describe(&json!({key: value})).expect_err(key);
        assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED, "{key}: {error}");
        assert_eq!(error.at.unwrap(), format!("config.json: {key}"));
    }
    let sections = json!({"type": "mrope", "mrope_section": [16, 24, 24]});
    let error = case().describe(&json!({"rope_scaling": sections})).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: rope_scaling.type");
}

#[test]
fn three_projections_have_biases_and_all_are_convolutions() {
    let function = FunctionSpec::new("infer", Purpose::Infer)
        .with_embedding(true)
        .with_layers(LayerRange::new(0, 2))
        .with_head(true);
    let opened = case().open(&json!({})).unwrap();
    let bytes = opened.lower(&function, &Host::quiet()).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for name in ["q_proj.bias", "k_proj.bias", "v_proj.bias"] {
        assert!(text.contains(&format!("model.layers.1.self_attn.{name}")), "{name}");
    }
    assert!(!text.contains("o_proj.bias") && !text.contains("q_norm"));
    assert!(!text.contains("linear") && text.contains("softmax") && !text.contains("reduce_max"));
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
    for (layer, acts) in [(0, false), (1, true)] {
        let text = case().lowered(&on(63, 1), layer, layer + 1);
        assert_eq!(text.contains("window_63_mask"), acts);
    }
    // Off, as most models have it: nothing to say.
    let off = json!({"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 0});
    assert_eq!(note(off), None);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_qwen2_5::Qwen25Plugin,
        "../../../tests/models/variants/qwen2-tied"
    );
}
