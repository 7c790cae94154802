//! Names, functions, packages and run order of the chunked layout.

use anemll_layout::{
    INFER, LayoutOptions, MAIN, PREFILL, PartMetadata, Verify, anemll, check_model, combined,
    common_keys, embed_in_chunks, evaluation, file_key, group_keys, head_keys, in_words,
    layer_ranges, layers_text, lut_key, part, prefix,
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
/// Ids of the functions of embeddings and head that verify guesses.
const VERIFY_EMBEDDINGS: &str = "verify.embeddings";
const VERIFY_HEAD: &str = "verify.lm_head";
/// What the functions of the layers that verify guesses are for.
const VERIFY: &str = "verify";

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
    let verify = Verify::new(model, options)?;
    let parts = Parts { model, options, prefix: &prefix, verify: verify.as_ref() };

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

    let through = |packages: &[PackageSpec], first: &str, function: &str| {
        let chunks = packages.iter().map(|package| package.call(function));
        std::iter::once(embeddings.call(first)).chain(chunks).collect::<Vec<_>>()
    };
    let mut run = RunOrder::default()
        .with_infer(through(&combined, MAIN, INFER))
        .with_prefill(through(&combined, MAIN, PREFILL))
        .with_evaluate(through(&evaluate, MAIN, MAIN))
        .with_feeds(anemll::feeds());
    run.infer.push(head.call(MAIN));
    run.evaluate.push(evaluate_head.call(MAIN));
    if let Some(verify) = &verify {
        run.verify = through(&combined, &verify.name, &verify.name);
        run.verify.push(head.call(verify.name.clone()));
        verify.meta(&mut meta);
    }

    let wanted = |id: &'static str| verify.is_some().then(|| id.to_owned());
    let ends = |id: &str, other: &'static str| {
        std::iter::once(id.to_owned()).chain(wanted(other)).collect::<Vec<_>>()
    };
    let mut weight_files = vec![WeightFile::new(EMBEDDINGS, ends(EMBEDDINGS, VERIFY_EMBEDDINGS))];
    // infer first: it has every weight of its chunk, so that the others add none.
    weight_files.extend(chunks.iter().map(|chunk| {
        let purposes = [INFER, PREFILL, "evaluate"].into_iter();
        let purposes = purposes.chain(verify.is_some().then_some(VERIFY));
        WeightFile::new(&chunk.weight_file(), purposes.map(|purpose| chunk.function(purpose)))
    }));
    let mut of_head = ends(HEAD, VERIFY_HEAD);
    of_head.push(EVALUATE_HEAD.to_owned());
    weight_files.push(WeightFile::new(HEAD, of_head));

    let mut packages = parts.ends(embeddings, head);
    packages.extend(chunks.iter().map(|chunk| parts.infer(chunk)));
    packages.extend(chunks.iter().map(|chunk| parts.prefill(chunk)));
    if let Some(verify) = &verify {
        packages.extend(chunks.iter().map(|chunk| parts.verify(verify, chunk)));
    }
    packages.extend(combined);
    packages.extend(evaluate);
    packages.push(evaluate_head);

    Ok(Layout::new(crate::ID, prefix)
        .with_steps(STEPS.iter().copied())
        .with_functions(functions(&chunks, options.argmax, verify.as_ref()))
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
fn functions(chunks: &[Chunk], argmax: bool, verify: Option<&Verify>) -> Vec<FunctionSpec> {
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
    let Some(Verify { tokens, .. }) = verify else { return functions };
    let guesses = |function: FunctionSpec| function.with_tokens(*tokens);
    functions.push(guesses(ends(VERIFY_EMBEDDINGS, true, Purpose::Evaluate, false)));
    functions.push(guesses(ends(VERIFY_HEAD, false, Purpose::Evaluate, false)));
    functions.extend(chunks.iter().map(|chunk| {
        let function = FunctionSpec::new(chunk.function(VERIFY), Purpose::Evaluate);
        guesses(function.with_layers(chunk.layers))
    }));
    functions
}

/// Makes the packages.
struct Parts<'a> {
    model: &'a ModelDescription,
    options: &'a LayoutOptions,
    prefix: &'a str,
    verify: Option<&'a Verify>,
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

    /// The package that apps load: a part, or where guesses are verified a combined one.
    fn embeddings(&self) -> PackageSpec {
        let bits = self.options.bits.embeddings;
        let stem = anemll::stem(self.prefix, anemll::EMBEDDINGS, bits, None);
        let text = format!("{} token embeddings", self.model.architecture);
        let metadata = self.metadata().bits(bits);
        let Some(Verify { name, .. }) = self.verify else {
            return part(EMBEDDINGS_STEP, stem, EMBEDDINGS, EMBEDDINGS, text, metadata.finish());
        };
        let functions = [(EMBEDDINGS, MAIN), (VERIFY_EMBEDDINGS, name)];
        let metadata = metadata.functions(&[MAIN, name]).finish();
        combined(COMBINE_STEP, stem, EMBEDDINGS, functions, text, metadata)
    }

    /// As [`Self::embeddings`].
    fn head(&self) -> PackageSpec {
        let bits = self.options.bits.head;
        let gives = if self.options.argmax { "largest logit of each piece" } else { "logits" };
        let stem = anemll::stem(self.prefix, anemll::HEAD, bits, None);
        let text = format!("{} head: {gives}", self.model.architecture);
        let metadata = self.metadata().bits(bits).head(self.options.argmax);
        let Some(Verify { name, .. }) = self.verify else {
            return part(HEAD_STEP, stem, HEAD, HEAD, text, metadata.finish());
        };
        let functions = [(HEAD, MAIN), (VERIFY_HEAD, name)];
        let metadata = metadata.functions(&[MAIN, name]).finish();
        combined(COMBINE_STEP, stem, HEAD, functions, text, metadata)
    }

    /// Embeddings and head, as apps load them, with the parts that they are combined from.
    fn ends(&self, embeddings: PackageSpec, head: PackageSpec) -> Vec<PackageSpec> {
        let Some(verify) = self.verify else { return vec![embeddings, head] };
        let alone = |step, whole: &PackageSpec, place: usize, name: &str| {
            let mut metadata = whole.metadata.clone();
            metadata.remove(anemll::FUNCTIONS);
            let (stem, id) = (format!("{}_{name}", whole.stem), &whole.functions[place].id);
            let text = format!("{}, {name}", whole.short_description);
            part(step, stem, &whole.weight_file, id, text, metadata)
        };
        vec![
            alone(EMBEDDINGS_STEP, &embeddings, 0, MAIN),
            alone(EMBEDDINGS_STEP, &embeddings, 1, &verify.name),
            alone(HEAD_STEP, &head, 0, MAIN),
            alone(HEAD_STEP, &head, 1, &verify.name),
            embeddings,
            head,
        ]
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

    fn verify(&self, verify: &Verify, chunk: &Chunk) -> PackageSpec {
        part(
            PREFILL_STEP,
            self.chunk_stem(&verify.name, chunk),
            &chunk.weight_file(),
            &chunk.function(VERIFY),
            format!("{}, {} tokens to be verified", self.layers_text(chunk), verify.tokens),
            self.chunk_metadata(chunk).finish(),
        )
    }

    fn combined(&self, chunk: &Chunk) -> PackageSpec {
        let purposes = [(INFER, INFER), (PREFILL, PREFILL)].into_iter();
        let purposes = purposes.chain(self.verify.map(|verify| (VERIFY, verify.name.as_str())));
        let functions: Vec<(String, &str)> =
            purposes.map(|(purpose, name)| (chunk.function(purpose), name)).collect();
        let names: Vec<&str> = functions.iter().map(|(_, name)| *name).collect();
        combined(
            COMBINE_STEP,
            self.chunk_stem(anemll::COMBINED, chunk),
            &chunk.weight_file(),
            functions.iter().map(|(id, name)| (id.as_str(), *name)),
            format!("{}, functions {}", self.layers_text(chunk), in_words(&names)),
            self.chunk_metadata(chunk).batch().functions(&names).finish(),
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
