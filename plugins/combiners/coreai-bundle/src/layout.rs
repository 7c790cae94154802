//! Functions, package and files of the bundle.

use crate::ladder::Ladder;
use anemll_layout::apple::{self, Role};
use anemll_layout::{
    LayoutOptions, PartMetadata, anemll, check_model, common_keys, group_keys, head_keys, lut_key,
    prefix,
};
use anemll_plugin_api::data::{
    Bundle, CacheForm, FunctionSpec, KEY_CACHE, LayerRange, Layout, ModelDescription, PackageKind,
    PackageSpec, Purpose, RunOrder, StateInfo, VALUE_CACHE, WeightFile,
};
use anemll_plugin_api::{Error, Result, codes};
use serde_json::{Map, Value, json};

/// Id of the only weight file, and of the package.
const WHOLE: &str = "coreai";
/// The compiler whose output apps load.
const COMPILER: &str = "coreai";
/// One token, where the bundle has no function for that: so that the package can be run here.
const ONE: [&str; 2] = ["infer_embeddings", "infer"];

/// Lays a model out as a bundle with functions for these contexts and numbers of tokens.
pub(crate) fn layout(
    model: &ModelDescription,
    options: &LayoutOptions,
    ladder: &Ladder,
) -> Result<Layout> {
    check_model(model)?;
    check_gives_logits(model, options)?;
    let prefix = prefix(model, options)?;
    let functions = functions(model, ladder);
    let names: Vec<&str> = functions.iter().map(|function| function.id.as_str()).collect();
    let package = package(model, options, &prefix, (&names, apple::STATIC));
    let run = run(&package, ladder);
    let context = ladder.contexts[ladder.contexts.len() - 1];
    let channels = model.key_value_heads * model.head_dimension;
    let cache = |name| StateInfo::new(name, [model.layers.into(), 1, channels, 1, context]);
    let states = vec![cache(KEY_CACHE), cache(VALUE_CACHE)];
    let layout = whole(model, options, &prefix, package, [KEY_CACHE, VALUE_CACHE]);
    Ok(layout.with_run(run).with_functions(functions).with_states(states))
}

/// The layout of a bundle of one package, whose asset has the caches `states`; without functions and calls.
pub(crate) fn whole(
    model: &ModelDescription,
    options: &LayoutOptions,
    prefix: &str,
    package: PackageSpec,
    states: [&str; 2],
) -> Layout {
    let names = package.functions.iter().map(|function| function.id.clone());
    let files = vec![WeightFile::new(WHOLE, names)];
    let said = metadata(model, prefix, &package.stem, states);
    Layout::new(crate::ID, prefix)
        .with_steps(["functions"])
        .with_weight_files(files)
        .with_meta(meta(model, options, prefix, &package))
        .with_packages(vec![package])
        .with_bundle(Bundle::new(COMPILER).with_file(apple::METADATA, said))
}

/// Refuses what apps have no use for.
pub(crate) fn check_gives_logits(model: &ModelDescription, options: &LayoutOptions) -> Result<()> {
    let text = match (&model.embedding, options.argmax) {
        (Some(_), _) => "the apps of these bundles want logits, and this model gives vectors",
        (None, true) => "the apps of these bundles want logits, and --argmax leaves them out",
        (None, false) => return Ok(()),
    };
    Err(Error::new(codes::LAYOUT_OPTION_INVALID, text)
        .with_at("--combiner")
        .with_hint("take --combiner monolithic, or leave --argmax out"))
}

/// All functions, those with every weight first.
fn functions(model: &ModelDescription, ladder: &Ladder) -> Vec<FunctionSpec> {
    let embedding = |id: String, tokens: u64| {
        FunctionSpec::new(id, Purpose::Evaluate).with_embedding(true).with_tokens(tokens)
    };
    let layers = |id: String, purpose: Purpose, context: u64, tokens: u64| {
        FunctionSpec::new(id, purpose)
            .with_layers(LayerRange::new(0, model.layers))
            .with_head(purpose != Purpose::Prefill)
            .with_context(context)
            .with_tokens(tokens)
            .with_cache(CacheForm::Channels)
    };
    let gather = |tokens: &u64| embedding(Role::Gather { tokens: *tokens }.name(), *tokens);
    let mut functions: Vec<FunctionSpec> = ladder.queries.iter().map(gather).collect();
    if !ladder.queries.contains(&1) {
        functions.push(embedding(ONE[0].to_owned(), 1));
        functions.push(layers(ONE[1].to_owned(), Purpose::Evaluate, model.context, 1));
    }
    for (context, tokens) in steps(ladder) {
        let name = Role::Extend { context, tokens }.name();
        functions.push(layers(name, Purpose::Evaluate, context, tokens));
        let name = Role::Prompt { context, tokens }.name();
        functions.push(layers(name, Purpose::Prefill, context, tokens));
    }
    functions
}

/// Every context with every number of tokens.
fn steps(ladder: &Ladder) -> impl Iterator<Item = (u64, u64)> {
    let contexts = ladder.contexts.iter();
    contexts.flat_map(|context| ladder.queries.iter().map(|tokens| (*context, *tokens)))
}

/// The package of these functions, with the interface that the compiler is to give the asset.
pub(crate) fn package(
    model: &ModelDescription,
    options: &LayoutOptions,
    prefix: &str,
    (names, interface): (&[&str], &str),
) -> PackageSpec {
    let metadata = PartMetadata::new(model, options).bits(options.bits.layers).batch().head(false);
    let mut metadata = metadata.functions(names).finish();
    metadata.insert(apple::INTERFACE.to_owned(), interface.to_owned());
    let stem = anemll::stem(prefix, WHOLE, None, None);
    let package = PackageSpec::new(stem, PackageKind::Combined, 1, WHOLE);
    let package = names.iter().fold(package, |package, name| package.with_function(*name, *name));
    package
        .with_default_function(names[0])
        .with_short_description(format!(
            "{}, functions for Apple's Core AI apps",
            model.architecture
        ))
        .with_metadata(metadata)
}

/// How the package is run here: over the largest context, one token or the most at a time.
fn run(package: &PackageSpec, ladder: &Ladder) -> RunOrder {
    let context = ladder.contexts[ladder.contexts.len() - 1];
    let tokens = ladder.queries[ladder.queries.len() - 1];
    let calls = |role: Role| {
        let gather = Role::Gather { tokens: role.tokens() };
        vec![package.call(gather.name()), package.call(role.name())]
    };
    let infer = match ladder.queries.contains(&1) {
        true => calls(Role::Extend { context, tokens: 1 }),
        false => ONE.map(|name| package.call(name)).to_vec(),
    };
    RunOrder::default()
        .with_infer(infer)
        .with_prefill(calls(Role::Prompt { context, tokens }))
        .with_evaluate(calls(Role::Extend { context, tokens }))
        .with_feeds(anemll::feeds())
}

/// What `metadata.json` says.
fn metadata(model: &ModelDescription, name: &str, stem: &str, states: [&str; 2]) -> Value {
    json!({
        "metadata_version": apple::METADATA_VERSION,
        "kind": "llm",
        "name": name,
        "assets": { "main": format!("{stem}.aimodel") },
        "language": {
            "tokenizer": name,
            "embedded_tokenizer": true,
            "vocab_size": model.vocabulary_size,
            "max_context_length": model.context,
            "states": { states[0]: "kv_cache", states[1]: "kv_cache" },
        },
    })
}

fn meta(
    model: &ModelDescription,
    options: &LayoutOptions,
    prefix: &str,
    package: &PackageSpec,
) -> Map<String, Value> {
    let mut meta = common_keys(model, crate::ID, 1, prefix);
    lut_key(&mut meta, "lut_embeddings", options.bits.embeddings);
    lut_key(&mut meta, "lut_ffn", options.bits.layers);
    lut_key(&mut meta, "lut_lmhead", options.bits.head);
    meta.insert("coreai_model".to_owned(), format!("{}.aimodel", package.stem).into());
    let names: Vec<&str> =
        package.functions.iter().map(|function| function.name.as_str()).collect();
    head_keys(&mut meta, model, options, &names);
    group_keys(&mut meta, options);
    meta
}

#[cfg(test)]
mod tests;
