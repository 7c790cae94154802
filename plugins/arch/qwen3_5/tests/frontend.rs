//! What is Qwen3.5's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_qwen3_5::{Qwen35Plugin, frontend};
use anemll_plugin_api::data::StateKind;
use anemll_plugin_api::testing::FrontendCase;
use serde_json::{Value, json};

/// A small language model as its authors save it.
fn text() -> Value {
    json!({
        "architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "vocab_size": 256,
        "attention_bias": false, "attn_output_gate": true, "full_attention_interval": 4,
        "head_dim": 32, "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_value_head_dim": 32, "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 256, "mlp_only_layers": [], "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": false, "num_attention_heads": 4, "num_hidden_layers": 4,
        "num_key_value_heads": 2, "partial_rotary_factor": 0.25, "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "mrope_interleaved": true, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.25,
            "rope_theta": 10000000, "rope_type": "default",
        },
        "tie_word_embeddings": true,
    })
}

fn case() -> FrontendCase {
    FrontendCase::of::<Qwen35Plugin>(text())
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn a_model_is_described() {
    let description = case().describe(&json!({})).unwrap();
    assert_eq!((description.layers, description.tied_embeddings), (4, true));
    assert_eq!(description.default_prefix, "qwen35");
    assert!(description.warnings.is_empty(), "{:?}", description.warnings);
    let states: Vec<_> =
        description.states.iter().map(|state| (state.kind, &state.shape)).collect();
    // Of the three layers with linear attention: 16 rows of the matrix, and 3 columns of 256
    // channels in rows of 4 x 32.
    assert_eq!(
        states,
        [(StateKind::Cache, &vec![2, 2, 64, 32]), (StateKind::Recurrent, &vec![3, 4, 22, 32])]
    );
}

#[test]
fn the_language_model_of_one_with_images_is_taken() {
    let config = json!({
        "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5",
        "text_config": text(), "vision_config": {"depth": 2}, "image_token_id": 250,
        "tie_word_embeddings": true,
    });
    let case = FrontendCase::of::<Qwen35Plugin>(config);
    let description = case.describe(&json!({})).unwrap();
    assert_eq!((description.layers, description.model_type.as_str()), (4, "qwen3_5"));
    let left_out = description.notes.iter().find(|note| note.contains("left out")).unwrap();
    assert!(left_out.contains("`text_config`"), "{left_out}");
    // Whether the head is tied, transformers reads outside of it.
    let tied =
        |outer| case.describe(&json!({"tie_word_embeddings": outer})).unwrap().tied_embeddings;
    assert_eq!((tied(json!(true)), tied(json!(false)), tied(json!(null))), (true, false, false));
    // What it does not read, the user hears of.
    let notes = |outer| case.describe(&json!({"tie_word_embeddings": outer})).unwrap().notes;
    let told = |outer| notes(outer).iter().any(|note| note.contains("tie_word_embeddings` = true"));
    assert!(told(json!(false)) && !told(json!(true)));
}

#[test]
fn layers_are_what_the_configuration_says() {
    let remembers = |changes: &Value| {
        [0, 1, 2, 3].map(|layer| {
            let text = case().lowered(changes, layer, layer + 1);
            let remembers = text.contains("linear_attn.A_log");
            assert_ne!(remembers, text.contains("self_attn.q_norm.weight"));
            remembers
        })
    };
    assert_eq!(remembers(&json!({})), [true, true, true, false]);
    assert_eq!(remembers(&json!({"full_attention_interval": 2})), [true, false, true, false]);
    let types =
        json!(["full_attention", "linear_attention", "linear_attention", "linear_attention"]);
    assert_eq!(remembers(&json!({"layer_types": types})), [false, true, true, true]);
}

#[test]
fn a_gate_stands_behind_each_query() {
    let text = case().lowered(&json!({}), 3, 4);
    assert!(text.contains("\"shape\":[256,64]"), "twice four heads of 32");
    assert!(text.contains("\"shape\":[64,128]"), "the output has no gate");
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("layer_types", json!(["linear_attention", "full_attention"])),
        ("layer_types", json!(["linear_attention", "sliding_attention", "x", "full_attention"])),
        ("linear_num_value_heads", json!(3)),
        ("linear_conv_kernel_dim", json!(1)),
        ("linear_conv_kernel_dim", json!(64)),
        ("linear_key_head_dim", json!(0)),
        ("attn_output_gate", json!(false)),
        ("hidden_act", json!("gelu")),
        ("num_experts", json!(8)),
    ]);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_qwen3_5::Qwen35Plugin,
        "../../../tests/models/variants/qwen3_5"
    );
}
