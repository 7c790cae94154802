//! Rotary positions: the halves of each head, turned by tables of cosines and sines.

use super::{Chain, Graph, Pattern};
use crate::element::Element;
use crate::failure::{Outcome, invalid};
use crate::kernels::{Call, Definition, Frame, Step, step};
use crate::simd;
use crate::tensor::Tensor;
use crate::workers;
use half::f16;

pub(super) const PATTERN: Pattern =
    Pattern { last: "concat", find, kernel: Definition::new("chain: rotary", prepare) };

/// `concat(low * cos - high * sin, high * cos + low * sin)` over the last axis of (1, heads, tokens, size).
fn find(graph: &Graph<'_>, last: usize) -> Option<Chain> {
    let shape = graph.shape(last)?;
    let [1, _, tokens, size] = *shape else { return None };
    let parts = graph.names(last, "values")?;
    let [left, right] = parts.as_slice() else { return None };
    let (left, right) = (graph.maker(left, "sub", 1)?, graph.maker(right, "add", 1)?);
    let products = [(left, "x"), (left, "y"), (right, "x"), (right, "y")];
    let mut muls = [0; 4];
    for (mul, (at, argument)) in muls.iter_mut().zip(products) {
        *mul = graph.before(at, argument, "mul", 1)?;
    }
    let [low_cos, high_sin, high_cos, low_sin] = muls;
    let (low, high) = (graph.name(low_cos, "x")?, graph.name(high_sin, "x")?);
    let (cos, sin) = (graph.name(low_cos, "y")?, graph.name(high_sin, "y")?);
    let same = graph.name(high_cos, "x") == Some(high)
        && graph.name(low_sin, "x") == Some(low)
        && graph.name(high_cos, "y") == Some(cos)
        && graph.name(low_sin, "y") == Some(sin);
    let low = graph.maker(low, "slice_by_index", 2)?;
    let high = graph.maker(high, "slice_by_index", 2)?;
    let table = [1, 1, tokens, size / 2];
    let suits = same
        && size % 2 == 0
        && graph.is_last_axis(last, "axis", 4)
        && graph.flag(last, "interleave") == Some(false)
        && graph.name(low, "x") == graph.name(high, "x")
        && graph.argument_shape(low, "x") == Some(shape)
        && graph.is_part(low, shape, 0, size / 2)
        && graph.is_part(high, shape, size / 2, size / 2)
        && graph.shape_of(cos)? == table
        && graph.shape_of(sin)? == table;
    if !suits {
        return None;
    }
    let arguments = [("x", low, "x"), ("cos", low_cos, "y"), ("sin", high_sin, "y")];
    let absorbed = [left, right, low_cos, high_sin, high_cos, low_sin, low, high];
    graph.chain(PATTERN.kernel.name, last, &arguments, &absorbed)
}

fn prepare(call: &Call<'_>) -> Outcome<Step> {
    let (x, cos, sin) = (call.tensor("x")?, call.tensor("cos")?, call.tensor("sin")?);
    step(move |frame| turned(frame, x.get(frame)?, cos.get(frame)?, sin.get(frame)?))
}

fn turned(frame: &Frame<'_>, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Outcome<Tensor> {
    let [_, _, tokens, size] = *x.shape() else {
        return invalid(format!("heads of shape {:?}", x.shape()));
    };
    let half = size / 2;
    if cos.count() != tokens * half || sin.count() != tokens * half {
        return invalid("a table does not have one row for each token");
    }
    let (cos, sin) = (cos.floats()?, sin.floats()?);
    let source = x.contiguous(frame.pool)?;
    let values: &[f16] = source.dense();
    let mut buffer = frame.pool.take_elements(Element::F16, x.count())?;
    let output = buffer.slice_mut::<f16>();
    workers::split(frame.team, output, size.max(1), 8 * x.count(), |start, part| {
        let (mut wide, mut terms) = (vec![0.0; size], [vec![0.0; half], vec![0.0; half]]);
        for (index, output) in part.chunks_exact_mut(size.max(1)).enumerate() {
            let at = start + index * size;
            let row = at / size.max(1) % tokens.max(1) * half;
            simd::widen(&values[at..at + size], &mut wide);
            let (low, high) = wide.split_at(half);
            let (cos, sin) = (&cos[row..row + half], &sin[row..row + half]);
            let (first, second) = output.split_at_mut(half);
            sum_of_products([low, high], [cos, sin], -1.0, &mut terms, first);
            sum_of_products([high, low], [cos, sin], 1.0, &mut terms, second);
        }
        Ok(())
    })?;
    Ok(Tensor::owned(Element::F16, x.shape(), buffer))
}

/// The first value times the first factor plus or minus the second times the second, rounded to float16
/// after each operation. `terms` is room for the products.
fn sum_of_products(
    values: [&[f32]; 2],
    factors: [&[f32]; 2],
    sign: f32,
    terms: &mut [Vec<f32>; 2],
    output: &mut [f16],
) {
    for ((terms, values), factors) in terms.iter_mut().zip(values).zip(factors) {
        for ((term, value), factor) in terms.iter_mut().zip(values).zip(factors) {
            *term = value * factor;
        }
        simd::round(terms);
    }
    let [sum, second] = terms;
    sum.iter_mut().zip(second).for_each(|(sum, term)| *sum += sign * *term);
    simd::narrow(sum, output);
}
