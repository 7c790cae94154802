//! Parts of tensors, read and replaced.

use super::{Job, Lowered, Lowering};
use crate::reading;
use anemll_aicode::{ElementType, Value};

impl<'a> Lowering<'a, '_> {
    pub(super) fn slices(&mut self, job: &Job<'a>) -> Lowered<Option<Value>> {
        match job.operation.r#type.as_str() {
            "slice_by_index" => self.slice(job).map(Some),
            "slice_by_size" => self.slice_by_size(job).map(Some),
            "slice_update" => self.slice_update(job).map(Some),
            _ => Ok(None),
        }
    }

    fn slice(&mut self, job: &Job<'a>) -> Lowered {
        let x = self.operand(job, "x")?;
        let sizes = self.builder.shape(x);
        let squeezed = self.flags(job, "squeeze_mask", sizes.len())?;
        let bounds = self.bounds(job, &sizes, &squeezed)?;
        let shape = job.kind()?.shape.clone();
        let mut left = shape.iter();
        let whole: Vec<i64> = squeezed
            .iter()
            .map(|squeezed| if *squeezed { 1 } else { left.next().copied().unwrap_or(1) })
            .collect();
        let part = self.builder.slice(x, bounds, &whole);
        Ok(self.builder.reshape(part, &shape))
    }

    fn slice_update(&mut self, job: &Job<'a>) -> Lowered {
        let (x, update) = (self.operand(job, "x")?, self.operand(job, "update")?);
        let sizes = self.builder.shape(x);
        let squeezed = self.flags(job, "squeeze_mask", sizes.len())?;
        let bounds = self.bounds(job, &sizes, &squeezed)?;
        let own = self.builder.shape(update);
        let mut left = own.iter();
        let whole: Vec<i64> = squeezed
            .iter()
            .map(|squeezed| if *squeezed { 1 } else { left.next().copied().unwrap_or(1) })
            .collect();
        let update = self.builder.reshape(update, &whole);
        Ok(self.builder.slice_update(x, bounds, update))
    }

    fn slice_by_size(&mut self, job: &Job<'a>) -> Lowered {
        let x = self.operand(job, "x")?;
        let shape = job.kind()?.shape.clone();
        let own = self.builder.shape(x);
        let begin = match self.stored_integers(job, "begin")? {
            Some(places) => {
                let from_front = places.iter().zip(&own);
                let wrapped = from_front.map(|(at, size)| if *at < 0 { at + size } else { *at });
                self.builder.signed(&wrapped.collect::<Vec<_>>())
            }
            None => {
                let begin = self.operand(job, "begin")?;
                let begin = self.builder.cast(begin, ElementType::Int32);
                self.wrapped(begin, &own)
            }
        };
        let sizes = self.builder.signed(&shape);
        let end = self.builder.binary("add", begin, sizes, ElementType::Int32);
        let steps = self.builder.signed(&vec![1; shape.len()]);
        Ok(self.builder.slice(x, [begin, end, steps], &shape))
    }

    /// Integers that the program holds; none where they are computed.
    fn stored_integers(&self, job: &Job<'a>, parameter: &str) -> Lowered<Option<Vec<i64>>> {
        match reading::stored(&self.entries, job.operation, parameter) {
            Some(_) => self.integers(job, parameter),
            None => Ok(None),
        }
    }

    /// Places counted from the front, where negative ones count from the end: what is added to them
    /// must not lead over the end to the front.
    fn wrapped(&mut self, places: Value, sizes: &[i64]) -> Value {
        let zeros = self.builder.signed(&vec![0; sizes.len()]);
        let sizes = self.builder.signed(sizes);
        let from_end = self.builder.binary("greater", zeros, places, ElementType::Bool);
        let wrapped = self.builder.binary("add", places, sizes, ElementType::Int32);
        self.builder.select(from_end, wrapped, places)
    }

    /// Where a slice begins, ends and how it steps, with masks worked in.
    fn bounds(&mut self, job: &Job<'a>, sizes: &[i64], squeezed: &[bool]) -> Lowered<[Value; 3]> {
        let rank = sizes.len();
        let stride = self.integers(job, "stride")?.unwrap_or_else(|| vec![1; rank]);
        if stride.iter().any(|step| *step < 1) {
            return Err("Core AI slices forwards alone".into());
        }
        let from_first = self.flags(job, "begin_mask", rank)?;
        let to_last = self.flags(job, "end_mask", rank)?;
        let steps;
        let known = (self.stored_integers(job, "begin")?, self.stored_integers(job, "end")?);
        if let (Some(begin), Some(end)) = known {
            let (mut first, mut last) = (Vec::new(), Vec::new());
            for (axis, size) in sizes.iter().enumerate() {
                let clamped = |bound: i64| {
                    let bound = if bound < 0 { bound.saturating_add(*size) } else { bound };
                    bound.clamp(0, *size)
                };
                let start = if from_first[axis] { 0 } else { clamped(begin[axis]) };
                first.push(start);
                last.push(match (squeezed[axis], to_last[axis]) {
                    (true, _) => start + 1,
                    (false, true) => *size,
                    (false, false) => clamped(end[axis]),
                });
            }
            steps = self.builder.signed(&stride);
            return Ok([self.builder.signed(&first), self.builder.signed(&last), steps]);
        }
        let begin = self.operand(job, "begin")?;
        let mut begin = self.builder.cast(begin, ElementType::Int32);
        let end = self.operand(job, "end")?;
        let mut end = self.builder.cast(end, ElementType::Int32);
        steps = self.builder.signed(&stride);
        let ones = |mask: &[bool]| mask.iter().map(|set| i64::from(*set)).collect::<Vec<_>>();
        let kept = |mask: &[bool]| mask.iter().map(|set| i64::from(!*set)).collect::<Vec<_>>();
        if from_first.contains(&true) {
            let factor = self.builder.signed(&kept(&from_first));
            begin = self.builder.binary("mul", begin, factor, ElementType::Int32);
        }
        if to_last.contains(&true) {
            let factor = self.builder.signed(&kept(&to_last));
            let whole =
                ones(&to_last).iter().zip(sizes).map(|(set, size)| set * size).collect::<Vec<_>>();
            let whole = self.builder.signed(&whole);
            end = self.builder.binary("mul", end, factor, ElementType::Int32);
            end = self.builder.binary("add", end, whole, ElementType::Int32);
        }
        if squeezed.contains(&true) {
            begin = self.wrapped(begin, sizes);
            let one = self.builder.signed(&vec![1; rank]);
            let after = self.builder.binary("add", begin, one, ElementType::Int32);
            let (kept, ones) = (kept(squeezed), ones(squeezed));
            let (kept, ones) = (self.builder.signed(&kept), self.builder.signed(&ones));
            let left = self.builder.binary("mul", end, kept, ElementType::Int32);
            let right = self.builder.binary("mul", after, ones, ElementType::Int32);
            end = self.builder.binary("add", left, right, ElementType::Int32);
        }
        Ok([begin, end, steps])
    }
}
