//! Reductions and what is made of them.

use super::{Job, Lowered, Lowering};
use anemll_aicode::Value;

/// Below this size, values are not scaled up any further: smaller ones are far below what an epsilon
/// leaves of them. From here on [`SHRINK`] gives no number that is flushed to zero.
const SMALLEST: f64 = 1.0 / 8.0;
/// Takes the largest half to where [`SPLIT`] does not overflow, and the smallest to the smallest that is normal.
const SHRINK: f64 = 1.0 / 2048.0;
/// Veltkamp's factor for one of the 11 bits of a half.
const SPLIT: f64 = 1025.0;
/// The largest power of two that a half can be, shrunk.
const LARGEST: f64 = 32_768.0 * SHRINK;

impl<'a> Lowering<'a, '_> {
    pub(super) fn normalization(&mut self, job: &Job<'a>) -> Lowered<Option<Value>> {
        let name = job.operation.r#type.as_str();
        let reduction = match name {
            "reduce_max" => "max",
            "reduce_min" => "min",
            "reduce_sum" => "sum",
            "reduce_mean" => "mean",
            "reduce_prod" => "product",
            "reduce_sum_square" => "sum",
            "softmax" => {
                let x = self.operand(job, "x")?;
                let rank = self.builder.shape(x).len();
                let axis = self.axis(job, -1, rank)?;
                return Ok(Some(self.builder.softmax(x, axis)));
            }
            "layer_norm" => return self.layer_norm(job).map(Some),
            _ => return Ok(None),
        };
        let mut x = self.operand(job, "x")?;
        let kind = self.builder.tensor(x);
        let axes = self.axes(job, kind.shape.len())?;
        if name == "reduce_sum_square" {
            x = self.builder.binary("mul", x, x, kind.element);
        }
        let reduced = self.builder.reduce(reduction, x, &axes);
        let shape = job.kind()?.shape.clone();
        Ok(Some(self.builder.reshape(reduced, &shape)))
    }

    /// Mean 0 and variance 1 over axes, then gain and bias.
    ///
    /// Squares of halves overflow from 256 on. So values are divided by a power of two near the largest of them
    /// first, which rounds none, and epsilon by its square: what comes out is the same, and no step leaves the range.
    /// Variance and factor are one number each for a whole vector, whose rounding moves all of it alike. So what is left
    /// of the variance is measured, and half of it taken away.
    fn layer_norm(&mut self, job: &Job<'a>) -> Lowered {
        let x = self.operand(job, "x")?;
        let kind = self.builder.tensor(x);
        let element = kind.element;
        let axes = self.axes(job, kind.shape.len())?;
        let root = self.float(job, "epsilon", 1e-5)?.sqrt();
        let root = self.number(element, root)?;
        let (one, half) = (self.number(element, 1.0)?, self.number(element, 0.5)?);
        let mean = self.builder.reduce("mean", x, &axes);
        let centered = self.builder.binary("sub", x, mean, element);
        let size = self.power_of_two(centered, &axes)?;
        let builder = &mut self.builder;
        let scaled = builder.binary("divide", centered, size, element);
        let squares = builder.binary("mul", scaled, scaled, element);
        let variance = builder.reduce("mean", squares, &axes);
        let epsilon = builder.binary("divide", root, size, element);
        let epsilon = builder.binary("mul", epsilon, epsilon, element);
        let sum = builder.binary("add", variance, epsilon, element);
        let factor = builder.unary("primitive.rsqrt_v1", sum);
        let normed = builder.binary("mul", scaled, factor, element);
        // Epsilon's share of the variance; with that of `normed` it is one.
        let share = builder.binary("mul", epsilon, factor, element);
        let share = builder.binary("mul", share, factor, element);
        let squares = builder.binary("mul", normed, normed, element);
        let beyond = builder.binary("sub", squares, one, element);
        let beyond = builder.reduce("mean", beyond, &axes);
        let beyond = builder.binary("add", beyond, share, element);
        let beyond = builder.binary("mul", beyond, half, element);
        let beyond = builder.binary("mul", normed, beyond, element);
        let mut normed = builder.binary("sub", normed, beyond, element);
        // Gain and bias have the sizes of the axes, which are neighbours.
        let mut shape = vec![1; kind.shape.len()];
        axes.iter().for_each(|axis| shape[*axis] = kind.shape[*axis]);
        for (parameter, name) in [("gamma", "mul"), ("beta", "add")] {
            if let Some(value) = self.optional(job, parameter)? {
                let value = self.builder.reshape(value, &shape);
                normed = self.builder.binary(name, normed, value, element);
            }
        }
        Ok(normed)
    }

    /// A power of two near the largest size of `x` along axes: its first bit by Veltkamp's splitting. Where steps are not
    /// rounded to 16 bits it is any number near that.
    fn power_of_two(&mut self, x: Value, axes: &[usize]) -> Lowered {
        let element = self.builder.tensor(x).element;
        let smallest = self.number(element, SMALLEST)?;
        let (shrink, split) = (self.number(element, SHRINK)?, self.number(element, SPLIT)?);
        let last = self.number(element, LARGEST)?;
        let builder = &mut self.builder;
        let sizes = builder.unary("primitive.abs_v1", x);
        let largest = builder.reduce("max", sizes, axes);
        let largest = builder.binary("maximum", largest, smallest, element);
        let small = builder.binary("mul", largest, shrink, element);
        let product = builder.binary("mul", small, split, element);
        let rest = builder.binary("sub", product, small, element);
        let first = builder.binary("sub", product, rest, element);
        let first = builder.binary("minimum", first, last, element);
        Ok(builder.binary("divide", first, shrink, element))
    }
}
