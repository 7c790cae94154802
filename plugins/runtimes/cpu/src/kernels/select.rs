//! Choosing between two values.

use super::{Call, Definition, Frame, Prepared, broadcast_shape, checked_count, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::Layout;
use crate::tensor::Tensor;
use bytemuck::Pod;

pub(super) const ALL: &[Definition] = &[Definition::new("select", select)];

/// `select`: a where the condition holds, else b; all three broadcast.
fn select(call: &Call<'_>) -> Outcome<Prepared> {
    let (condition, a, b) = (call.tensor("cond")?, call.tensor("a")?, call.tensor("b")?);
    step(move |frame| {
        let (condition, a, b) = (condition.get(frame)?, a.get(frame)?, b.get(frame)?);
        if condition.element != Element::Bool || a.element != b.element {
            return invalid(format!(
                "condition of type {}, choices of types {} and {}",
                condition.element.name(),
                a.element.name(),
                b.element.name()
            ));
        }
        let shape = broadcast_shape(a.shape(), b.shape())?;
        let shape = broadcast_shape(&shape, condition.shape())?;
        checked_count(&shape)?;
        match a.element.size() {
            Some(1) => choose::<u8>(frame, condition, a, b, &shape),
            Some(2) => choose::<u16>(frame, condition, a, b, &shape),
            Some(4) => choose::<u32>(frame, condition, a, b, &shape),
            Some(8) => choose::<u64>(frame, condition, a, b, &shape),
            _ => unsupported("packed elements"),
        }
    })
}

fn choose<T: Pod>(
    frame: &Frame<'_>,
    condition: &Tensor,
    a: &Tensor,
    b: &Tensor,
    shape: &[usize],
) -> Outcome<Tensor> {
    let spread = |tensor: &Tensor| -> Outcome<Tensor> {
        super::shape::view(tensor, frame.pool, |layout| layout.broadcast(shape))?
            .contiguous(frame.pool)
    };
    let (condition, a, b) = (spread(condition)?, spread(a)?, spread(b)?);
    let layout = Layout::contiguous(shape);
    let mut buffer = frame.pool.take_elements(a.element, layout.count());
    let choices = condition.dense::<u8>().iter().zip(a.dense::<T>().iter().zip(b.dense::<T>()));
    for (slot, (flag, (a, b))) in buffer.slice_mut::<T>().iter_mut().zip(choices) {
        *slot = if *flag != 0 { *a } else { *b };
    }
    Ok(Tensor::with_layout(a.element, layout, buffer))
}
