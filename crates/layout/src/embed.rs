//! The layout of models that give vectors: one kind of function, a batch of tokens at a time.

use anemll_plugin_api::data::{
    FunctionSpec, LayerRange, Layout, ModelDescription, Purpose, RunOrder, RunStep, WeightFile,
};
use anemll_plugin_api::{Error, Result, codes};
use serde_json::{Map, Value};

use crate::anemll::{POOLED, POOLED_OUTPUT};
use crate::{
    LayoutOptions, MAIN, PartMetadata, anemll, check_model, common_keys, file_key, group_keys,
    layer_ranges, layers_text, lut_key, part, prefix,
};

/// Id of the function of a whole model, and of its weight file.
const EMBED: &str = "embed";
/// The part with the whole model, and the chunks.
const WHOLE: &str = "embed";
/// The part with the pooling and what follows it.
const POOLING: &str = "pooling";

/// Lays a model that gives vectors out as one package, by the combiner with this id.
///
/// # Errors
/// A description that contradicts itself, and options that are for heads.
pub fn embed_whole(id: &str, model: &ModelDescription, options: &LayoutOptions) -> Result<Layout> {
    let parts = Parts::new(model, options)?;
    let function = FunctionSpec::new(EMBED, Purpose::Embed)
        .with_embedding(true)
        .with_layers(LayerRange::new(0, model.layers))
        .with_head(true);
    let package = part(
        1,
        parts.stem(WHOLE, options.bits.layers, None),
        EMBED,
        EMBED,
        format!("{}, text to vector, {} tokens a call", model.architecture, model.batch),
        parts.metadata().bits(options.bits.layers).batch().finish(),
    );
    let mut meta = parts.meta(1);
    lut_key(&mut meta, "lut_bits", options.bits.layers);
    file_key(&mut meta, "embed_model", &package.stem);
    Ok(Layout::new(id, parts.prefix.clone())
        .with_steps([EMBED])
        .with_functions(vec![function])
        .with_weight_files(vec![WeightFile::new(EMBED, [EMBED])])
        .with_run(run(vec![package.call(MAIN)]))
        .with_packages(vec![package])
        .with_meta(meta))
}

/// Lays a model that gives vectors out in chunks: its embedding, `chunks` pieces of the layers, and the
/// pooling with what follows it.
///
/// # Errors
/// As [`embed_whole`], and a number of chunks that the layers do not have.
pub fn embed_in_chunks(
    id: &str,
    model: &ModelDescription,
    options: &LayoutOptions,
    chunks: u32,
) -> Result<Layout> {
    let parts = Parts::new(model, options)?;
    let ranges = layer_ranges(model.layers, chunks)?;
    let bits = options.bits.embeddings;
    let first = part(
        1,
        parts.stem(anemll::EMBEDDINGS, bits, None),
        anemll::EMBEDDINGS,
        anemll::EMBEDDINGS,
        format!("{} token embeddings", model.architecture),
        parts.metadata().bits(bits).batch().finish(),
    );
    let last = part(
        3,
        parts.stem(POOLING, None, None),
        POOLING,
        POOLING,
        format!("{}, weighted rows to a vector", model.architecture),
        parts.metadata().batch().finish(),
    );
    let mut functions =
        vec![FunctionSpec::new(anemll::EMBEDDINGS, Purpose::Embed).with_embedding(true)];
    let mut weight_files = vec![WeightFile::new(anemll::EMBEDDINGS, [anemll::EMBEDDINGS])];
    let mut packages = vec![first];
    for (number, layers) in (1u32..).zip(ranges) {
        let name = format!("chunk_{number:02}");
        functions.push(FunctionSpec::new(&name, Purpose::Embed).with_layers(layers));
        weight_files.push(WeightFile::new(&name, [&name]));
        packages.push(part(
            2,
            parts.stem(WHOLE, options.bits.layers, Some((number, chunks))),
            &name,
            &name,
            format!(
                "{} {}, {} tokens a call",
                model.architecture,
                layers_text(layers, model.layers),
                model.batch
            ),
            parts.metadata().chunk(number, chunks).bits(options.bits.layers).batch().finish(),
        ));
    }
    functions.push(FunctionSpec::new(POOLING, Purpose::Embed).with_head(true));
    weight_files.push(WeightFile::new(POOLING, [POOLING]));
    packages.push(last);
    let mut meta = parts.meta(chunks);
    lut_key(&mut meta, "lut_embeddings", bits);
    lut_key(&mut meta, "lut_ffn", options.bits.layers);
    file_key(&mut meta, "embeddings", &packages[0].stem);
    file_key(&mut meta, "ffn", &packages[1].stem);
    file_key(&mut meta, "pooling", &packages[packages.len() - 1].stem);
    Ok(Layout::new(id, parts.prefix.clone())
        .with_steps(["embeddings", "layers", "pooling"])
        .with_functions(functions)
        .with_weight_files(weight_files)
        .with_run(run(packages.iter().map(|package| package.call(MAIN)).collect()))
        .with_packages(packages)
        .with_meta(meta))
}

/// The calls for a batch of a text, and what goes on to the next batch.
fn run(calls: Vec<RunStep>) -> RunOrder {
    RunOrder::default()
        .with_embed(calls)
        .with_feeds(anemll::feeds())
        .with_feed(POOLED_OUTPUT, POOLED)
}

/// What the packages of a layout share.
struct Parts<'a> {
    model: &'a ModelDescription,
    options: &'a LayoutOptions,
    prefix: String,
}

impl<'a> Parts<'a> {
    fn new(model: &'a ModelDescription, options: &'a LayoutOptions) -> Result<Self> {
        check_model(model)?;
        if options.argmax {
            return Err(Error::new(
                codes::LAYOUT_OPTION_INVALID,
                "a model that gives vectors has no logits of which one could be the largest",
            )
            .with_at("argmax")
            .with_hint("leave --argmax out"));
        }
        Ok(Self { model, options, prefix: prefix(model, options)? })
    }

    fn metadata(&self) -> PartMetadata<'a> {
        PartMetadata::new(self.model, self.options)
    }

    fn stem(&self, name: &str, bits: Option<u32>, chunk: Option<(u32, u32)>) -> String {
        anemll::stem(&self.prefix, name, bits, chunk)
    }

    /// What `meta.yaml` says: no app takes the model for one of text.
    fn meta(&self, chunks: u32) -> Map<String, Value> {
        let mut meta = common_keys(self.model, "embedding", chunks, &self.prefix);
        group_keys(&mut meta, self.options);
        meta
    }
}

/// Whether a layout is of a model that gives vectors.
pub fn is_embedding(layout: &Layout) -> bool {
    !layout.run.embed.is_empty()
}
