//! Names, functions, packages and run order of the monolithic layout.

use anemll_layout::{
    INFER, MAIN, PREFILL, PartMetadata, check_model, combined, common_keys, file_key, head_keys,
    lut_key, part, prefix, run_step, steps, weight_file,
};
use anemll_plugin_api::data::{
    EvaluationPaths, FunctionSpec, LayerRange, Layout, LayoutOptions, ModelDescription,
    PackageKind, Purpose,
};
use anemll_plugin_api::{Error, Result, codes};

/// The steps of `convert_monolith.sh`; the constants below are places in this list, from 1.
const STEPS: &[&str] =
    &["infer", "prefill", "combine", "compile", "tokenizer and meta.yaml", "test"];
const INFER_STEP: u32 = 1;
const PREFILL_STEP: u32 = 2;
const COMBINE_STEP: u32 = 3;
const TEST_STEP: u32 = 6;

/// Id of the function for evaluation.
const EVALUATE: &str = "evaluate";
/// Id of the only weight file.
const WEIGHTS: &str = "monolithic";

/// Lays a model out as one package.
pub(crate) fn layout(model: &ModelDescription, options: &LayoutOptions) -> Result<Layout> {
    check_model(model, options)?;
    let chunks = options.chunks.unwrap_or(1);
    if chunks != 1 {
        return Err(Error::new(
            codes::LAYOUT_OPTION_INVALID,
            format!("the monolithic layout has 1 chunk, not {chunks}"),
        )
        .with_at("--chunk")
        .with_hint("leave `--chunk` out, or take `--combiner chunked`"));
    }
    let prefix = prefix(model, options)?;
    let architecture = &model.architecture;
    let metadata = || PartMetadata::new(model, options).bits(options.bits.layers);

    let infer = part(
        PackageKind::Part,
        INFER_STEP,
        format!("{prefix}_monolithic"),
        WEIGHTS,
        INFER,
        format!("{architecture}, one token"),
        metadata().head(options.argmax).finish(),
    );
    let prefill = part(
        PackageKind::Part,
        PREFILL_STEP,
        format!("{prefix}_monolithic_prefill"),
        WEIGHTS,
        PREFILL,
        format!("{architecture}, {} tokens into the cache", model.batch),
        metadata().batch().finish(),
    );
    let combined = combined(
        COMBINE_STEP,
        format!("{prefix}_monolithic_combined"),
        WEIGHTS,
        INFER,
        PREFILL,
        format!("{architecture}, functions infer and prefill"),
        metadata().batch().head(options.argmax).functions(&[INFER, PREFILL]).finish(),
    );
    let evaluate = part(
        PackageKind::Evaluate,
        TEST_STEP,
        format!("{prefix}_evaluate_monolithic"),
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

    Ok(Layout {
        combiner: crate::ID.to_owned(),
        prefix,
        steps: steps(STEPS),
        functions: functions(model.layers, options.argmax),
        // infer first: it has every weight, so that the others add none.
        weight_files: vec![weight_file(WEIGHTS, &[INFER, PREFILL, EVALUATE])],
        paths: EvaluationPaths {
            infer: vec![run_step(&combined, INFER)],
            prefill: vec![run_step(&combined, PREFILL)],
            evaluate: vec![run_step(&evaluate, MAIN)],
        },
        packages: vec![infer, prefill, combined, evaluate],
        meta,
    })
}

/// The three functions, each from the embedding on. Only the shipped head may leave the choice of
/// the largest logit to the model; prefill has no head, since no one reads what it gives.
fn functions(layers: u32, argmax: bool) -> Vec<FunctionSpec> {
    let function = |id: &str, purpose: Purpose, head: bool, argmax: bool| FunctionSpec {
        id: id.to_owned(),
        embedding: true,
        layers: Some(LayerRange { first: 0, end: layers }),
        head,
        purpose,
        argmax,
    };
    vec![
        function(INFER, Purpose::Infer, true, argmax),
        function(PREFILL, Purpose::Prefill, false, false),
        function(EVALUATE, Purpose::Evaluate, true, false),
    ]
}

#[cfg(test)]
mod tests;
