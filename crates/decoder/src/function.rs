//! Composition: which pieces a function has, and the model around it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anemll_mil::{DataType, DescriptionOptions, Dimension, FunctionBuilder, TensorType, Var};
use anemll_plugin_api::Result;
use anemll_plugin_api::data::{CacheForm, FunctionSpec, Purpose};
use coreml_proto::Model;

use crate::block::{Attention, Mixer};
use crate::cache::Cache;
use crate::columns::Columns;
use crate::delta_net::DeltaInputs;
use crate::delta_rule::Triangles;
use crate::error::{function_invalid, graph_invalid};
use crate::graph::{Graph, int32};
use crate::layer::{LayerInputs, add_layer};
use crate::mask::Masks;
use crate::norm::normalize;
use crate::pooling::{self, PoolingInputs};
use crate::recurrence::Recurrence;
use crate::ring::Ring;
use crate::rope::{Frequencies, RopeTables};
use crate::rotary::Rotations;
use crate::spec::DecoderSpec;
use crate::weights::Weight;
use crate::{embedding, first_token, head};

/// Lowers one function of a decoder to a model with the single function `main`.
///
/// Inputs, outputs and state are those that ANEMLL's apps expect:
///
/// | pieces | inputs | outputs |
/// |---|---|---|
/// | embedding alone | `input_ids` int32 (1, 1) or (1, B) | `hidden_states` (1, T, hidden) |
/// | layers | `hidden_states` (1, T, hidden), `position_ids` int32 (T), `causal_mask` (1, 1, T, C), `current_pos` int32 (1) | `output_hidden_states` (1, T, hidden) |
/// | head alone | `hidden_states` (1, T, hidden) | `logits1` … `logitsn` (1, T, rows) |
/// | embedding with layers | `input_ids` int32 (1, T) for `hidden_states` | |
/// | layers with head | | logits |
/// | head with `argmax` | | `argmax_idx` int32 (n), `argmax_val` (n) |
/// | head of a model that gives vectors | `pooling_weights` (1, 1, T), `pooled` (1, 1, hidden) besides | `output_pooled` (1, 1, hidden), `embedding` (1, 1, dimension) |
///
/// All else is float16. T is what the function says; where it says nothing, it is 1 for
/// [`Purpose::Infer`], else the batch B. C is the model's context, if the function has none of its own.
/// The norm after the last layer belongs to the layers. [`Purpose::Prefill`] leaves out the last layer's
/// MLP and that norm, since only the states matter, and gives row 0, (1, 1, hidden).
///
/// A model that gives vectors has functions for [`Purpose::Embed`] alone. Where its batch is the whole
/// context, they have neither a state of keys and values nor `current_pos`.
///
/// Layers have all the states of [`DecoderSpec::states`], whether they use them or not; with
/// [`CacheForm::Channels`], those of keys and of values, (layers, 1, key and value heads × width, 1, C)
/// each; with [`CacheForm::Heads`] these are (layers, 1, key and value heads, C, width).
///
/// # Errors
/// A specification or a function whose parts do not go together.
pub fn lower(spec: &DecoderSpec, function: &FunctionSpec) -> Result<Model> {
    spec.validate()?;
    check(spec, function)?;
    let range = function.layers.map(|range| range.first..range.end);
    // Of the whole model, so that functions for other contexts share them.
    let tables = tables_of(spec, range.unwrap_or_default())?;
    let own = own_context(spec, function)?;
    let contexts = (own.as_ref().map(|own| own.context), spec.context);
    let spec = own.as_ref().unwrap_or(spec);
    check_cache(spec, function)?;
    build(spec, function, &tables, contexts).map_err(|error| graph_invalid(&function.id, &error))
}

/// The specification with the context that a function has for itself; nothing where it is the model's.
fn own_context(spec: &DecoderSpec, function: &FunctionSpec) -> Result<Option<DecoderSpec>> {
    let refuse = |reason: String| Err(function_invalid(&function.id, reason));
    let context = function.context.unwrap_or(spec.context);
    if context > spec.context {
        return refuse(format!("has a context of {context}, beyond the model's {}", spec.context));
    }
    if let Some(tokens) = function.tokens.filter(|tokens| !(1..=context).contains(tokens)) {
        return refuse(format!("takes {tokens} tokens at once, of a context of {context}"));
    }
    if context == spec.context {
        return Ok(None);
    }
    let own = DecoderSpec { context, ..spec.clone() };
    own.validate()?;
    Ok(Some(own))
}

/// Checks that keys and values can be kept as the function wants.
fn check_cache(spec: &DecoderSpec, function: &FunctionSpec) -> Result<()> {
    let refuse = |reason: &str| Err(function_invalid(&function.id, reason));
    match function.cache {
        CacheForm::Rows => Ok(()),
        CacheForm::Channels | CacheForm::Heads if function.layers.is_none() => Ok(()),
        CacheForm::Channels | CacheForm::Heads if !spec.keeps_keys() => {
            refuse("keeps keys and values, and this model has none")
        }
        CacheForm::Channels | CacheForm::Heads if spec.ring_window().is_some() => {
            refuse("keeps all keys and values, and --window-cache ring keeps the last ones alone")
        }
        CacheForm::Channels | CacheForm::Heads if spec.states().len() != 1 => {
            refuse("keeps keys and values alone, and this model has other states")
        }
        CacheForm::Channels | CacheForm::Heads if spec.state_length() != spec.context => {
            refuse(&format!(
                "keeps {} positions, which must be a multiple of 32 and of the model's {} tokens a call",
                spec.context, spec.batch
            ))
        }
        CacheForm::Channels | CacheForm::Heads => Ok(()),
        _ => refuse("keeps keys in a way that this version of the frontend does not know"),
    }
}

/// The tables of the rotations that these layers have.
fn tables_of(spec: &DecoderSpec, range: Range<u32>) -> Result<Vec<Option<RopeTables>>> {
    let used: BTreeSet<usize> =
        attentions(spec, range).filter_map(|attention| attention.rotation).collect();
    // Rows for all positions of the state: a padded batch looks up positions beyond the context.
    let rows = spec.state_length();
    let tables = |(place, rope): (usize, &Frequencies)| {
        used.contains(&place).then(|| rope.tables(rows)).transpose()
    };
    spec.rotations.iter().enumerate().map(tables).collect()
}

fn attentions(spec: &DecoderSpec, range: Range<u32>) -> impl Iterator<Item = &Attention> {
    range.filter_map(|layer| spec.block(layer).mixer.attention())
}

/// Checks that the pieces of a function go together.
fn check(spec: &DecoderSpec, function: &FunctionSpec) -> Result<()> {
    let refuse = |reason: &str| Err(function_invalid(&function.id, reason));
    if let Some(range) = function.layers {
        if range.first >= range.end || range.end > spec.layers() {
            return refuse(&format!(
                "asks for layers from {} to before {}, of {}",
                range.first,
                range.end,
                spec.layers()
            ));
        }
        if function.embedding && range.first != 0 {
            return refuse("has the embedding, but does not begin with the first layer");
        }
        if function.head && range.end != spec.layers() {
            return refuse("has the head, but does not end with the last layer");
        }
    } else if function.embedding == function.head {
        return refuse("has neither layers nor one of embedding and head");
    }
    match (function.purpose, &spec.embedder) {
        (Purpose::Embed, Some(_))
        | (Purpose::Infer | Purpose::Prefill | Purpose::Evaluate, None) => {}
        (Purpose::Embed, None) => return refuse("asks for vectors, of a model that gives logits"),
        (Purpose::Infer | Purpose::Prefill | Purpose::Evaluate, Some(_)) => {
            return refuse("asks for logits, of a model that gives vectors");
        }
        _ => return refuse("has a purpose that this version of the frontend does not know"),
    }
    if function.head && function.purpose == Purpose::Prefill {
        return refuse("is for prefill, which gives no logits, but has the head");
    }
    if function.argmax && !(function.head && function.purpose == Purpose::Infer) {
        return refuse("asks for argmax, which only heads for one token give");
    }
    Ok(())
}

fn build(
    spec: &DecoderSpec,
    function: &FunctionSpec,
    tables: &[Option<RopeTables>],
    (own_context, longest): (Option<u64>, u64),
) -> anemll_mil::Result<Model> {
    let tokens = match (function.tokens, function.purpose) {
        (Some(tokens), _) => tokens,
        (None, Purpose::Infer) => 1,
        (None, _) => spec.batch,
    };
    let builder = FunctionBuilder::new();
    let cache = function.cache;
    let mut graph = Graph { spec, builder, tokens, cache, own_context, longest };
    let mut options = DescriptionOptions::default();
    let alone = function.layers.is_none() && !function.head;
    let start = if function.embedding {
        let fixed = function.purpose == Purpose::Embed || function.tokens.is_some();
        let one_or_many = alone && !fixed;
        input_ids(&mut graph, one_or_many, &mut options.enumerated_shapes)?
    } else {
        let kind = TensorType::new(DataType::Float16, &[1, tokens, spec.hidden_size]);
        graph.builder.input("hidden_states", kind)?
    };
    // All inputs are declared before any operation is made, in the order that the apps know.
    let pooling = match function.head && spec.embedder.is_some() {
        true => Some(PoolingInputs::declare(&mut graph)?),
        false => None,
    };
    let inputs = match function.layers {
        Some(range) => Some(declare_layer_inputs(&mut graph, tables, range.first..range.end)?),
        None => None,
    };

    let mut hidden = start;
    if function.embedding {
        hidden = embedding::embed(&mut graph, hidden)?;
    }
    if let (Some(range), Some(inputs)) = (function.layers, inputs) {
        hidden = add_layers(&mut graph, hidden, inputs, tables, range.first..range.end, function)?;
    }
    let outputs = if let Some(inputs) = &pooling {
        pooling::vector(&mut graph, hidden, inputs)?
    } else if function.head && function.argmax {
        head::argmax(&mut graph, hidden)?
    } else if function.head {
        head::logits(&mut graph, hidden)?
    } else {
        let name = if alone { "hidden_states" } else { "output_hidden_states" };
        graph.builder.name_value(hidden, name)?;
        vec![hidden]
    };
    let main = graph.builder.finish(&outputs)?;
    anemll_mil::function_model(main, &options)
}

/// Token ids: where one or a batch of them may come, of any length that is enumerated.
fn input_ids(
    graph: &mut Graph<'_>,
    one_or_many: bool,
    enumerated: &mut BTreeMap<String, Vec<Vec<u64>>>,
) -> anemll_mil::Result<Var> {
    const NAME: &str = "input_ids";
    let batch = graph.spec.batch;
    let length = if !one_or_many {
        Dimension::Fixed(graph.tokens)
    } else if batch == 1 {
        Dimension::Fixed(1)
    } else {
        enumerated.insert(NAME.to_owned(), vec![vec![1, 1], vec![1, batch]]);
        graph.builder.symbol()
    };
    let shape = vec![Dimension::Fixed(1), length];
    graph.builder.input(NAME, TensorType::with_shape(DataType::Int32, shape))
}

struct Declared {
    positions: Var,
    mask: Var,
    cache: Cache,
    ring: Option<Ring>,
    columns: Option<Columns>,
    recurrence: Option<Recurrence>,
}

fn declare_layer_inputs(
    graph: &mut Graph<'_>,
    tables: &[Option<RopeTables>],
    range: Range<u32>,
) -> anemll_mil::Result<Declared> {
    let (tokens, context) = (graph.tokens, graph.spec.context);
    let builder = &mut graph.builder;
    let position_ids =
        builder.input("position_ids", TensorType::new(DataType::Int32, &[tokens]))?;
    let mask = TensorType::new(DataType::Float16, &[1, 1, tokens, context]);
    let mask = builder.input("causal_mask", mask)?;
    let current = match graph.spec.keeps_keys() {
        true => Some(builder.input("current_pos", TensorType::new(DataType::Int32, &[1]))?),
        false => None,
    };
    let cache = match current {
        Some(current) => Cache::declare(graph, current)?,
        None => Cache::none(),
    };
    let ring = current.map(|current| Ring::declare(graph, current)).transpose()?.flatten();
    let columns = Columns::declare(graph)?;
    let recurrence = Recurrence::declare(graph)?;
    let positions = current.filter(|_| tokens == 1).unwrap_or(position_ids);
    let declared = Declared { positions, mask, cache, ring, columns, recurrence };
    // A batch finds its place in a ring by the mask.
    let spec = graph.spec;
    let mut range = range.filter(|layer| spec.block(*layer).mixer.attention().is_some());
    let asked = range.any(|layer| tokens == 1 || !spec.is_in_ring(layer));
    if let Some(current) = current.filter(|_| !asked) {
        // Without a cache to write to, no one asks for `current_pos` either.
        let copy = graph.builder.identity(current)?;
        graph.builder.name_value(copy, "current_pos_tmp")?;
    }
    if positions == position_ids && tables.iter().any(Option::is_some) {
        return Ok(declared);
    }
    // One token stands at `current_pos`, and layers without a rotation ask for no position. The apps
    // give `position_ids` all the same, so it must stay an input: ANEMLL's graph copies it, lest a
    // loader drops an input without a use.
    let copy = graph.builder.identity(position_ids)?;
    graph.builder.name_value(copy, "position_ids_tmp")?;
    Ok(declared)
}

fn add_layers(
    graph: &mut Graph<'_>,
    mut hidden: Var,
    inputs: Declared,
    tables: &[Option<RopeTables>],
    range: Range<u32>,
    function: &FunctionSpec,
) -> anemll_mil::Result<Var> {
    let spec = graph.spec;
    let rotations = Rotations::gather(graph, inputs.positions, tables)?;
    let whole = range.clone().filter(|layer| !spec.is_in_ring(*layer));
    let windows = whole.filter_map(|layer| spec.block(layer).mixer.attention()?.window);
    let masks = Masks::new(graph, inputs.mask, windows)?;
    let mut ring = inputs.ring.filter(|_| range.clone().any(|layer| spec.is_in_ring(layer)));
    if let Some(ring) = &mut ring {
        ring.begin(graph, inputs.mask)?;
    }
    let (mut columns, mut recurrence) = (inputs.columns, inputs.recurrence);
    let has =
        |suits: fn(&Mixer) -> bool| range.clone().any(|layer| suits(&spec.block(layer).mixer));
    let convolves = has(|mixer| mixer.short_convolution().is_some());
    let remembers = has(|mixer| mixer.delta_net().is_some());
    if convolves || remembers {
        let counts = first_token::counts(graph, inputs.mask)?;
        columns.iter_mut().for_each(|columns| columns.begin(counts));
        recurrence.iter_mut().for_each(|recurrence| recurrence.begin(counts));
    }
    let delta = match recurrence.filter(|_| remembers) {
        Some(recurrence) => Some(DeltaInputs { recurrence, triangles: Triangles::new(graph)? }),
        None => None,
    };
    let mut shared = LayerInputs { rotations, cache: inputs.cache, ring, masks, columns, delta };
    let last = spec.layers() - 1;
    let ends_model = range.contains(&last);
    for layer in range {
        let with_mlp = layer != last || function.purpose != Purpose::Prefill;
        hidden = add_layer(graph, &mut shared, hidden, layer, with_mlp)?;
    }
    if !ends_model {
        return Ok(hidden);
    }
    if function.purpose == Purpose::Prefill {
        let end = [1, 1, int32(spec.hidden_size)?];
        return graph.builder.slice_by_index(hidden, &[0; 3], &end, &[], &[true, false, true]);
    }
    graph.builder.scope("norm");
    let normed = normalize(graph, hidden, Weight::FinalNorm)?;
    graph.builder.end_scope();
    Ok(normed)
}
