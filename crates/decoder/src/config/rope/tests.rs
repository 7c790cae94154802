//! Rotary parameters in both spellings, and what is refused.

use super::*;
use anemll_plugin_api::codes;
use serde_json::json;

fn read(value: Value) -> Result<Rope> {
    read_rope(&Config::new(&value).unwrap(), &RopeRules::new(1024, 512))
}

#[test]
fn both_spellings_say_the_same() {
    let old = read(json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}}));
    let new = read(
        json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000}}),
    );
    let both = read(json!({
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5},
    }));
    let wanted = |base_key: &str, section: &str| Rope {
        base: 5e5,
        scaling: RopeScaling::Linear { factor: 2.0 },
        share: 1.0,
        base_key: base_key.to_owned(),
        section: section.to_owned(),
        notes: Vec::new(),
    };
    let inside = wanted("rope_parameters.rope_theta", "rope_parameters");
    assert_eq!(old.unwrap(), wanted("rope_theta", "rope_scaling"));
    assert_eq!(new.unwrap(), inside);
    assert_eq!(both.unwrap(), inside);
}

#[test]
fn defaults_are_those_of_transformers() {
    for value in [
        json!({}),
        json!({"rope_scaling": null, "rope_parameters": {}}),
        json!({"rope_parameters": {"rope_type": "default"}}),
        json!({"rope_parameters": {"rope_theta": 10000}}),
        json!({"rope_scaling": {"type": "default"}, "rope_theta": 10000.0}),
    ] {
        let rope = read(value).unwrap();
        assert_eq!((rope.base, rope.scaling, rope.notes.len()), (1e4, RopeScaling::None, 0));
    }
    let rope = read(json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 0}}))
        .unwrap();
    let RopeScaling::Yarn { beta_fast, beta_slow, original_context, truncate, .. } = rope.scaling
    else {
        panic!("not yarn")
    };
    assert_eq!((beta_fast, beta_slow, original_context, truncate), (32.0, 1.0, 1024.0, true));
    assert_eq!(rope.notes.len(), 1);
}

#[test]
fn dynamic_is_taken_only_where_it_does_not_act() {
    let value = json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}});
    let config = Config::new(&value).unwrap();
    let within = read_rope(&config, &RopeRules::new(1024, 1024)).unwrap();
    assert_eq!(within.scaling, RopeScaling::None);
    let error = read_rope(&config, &RopeRules::new(1024, 1025)).unwrap_err();
    assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED);
    assert_eq!(error.at.unwrap(), "config.json: rope_scaling.rope_type");
}

#[test]
fn the_context_chooses_among_factors() {
    let rules = |context| RopeRules {
        partial: Some(1.0),
        longrope: Some(4096),
        ..RopeRules::new(1024, context)
    };
    let section = json!({"type": "su", "short_factor": [1, 2.0], "long_factor": [3.0, 4.0]});
    let value = json!({"rope_scaling": section, "original_max_position_embeddings": 256,
        "partial_rotary_factor": 0.75});
    let config = Config::new(&value).unwrap();
    let attention = (1.0 + 4_f64.ln() / 256_f64.ln()).sqrt();
    for (context, factors, key) in
        [(256, vec![1.0, 2.0], "short_factor"), (257, vec![3.0, 4.0], "long_factor")]
    {
        let rope = read_rope(&config, &rules(context)).unwrap();
        let key = format!("rope_scaling.{key}");
        let wanted = RopeScaling::Long { factors, attention_factor: attention, key };
        assert_eq!((rope.scaling, rope.share), (wanted, 0.75));
        assert_eq!(rope.notes.len(), usize::from(context == 257));
    }
    for (change, key) in [
        (json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}), "long_factor"),
        (
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0],
                "long_factor": [1.0, 2.0]}}),
            "long_factor",
        ),
        (
            json!({"rope_scaling": {"type": "longrope", "short_factor": "1",
                "long_factor": [1.0]}}),
            "short_factor",
        ),
    ] {
        let config = Config::new(&change).unwrap();
        let error = read_rope(&config, &rules(9)).unwrap_err();
        assert_eq!(error.at.unwrap(), format!("config.json: rope_scaling.{key}"));
    }
    for share in [0.0, 1.5] {
        let value = json!({"partial_rotary_factor": share});
        let error = read_rope(&Config::new(&value).unwrap(), &rules(9)).unwrap_err();
        assert_eq!(error.at.unwrap(), "config.json: partial_rotary_factor");
    }
}

#[test]
fn each_kind_of_layer_may_have_its_own() {
    let layered = RopeRules { layered: true, ..RopeRules::new(1024, 512) };
    let of = |local: Value| {
        json!({"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": local,
        }})
    };
    let value = of(json!({"rope_type": "default", "rope_theta": 1e4}));
    let config = Config::new(&value).unwrap();
    let rope = read_rope(&config, &layered).unwrap();
    assert_eq!((rope.base, rope.scaling), (1e6, RopeScaling::Linear { factor: 8.0 }));
    assert_eq!(read_local_base(&config).unwrap(), Some(1e4));
    assert_eq!(read_local_base(&Config::new(&json!({})).unwrap()).unwrap(), None);
    let value = of(json!({"rope_type": "linear", "factor": 2.0}));
    let error = read_local_base(&Config::new(&value).unwrap()).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: rope_parameters.sliding_attention.rope_type");
    let value = json!({"rope_parameters": {"full_attention": {}, "chunked_attention": {}}});
    let error = read_rope(&Config::new(&value).unwrap(), &layered).unwrap_err();
    assert_eq!(error.at.unwrap(), "config.json: rope_parameters.chunked_attention");
}

#[test]
fn refusals_name_the_key() {
    let llama3 = |extra: Value| {
        let mut section = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        section.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"rope_scaling": section})
    };
    let cases = [
        (json!({"rope_scaling": 3}), "rope_scaling"),
        (json!({"rope_theta": "x"}), "rope_theta"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        (
            json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
            "rope_parameters.partial_rotary_factor",
        ),
        (json!({"rope_scaling": {"factor": 2.0}}), "rope_scaling.rope_type"),
        (json!({"rope_scaling": {"type": 1}}), "rope_scaling.type"),
        (json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor"),
        (json!({"rope_scaling": {"type": "linear", "factor": 0}}), "rope_scaling.factor"),
        (json!({"rope_scaling": {"type": "linear", "factor": "2"}}), "rope_scaling.factor"),
        (
            json!({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2}}),
            "rope_scaling.rope_type",
        ),
        (json!({"rope_scaling": {"type": "longrope", "factor": 2}}), "rope_scaling.type"),
        (
            json!({"rope_scaling": {"type": "default", "mrope_section": [1]}}),
            "rope_scaling.mrope_section",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "full_attention": {}}}),
            "rope_parameters.full_attention",
        ),
        (
            json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e5}}),
            "rope_parameters.rope_theta",
        ),
        (
            json!({"rope_scaling": {"rope_type": "default", "rope_theta": 1e5}}),
            "rope_scaling.rope_theta",
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"factor": 4}}),
            "rope_parameters.factor",
        ),
        (
            json!({"rope_scaling": {"type": "linear"}, "rope_parameters": {"factor": 4}}),
            "rope_parameters",
        ),
        (llama3(json!({"low_freq_factor": null})), "rope_scaling.low_freq_factor"),
        (llama3(json!({"high_freq_factor": 1.0})), "rope_scaling.high_freq_factor"),
        (
            llama3(json!({"original_max_position_embeddings": 0.5})),
            "rope_scaling.original_max_position_embeddings",
        ),
        (
            json!({"original_max_position_embeddings": 64,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
            "original_max_position_embeddings",
        ),
        (
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_slow": -1}}),
            "rope_scaling.beta_slow",
        ),
        (
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "truncate": 1}}),
            "rope_scaling.truncate",
        ),
    ];
    for (value, key) in cases {
        let error = read(value.clone()).expect_err(&value.to_string());
        assert_eq!(error.at.as_deref(), Some(format!("config.json: {key}").as_str()), "{value}");
    }
}

#[test]
fn keys_of_other_types_are_remarked_on() {
    let rope =
        read(json!({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 3.0}})).unwrap();
    assert_eq!(
        rope.notes,
        ["config.json: `rope_scaling.beta_fast` = 3.0 is not used by the rotary type `linear`"]
    );
}
