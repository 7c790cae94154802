//! Operations that move elements.

use super::{Job, Lowered, Lowering};
use anemll_aicode::Value;

impl<'a> Lowering<'a, '_> {
    pub(super) fn movement(&mut self, job: &Job<'a>) -> Lowered<Option<Value>> {
        Ok(Some(match job.operation.r#type.as_str() {
            "reshape" | "expand_dims" | "squeeze" | "flatten2d" => {
                let x = self.operand(job, "x")?;
                let shape = job.kind()?.shape.clone();
                self.builder.reshape(x, &shape)
            }
            "transpose" => {
                let x = self.operand(job, "x")?;
                let rank = self.builder.shape(x).len();
                let order = self.integers(job, "perm")?.ok_or("`perm` is missing")?;
                let order = order.into_iter().map(|axis| super::place(axis, rank));
                let order = order
                    .collect::<Option<Vec<_>>>()
                    .ok_or("`perm` is not an order of the axes")?;
                self.builder.transpose(x, &order)
            }
            "concat" => {
                if self.flag(job, "interleave")? {
                    return Err("Core AI does not interleave what it joins".into());
                }
                let values = self.operands(job, "values")?;
                let axis = self.axis(job, 0, job.kind()?.shape.len())?;
                self.builder.concat(&values, axis)
            }
            "stack" => {
                let rank = job.kind()?.shape.len();
                let axis = self.axis(job, 0, rank)?;
                let mut shape = job.kind()?.shape.clone();
                shape[axis] = 1;
                let values = self.operands(job, "values")?;
                let rows: Vec<Value> =
                    values.into_iter().map(|value| self.builder.reshape(value, &shape)).collect();
                self.builder.concat(&rows, axis)
            }
            "tile" => {
                let x = self.operand(job, "x")?;
                let counts = self.integers(job, "reps")?.ok_or("`reps` must be known")?;
                self.tile(x, &counts)
            }
            "pad" => {
                if self.text(job, "mode", "constant")? != "constant" {
                    return Err("only padding with a constant is lowered".into());
                }
                let x = self.operand(job, "x")?;
                let kind = self.builder.tensor(x);
                let value = match self.optional(job, "constant_val")? {
                    Some(value) => value,
                    None => self.number(kind.element, 0.0)?,
                };
                // Amounts are those of the last axes.
                let given = self.integers(job, "pad")?.ok_or("`pad` must be known")?;
                let missing = (2 * kind.shape.len()).saturating_sub(given.len());
                let amounts = [vec![0; missing], given].concat();
                if amounts.iter().any(|amount| *amount < 0) {
                    return Err("`pad` holds a negative amount".into());
                }
                self.builder.pad(x, &amounts, value)
            }
            _ => return Ok(None),
        }))
    }

    /// Repeats by an axis of their own before each axis.
    fn tile(&mut self, x: Value, counts: &[i64]) -> Value {
        let shape = self.builder.shape(x);
        let (mut apart, mut repeated, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        for (size, count) in shape.iter().zip(counts) {
            if *count > 1 {
                apart.push(1);
                repeated.push(*count);
            }
            apart.push(*size);
            repeated.push(*size);
            whole.push(size * count);
        }
        let x = self.builder.reshape(x, &apart);
        let x = self.builder.broadcast(x, &repeated);
        self.builder.reshape(x, &whole)
    }

    pub(super) fn split(&mut self, job: &Job<'a>) -> Lowered<Vec<Value>> {
        let x = self.operand(job, "x")?;
        let rank = self.builder.shape(x).len();
        let axis = self.axis(job, 0, rank)?;
        let sizes: Vec<i64> = job.kinds.iter().map(|kind| kind.shape[axis]).collect();
        Ok(self.builder.split(x, &sizes, axis))
    }
}
