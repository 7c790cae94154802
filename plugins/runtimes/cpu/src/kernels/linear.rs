//! `linear`: rows times constant weights.

use super::matrix::{Rows, project};
use super::{Call, Definition, Step, Weight, step};
use crate::failure::{Outcome, invalid};
use crate::tensor::{Floats, Tensor, Wide};
use anemll_matrix::Matrix;

pub(super) const ALL: &[Definition] = &[Definition::new("linear", linear)];

/// `linear`: x (.., depth) times weight (rows, depth) transposed, plus bias (rows).
fn linear(call: &Call<'_>) -> Outcome<Step> {
    let (x, weight) = (call.tensor("x")?, call.weight("weight")?);
    let bias = call.optional("bias")?;
    let element = call.element()?;
    step(move |frame| {
        let x = x.get(frame)?;
        let dense;
        let (shape, weights) = match &weight {
            Weight::Packed(packed) => (packed.shape(), Rows::Packed(packed)),
            Weight::Tensor(input) => {
                dense = input.get(frame)?.contiguous(frame.pool)?;
                (dense.shape(), Rows::Dense(Floats::dense(&dense)?))
            }
        };
        let (&[rows, depth], Some((&last, leading))) = (shape, x.shape().split_last()) else {
            return invalid(format!("weight {shape:?} and x {:?}", x.shape()));
        };
        if last != depth {
            return invalid(format!("weight {shape:?} and x {:?}", x.shape()));
        }
        let columns = leading.iter().product();
        let bias = bias.as_ref().map(|bias| bias.get(frame)?.floats()).transpose()?;
        let flat = x.viewed(x.layout.reshaped(&[columns, depth]));
        let (flat, _) = flat.with_strides(frame.pool)?;
        let wide = Wide::new(&flat, frame.pool)?;
        let Some(&[position, channel]) = wide.layout.strides().as_deref() else {
            return invalid("x has no strides");
        };
        let start = wide.layout.offset();
        let matrix = Matrix::new(wide.data(), start, [depth, columns], [channel, position])?;
        let buffer = project(frame, weights, rows, matrix, bias.as_deref(), element)?;
        wide.release(frame.pool);
        let shape = [leading, &[rows]].concat();
        Ok(Tensor::owned(element, &shape, buffer))
    })
}
