//! Gathering by index, and finding the places of elements.

use super::{Job, Lowered, Lowering};
use anemll_aicode::{ElementType, Value};

impl<'a> Lowering<'a, '_> {
    pub(super) fn places(&mut self, job: &Job<'a>) -> Lowered<Option<Value>> {
        Ok(Some(match job.operation.r#type.as_str() {
            "gather" => self.gather(job)?,
            "gather_along_axis" => {
                let (x, indices) = (self.operand(job, "x")?, self.indices(job)?);
                let rank = self.builder.shape(x).len();
                let axis = self.axis(job, 0, rank)?;
                self.builder.gather_along_axis(x, indices, axis)
            }
            "gather_nd" => {
                if self.integer(job, "batch_dims", 0)? != 0 {
                    return Err("`batch_dims` other than 0 is not lowered".into());
                }
                let (x, indices) = (self.operand(job, "x")?, self.indices(job)?);
                self.builder.gather_nd(x, indices)
            }
            "reduce_argmax" => {
                let x = self.operand(job, "x")?;
                let rank = self.builder.shape(x).len();
                let axis = self.axis(job, -1, rank)?;
                let best = self.builder.argmax(x, axis);
                let best = self.builder.cast(best, job.kind()?.element);
                let shape = job.kind()?.shape.clone();
                self.builder.reshape(best, &shape)
            }
            "argsort" => {
                let x = self.operand(job, "x")?;
                let rank = self.builder.shape(x).len();
                let axis = self.axis(job, -1, rank)?;
                let descending = !self.flag(job, "ascending")?;
                self.builder.argsort(x, axis, descending)
            }
            _ => return Ok(None),
        }))
    }

    fn indices(&mut self, job: &Job<'a>) -> Lowered {
        let indices = self.operand(job, "indices")?;
        Ok(self.builder.cast(indices, ElementType::Int32))
    }

    /// The axis that is gathered from comes first; its place is taken by the axes of the indices.
    fn gather(&mut self, job: &Job<'a>) -> Lowered {
        if self.integer(job, "batch_dims", 0)? != 0 {
            return Err("`batch_dims` other than 0 is not lowered".into());
        }
        let x = self.operand(job, "x")?;
        let sizes = self.builder.shape(x);
        let axis = self.axis(job, 0, sizes.len())?;
        let indices = self.indices(job)?;
        let mut places = self.builder.shape(indices);
        let depth = places.len();
        places.push(1);
        let indices = self.builder.reshape(indices, &places);
        let shape = job.kind()?.shape.clone();
        if sizes[..axis].iter().all(|size| *size == 1) {
            let rows = self.builder.reshape(x, &sizes[axis..]);
            let rows = self.builder.gather_nd(rows, indices);
            return Ok(self.builder.reshape(rows, &shape));
        }
        let mut order = vec![axis];
        order.extend((0..sizes.len()).filter(|other| *other != axis));
        let first = self.builder.transpose(x, &order);
        let rows = self.builder.gather_nd(first, indices);
        // Now the axes of the indices stand before those that were before the axis.
        let mut order: Vec<usize> = (depth..depth + axis).collect();
        order.extend(0..depth);
        order.extend(depth + axis..depth + sizes.len() - 1);
        Ok(self.builder.transpose(rows, &order))
    }

    /// The largest or smallest elements of an axis in order, and where they are.
    pub(super) fn topk(&mut self, job: &Job<'a>) -> Lowered<Vec<Value>> {
        let x = self.operand(job, "x")?;
        let shape = job.kind()?.shape.clone();
        let axis = self.axis(job, -1, shape.len())?;
        let descending = !self.flag(job, "ascending")?;
        let order = self.builder.argsort(x, axis, descending);
        let first = self.builder.signed(&vec![0; shape.len()]);
        let (end, steps) =
            (self.builder.signed(&shape), self.builder.signed(&vec![1; shape.len()]));
        let places = self.builder.slice(order, [first, end, steps], &shape);
        let values = self.builder.gather_along_axis(x, places, axis);
        Ok(match job.kinds.get(1) {
            Some(kind) => vec![values, self.builder.cast(places, kind.element)],
            None => vec![values],
        })
    }
}
