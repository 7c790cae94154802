//! What is Gemma's own: accepted, refused by key, and the graph that comes of it.
#![allow(clippy::unwrap_used)]

use anemll_arch_gemma::{GemmaPlugin, frontend};
use anemll_plugin_api::data::{
    EmbeddingHead, EmbeddingOutput, FunctionSpec, LayerRange, ModelInput, Pooling, Purpose,
};
use anemll_plugin_api::testing::FrontendCase;
use anemll_plugin_api::{ArchFrontend as _, ComponentOptions, Host, Plugin as _, Value, codes};
use serde_json::json;

/// A small model as transformers would save it.
fn case() -> FrontendCase {
    FrontendCase::of::<GemmaPlugin>(json!({
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 256,
        "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 1000000, "rope_local_base_freq": 10000,
        "rope_scaling": null, "attention_bias": false, "sliding_window": 16,
        "query_pre_attn_scalar": 32, "attn_logit_softcapping": null,
        "final_logit_softcapping": null, "_sliding_window_pattern": 6,
        "use_bidirectional_attention": false, "cache_implementation": "hybrid",
    }))
}

#[test]
fn the_manifest_agrees_with_the_code() {
    case().check_manifest(env!("CARGO_PKG_VERSION"), &frontend());
}

#[test]
fn a_model_is_described() {
    let description = case().describe(&json!({})).unwrap();
    assert_eq!((description.layers, description.tied_embeddings), (6, true));
    assert_eq!(description.default_prefix, "gemma3");
    assert_eq!(description.head_splits, [16; 16]);
    assert!(description.warnings.is_empty(), "{:?}", description.warnings);
    assert!(
        description.notes[0].starts_with("the residual stream is scaled by 0.03125"),
        "{:?}",
        description.notes
    );
    let options = ComponentOptions::new().with("residual_scale", 1.0);
    let plain = FrontendCase::with_options::<GemmaPlugin>(case().config(&json!({})), &options);
    let plain = plain.describe(&json!({})).unwrap();
    assert!(plain.notes.is_empty(), "{:?}", plain.notes);
    for wrong in [0.0, 1.5, -1.0] {
        let options = ComponentOptions::new().with("residual_scale", wrong);
        assert!(GemmaPlugin::arch_frontend("gemma", &options).is_err(), "{wrong}");
    }
}

#[test]
fn one_of_six_layers_sees_all() {
    let text = case().lowered(&json!({}), 4, 5);
    assert!(text.contains("window_16_mask") && text.contains("model_model_rotary2_cos"));
    assert!(text.contains("model.layers.4.pre_feedforward_layernorm.weight"));
    let all = json!({"sliding_window_pattern": 1});
    assert!(!case().lowered(&all, 4, 5).contains("window_16_mask"));
    let capped = json!({"final_logit_softcapping": 30.0});
    assert!(case().describe(&capped).is_ok());
    let text = case().lowered(&json!({}), 5, 6);
    assert!(!text.contains("window_16_mask") && !text.contains("rotary2"));
    // Gains of what is read are 1 and the weight; of what is given, that times the stream's scale.
    assert!(text.contains("\"add\":1.0") && text.contains("\"add\":0.03125"));
}

#[test]
fn both_spellings_of_the_rotations_are_one_graph() {
    let parameters = |local: f64| {
        json!({"full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": local}})
    };
    let new = |local: f64| {
        json!({"rope_parameters": parameters(local), "rope_theta": "absent",
            "rope_local_base_freq": "absent", "rope_scaling": "absent"})
    };
    assert!(case().lowered(&new(10_000.0), 0, 6) == case().lowered(&json!({}), 0, 6));
    assert!(case().lowered(&new(9_000.0), 0, 6) != case().lowered(&json!({}), 0, 6));
    let error = case().describe(&json!({"rope_parameters": parameters(9_000.0)})).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: rope_local_base_freq");
}

#[test]
fn gemma_2_has_bounds_unless_they_are_switched_off() {
    let gemma2 = |scores: Value| {
        json!({"model_type": "gemma2", "rope_local_base_freq": "absent",
            "attn_logit_softcapping": scores})
    };
    assert!(case().lowered(&gemma2(json!("absent")), 0, 1).contains("tanh"));
    assert!(!case().lowered(&gemma2(json!(null)), 0, 1).contains("tanh"));
    let mut patterned = gemma2(json!(null));
    patterned["sliding_window_pattern"] = json!(1);
    // Gemma 2 has one pattern only.
    assert!(case().lowered(&patterned, 0, 2) == case().lowered(&gemma2(json!(null)), 0, 2));
    assert!(case().lowered(&gemma2(json!(null)), 0, 1).contains("window_16_mask"));
    assert!(!case().lowered(&gemma2(json!(null)), 1, 2).contains("window_16_mask"));
    let description = case().describe(&gemma2(json!(50.0))).unwrap();
    assert_eq!(description.default_prefix, "gemma2");
}

#[test]
fn the_language_model_of_one_that_sees_images_is_taken() {
    let whole = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": {
            "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
            "model_type": "gemma3_text", "sliding_window": 16,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "vision_config": {"hidden_size": 32}, "mm_tokens_per_image": 256,
    });
    let open = |config: Value| {
        let opened = frontend().open(&ModelInput::new(config, 64, 8), &Host::quiet())?;
        Ok::<_, anemll_plugin_api::Error>(opened.describe())
    };
    let description = open(whole.clone()).unwrap();
    assert_eq!((description.attention_heads, description.head_dimension), (8, 256));
    assert_eq!(description.vocabulary_size, 262_208);
    assert!(description.notes[0].contains("only the language model, `text_config`"));
    let mut broken = whole.clone();
    broken["text_config"]["hidden_activation"] = json!("quick_gelu");
    let error = open(broken).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: text_config.hidden_activation");
    for (key, value) in [
        ("final_logit_softcapping", json!(30.0)),
        ("layer_types", json!(["full_attention"])),
        ("sliding_window", json!(null)),
        ("sliding_window_pattern", json!(0)),
        ("rope_local_base_freq", json!("x")),
    ] {
        let mut broken = whole.clone();
        broken["text_config"][key] = value;
        let error = open(broken).unwrap_err();
        assert_eq!(error.at.unwrap(), format!("config.json: text_config.{key}"));
    }
    for (outer, inner, at) in [
        (json!(true), json!(true), None),
        (json!(null), json!(false), None),
        (json!(true), json!(false), Some("config.json: tie_word_embeddings")),
        (json!(false), json!(true), Some("config.json: tie_word_embeddings")),
        (json!(false), json!(null), Some("config.json: tie_word_embeddings")),
    ] {
        let mut changed = whole.clone();
        changed["tie_word_embeddings"] = outer;
        changed["text_config"]["tie_word_embeddings"] = inner.clone();
        match (open(changed), at) {
            (Ok(description), None) => {
                assert_eq!(description.tied_embeddings, inner == json!(true));
            }
            (Err(error), Some(at)) => assert_eq!(error.at.unwrap(), at),
            (answer, at) => panic!("{at:?}: {answer:?}"),
        }
    }
    let notes = &description.notes;
    assert!(notes.iter().any(|note| note.contains("`text_config.vocab_size` is not given")));
    let mut absent = whole;
    absent.as_object_mut().unwrap().remove("text_config");
    assert_eq!(open(absent).unwrap_err().code, codes::CONFIG_KEY_MISSING);
}

#[test]
fn tokens_that_see_each_other_give_vectors_alone() {
    let changes = json!({"use_bidirectional_attention": true, "sliding_window": 100});
    let error = case().describe(&changes).unwrap_err();
    assert_eq!(error.at.as_deref(), Some("config.json: use_bidirectional_attention"));
    assert!(error.hint.unwrap().contains("--task embed"));
    let head = EmbeddingHead::default().with_pooling(Pooling::Mean).with_normalize(true);
    let input = ModelInput::new(case().config(&changes), 64, 16).with_embedding(head);
    let model = frontend().open(&input, &Host::quiet()).unwrap();
    let description = model.describe();
    // A text goes through in one call, and no keys are kept.
    assert_eq!((description.batch, description.context), (64, 64));
    assert_eq!(description.states, []);
    let output = EmbeddingOutput::new(64).with_bidirectional(true);
    assert_eq!(description.embedding, Some(output));
    let function = FunctionSpec::new("embed", Purpose::Embed).with_layers(LayerRange::new(4, 5));
    let lowered = model.lower(&function, &Host::quiet()).unwrap();
    // Half of the window lies on either side.
    assert!(String::from_utf8_lossy(&lowered).contains("window_51_both_ways"));
    let infer = FunctionSpec::new("infer", Purpose::Infer).with_layers(LayerRange::new(4, 5));
    assert_eq!(model.lower(&infer, &Host::quiet()).unwrap_err().code, codes::PLUGIN_BAD_REQUEST);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    case().check_refusals(&[
        ("layer_types", json!(["full_attention"])),
        ("sliding_window", json!(0)),
        ("sliding_window", json!(null)),
        ("sliding_window_pattern", json!(0)),
        ("query_pre_attn_scalar", json!(0)),
        ("final_logit_softcapping", json!(-30.0)),
        ("attn_logit_softcapping", json!(50.0)),
        ("rope_local_base_freq", json!("x")),
        ("hidden_activation", json!("quick_gelu")),
        ("vision_config", json!({"hidden_size": 1})),
    ]);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_gemma::GemmaPlugin,
        "../../../tests/models/variants/gemma3"
    );
}
