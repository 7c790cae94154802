//! Choosing between two values.

use super::{Call, Definition, Frame, Step, broadcast_shape, checked_count, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid};
use crate::layout::Layout;
use crate::tensor::Tensor;
use bytemuck::Pod;

pub(super) const ALL: &[Definition] = &[Definition::new("select", select)];

/// `select`: a where the condition holds, else b; all three broadcast.
fn select(call: &Call<'_>) -> Outcome<Step> {
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
            1 => choose::<u8>(frame, condition, a, b, &shape),
            2 => choose::<u16>(frame, condition, a, b, &shape),
            4 => choose::<u32>(frame, condition, a, b, &shape),
            _ => choose::<u64>(frame, condition, a, b, &shape),
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
    let mut buffer = frame.pool.take_elements(a.element, layout.count())?;
    let choices = condition.dense::<u8>().iter().zip(a.dense::<T>().iter().zip(b.dense::<T>()));
    for (slot, (flag, (a, b))) in buffer.slice_mut::<T>().iter_mut().zip(choices) {
        *slot = if *flag != 0 { *a } else { *b };
    }
    Ok(Tensor::with_layout(a.element, layout, buffer))
}

#[cfg(test)]
mod tests {
    use crate::element::Element;
    use crate::tensor::Tensor;
    use crate::testing::{evaluate, f32s, i32s};

    #[test]
    fn choices_broadcast() {
        let condition = Tensor::from_slice(Element::Bool, &[2, 1], &[1u8, 0]);
        let arguments = vec![
            ("cond", condition.clone().into()),
            ("a", f32s(&[3], &[1.0, 2.0, 3.0]).into()),
            ("b", f32s(&[], &[f32::NEG_INFINITY]).into()),
        ];
        let result = evaluate("select", arguments, Element::F32).unwrap();
        assert_eq!(result.shape(), [2, 3]);
        assert_eq!(result.floats().unwrap()[..3], [1.0, 2.0, 3.0]);
        assert_eq!(result.floats().unwrap()[3..], [f32::NEG_INFINITY; 3]);
        let mixed = vec![
            ("cond", condition.into()),
            ("a", f32s(&[1], &[1.0]).into()),
            ("b", i32s(&[1], &[1]).into()),
        ];
        assert!(evaluate("select", mixed, Element::F32).is_err());
    }
}
