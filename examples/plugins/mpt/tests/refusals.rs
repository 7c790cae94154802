//! What cannot be honoured is refused by key.

use anemll_arch_mpt::MptPlugin;
use anemll_plugin_api::codes;
use anemll_plugin_api::data::ModelInput;
use anemll_plugin_api::testing::FrontendCase;
use anemll_plugin_api::{ComponentOptions, Host, Plugin};
use serde_json::{Value, json};

fn config() -> Value {
    serde_json::from_str(include_str!("../model/config.json")).unwrap()
}

#[test]
fn keys_that_cannot_be_honoured_are_refused() {
    FrontendCase::of::<MptPlugin>(config()).check_refusals(&[
        ("no_bias", json!(false)),
        ("tie_word_embeddings", json!(false)),
        ("logit_scale", json!(0.5)),
        ("expansion_ratio", json!(2)),
        ("n_heads", json!(7)),
        ("layer_norm_epsilon", json!(-1)),
        ("vocab_size", json!(0)),
    ]);
}

#[test]
fn keys_of_the_attention_are_refused_by_their_path() {
    for (key, value) in [("alibi", json!(false)), ("clip_qkv", json!(8)), ("qk_ln", json!(true))] {
        let mut config = config();
        config["attn_config"][key] = value;
        let frontend = MptPlugin::arch_frontend("mpt", &ComponentOptions::new()).unwrap();
        let refused = frontend.open(&ModelInput::new(config, 64, 8), &Host::quiet()).err().unwrap();
        assert_eq!(refused.code, codes::CONFIG_KEY_UNSUPPORTED, "{key}");
        assert_eq!(refused.at.unwrap(), format!("config.json: attn_config.{key}"));
    }
}

#[test]
fn contexts_beyond_whole_numbers_of_float16_are_refused() {
    let frontend = MptPlugin::arch_frontend("mpt", &ComponentOptions::new()).unwrap();
    let open = |context| frontend.open(&ModelInput::new(config(), context, 8), &Host::quiet());
    assert!(open(2048).is_ok());
    assert_eq!(open(2049).err().unwrap().code, codes::SHAPE_INVALID);
}
