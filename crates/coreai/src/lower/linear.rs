//! Products of matrices and convolutions.

use super::weights::{Made, count};
use super::{Job, Lowered, Lowering};
use anemll_aicode::{Value, Window};

impl<'a> Lowering<'a, '_> {
    pub(super) fn linear_algebra(&mut self, job: &Job<'a>) -> Lowered<Option<Value>> {
        match job.operation.r#type.as_str() {
            "linear" => self.linear(job).map(Some),
            "matmul" => self.matmul(job).map(Some),
            "conv" => self.convolution(job).map(Some),
            _ => Ok(None),
        }
    }

    /// A convolution of one place: so the weight keeps its order, and packed indices stay as they are.
    fn linear(&mut self, job: &Job<'a>) -> Lowered {
        let x = self.operand(job, "x")?;
        let kind = self.builder.tensor(x);
        if !kind.element.is_float() {
            return Err(
                format!("Core AI multiplies no weights with {}", kind.element.name()).into()
            );
        }
        let weight = self.kernel_of(job, "weight")?;
        let (outputs, inputs) = (self.builder.shape(weight)[0], self.builder.shape(weight)[1]);
        let rows = count(&kind.shape) / inputs.max(1);
        let x = self.builder.reshape(x, &[1, rows, inputs]);
        let x = self.builder.transpose(x, &[0, 2, 1]);
        let x = self.builder.reshape(x, &[1, inputs, 1, rows]);
        let mut made = self.builder.conv2d(x, weight, Window::PLAIN);
        made = self.biased(job, made, outputs)?;
        let made = self.builder.reshape(made, &[1, outputs, rows]);
        let made = self.builder.transpose(made, &[0, 2, 1]);
        let shape = job.kind()?.shape.clone();
        Ok(self.builder.reshape(made, &shape))
    }

    /// A bias of channels, if there is one.
    fn biased(&mut self, job: &Job<'a>, made: Made, channels: i64) -> Lowered {
        let Some(bias) = self.optional(job, "bias")? else { return Ok(made) };
        let bias = self.builder.reshape(bias, &[1, channels, 1, 1]);
        let element = self.builder.tensor(made).element;
        Ok(self.builder.binary("add", made, bias, element))
    }

    fn matmul(&mut self, job: &Job<'a>) -> Lowered {
        let mut sides = Vec::new();
        for (parameter, flag) in [("x", "transpose_x"), ("y", "transpose_y")] {
            let value = self.operand(job, parameter)?;
            let rank = self.builder.shape(value).len();
            if rank < 2 {
                return Err("products of vectors are not lowered".into());
            }
            sides.push(match self.flag(job, flag)? {
                true => {
                    let mut order: Vec<usize> = (0..rank).collect();
                    order.swap(rank - 1, rank - 2);
                    self.builder.transpose(value, &order)
                }
                false => value,
            });
        }
        let rank = job.kind()?.shape.len();
        let mut raised = |value: Value| {
            let own = self.builder.shape(value);
            let ones = vec![1; rank.saturating_sub(own.len())];
            self.builder.reshape(value, &[ones, own].concat())
        };
        let (x, y) = (raised(sides[0]), raised(sides[1]));
        Ok(self.builder.matmul(x, y))
    }

    fn convolution(&mut self, job: &Job<'a>) -> Lowered {
        let mut x = self.operand(job, "x")?;
        let mut weight = self.operand(job, "weight")?;
        let spatial = self.builder.shape(x).len().saturating_sub(2);
        let numbers = |given: Option<Vec<i64>>| given.unwrap_or_else(|| vec![1; spatial]);
        let mut strides = numbers(self.integers(job, "strides")?);
        let mut dilations = numbers(self.integers(job, "dilations")?);
        let kind = self.text(job, "pad_type", "valid")?;
        let mut pad = match kind.as_str() {
            "valid" => vec![0; 2 * spatial],
            "custom" => self.integers(job, "pad")?.unwrap_or_else(|| vec![0; 2 * spatial]),
            other => return Err(format!("padding of type {other} is not lowered").into()),
        };
        match spatial {
            // A second axis of one place.
            1 => {
                for value in [&mut x, &mut weight] {
                    let mut shape = self.builder.shape(*value);
                    shape.insert(2, 1);
                    *value = self.builder.reshape(*value, &shape);
                }
                strides.insert(0, 1);
                dilations.insert(0, 1);
                pad.splice(0..0, [0, 0]);
            }
            2 => {}
            other => return Err(format!("convolutions over {other} axes are not lowered").into()),
        }
        if pad.iter().any(|amount| *amount != 0) {
            let element = self.builder.tensor(x).element;
            let zero = self.number(element, 0.0)?;
            let amounts = [vec![0; 4], pad].concat();
            x = self.builder.pad(x, &amounts, zero);
        }
        let window = Window {
            strides: [strides[0], strides[1]],
            dilations: [dilations[0], dilations[1]],
            groups: self.integer(job, "groups", 1)?,
        };
        let made = self.builder.conv2d(x, weight, window);
        let channels = self.builder.shape(weight)[0];
        let made = self.biased(job, made, channels)?;
        let shape = job.kind()?.shape.clone();
        Ok(self.builder.reshape(made, &shape))
    }
}
