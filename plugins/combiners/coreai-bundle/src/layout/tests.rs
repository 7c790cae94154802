use super::*;
use crate::CoreAiBundlePlugin;
use anemll_plugin_api::data::{LayoutRequest, Manifest, RunStep, StateKind};
use anemll_plugin_api::{ComponentOptions, Plugin as _};

fn model() -> ModelDescription {
    ModelDescription::default()
        .with_architecture("LlamaForCausalLM")
        .with_default_prefix("llama")
        .with_layers(4)
        .with_vocabulary_size(301)
        .with_head_splits([200, 101])
        .with_key_value_heads(2)
        .with_head_dimension(32)
        .with_context(256)
        .with_batch(16)
        .with_states(vec![StateInfo::new("model_model_kv_cache_0", [8, 2, 256, 32])])
}

fn laid_out(model: &ModelDescription, options: &[(&str, &str)]) -> Result<Layout> {
    let given =
        options.iter().fold(ComponentOptions::new(), |all, (name, value)| all.with(*name, *value));
    CoreAiBundlePlugin::combiner(crate::ID, &given)?.layout(model, &LayoutRequest::default())
}

fn names(layout: &Layout) -> Vec<&str> {
    layout.packages[0].functions.iter().map(|function| function.name.as_str()).collect()
}

#[test]
fn every_context_has_functions_for_all_numbers_of_tokens() {
    let layout = laid_out(&model(), &[("contexts", "128,256"), ("queries", "1, 16")]).unwrap();
    assert_eq!(
        names(&layout),
        [
            "gather_embeddings_1",
            "gather_embeddings_16",
            "extend_128_1",
            "prompt_opt_128_1",
            "extend_128_16",
            "prompt_opt_128_16",
            "extend_256_1",
            "prompt_opt_256_1",
            "extend_256_16",
            "prompt_opt_256_16",
        ]
    );
    let small = &layout.functions[4];
    assert_eq!((small.context, small.tokens), (Some(128), Some(16)));
    assert_eq!((small.cache, small.head), (CacheForm::Channels, true));
    assert!(!layout.functions[5].head && layout.functions[5].purpose == Purpose::Prefill);
    assert_eq!(layout.weight_files[0].functions.len(), layout.functions.len());
    assert_eq!(
        layout.states,
        [KEY_CACHE, VALUE_CACHE].map(|name| StateInfo::new(name, [4, 1, 64, 1, 256]))
    );
    let call = |function| RunStep::new("llama_coreai", function);
    assert_eq!(layout.run.infer, [call("gather_embeddings_1"), call("extend_256_1")]);
    assert_eq!(layout.run.prefill, [call("gather_embeddings_16"), call("prompt_opt_256_16")]);
    assert_eq!(layout.run.evaluate, [call("gather_embeddings_16"), call("extend_256_16")]);
    anemll_layout::CheckedLayout::new(layout).unwrap();
}

/// The keys that Apple's apps read, and those that they refuse a bundle without.
#[test]
fn the_metadata_is_what_apps_read() {
    let layout = laid_out(&model(), &[]).unwrap();
    let bundle = layout.bundle.unwrap();
    assert_eq!(bundle.compiler, "coreai");
    assert_eq!(
        bundle.files["metadata.json"],
        json!({
            "metadata_version": "0.2",
            "kind": "llm",
            "name": "llama",
            "assets": { "main": "llama_coreai.aimodel" },
            "language": {
                "tokenizer": "llama",
                "embedded_tokenizer": true,
                "vocab_size": 301,
                "max_context_length": 256,
                "states": { "key_cache": "kv_cache", "value_cache": "kv_cache" },
            },
        })
    );
    assert_eq!(layout.packages[0].metadata["com.anemll.interface"], "apple-llm-static");
}

#[test]
fn without_functions_for_one_token_the_package_has_them_for_itself() {
    let layout = laid_out(&model(), &[("queries", "8,16")]).unwrap();
    assert!(names(&layout).contains(&"infer_embeddings") && names(&layout).contains(&"infer"));
    assert!(layout.run.infer.iter().all(|call| Role::parse(&call.function).is_none()));
    let usual = laid_out(&model(), &[]).unwrap();
    assert_eq!(
        names(&usual)[..3],
        ["gather_embeddings_1", "gather_embeddings_8", "gather_embeddings_16"]
    );
}

#[test]
fn a_dynamic_bundle_has_cases_of_one_function() {
    let layout = laid_out(&model(), &[("form", "dynamic")]).unwrap();
    let expected = ["infer", "main_256_16", "main_256_15", "main_224_16", "main_224_15"];
    assert_eq!(names(&layout), expected);
    assert_eq!(layout.packages[0].metadata[apple::INTERFACE], apple::DYNAMIC);
    let whole = |function: &FunctionSpec| {
        function.embedding && function.head && function.cache == CacheForm::Heads
    };
    assert!(layout.functions.iter().all(whole));
    assert_eq!(
        layout.states,
        [KEY_CACHE, VALUE_CACHE].map(|name| StateInfo::new(name, [4, 1, 2, 256, 32]))
    );
    let said = &layout.bundle.as_ref().unwrap().files[apple::METADATA];
    assert_eq!(said["language"]["states"]["keyCache"], "kv_cache");
    anemll_layout::CheckedLayout::new(layout).unwrap();
}

#[test]
fn what_apps_cannot_run_is_refused() {
    let recurrent = StateInfo::new("other", [1]).with_kind(StateKind::Recurrent);
    type Options<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, ModelDescription, Options<'_>); 13] = [
        ("not --context 256", model(), &[("contexts", "128,512")]),
        ("not --batch 16", model(), &[("queries", "1,32")]),
        ("must be a multiple of 32", model().with_context(272), &[]),
        ("must be a multiple of 12", model(), &[("queries", "12,16")]),
        ("64 channels", model(), &[("contexts", "32,256")]),
        ("300 layers", model().with_layers(300), &[]),
        ("no state", model().with_states(vec![recurrent]), &[]),
        ("numbers from 1", model(), &[("contexts", "0,256")]),
        ("numbers from 1", model(), &[("queries", "1;16")]),
        ("is of the static form", model(), &[("form", "dynamic"), ("queries", "1,16")]),
        ("3 tokens or more", model().with_batch(2), &[("form", "dynamic")]),
        ("not twice 32", model().with_context(32), &[("form", "dynamic")]),
        ("not twice 96", model().with_batch(12), &[("form", "dynamic")]),
    ];
    for (expected, model, options) in cases {
        let error = laid_out(&model, options).unwrap_err();
        assert!(error.message.contains(expected), "{expected}: {}", error.message);
        let about_options = error.code == codes::PLUGIN_OPTION_INVALID;
        assert!(about_options || error.code == codes::LAYOUT_OPTION_INVALID, "{expected}");
    }
}

#[test]
fn the_plugin_is_what_its_manifest_says() {
    let manifest: Manifest = serde_json::from_str(CoreAiBundlePlugin::MANIFEST).unwrap();
    assert_eq!(manifest.name, crate::ID);
    assert!(CoreAiBundlePlugin::combiner(crate::ID, &ComponentOptions::new()).is_ok());
    assert!(CoreAiBundlePlugin::combiner("other", &ComponentOptions::new()).is_err());
}
