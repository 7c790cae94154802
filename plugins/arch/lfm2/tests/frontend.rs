//! What is LFM2's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_lfm2::{Lfm2Plugin, frontend};
use anemll_plugin_api::data::StateKind;
use anemll_plugin_api::testing::FrontendCase;
use serde_json::json;

/// A small model as its authors save it.
fn case() -> FrontendCase {
    FrontendCase::of::<Lfm2Plugin>(json!({
        "architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2", "vocab_size": 256,
        "hidden_size": 64, "block_ff_dim": 96, "block_multiple_of": 16, "block_dim": 64,
        "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": true,
        "block_mlp_init_scale": 1.0, "block_norm_eps": 1e-5, "block_out_init_scale": 1.0,
        "block_use_swiglu": true, "block_use_xavier_init": true, "conv_L_cache": 3,
        "conv_bias": false, "conv_dim": 64, "conv_dim_out": 64, "conv_use_xavier_init": true,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "norm_eps": 1e-5,
        "rope_theta": 1000000.0, "use_pos_enc": true, "full_attn_idxs": [1, 3],
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn a_model_is_described() {
    let description = case().plain();
    assert_eq!((description.layers, description.tied_embeddings), (4, true));
    assert_eq!(description.default_prefix, "lfm2");
    let states: Vec<_> =
        description.states.iter().map(|state| (state.kind, &state.shape)).collect();
    assert_eq!(
        states,
        [(StateKind::Cache, &vec![4, 2, 64, 16]), (StateKind::Recurrent, &vec![2, 1, 2, 64])]
    );
}

#[test]
fn layers_are_what_the_configuration_says() {
    let convolves = |changes: &serde_json::Value| {
        [0, 1, 2, 3].map(|layer| {
            let text = case().lowered(changes, layer, layer + 1);
            let convolves = text.contains("conv.conv.weight");
            assert_ne!(convolves, text.contains("self_attn.q_layernorm.weight"));
            convolves
        })
    };
    assert_eq!(convolves(&json!({})), [true, false, true, false]);
    let types = json!(["conv", "conv", "conv", "full_attention"]);
    assert_eq!(convolves(&json!({"layer_types": types})), [true, true, true, false]);
    assert_eq!(convolves(&json!({"full_attn_idxs": null})), [false; 4]);
    let text = case().lowered(&json!({"conv_bias": true}), 0, 1);
    assert!(text.contains("conv.conv.bias") && text.contains("conv.in_proj.bias"));
}

#[test]
fn the_width_of_the_mlp_is_adjusted() {
    let width = |changes: serde_json::Value| {
        let text = case().lowered(&changes, 0, 1);
        let wide = |width: &u64| text.contains(&format!("\"shape\":[{width},64]"));
        (1..200).filter(|width| *width != 64).find(wide).unwrap()
    };
    // 2/3 of 96 is 64, as wide as the stream, so other numbers are tried.
    assert_eq!(width(json!({"block_ff_dim": 100, "block_multiple_of": 16})), 80);
    assert_eq!(width(json!({"block_ff_dim": 100, "block_ffn_dim_multiplier": null})), 66);
    assert_eq!(width(json!({"block_ff_dim": 100, "block_ffn_dim_multiplier": 1.5})), 112);
    assert_eq!(width(json!({"block_ff_dim": 100, "block_auto_adjust_ff_dim": false})), 100);
    let usual = json!({"block_ff_dim": null, "intermediate_size": 120});
    assert_eq!(width(usual), 80);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("layer_types", json!(["conv", "full_attention"])),
        ("layer_types", json!(["conv", "conv", "recurrent", "full_attention"])),
        ("layer_types", json!(["conv", "conv", "conv", "conv"])),
        ("full_attn_idxs", json!([1, 4])),
        ("full_attn_idxs", json!([0.5])),
        ("conv_L_cache", json!(1)),
        ("conv_L_cache", json!(64)),
        ("block_multiple_of", json!(0)),
        ("block_ffn_dim_multiplier", json!(-1.0)),
        ("tie_embedding", json!(false)),
        ("theta", json!(10000.0)),
        ("hidden_act", json!("gelu")),
        ("num_experts", json!(8)),
    ]);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_lfm2::Lfm2Plugin,
        "../../../tests/models/variants/lfm2"
    );
}
