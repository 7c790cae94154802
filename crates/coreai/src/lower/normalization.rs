//! Reductions and what is made of them.

use super::{Job, Lowered, Lowering};
use anemll_aicode::Value;

/// Below this size, values are not scaled up any further: smaller ones are far below what an epsilon
/// leaves of them.
const SMALLEST: f64 = 1.0 / 256.0;

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
    /// Squares of halves overflow from 256 on. So values are divided by the largest of them first,
    /// and epsilon by its square: what comes out is the same, and no step leaves the range.
    fn layer_norm(&mut self, job: &Job<'a>) -> Lowered {
        let x = self.operand(job, "x")?;
        let kind = self.builder.tensor(x);
        let element = kind.element;
        let axes = self.axes(job, kind.shape.len())?;
        let root = self.float(job, "epsilon", 1e-5)?.sqrt();
        let (smallest, root) = (self.number(element, SMALLEST)?, self.number(element, root)?);
        let builder = &mut self.builder;
        let mean = builder.reduce("mean", x, &axes);
        let centered = builder.binary("sub", x, mean, element);
        let sizes = builder.unary("primitive.abs_v1", centered);
        let largest = builder.reduce("max", sizes, &axes);
        let largest = builder.binary("maximum", largest, smallest, element);
        let scaled = builder.binary("divide", centered, largest, element);
        let squares = builder.binary("mul", scaled, scaled, element);
        let variance = builder.reduce("mean", squares, &axes);
        let epsilon = builder.binary("divide", root, largest, element);
        let epsilon = builder.binary("mul", epsilon, epsilon, element);
        let sum = builder.binary("add", variance, epsilon, element);
        let factor = builder.unary("primitive.rsqrt_v1", sum);
        let mut normed = builder.binary("mul", scaled, factor, element);
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
}
