//! Activations, in forms that the Neural Engine computes well.

use anemll_mil::{Result, Var};

use crate::block::Activation;
use crate::graph::Graph;
use crate::spec::SiluForm;

/// The activation of an MLP.
pub(crate) fn activate(graph: &mut Graph<'_>, x: Var, activation: Activation) -> Result<Var> {
    match activation {
        Activation::Silu => silu(graph, x),
        Activation::Gelu => graph.builder.gelu(x, "EXACT"),
        Activation::GeluTanh => graph.builder.gelu(x, "TANH_APPROXIMATION"),
        Activation::ReluSquared => {
            let positive = graph.builder.relu(x)?;
            graph.builder.mul(positive, positive)
        }
    }
}

/// `x sigmoid(x)`, in the form that the specification asks for.
pub(crate) fn silu(graph: &mut Graph<'_>, x: Var) -> Result<Var> {
    match graph.spec.silu {
        SiluForm::Operation => graph.builder.silu(x),
        SiluForm::Tanh => {
            let builder = &mut graph.builder;
            let half = builder.scalar_f16(0.5)?;
            let half = builder.mul(x, half)?;
            let one = builder.scalar_f16(1.0)?;
            let bounded = builder.tanh(half)?;
            let share = builder.add(bounded, one)?;
            builder.mul(half, share)
        }
    }
}

/// The logistic function as `(1 + tanh(x / 2)) / 2`: the operation is a coarse table on some chips.
pub(crate) fn logistic(graph: &mut Graph<'_>, x: Var) -> Result<Var> {
    let builder = &mut graph.builder;
    let half = builder.scalar_f16(0.5)?;
    let x = builder.mul(x, half)?;
    let bounded = builder.tanh(x)?;
    let x = builder.mul(bounded, half)?;
    builder.add(x, half)
}

/// `ln(1 + exp(x))`, which keeps its relative accuracy where it is small.
///
/// It is `relu(x) + ln(1 + e)` of `e = exp(-|x|)`. In float16, `1 + e` would lose a small `e`, and the
/// operation `softplus` is 0 above about 11 on some chips. So the logarithm is the series of
/// `2 artanh(z)` of `z = e / (2 + e)`, which is at most a third: four terms are exact to 2e-5.
pub(crate) fn softplus(graph: &mut Graph<'_>, x: Var) -> Result<Var> {
    const TERMS: [f32; 4] = [2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0];
    let builder = &mut graph.builder;
    let size = builder.abs(x)?;
    let minus_one = builder.scalar_f16(-1.0)?;
    let below = builder.mul(size, minus_one)?;
    let power = builder.exp(below)?;
    let two = builder.scalar_f16(2.0)?;
    let divisor = builder.add(power, two)?;
    let z = builder.real_div(power, divisor)?;
    let square = builder.mul(z, z)?;
    let mut sum = builder.scalar_f16(TERMS[0])?;
    for term in &TERMS[1..] {
        let term = builder.scalar_f16(*term)?;
        let product = builder.mul(square, sum)?;
        sum = builder.add(product, term)?;
    }
    let logarithm = builder.mul(z, sum)?;
    let positive = builder.relu(x)?;
    builder.add(positive, logarithm)
}
