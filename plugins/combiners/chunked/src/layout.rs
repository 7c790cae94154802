//! Names, functions, packages and run order of the chunked layout.

use anemll_layout::{
    INFER, LayoutOptions, MAIN, PREFILL, PartMetadata, anemll, check_model, combined, common_keys,
    embed_in_chunks, evaluation, file_key, group_keys, head_keys, layer_ranges, layers_text,
    lut_key, part, prefix,
};
use anemll_plugin_api::Result;
use anemll_plugin_api::data::{
    FunctionSpec, LayerRange, Layout, ModelDescription, PackageSpec, Purpose, RunOrder, WeightFile,
};

/// The steps of `convert_model.sh` that make packages; the constants below are places in this list, from 1.
const STEPS: &[&str] = &["embeddings", "lm_head", "FFN", "prefill", "combine"];
const EMBEDDINGS_STEP: u32 = 1;
const HEAD_STEP: u32 = 2;
const INFER_STEP: u32 = 3;
const PREFILL_STEP: u32 = 4;
const COMBINE_STEP: u32 = 5;

/// Id of the embeddings' function and of its weight file.
const EMBEDDINGS: &str = "embeddings";
/// Id of the head's function and of its weight file.
const HEAD: &str = "lm_head";
/// Id of the head's function for evaluation, which always gives all logits.
const EVALUATE_HEAD: &str = "evaluate.lm_head";

/// Chunks when none are asked for, as ANEMLL's script has it.
const DEFAULT_CHUNKS: u32 = 2;

/// Lays a model out in chunks.
pub(crate) fn layout(model: &ModelDescription, options: &LayoutOptions) -> Result<Layout> {
    check_model(model)?;
    // A model of one layer is laid out without having to ask for one chunk.
    let count = options.chunks.unwrap_or(DEFAULT_CHUNKS.min(model.layers));
    if model.embedding.is_some() {
        return embed_in_chunks(crate::ID, model, options, count);
    }
    let ranges = layer_ranges(model.layers, count)?;
    let prefix = prefix(model, options)?;
    let parts = Parts { model, options, prefix: &prefix };

    let chunks: Vec<Chunk> =
        (1u32..).zip(ranges).map(|(number, layers)| Chunk { number, count, layers }).collect();
    let embeddings = parts.embeddings();
    let head = parts.head();
    let combined: Vec<PackageSpec> = chunks.iter().map(|chunk| parts.combined(chunk)).collect();
    let evaluate: Vec<PackageSpec> = chunks.iter().map(|chunk| parts.evaluate(chunk)).collect();
    let evaluate_head = parts.evaluate_head();

    let mut meta = common_keys(model, crate::ID, count, &prefix);
    lut_key(&mut meta, "lut_embeddings", options.bits.embeddings);
    lut_key(&mut meta, "lut_ffn", options.bits.layers);
    lut_key(&mut meta, "lut_lmhead", options.bits.head);
    file_key(&mut meta, "embeddings", &embeddings.stem);
    file_key(&mut meta, "lm_head", &head.stem);
    // The apps find the other chunks from the first one's name.
    file_key(&mut meta, "ffn", &combined[0].stem);
    head_keys(&mut meta, model, options, &[INFER, PREFILL]);
    group_keys(&mut meta, options);

    let first = embeddings.call(MAIN);
    let through = |packages: &[PackageSpec], function: &str| {
        let chunks = packages.iter().map(|package| package.call(function));
        std::iter::once(first.clone()).chain(chunks).collect::<Vec<_>>()
    };
    let mut run = RunOrder::default()
        .with_infer(through(&combined, INFER))
        .with_prefill(through(&combined, PREFILL))
        .with_evaluate(through(&evaluate, MAIN))
        .with_feeds(anemll::feeds());
    run.infer.push(head.call(MAIN));
    run.evaluate.push(evaluate_head.call(MAIN));

    let mut weight_files = vec![WeightFile::new(EMBEDDINGS, [EMBEDDINGS])];
    // infer first: it has every weight of its chunk, so that the others add none.
    weight_files.extend(chunks.iter().map(|chunk| {
        WeightFile::new(
            &chunk.weight_file(),
            [&chunk.function(INFER), &chunk.function(PREFILL), &chunk.function("evaluate")],
        )
    }));
    weight_files.push(WeightFile::new(HEAD, [HEAD, EVALUATE_HEAD]));

    let mut packages = vec![embeddings, head];
    packages.extend(chunks.iter().map(|chunk| parts.infer(chunk)));
    packages.extend(chunks.iter().map(|chunk| parts.prefill(chunk)));
    packages.extend(combined);
    packages.extend(evaluate);
    packages.push(evaluate_head);

    Ok(Layout::new(crate::ID, prefix)
        .with_steps(STEPS.iter().copied())
        .with_functions(functions(&chunks, options.argmax))
        .with_weight_files(weight_files)
        .with_packages(packages)
        .with_meta(meta)
        .with_run(run))
}

/// One piece of the layers.
struct Chunk {
    /// Counted from 1.
    number: u32,
    /// How many there are.
    count: u32,
    layers: LayerRange,
}

impl Chunk {
    /// Id of the function of this chunk with this purpose, such as `infer.01`.
    fn function(&self, purpose: &str) -> String {
        format!("{purpose}.{:02}", self.number)
    }

    fn weight_file(&self) -> String {
        format!("chunk_{:02}", self.number)
    }
}

/// All functions, in the order of the steps.
fn functions(chunks: &[Chunk], argmax: bool) -> Vec<FunctionSpec> {
    let ends = |id: &str, embedding: bool, purpose: Purpose, argmax: bool| {
        FunctionSpec::new(id, purpose)
            .with_embedding(embedding)
            .with_head(!embedding)
            .with_argmax(argmax)
    };
    let mut functions = vec![
        ends(EMBEDDINGS, true, Purpose::Infer, false),
        ends(HEAD, false, Purpose::Infer, argmax),
    ];
    let purposes =
        [(INFER, Purpose::Infer), (PREFILL, Purpose::Prefill), ("evaluate", Purpose::Evaluate)];
    for (name, purpose) in purposes {
        functions.extend(chunks.iter().map(|chunk| {
            FunctionSpec::new(chunk.function(name), purpose).with_layers(chunk.layers)
        }));
    }
    functions.push(ends(EVALUATE_HEAD, false, Purpose::Evaluate, false));
    functions
}

/// Makes the packages.
struct Parts<'a> {
    model: &'a ModelDescription,
    options: &'a LayoutOptions,
    prefix: &'a str,
}

impl<'a> Parts<'a> {
    fn metadata(&self) -> PartMetadata<'a> {
        PartMetadata::new(self.model, self.options)
    }

    fn chunk_metadata(&self, chunk: &Chunk) -> PartMetadata<'a> {
        self.metadata().chunk(chunk.number, chunk.count).bits(self.options.bits.layers)
    }

    /// `llama_FFN_lut4_chunk_01of02` for the part `FFN`.
    fn chunk_stem(&self, part: &str, chunk: &Chunk) -> String {
        let number = Some((chunk.number, chunk.count));
        anemll::stem(self.prefix, part, self.options.bits.layers, number)
    }

    fn layers_text(&self, chunk: &Chunk) -> String {
        let layers = layers_text(chunk.layers, self.model.layers);
        format!("{} {layers}", self.model.architecture)
    }

    fn embeddings(&self) -> PackageSpec {
        let bits = self.options.bits.embeddings;
        part(
            EMBEDDINGS_STEP,
            anemll::stem(self.prefix, anemll::EMBEDDINGS, bits, None),
            EMBEDDINGS,
            EMBEDDINGS,
            format!("{} token embeddings", self.model.architecture),
            self.metadata().bits(bits).finish(),
        )
    }

    fn head(&self) -> PackageSpec {
        let bits = self.options.bits.head;
        let gives = if self.options.argmax { "largest logit of each piece" } else { "logits" };
        part(
            HEAD_STEP,
            anemll::stem(self.prefix, anemll::HEAD, bits, None),
            HEAD,
            HEAD,
            format!("{} head: {gives}", self.model.architecture),
            self.metadata().bits(bits).head(self.options.argmax).finish(),
        )
    }

    fn infer(&self, chunk: &Chunk) -> PackageSpec {
        part(
            INFER_STEP,
            self.chunk_stem(anemll::INFER, chunk),
            &chunk.weight_file(),
            &chunk.function(INFER),
            format!("{}, one token", self.layers_text(chunk)),
            self.chunk_metadata(chunk).finish(),
        )
    }

    fn prefill(&self, chunk: &Chunk) -> PackageSpec {
        part(
            PREFILL_STEP,
            self.chunk_stem(anemll::PREFILL, chunk),
            &chunk.weight_file(),
            &chunk.function(PREFILL),
            format!("{}, {} tokens into the cache", self.layers_text(chunk), self.model.batch),
            self.chunk_metadata(chunk).batch().finish(),
        )
    }

    fn combined(&self, chunk: &Chunk) -> PackageSpec {
        combined(
            COMBINE_STEP,
            self.chunk_stem(anemll::COMBINED, chunk),
            &chunk.weight_file(),
            &chunk.function(INFER),
            &chunk.function(PREFILL),
            format!("{}, functions infer and prefill", self.layers_text(chunk)),
            self.chunk_metadata(chunk).batch().functions(&[INFER, PREFILL]).finish(),
        )
    }

    fn evaluate(&self, chunk: &Chunk) -> PackageSpec {
        evaluation(
            self.chunk_stem("evaluate", chunk),
            &chunk.weight_file(),
            &chunk.function("evaluate"),
            format!("{}, {} tokens, for evaluation", self.layers_text(chunk), self.model.batch),
            self.chunk_metadata(chunk).batch().finish(),
        )
    }

    fn evaluate_head(&self) -> PackageSpec {
        let bits = self.options.bits.head;
        evaluation(
            anemll::stem(self.prefix, "evaluate_lm_head", bits, None),
            HEAD,
            EVALUATE_HEAD,
            format!(
                "{} head: all logits of {} tokens, for evaluation",
                self.model.architecture, self.model.batch
            ),
            self.metadata().bits(bits).batch().head(false).finish(),
        )
    }
}

#[cfg(test)]
mod tests;
