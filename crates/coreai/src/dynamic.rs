//! The one function of a dynamic language model, as Apple's apps call it: token ids, the positions of all tokens that
//! there are by then, caches that callers let grow.

use crate::failure::Lowered;
use crate::general::{Read, Samples, Sizes};
use anemll_aicode::{BlockBuilder, DYNAMIC, ElementType, Function, Port, TensorType, Type, Value};
use anemll_layout::anemll;
use anemll_layout::apple::{self, Sample};
use anemll_plugin_api::data::{KEY_CACHE, VALUE_CACHE};
use half::f16;

/// What is added to scores of what a token does not see, as apps have it.
const HIDDEN: f32 = -40_000.0;

/// The function, of functions that have the inputs and outputs of a package.
pub(crate) fn main(all: &[(Sample, &Function)]) -> Lowered<Function> {
    let samples = Samples::new(all)?;
    let first = samples.first();
    let context = samples_context(all);
    let ids = TensorType::new(ElementType::Int32, &[1, DYNAMIC]);
    let mut inputs = Vec::new();
    for (cache, name) in [KEY_CACHE, VALUE_CACHE].into_iter().zip(apple::CACHES) {
        let kind = cache_of(first, cache, context)?;
        let state = Some(name.to_owned());
        inputs.push(Port { name: state.clone(), kind: Type::State(kind), state });
    }
    inputs.extend(["input_ids", "position_ids"].map(|name| Port::new(name, ids.clone())));
    let mut builder = anemll_aicode::block(inputs.iter().map(|port| port.kind.clone()).collect());
    let given = Given::new(&mut builder);
    let mut arguments = Vec::new();
    let mut read = Read::new();
    for (number, port) in (0..).zip(&first.inputs) {
        let name = port.name.as_deref().unwrap_or_default();
        arguments.push(match (&port.kind, name) {
            (Type::State(_), name) => {
                let place = cache_named(name, context)
                    .ok_or_else(|| format!("apps have no state `{name}`"))?;
                read.insert(number, given.read[place]);
                builder.argument(place)
            }
            (_, anemll::INPUT_TOKENS) => builder.argument(2),
            (_, anemll::INPUT_POSITIONS) => given.positions,
            (_, anemll::INPUT_POSITION) => given.start,
            (_, anemll::INPUT_MASK) => given.mask,
            _ => return Err(format!("apps have nothing for the input `{name}`").into()),
        });
    }
    let made = samples.make(&mut builder, arguments, given.sizes, &read)?;
    let logits = logits(&mut builder, first, &made)?;
    let tokens = first.outputs.iter().zip(&made).filter(|(port, _)| port.kind == Type::Token);
    let (mut outputs, mut values) = (Vec::new(), Vec::new());
    for (port, value) in tokens {
        let place = cache_named(port.name.as_deref().unwrap_or_default(), context);
        let name = place
            .and_then(|place| apple::CACHES.get(place))
            .ok_or("it gives back another state")?;
        outputs.push(Port::new(name, Type::Token));
        values.push(*value);
    }
    outputs.push(Port::new("logits", builder.kind(logits).clone()));
    values.push(logits);
    let name = apple::MAIN.to_owned();
    Ok(Function {
        name,
        inputs,
        outputs,
        body: builder.finish_function(&values),
        ..Function::default()
    })
}

/// Positions of the caches of the first function.
fn samples_context(all: &[(Sample, &Function)]) -> u64 {
    all.first().map_or(0, |(sample, _)| sample.context)
}

/// Which of the caches a state of the package is.
fn cache_named(state: &str, context: u64) -> Option<usize> {
    [KEY_CACHE, VALUE_CACHE].iter().position(|cache| apple::is_cache(state, cache, context))
}

/// The type of a cache, whose positions are as many as callers like.
fn cache_of(function: &Function, cache: &str, context: u64) -> Lowered<TensorType> {
    let states = function.inputs.iter().filter(|port| matches!(port.kind, Type::State(_)));
    let mut found = states.filter(|port| {
        port.name.as_deref().is_some_and(|name| apple::is_cache(name, cache, context))
    });
    let kind = found.next().and_then(|port| match &port.kind {
        Type::State(kind) => Some(kind),
        _ => None,
    });
    let kind = kind.ok_or_else(|| format!("it has no state `{cache}`"))?;
    match kind.shape[..] {
        [layers, 1, heads, positions, width] if u64::try_from(positions) == Ok(context) => {
            Ok(kind.shaped(&[layers, 1, heads, DYNAMIC, width]))
        }
        _ => Err(format!(
            "the state `{cache}` is {kind}, not layers x 1 x heads x positions x width"
        )
        .into()),
    }
}

/// What is made of what callers give.
struct Given {
    sizes: Sizes,
    /// The new tokens' positions, `si32` (T).
    positions: Value,
    /// The first of them, `si32` (1).
    start: Value,
    /// Added to scores, `f16` (1, 1, T, C).
    mask: Value,
    /// Contents and tokens of the caches.
    read: [(Value, Value); 2],
}

impl Given {
    /// Of a block whose arguments are the caches, the ids and all positions.
    fn new(builder: &mut BlockBuilder) -> Self {
        let read = [0, 1].map(|place| {
            let handle = builder.argument(place);
            builder.read_state(handle)
        });
        let [ids, positions] = [2, 3].map(|place| builder.argument(place));
        let tokens = size(builder, ids, 1);
        let all = size(builder, positions, 1);
        let context = size(builder, read[0].0, 3);
        let start = builder.binary("sub", all, tokens, ElementType::Int32);
        let zero = builder.signed(&[0]);
        let (one, ones) = (builder.signed(&[1]), builder.signed(&[1, 1]));
        let begin = builder.concat(&[zero, start], 0);
        let end = builder.concat(&[one, all], 0);
        let positions = builder.slice(positions, [begin, end, ones], &[1, DYNAMIC]);
        let positions = shaped(builder, positions, tokens, [0, 0]);
        let mask = mask(builder, positions, tokens, context);
        Self { sizes: Sizes { tokens, context }, positions, start, mask, read }
    }
}

/// A size that is known only when it runs, `si32` (1).
fn size(builder: &mut BlockBuilder, of: Value, axis: usize) -> Value {
    let rank = builder.shape(of).len();
    let kind = TensorType::new(ElementType::UInt32, &[rank as i64]);
    let shape = builder.emit_one("primitive.get_shape_v2", &[of], kind);
    let axis = axis as i64;
    let bounds = [builder.signed(&[axis]), builder.signed(&[axis + 1]), builder.signed(&[1])];
    let size = builder.slice(shape, bounds, &[1]);
    builder.cast(size, ElementType::Int32)
}

/// The elements of `x`, of which there are `count`, on one axis with so many axes of size 1 before and behind it.
fn shaped(
    builder: &mut BlockBuilder,
    x: Value,
    count: Value,
    [before, behind]: [usize; 2],
) -> Value {
    let one = builder.signed(&[1]);
    let sizes: Vec<Value> = std::iter::repeat_n(one, before)
        .chain([count])
        .chain(std::iter::repeat_n(one, behind))
        .collect();
    let sizes = builder.concat(&sizes, 0);
    let sizes = builder.cast(sizes, ElementType::UInt32);
    let mut shape = vec![1; before + behind + 1];
    shape[before] = DYNAMIC;
    let kind = builder.tensor(x).shaped(&shape);
    builder.emit_one("primitive.reshape_v2", &[x, sizes], kind)
}

/// 0 where a position is not behind that of a token, else [`HIDDEN`].
fn mask(builder: &mut BlockBuilder, positions: Value, tokens: Value, context: Value) -> Value {
    let scalar = |builder: &mut BlockBuilder, value| builder.scalar(ElementType::Int32, value);
    let (first, step) = (scalar(builder, 0), scalar(builder, 1));
    let last = builder.reshape(context, &[]);
    let kind = TensorType::new(ElementType::Int32, &[DYNAMIC]);
    let columns = builder.emit_one("primitive.range_v1", &[first, last, step], kind);
    let columns = shaped(builder, columns, context, [3, 0]);
    let rows = shaped(builder, positions, tokens, [2, 1]);
    let half = |builder: &mut BlockBuilder, value: f32| {
        let bytes = f16::from_f32(value).to_le_bytes();
        builder.constant(&TensorType::new(ElementType::Float16, &[1, 1, 1, 1]), &bytes)
    };
    let (hidden, seen) = (half(builder, HIDDEN), half(builder, 0.0));
    let behind = builder.binary("greater", columns, rows, ElementType::Bool);
    builder.select(behind, hidden, seen)
}

/// All logits, `f16` (1, T, V), of the pieces that the function gives.
fn logits(builder: &mut BlockBuilder, first: &Function, made: &[Value]) -> Lowered {
    let named: Vec<(&str, Value)> = first
        .outputs
        .iter()
        .zip(made)
        .filter(|(port, _)| port.kind != Type::Token)
        .map(|(port, value)| (port.name.as_deref().unwrap_or_default(), *value))
        .collect();
    let pieces = anemll::logits(named.iter().map(|(name, _)| *name));
    if pieces.is_empty() || pieces.len() != named.len() {
        return Err("it gives something other than logits".into());
    }
    let of = |piece: &String| named.iter().find(|(name, _)| name == piece);
    let pieces: Vec<Value> = pieces.iter().filter_map(of).map(|(_, value)| *value).collect();
    let last = builder.shape(pieces[0]).len().saturating_sub(1);
    let logits = builder.concat(&pieces, last);
    match builder.shape(logits)[..] {
        [1, DYNAMIC, _] => Ok(logits),
        _ => Err(format!("its logits are {}, not 1 x tokens x vocabulary", builder.tensor(logits))
            .into()),
    }
}
