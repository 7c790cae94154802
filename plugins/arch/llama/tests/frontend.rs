//! The frontend over configurations: what it accepts, refuses by key, remarks on, and lowers.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;

use anemll_arch_llama::{LlamaPlugin, frontend};
use anemll_plugin_api::data::{
    EmbeddingHead, FunctionSpec, LayerRange, Manifest, MatchRank, ModelDescription, ModelInput,
    Pooling, Purpose, TensorInfo,
};
use anemll_plugin_api::testing::options;
use anemll_plugin_api::{
    ArchFrontend, ComponentOptions, DType, Host, Plugin, Result, Value, codes,
};
use serde_json::json;

/// A small model as transformers would save it.
fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "vocab_size": 128, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": false,
        "pretraining_tp": 1, "bos_token_id": 1, "transformers_version": "4.57.1",
    })
}

fn with(changes: Value) -> Value {
    let mut config = config();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn without(key: &str) -> Value {
    let mut config = config();
    config.as_object_mut().unwrap().remove(key);
    config
}

fn input(config: Value) -> ModelInput {
    ModelInput::new(config, 64, 8)
}

/// The frontend with options.
fn made(given: Value) -> Result<Box<dyn ArchFrontend>> {
    LlamaPlugin::arch_frontend("llama", &options(given))
}

/// What a frontend says of a model.
fn read(frontend: &dyn ArchFrontend, model: &ModelInput) -> Result<ModelDescription> {
    Ok(frontend.open(model, &Host::quiet())?.describe())
}

fn describe(config: Value) -> Result<ModelDescription> {
    read(&frontend(), &input(config))
}

/// Tensors as the small model has them.
fn tensors(prefix: &str) -> BTreeMap<String, TensorInfo> {
    let mut list = vec![
        (format!("{prefix}embed_tokens.weight"), vec![128, 48]),
        (format!("{prefix}norm.weight"), vec![48]),
        ("lm_head.weight".to_owned(), vec![128, 48]),
    ];
    for layer in 0..2 {
        let parts: [(&str, Vec<u64>); 9] = [
            ("input_layernorm", vec![48]),
            ("post_attention_layernorm", vec![48]),
            ("self_attn.q_proj", vec![64, 48]),
            ("self_attn.k_proj", vec![32, 48]),
            ("self_attn.v_proj", vec![32, 48]),
            ("self_attn.o_proj", vec![48, 64]),
            ("mlp.gate_proj", vec![80, 48]),
            ("mlp.up_proj", vec![80, 48]),
            ("mlp.down_proj", vec![48, 80]),
        ];
        for (part, shape) in parts {
            list.push((format!("{prefix}layers.{layer}.{part}.weight"), shape));
        }
    }
    list.into_iter().map(|(name, shape)| (name, TensorInfo::new(DType::BFLOAT16, shape))).collect()
}

fn infer() -> FunctionSpec {
    FunctionSpec::new("infer", Purpose::Infer)
        .with_embedding(true)
        .with_layers(LayerRange::new(0, 2))
        .with_head(true)
}

#[test]
fn the_manifest_agrees_with_the_code() {
    let manifest: Manifest = serde_json::from_str(LlamaPlugin::MANIFEST).unwrap();
    assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
    let component = &manifest.components[0];
    assert_eq!(
        (component.id.as_str(), component.model_types.as_slice()),
        (
            "llama",
            &["llama", "mistral", "ministral3", "mistral3", "arcee", "ernie4_5", "helium"]
                .map(String::from)[..]
        )
    );
    let options = component.complete_options(&ComponentOptions::new()).unwrap();
    let frontend = LlamaPlugin::arch_frontend("llama", &options);
    let description = read(&*frontend.unwrap(), &input(config())).unwrap();
    assert_eq!(description.head_splits, [16; 8]);
    assert_eq!(
        LlamaPlugin::arch_frontend("qwen", &ComponentOptions::new()).err().unwrap().code,
        codes::PLUGIN_NO_SUCH_COMPONENT
    );
}

#[test]
fn a_model_is_described() {
    let description = describe(config()).unwrap();
    assert_eq!(description.architecture, "LlamaForCausalLM");
    assert_eq!(
        (description.model_type.as_str(), description.default_prefix.as_str()),
        ("llama", "llama")
    );
    assert_eq!((description.layers, description.head_dimension), (2, 16));
    assert_eq!(description.max_position_embeddings, 256);
    assert_eq!(description.head_splits, [16; 8]);
    assert_eq!(description.states[0].name, "model_model_kv_cache_0");
    assert_eq!(description.states[0].shape, [4, 2, 64, 16]);
    let layer = 48 * 2 + 64 * 48 * 2 + 32 * 48 * 2 + 80 * 48 * 3;
    assert_eq!(description.parameters, 2 * layer + 48 + 2 * 128 * 48);
    assert!(description.notes.is_empty(), "{:?}", description.notes);
}

#[test]
fn absent_keys_have_the_values_of_transformers() {
    let description = describe(without("num_key_value_heads")).unwrap();
    assert_eq!(description.key_value_heads, 4);
    assert_eq!(describe(with(json!({"head_dim": null}))).unwrap().head_dimension, 12);
    assert!(!describe(without("tie_word_embeddings")).unwrap().tied_embeddings);
    for key in ["rms_norm_eps", "max_position_embeddings"] {
        let notes = describe(without(key)).unwrap().notes;
        assert!(notes[0].starts_with(&format!("config.json: `{key}` is not given")), "{notes:?}");
    }
    for key in ["hidden_act", "rope_theta", "attention_bias", "mlp_bias", "pretraining_tp"] {
        assert_eq!(describe(without(key)).unwrap(), describe(config()).unwrap(), "{key}");
    }
}

#[test]
fn keys_that_must_be_there_are_named() {
    for key in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    ] {
        for config in [without(key), with(json!({key: null}))] {
            let error = describe(config).unwrap_err();
            assert_eq!(error.code, codes::CONFIG_KEY_MISSING);
            assert_eq!(error.at.unwrap(), format!("config.json: {key}"));
        }
    }
}

#[test]
fn wrong_types_and_values_are_named() {
    let cases = [
        ("vocab_size", json!("128")),
        ("vocab_size", json!(0)),
        ("hidden_size", json!(48.5)),
        ("hidden_size", json!(-48)),
        ("intermediate_size", json!([80])),
        ("num_hidden_layers", json!(2_147_483_647)),
        ("num_hidden_layers", json!(1e30)),
        ("num_attention_heads", json!(true)),
        ("num_attention_heads", json!(2_000_000_000)),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(15)),
        ("head_dim", json!({})),
        ("rms_norm_eps", json!("1e-5")),
        ("rms_norm_eps", json!(-1)),
        ("rope_theta", json!(0)),
        ("rope_theta", json!("x")),
        ("attention_bias", json!(1)),
        ("mlp_bias", json!("false")),
        ("tie_word_embeddings", json!(0)),
        ("hidden_act", json!(3)),
        ("max_position_embeddings", json!(2.5)),
        ("architectures", json!("LlamaForCausalLM")),
        ("model_type", json!(1)),
        ("rope_scaling", json!("linear")),
        ("pretraining_tp", json!("2")),
        ("use_sliding_window", json!("no")),
    ];
    for (key, value) in cases {
        let error = describe(with(json!({key: value}))).expect_err(&format!("{key}: {value}"));
        assert_eq!(error.code, codes::CONFIG_KEY_INVALID, "{key}: {value}");
        assert_eq!(error.at.unwrap(), format!("config.json: {key}"), "{value}");
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_key() {
    let scaled = |kind: &str| json!({"rope_type": kind, "factor": 2.0});
    let cases = [
        ("hidden_act", json!("quick_gelu"), "hidden_act"),
        ("rope_scaling", scaled("longrope"), "rope_scaling.rope_type"),
        ("rope_parameters", scaled("su"), "rope_parameters.rope_type"),
        ("partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
        ("quantization_config", json!({"bits": 4}), "quantization_config"),
        ("sliding_window", json!(63), "sliding_window"),
        ("final_logit_softcapping", json!(30.0), "final_logit_softcapping"),
        ("attn_logit_softcapping", json!(50.0), "attn_logit_softcapping"),
        ("logit_scale", json!(0.06), "logit_scale"),
        ("embedding_multiplier", json!(12.0), "embedding_multiplier"),
        ("residual_multiplier", json!(0.22), "residual_multiplier"),
        ("attention_multiplier", json!(0.01), "attention_multiplier"),
        ("logits_scaling", json!(8.0), "logits_scaling"),
        ("num_experts", json!(8), "num_experts"),
        ("num_local_experts", json!(8), "num_local_experts"),
        ("use_qk_norm", json!(true), "use_qk_norm"),
        ("qk_layernorm", json!(true), "qk_layernorm"),
        ("no_rope_layers", json!([0, 1]), "no_rope_layers"),
        ("layer_types", json!(["full_attention", "sliding_attention"]), "layer_types"),
        ("rope_interleaved", json!(true), "rope_interleaved"),
        ("is_encoder_decoder", json!(true), "is_encoder_decoder"),
        ("pruned_heads", json!({"0": [1]}), "pruned_heads"),
    ];
    for (key, value, at) in cases {
        let error = describe(with(json!({key: value}))).expect_err(key);
        assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED, "{key}: {error}");
        assert_eq!(error.at.unwrap(), format!("config.json: {at}"));
    }
}

#[test]
fn harmless_values_of_such_keys_pass() {
    let config = with(json!({
        "sliding_window": 4096, "use_sliding_window": false, "num_experts": 0, "logit_scale": 1.0,
        "layer_types": ["full_attention", "full_attention"], "rope_interleaved": false,
        "is_llama_config": true, "partial_rotary_factor": 1.0, "quantization_config": null,
        "hidden_act": "swish", "transformers.js_config": {"dtype": {}}, "pad_token_id": 2,
    }));
    assert_eq!(describe(config).unwrap(), describe(crate::config()).unwrap());
}

#[test]
fn what_is_not_an_error_is_remarked_on() {
    let notes = |config| describe(config).unwrap().notes;
    let warnings = |config| describe(config).unwrap().warnings;
    assert_eq!(
        warnings(with(json!({"a_new_key": 5}))),
        ["config.json: `a_new_key` = 5 is not known and was ignored"]
    );
    assert_eq!(
        notes(with(json!({"sliding_window": 64}))),
        ["config.json: `sliding_window` = 64 does not act within a context of 64 tokens"]
    );
    assert!(notes(with(json!({"pretraining_tp": 2})))[0].contains("`pretraining_tp` = 2"));
    assert!(notes(with(json!({"rms_norm_eps": 1e-6})))[0].contains("1.0133e-6 in float16"));
    assert!(warnings(with(json!({"max_position_embeddings": 32})))[0].contains("goes beyond"));
    assert!(notes(with(json!({"vocab_size": 20})))[0].starts_with("the head has 5 pieces, not 8"));
    assert!(notes(with(json!({"architectures": ["LlamaModel"]})))[0].contains("LlamaModel"));
}

#[test]
fn dynamic_scaling_passes_where_it_does_not_act() {
    let scaling = json!({"rope_type": "dynamic", "factor": 2.0});
    assert!(describe(with(json!({"rope_scaling": scaling}))).is_ok());
    let error = describe(with(json!({"rope_scaling": scaling, "max_position_embeddings": 63})))
        .unwrap_err();
    assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED);
    assert_eq!(error.hint.unwrap(), "use a context of at most 63");
}

#[test]
fn lengths_and_options_are_checked() {
    let frontend = frontend();
    for (context, batch) in [(0, 1), (64, 0), (64, 65), (u64::MAX, 64), (1 << 21, 64)] {
        let error = read(&frontend, &ModelInput::new(config(), context, batch)).unwrap_err();
        assert_eq!(error.code, codes::SHAPE_INVALID, "{context}, {batch}");
    }
    let split = |value: Value| read(&*made(json!({"split_lm_head": value}))?, &input(config()));
    assert_eq!(split(json!(1)).unwrap().head_splits, [128]);
    for value in [json!(0), json!(65), json!(-1), json!("8"), json!(2.5)] {
        let error = split(value).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.at.as_deref()),
            (codes::PLUGIN_OPTION_INVALID, Some("split_lm_head"))
        );
    }
}

#[test]
fn tensors_are_checked_before_anything_is_lowered() {
    let frontend = frontend();
    let model = |tensors| input(config()).with_tensors(tensors);
    assert!(read(&frontend, &model(tensors("model."))).unwrap().notes.is_empty());
    assert!(read(&frontend, &model(tensors(""))).unwrap().notes.is_empty());

    let mut found = tensors("model.");
    found.remove("lm_head.weight");
    let error = read(&frontend, &model(found.clone())).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.at.as_deref()),
        (codes::WEIGHT_MISSING, Some("lm_head.weight"))
    );
    let tied = input(with(json!({"tie_word_embeddings": true}))).with_tensors(found);
    let tied = frontend.open(&tied, &Host::quiet()).unwrap();
    assert!(tied.lower(&infer(), &Host::quiet()).is_ok());

    let mut found = tensors("model.");
    found.get_mut("model.layers.1.self_attn.k_proj.weight").unwrap().shape = vec![64, 48];
    let error = read(&frontend, &model(found)).unwrap_err();
    assert_eq!(error.code, codes::WEIGHT_SHAPE);
    assert!(error.message.contains("num_key_value_heads*head_dim"), "{}", error.message);

    let biased = input(with(json!({"attention_bias": true, "mlp_bias": true})))
        .with_tensors(tensors("model."));
    let error = read(&frontend, &biased).unwrap_err();
    assert_eq!(error.at.as_deref(), Some("model.layers.0.self_attn.q_proj.bias"));
}

#[test]
fn lowering_is_deterministic_and_stops_when_asked() {
    let host = Host::quiet();
    let model = frontend().open(&input(config()), &host).unwrap();
    let first = model.lower(&infer(), &host).unwrap();
    let again = frontend().open(&input(config()), &host).unwrap();
    let second = again.lower(&infer(), &host).unwrap();
    assert_eq!(first, second);
    assert!(coreml_proto::read_model(&first).is_ok());
}

#[test]
fn verdicts() {
    let frontend = frontend();
    let rank = |config: Value| frontend.accepts(&config.to_string()).unwrap().rank;
    assert_eq!(rank(config()), MatchRank::ModelType);
    assert_eq!(rank(without("model_type")), MatchRank::Architecture);
    assert_eq!(rank(with(json!({"model_type": "other"}))), MatchRank::None);
    assert_eq!(
        rank(json!({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]})),
        MatchRank::None
    );
    for other in [json!({}), json!([]), json!(null), json!({"model_type": 3, "architectures": "x"})]
    {
        assert_eq!(rank(other), MatchRank::None);
    }
    assert_eq!(frontend.accepts("{").unwrap_err().code, codes::CONFIG_UNREADABLE);
}

#[test]
fn a_verdict_has_every_refusal() {
    let refused = |config: Value| -> Vec<(String, String)> {
        let verdict = frontend().accepts(&config.to_string()).unwrap();
        assert_eq!(verdict.rank, MatchRank::ModelType);
        verdict.refusals.into_iter().map(|refusal| (refusal.code, refusal.key)).collect()
    };
    let known = |code: &str, key: &str| (code.to_owned(), key.to_owned());
    assert_eq!(refused(config()), []);
    assert_eq!(
        refused(with(json!({"hidden_act": "relu"}))),
        [known(codes::CONFIG_KEY_UNSUPPORTED, "hidden_act")]
    );
    // In the order in which they are read, the first of which is the error.
    let mut many = with(json!({
        "attention_bias": "no", "num_experts": 8, "kv_lora_rank": 4, "head_dim": -1,
        "rope_scaling": {"rope_type": "longrope"}, "rms_norm_eps": "small",
    }));
    many.as_object_mut().unwrap().remove("vocab_size");
    assert_eq!(
        refused(many.clone()),
        [
            known(codes::CONFIG_KEY_INVALID, "attention_bias"),
            known(codes::CONFIG_KEY_UNSUPPORTED, "num_experts"),
            known(codes::CONFIG_KEY_UNSUPPORTED, "kv_lora_rank"),
            known(codes::CONFIG_KEY_INVALID, "head_dim"),
            known(codes::CONFIG_KEY_MISSING, "vocab_size"),
            known(codes::CONFIG_KEY_INVALID, "rms_norm_eps"),
            known(codes::CONFIG_KEY_UNSUPPORTED, "rope_scaling.rope_type"),
        ]
    );
    let error = describe(many).unwrap_err();
    assert_eq!(error.at.as_deref(), Some("config.json: attention_bias"));
    assert!(error.hint.unwrap().contains("refused too: `num_experts`, `kv_lora_rank`"));
    // What does not go together is refused when all parts are there.
    assert_eq!(
        refused(with(json!({"num_key_value_heads": 3, "num_experts": 8}))),
        [
            known(codes::CONFIG_KEY_UNSUPPORTED, "num_experts"),
            known(codes::CONFIG_KEY_INVALID, "num_key_value_heads"),
        ]
    );
}

#[test]
fn reference_configurations_are_accepted() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../../shared/reference/models");
    let path = root.join("tiny-llama-v2048/config.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {} is absent", path.display());
        return;
    };
    let frontend = frontend();
    assert_eq!(frontend.accepts(&text).unwrap().rank, MatchRank::ModelType);
    let config: Value = serde_json::from_str(&text).unwrap();
    let model = ModelInput::new(config, 256, 64);
    let description = read(&frontend, &model).unwrap();
    assert_eq!(description.states[0].shape, [8, 2, 256, 64]);
    assert!(description.notes.is_empty(), "{:?}", description.notes);
}

#[test]
fn mistral_has_windows_and_is_llama_otherwise() {
    let mistral = |changes: Value| {
        let mut config = json!({
            "architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": 128,
            "hidden_size": 128, "intermediate_size": 80, "num_hidden_layers": 2,
            "num_attention_heads": 8, "hidden_act": "silu", "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": null,
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    };
    let description = describe(mistral(json!({}))).unwrap();
    assert_eq!(
        (description.architecture.as_str(), description.model_type.as_str()),
        ("MistralForCausalLM", "mistral")
    );
    // num_key_value_heads is absent, which is 8 for Mistral.
    assert_eq!((description.key_value_heads, description.head_dimension), (8, 16));
    let verdict = frontend().accepts(&mistral(json!({})).to_string()).unwrap();
    assert_eq!(verdict.rank, MatchRank::ModelType);
    // A window of at least the context does not act; none that is given is one of 4096.
    let mut absent = mistral(json!({}));
    absent.as_object_mut().unwrap().remove("sliding_window");
    for config in [absent, mistral(json!({"sliding_window": 64, "use_sliding_window": true}))] {
        let description = describe(config).unwrap();
        assert!(description.notes[0].contains("does not act within a context of 64 tokens"));
    }
    // A shorter one acts in all layers, whatever other architectures' keys say.
    let short = mistral(json!({"sliding_window": 63, "use_sliding_window": false}));
    let model = frontend().open(&input(short), &Host::quiet()).unwrap();
    assert!(!model.describe().notes.iter().any(|note| note.contains("does not act")));
    let function = FunctionSpec::new("i", Purpose::Infer).with_layers(LayerRange::new(0, 2));
    let lowered = model.lower(&function, &Host::quiet()).unwrap();
    assert!(String::from_utf8_lossy(&lowered).contains("window_63_mask"));
    for (config, key) in [
        (mistral(json!({"attention_bias": true})), "attention_bias"),
        (mistral(json!({"layer_types": ["sliding_attention"]})), "layer_types"),
        (mistral(json!({"num_local_experts": 8})), "num_local_experts"),
    ] {
        let error = describe(config.clone()).expect_err(key);
        assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED, "{config}");
        assert_eq!(error.at.unwrap(), format!("config.json: {key}"));
    }
}

#[test]
fn ernie_with_experts_is_refused_by_the_key_that_says_so() {
    let ernie = |more: Value| {
        let mut config = with(more);
        config["model_type"] = json!("ernie4_5");
        config["architectures"] = json!(["Ernie4_5ForCausalLM"]);
        config
    };
    describe(ernie(json!({"moe_num_experts": 0, "use_bias": false}))).unwrap();
    for (key, value) in
        [("moe_num_experts", json!(64)), ("moe_num_experts", json!([64, 64])), ("moe_k", json!(6))]
    {
        let error = describe(ernie(json!({ key: value }))).unwrap_err();
        assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED);
        assert_eq!(error.at.unwrap(), format!("config.json: {key}"));
    }
}

#[test]
fn a_stored_head_beside_a_tied_one_is_told_of_and_chosen() {
    let model = input(with(json!({"tie_word_embeddings": true}))).with_tensors(tensors("model."));
    let description = read(&frontend(), &model).unwrap();
    let stored = description.stored_head.unwrap();
    assert!(description.tied_embeddings);
    assert_eq!(
        (stored.head.as_str(), stored.embedding.as_str()),
        ("lm_head.weight", "model.embed_tokens.weight")
    );
    for (choice, tied) in [("tied", true), ("stored", false)] {
        let description = read(&*made(json!({"head": choice})).unwrap(), &model).unwrap();
        assert_eq!((description.tied_embeddings, description.stored_head), (tied, None));
        assert!(description.notes.iter().any(|note| note.contains("as asked for")), "{choice}");
    }
    let error = made(json!({"head": "both"})).err().unwrap();
    assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
    // Without a stored one there is nothing to choose, and nothing to say.
    let mut bare = model;
    bare.tensors.remove("lm_head.weight");
    assert_eq!(read(&frontend(), &bare).unwrap().stored_head, None);
    let error = read(&*made(json!({"head": "stored"})).unwrap(), &bare).unwrap_err();
    assert_eq!(error.code, codes::WEIGHT_MISSING);
}

#[test]
fn heads_that_give_no_logits_of_tokens_are_refused() {
    for other in ["LlamaForSequenceClassification", "LlamaForTokenClassification"] {
        let error = describe(with(json!({"architectures": [other]}))).unwrap_err();
        assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED);
        assert_eq!(error.at.unwrap(), "config.json: architectures");
        // Beside a language model's, it is not the one that is asked for; vectors need none.
        let both = with(json!({"architectures": [other, "LlamaForCausalLM"]}));
        assert!(describe(both).is_ok());
        let mut head = EmbeddingHead::default();
        head.pooling = Pooling::Last;
        let vectors = input(with(json!({"architectures": [other]}))).with_embedding(Some(head));
        assert!(read(&frontend(), &vectors).is_ok());
    }
}

#[test]
fn names_behind_a_wrapper_are_found() {
    let renamed = |prefix: &str| {
        input(with(json!({"tie_word_embeddings": false}))).with_tensors(
            tensors("model.")
                .into_iter()
                .map(|(name, info)| (format!("{prefix}{name}"), info))
                .collect(),
        )
    };
    let model = renamed("language_model.");
    let description = read(&frontend(), &model).unwrap();
    assert!(description.notes[0].contains("begin with `language_model.model.`"));
    let error = read(&frontend(), &renamed("student.")).unwrap_err();
    assert_eq!(error.code, codes::WEIGHT_MISSING);
    assert!(error.hint.unwrap().contains("`student.model.`"));
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_allocated() {
    for (key, value) in [
        ("head_dim", 2_147_483_646_u64),
        ("head_dim", 1 << 20),
        ("num_hidden_layers", 2_000_000_000),
        ("hidden_size", 2_000_000_000),
        ("vocab_size", 2_147_483_647),
        ("intermediate_size", 2_147_483_647),
        ("num_attention_heads", 2_147_483_647),
    ] {
        let large = json!({"hidden_size": 1 << 24, key: value});
        let error = describe(with(large)).expect_err(key);
        assert_eq!(error.code, codes::CONFIG_KEY_INVALID, "{key}: {error}");
    }
    let long = ModelInput::new(with(json!({"head_dim": 1024})), 1 << 20, 8);
    assert_eq!(read(&frontend(), &long).unwrap_err().code, codes::SHAPE_INVALID);
}

/// The rules that hold for every plugin.
mod conformance {
    anemll_plugin_api::testing::conformance!(
        anemll_arch_llama::LlamaPlugin,
        "../../../tests/models/variants/tied"
    );
}
