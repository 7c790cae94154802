//! The dynamic form: functions that are cases of the one that apps call, from token ids to logits.

use crate::layout::{check_gives_logits, package, whole};
use crate::samples::Samples;
use anemll_layout::{LayoutOptions, anemll, apple, check_model, prefix};
use anemll_plugin_api::Result;
use anemll_plugin_api::data::{
    CacheForm, FunctionSpec, KEY_CACHE, LayerRange, Layout, ModelDescription, Purpose, RunOrder,
    StateInfo, VALUE_CACHE,
};

/// One token, with which the package is run here.
const ONE: &str = "infer";

/// Lays a model out as a bundle whose asset has one function.
pub(crate) fn layout(
    model: &ModelDescription,
    options: &LayoutOptions,
    samples: Samples,
) -> Result<Layout> {
    check_model(model)?;
    check_gives_logits(model, options)?;
    let prefix = prefix(model, options)?;
    let function = |id: String, context: u64, tokens: u64| {
        FunctionSpec::new(id, Purpose::Evaluate)
            .with_embedding(true)
            .with_layers(LayerRange::new(0, model.layers))
            .with_head(true)
            .with_context(context)
            .with_tokens(tokens)
            .with_cache(CacheForm::Heads)
    };
    let mut functions = vec![function(ONE.to_owned(), model.context, 1)];
    functions
        .extend(samples.all().map(|sample| function(sample.name(), sample.context, sample.tokens)));
    let names: Vec<&str> = functions.iter().map(|function| function.id.as_str()).collect();
    let package = package(model, options, &prefix, (&names, apple::DYNAMIC));
    let many = package.call(samples.first().name());
    let run = RunOrder::default()
        .with_infer(vec![package.call(ONE)])
        .with_prefill(vec![many.clone()])
        .with_evaluate(vec![many])
        .with_feeds(anemll::feeds());
    let shape =
        [model.layers.into(), 1, model.key_value_heads, model.context, model.head_dimension];
    let states = [KEY_CACHE, VALUE_CACHE].map(|name| StateInfo::new(name, shape));
    let layout = whole(model, options, &prefix, package, apple::CACHES);
    Ok(layout.with_run(run).with_functions(functions).with_states(states.to_vec()))
}
