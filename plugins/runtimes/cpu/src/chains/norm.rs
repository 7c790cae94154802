//! The norm by the root of the mean square as the engine has it: `layer_norm` over x beside -x, its first
//! half, times a gain.

use super::{Chain, Graph, Pattern};
use crate::failure::{Outcome, invalid};
use crate::kernels::normalization::standardize;
use crate::kernels::rows::Rows;
use crate::kernels::{Call, Definition, Step, step};
use crate::simd;

pub(super) const PATTERN: Pattern =
    Pattern { last: "mul", find, kernel: Definition::new("chain: norm", prepare) };

fn find(graph: &Graph<'_>, last: usize) -> Option<Chain> {
    let slice = graph.before(last, "x", "slice_by_index", 1)?;
    let norm = graph.before(slice, "x", "layer_norm", 1)?;
    let concat = graph.before(norm, "x", "concat", 1)?;
    let both = graph.names(concat, "values")?;
    let [x, negative] = both.as_slice() else { return None };
    let negative = graph.maker(negative, "mul", 1)?;
    let shape = graph.shape(negative)?;
    let width = *shape.last()?;
    let plain =
        ["gamma", "beta"].iter().all(|name| !graph.operations[norm].inputs.contains_key(*name));
    let suits = graph.name(negative, "x") == Some(*x)
        && graph.number(negative, "y") == Some(-1.0)
        && graph.is_last_axis(concat, "axis", shape.len())
        && graph.flag(concat, "interleave") == Some(false)
        && graph.is_last_axis(norm, "axes", shape.len())
        && plain
        && graph.is_part(slice, &[&shape[..shape.len() - 1], &[2 * width]].concat(), 0, width)
        && graph.shape(last)? == shape;
    // A gain that is made in the graph, or has more axes, stays as it is.
    let gain = graph.makers.get(graph.name(last, "y")?)?;
    let constant = graph.operations[*gain].r#type == "const";
    if !suits || !constant || graph.shape(*gain)? != [width] {
        return None;
    }
    let arguments = [("x", negative, "x"), ("gain", last, "y"), ("epsilon", norm, "epsilon")];
    graph.chain(PATTERN.kernel.name, last, &arguments, &[slice, norm, concat, negative])
}

fn prepare(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let Some(gain) = call.constant("gain")? else { return invalid("argument `gain` is missing") };
    let gain = gain.floats()?;
    let epsilon = call.float("epsilon")?.unwrap_or(1e-5);
    step(move |frame| {
        let x = x.get(frame)?;
        let rows = Rows::new(frame, x, &[x.rank().saturating_sub(1)])?;
        rows.map(frame, 8, |row| {
            let mut both = Vec::with_capacity(2 * row.len());
            both.extend_from_slice(row);
            both.extend(row.iter().map(|value| -value));
            standardize(&mut both, epsilon);
            row.copy_from_slice(&both[..row.len()]);
            simd::round(row);
            row.iter_mut().zip(&gain).for_each(|(value, factor)| *value *= factor);
        })
    })
}
