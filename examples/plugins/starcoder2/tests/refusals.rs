//! What cannot be honoured is refused by key.

use anemll_arch_starcoder2::Starcoder2Plugin;
use anemll_plugin_api::testing::FrontendCase;
use serde_json::json;

fn case() -> FrontendCase {
    let config = include_str!("../model/config.json");
    FrontendCase::of::<Starcoder2Plugin>(serde_json::from_str(config).unwrap())
}

#[test]
fn keys_that_cannot_be_honoured_are_refused() {
    case().check_refusals(&[
        ("use_bias", json!("yes")),
        ("mlp_type", json!("gated")),
        ("norm_type", json!("rms")),
        ("norm_epsilon", json!(-1)),
        ("hidden_act", json!("selu")),
        ("sliding_window", json!(0)),
    ]);
}

#[test]
fn biases_and_the_window_are_in_the_graph() {
    let text = case().lowered(&json!({"sliding_window": 16}), 0, 1);
    assert!(text.contains("mlp.c_fc.bias") && text.contains("window_16"), "no bias, or no window");
    let text = case().lowered(&json!({"use_bias": false, "sliding_window": null}), 0, 1);
    assert!(!text.contains("proj.bias") && !text.contains("window_"));
}
