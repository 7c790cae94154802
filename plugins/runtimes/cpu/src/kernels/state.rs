//! Reading and writing states. A state's buffer is shared with what was read, and copied only when
//! it is written while such a value is still needed.

use super::{Call, Definition, Results, Step, step};
use crate::failure::{Outcome, invalid};
use crate::layout::Layout;
use crate::storage::Storage;
use crate::tensor::{Tensor, copy};
use std::sync::Arc;

pub(super) const ALL: &[Definition] =
    &[Definition::new("read_state", read), Definition::new("write_state", write)];

fn read(call: &Call<'_>) -> Outcome<Step> {
    let state = call.state("input")?;
    step(move |frame| {
        let state = &frame.states[state];
        Ok(Tensor {
            element: state.element,
            layout: Layout::contiguous(&state.shape),
            storage: Storage::new(Arc::clone(&state.buffer)),
        })
    })
}

fn write(call: &Call<'_>) -> Outcome<Step> {
    let state = call.state("input")?;
    let data = call.tensor("data")?;
    Ok(Box::new(move |frame| {
        let data = data.get(frame)?.clone();
        let state = &mut frame.states[state];
        if data.shape() != state.shape || data.element != state.element {
            return invalid(format!(
                "{} {:?} is written to a state of {} {:?}",
                data.element.name(),
                data.shape(),
                state.element.name(),
                state.shape
            ));
        }
        let whole = data.layout.is_contiguous() && data.layout.offset() == 0;
        state.buffer = if whole && data.storage.bytes().len() == state.buffer.bytes().len() {
            data.storage.into_shared()
        } else {
            let mut buffer = frame.pool.take_elements(data.element, data.count())?;
            copy(&data, &mut buffer, &Layout::contiguous(data.shape()))?;
            Arc::new(buffer)
        };
        Ok(Results::new())
    }))
}
