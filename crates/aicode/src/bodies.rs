//! What operations mean, in simpler ones: the bodies that those without `primitive` carry. Apple's
//! loader writes its own where it knows the operation; another may need these.

use crate::builder::{BlockBuilder, Value};
use crate::element::ElementType;
use crate::program::Block;
use crate::types::{DYNAMIC, TensorType, Type};

/// Begins a block with these arguments.
pub fn block(arguments: Vec<Type>) -> BlockBuilder {
    BlockBuilder::begin(arguments, body)
}

/// The body of an operation that takes and gives values of these types.
fn body(name: &str, operands: Vec<Type>, results: &[Type]) -> Block {
    let count = operands.len();
    let mut builder = block(operands);
    let arguments: Vec<Value> = (0..count).map(|place| builder.argument(place)).collect();
    let result = match results {
        [Type::Tensor(tensor)] => tensor.clone(),
        _ => TensorType::new(ElementType::Bool, &[]),
    };
    let given = match (name, arguments.as_slice()) {
        ("broadcasting_batch_matmul_v1", [x, y]) => matmul(&mut builder, *x, *y, &result),
        ("softmax_v1", [x, axis]) => softmax(&mut builder, *x, *axis),
        ("sigmoid_v1", [x]) => sigmoid(&mut builder, *x),
        ("silu_v1", [x]) => {
            let factor = sigmoid(&mut builder, *x);
            builder.binary("mul", *x, factor, result.element)
        }
        ("relu_v1", [x]) => {
            let zero = number(&mut builder, result.element, Extreme::Zero);
            builder.binary("maximum", *x, zero, result.element)
        }
        ("argmax_v1", [x, axis]) => argmax(&mut builder, *x, *axis, result),
        ("reduce_mean_v1", [x, axes]) => mean(&mut builder, *x, *axes, &result),
        (name, [x, axes]) if name.starts_with("reduce_") => {
            let name = name.trim_start_matches("reduce_").trim_end_matches("_v1");
            reduce(&mut builder, name, *x, *axes, result)
        }
        (name, _) => {
            let simple = name.trim_start_matches("broadcasting_");
            let whole = whole(&mut builder, &arguments, &result.shape);
            builder.emit_one(&format!("primitive.{simple}"), &whole, result)
        }
    };
    builder.finish_body(&[given])
}

/// Values brought to the shape that they broadcast to. Where sizes of it are not known, it is computed.
fn whole(builder: &mut BlockBuilder, values: &[Value], shape: &[i64]) -> Vec<Value> {
    if !shape.contains(&DYNAMIC) {
        return values.iter().map(|value| builder.broadcast_to(*value, shape)).collect();
    }
    let sizes = |rank: usize| TensorType::new(ElementType::UInt32, &[rank as i64]);
    let mut all: Option<(Value, usize)> = None;
    for value in values {
        let rank = builder.shape(*value).len();
        let own = builder.emit_one("primitive.get_shape_v2", &[*value], sizes(rank));
        all = Some(match all {
            None => (own, rank),
            Some((known, other)) => {
                let rank = rank.max(other);
                let operands = [known, own];
                (builder.emit_one("primitive.broadcast_shapes_v1", &operands, sizes(rank)), rank)
            }
        });
    }
    let Some((all, _)) = all else { return Vec::new() };
    let whole = values.iter().map(|value| {
        let kind = builder.tensor(*value).shaped(shape);
        builder.emit_one("primitive.broadcast_to_v1", &[*value, all], kind)
    });
    whole.collect()
}

/// Both with the axes of the result before the last two.
fn matmul(builder: &mut BlockBuilder, x: Value, y: Value, result: &TensorType) -> Value {
    let outer = &result.shape[..result.shape.len() - 2];
    let mut whole = |value: Value| {
        let shape = builder.shape(value);
        let inner = &shape[shape.len() - 2..];
        builder.broadcast_to(value, &[outer, inner].concat())
    };
    let (x, y) = (whole(x), whole(y));
    builder.matmul(x, y)
}

fn softmax(builder: &mut BlockBuilder, x: Value, axis: Value) -> Value {
    let element = builder.tensor(x).element;
    let axes = builder.reshape(axis, &[1]);
    let powers = builder.unary("primitive.exp_v1", x);
    // Which axis it is, the value alone says: sizes of the sum are those of a sum over one.
    let sum = builder.tensor(x);
    let unknown = vec![DYNAMIC; sum.shape.len()];
    let sum = builder.emit_one("reduce_sum_v1", &[powers, axes], sum.shaped(&unknown));
    let kind = builder.tensor(x);
    let shape = builder.emit_one(
        "primitive.get_shape_v2",
        &[powers],
        TensorType::new(ElementType::UInt32, &[kind.shape.len() as i64]),
    );
    let sum = builder.emit_one("primitive.broadcast_to_v1", &[sum, shape], kind);
    builder.binary("divide", powers, sum, element)
}

/// `1 / (1 + exp(0 - x))`.
fn sigmoid(builder: &mut BlockBuilder, x: Value) -> Value {
    let element = builder.tensor(x).element;
    let zero = number(builder, element, Extreme::Zero);
    let one = number(builder, element, Extreme::One);
    let negated = builder.binary("sub", zero, x, element);
    let powers = builder.unary("primitive.exp_v1", negated);
    let sum = builder.binary("add", one, powers, element);
    builder.binary("divide", one, sum, element)
}

fn mean(builder: &mut BlockBuilder, x: Value, axes: Value, result: &TensorType) -> Value {
    let own = builder.tensor(x).shape;
    // Sizes of axes that stay may not be known.
    let axes_taken = own.iter().zip(&result.shape).filter(|(own, left)| own != left);
    let taken = axes_taken.fold(1, |taken, (own, _)| own.saturating_mul(taken));
    let wide = builder.cast(x, ElementType::Float32);
    let kind = result.of(ElementType::Float32);
    let sum = builder.emit_one("reduce_sum_v1", &[wide, axes], kind);
    #[expect(clippy::cast_precision_loss, reason = "no axis has more elements than floats count")]
    let taken = (taken as f32).to_le_bytes();
    let taken = builder.constant(&TensorType::new(ElementType::Float32, &[]), &taken);
    let mean = builder.binary("divide", sum, taken, ElementType::Float32);
    builder.cast(mean, result.element)
}

/// From a first value on, each element joined to what there is.
fn reduce(
    builder: &mut BlockBuilder,
    name: &str,
    x: Value,
    axes: Value,
    result: TensorType,
) -> Value {
    let element = result.element;
    let (first, join) = match name {
        "sum" => (Extreme::Zero, "add"),
        "product" => (Extreme::One, "mul"),
        "max" => (Extreme::Lowest, "maximum"),
        _ => (Extreme::Highest, "minimum"),
    };
    // Sums of halves are made in floats of 32 bits.
    let wide = match (name, element) {
        ("sum", ElementType::Float16) => ElementType::Float32,
        _ => element,
    };
    let first = number(builder, wide, first);
    let scalar = |element| Type::Tensor(TensorType::new(element, &[]));
    let mut inner = block(vec![scalar(wide), scalar(element)]);
    let (sum, next) = (inner.argument(0), inner.argument(1));
    let next = inner.cast(next, wide);
    let joined = inner.binary(join, sum, next, wide);
    let region = inner.finish_body(&[joined]);
    let kinds = vec![result.into()];
    builder.push("primitive.reduce_v1", Vec::new(), &[x, axes, first], kinds, vec![region])[0]
}

fn argmax(builder: &mut BlockBuilder, x: Value, axis: Value, result: TensorType) -> Value {
    let element = builder.tensor(x).element;
    let lowest = number(builder, element, Extreme::Lowest);
    let zero = builder.scalar(ElementType::UInt32, 0);
    let scalar = Type::Tensor(TensorType::new(element, &[]));
    let mut inner = block(vec![scalar.clone(), scalar]);
    let (best, next) = (inner.argument(0), inner.argument(1));
    let better = inner.binary("greater", next, best, ElementType::Bool);
    let region = inner.finish_body(&[better]);
    let operands = [x, axis, lowest, zero];
    let kinds = vec![result.into()];
    builder.push("primitive.reduce_index_v1", Vec::new(), &operands, kinds, vec![region])[0]
}

/// Numbers that every type of numbers has.
#[derive(Clone, Copy)]
enum Extreme {
    Zero,
    One,
    Lowest,
    Highest,
}

/// A scalar of a type.
fn number(builder: &mut BlockBuilder, element: ElementType, which: Extreme) -> Value {
    let float = match which {
        Extreme::Zero => Some(0.0),
        Extreme::One => Some(1.0),
        Extreme::Lowest => Some(f32::MIN),
        Extreme::Highest => Some(f32::MAX),
    };
    let bytes: Vec<u8> = match (element, float) {
        (ElementType::Float16, _) => {
            // Bits of 0, 1 and the numbers furthest from 0.
            let bits: u16 = match which {
                Extreme::Zero => 0,
                Extreme::One => 0x3c00,
                Extreme::Lowest => 0xfbff,
                Extreme::Highest => 0x7bff,
            };
            bits.to_le_bytes().to_vec()
        }
        (ElementType::Float32, Some(float)) => float.to_le_bytes().to_vec(),
        _ => {
            let lowest = i64::MIN >> (64 - element.bits().clamp(1, 64));
            let value = match which {
                Extreme::Zero => 0,
                Extreme::One => 1,
                Extreme::Lowest => lowest,
                Extreme::Highest => !lowest,
            };
            return builder.scalar(element, value);
        }
    };
    builder.constant(&TensorType::new(element, &[]), &bytes)
}
