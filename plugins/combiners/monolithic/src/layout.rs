//! Names, functions, packages and run order of the monolithic layout.

use anemll_layout::{
    INFER, LayoutOptions, MAIN, PREFILL, PartMetadata, Verify, anemll, check_model, combined,
    common_keys, embed_whole, evaluation, file_key, group_keys, head_keys, in_words, lut_key, part,
    prefix,
};
use anemll_plugin_api::Result;
use anemll_plugin_api::data::{
    FunctionSpec, LayerRange, Layout, ModelDescription, Purpose, RunOrder, WeightFile,
};

/// The steps of `convert_monolith.sh` that make packages; the constants below are places in this list, from 1.
const STEPS: &[&str] = &["infer", "prefill", "combine"];
const INFER_STEP: u32 = 1;
const PREFILL_STEP: u32 = 2;
const COMBINE_STEP: u32 = 3;

/// Id of the function for evaluation.
const EVALUATE: &str = "evaluate";
/// Id of the function that verifies guesses.
const VERIFY: &str = "verify";
/// Id of the only weight file.
const WEIGHTS: &str = "monolithic";

/// Lays a model out as one package.
pub(crate) fn layout(model: &ModelDescription, options: &LayoutOptions) -> Result<Layout> {
    check_model(model)?;
    if model.embedding.is_some() {
        return embed_whole(crate::ID, model, options);
    }
    let prefix = prefix(model, options)?;
    let verify = Verify::new(model, options)?;
    let architecture = &model.architecture;
    let metadata = || PartMetadata::new(model, options).bits(options.bits.layers);

    let infer = part(
        INFER_STEP,
        anemll::stem(&prefix, anemll::WHOLE, None, None),
        WEIGHTS,
        INFER,
        format!("{architecture}, one token"),
        metadata().head(options.argmax).finish(),
    );
    let prefill = part(
        PREFILL_STEP,
        anemll::stem(&prefix, anemll::WHOLE_PREFILL, None, None),
        WEIGHTS,
        PREFILL,
        format!("{architecture}, {} tokens into the cache", model.batch),
        metadata().batch().finish(),
    );
    let guesses = verify.as_ref().map(|Verify { tokens, name }| {
        part(
            PREFILL_STEP,
            anemll::stem(&prefix, &format!("{}_{name}", anemll::WHOLE), None, None),
            WEIGHTS,
            VERIFY,
            format!("{architecture}, {tokens} tokens to be verified"),
            metadata().head(false).finish(),
        )
    });
    let mut functions_of_it = vec![(INFER, INFER), (PREFILL, PREFILL)];
    functions_of_it.extend(verify.as_ref().map(|verify| (VERIFY, verify.name.as_str())));
    let names: Vec<&str> = functions_of_it.iter().map(|(_, name)| *name).collect();
    let combined = combined(
        COMBINE_STEP,
        anemll::stem(&prefix, anemll::WHOLE_COMBINED, None, None),
        WEIGHTS,
        functions_of_it.iter().copied(),
        format!("{architecture}, functions {}", in_words(&names)),
        metadata().batch().head(options.argmax).functions(&names).finish(),
    );
    let evaluate = evaluation(
        anemll::stem(&prefix, "evaluate_monolithic", None, None),
        WEIGHTS,
        EVALUATE,
        format!("{architecture}, all logits of {} tokens, for evaluation", model.batch),
        metadata().batch().head(false).finish(),
    );

    let mut meta = common_keys(model, crate::ID, 1, &prefix);
    lut_key(&mut meta, "lut_bits", options.bits.layers);
    lut_key(&mut meta, "lut_embeddings", options.bits.embeddings);
    lut_key(&mut meta, "lut_ffn", options.bits.layers);
    lut_key(&mut meta, "lut_lmhead", options.bits.head);
    file_key(&mut meta, "monolithic_model", &combined.stem);
    head_keys(&mut meta, model, options, &[INFER, PREFILL]);
    group_keys(&mut meta, options);
    let mut run = RunOrder::default()
        .with_infer(vec![combined.call(INFER)])
        .with_prefill(vec![combined.call(PREFILL)])
        .with_evaluate(vec![evaluate.call(MAIN)])
        .with_feeds(anemll::feeds());
    if let Some(verify) = &verify {
        run.verify = vec![combined.call(verify.name.clone())];
        verify.meta(&mut meta);
    }
    // infer first: it has every weight, so that the others add none.
    let ids = [INFER, PREFILL, EVALUATE].into_iter().chain(verify.as_ref().map(|_| VERIFY));
    let mut packages = vec![infer, prefill];
    packages.extend(guesses);
    packages.extend([combined, evaluate]);

    Ok(Layout::new(crate::ID, prefix)
        .with_steps(STEPS.iter().copied())
        .with_weight_files(vec![WeightFile::new(WEIGHTS, ids)])
        .with_functions(functions(model.layers, options.argmax, verify.as_ref()))
        .with_run(run)
        .with_packages(packages)
        .with_meta(meta))
}

/// The functions, each from the embedding on. Only the shipped head may leave the choice of
/// the largest logit to the model; prefill has no head, since no one reads what it gives.
fn functions(layers: u32, argmax: bool, verify: Option<&Verify>) -> Vec<FunctionSpec> {
    let function = |id: &str, purpose: Purpose, head: bool, argmax: bool| {
        FunctionSpec::new(id, purpose)
            .with_embedding(true)
            .with_layers(LayerRange::new(0, layers))
            .with_head(head)
            .with_argmax(argmax)
    };
    let mut functions = vec![
        function(INFER, Purpose::Infer, true, argmax),
        function(PREFILL, Purpose::Prefill, false, false),
        function(EVALUATE, Purpose::Evaluate, true, false),
    ];
    functions.extend(verify.map(|Verify { tokens, .. }| {
        function(VERIFY, Purpose::Evaluate, true, false).with_tokens(*tokens)
    }));
    functions
}

#[cfg(test)]
mod tests;
