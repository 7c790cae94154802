//! `silu(x) * y`: the gate of an MLP.

use super::{Chain, Graph, Pattern};
use crate::element::Element;
use crate::failure::Outcome;
use crate::kernels::elementwise::zip;
use crate::kernels::math::sigmoid;
use crate::kernels::{Call, Definition, Step, step};
use crate::simd;

pub(super) const PATTERN: Pattern =
    Pattern { last: "mul", find, kernel: Definition::new("chain: gate", prepare) };

fn find(graph: &Graph<'_>, last: usize) -> Option<Chain> {
    graph.shape(last)?;
    let (silu, other) = match graph.before(last, "x", "silu", 1) {
        Some(silu) => (silu, "y"),
        None => (graph.before(last, "y", "silu", 1)?, "x"),
    };
    graph.shape(silu)?;
    let arguments = [("x", silu, "x"), ("y", last, other)];
    graph.chain(PATTERN.kernel.name, last, &arguments, &[silu])
}

fn prepare(call: &Call<'_>) -> Outcome<Step> {
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    step(move |frame| {
        zip(frame, x.get(frame)?, y.get(frame)?, Element::F16, |x, y| {
            x.iter_mut().for_each(|value| *value *= sigmoid(*value));
            simd::round(x);
            x.iter_mut().zip(y).for_each(|(value, factor)| *value *= factor);
        })
    })
}
