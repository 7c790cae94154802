//! `lstm`: one or both directions over a sequence.

use super::math::sigmoid;
use super::{Call, Definition, Frame, Input, Step};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::Layout;
use crate::simd;
use crate::storage::Buffer;
use crate::tensor::from_wide;
use smallvec::smallvec;

pub(super) const ALL: &[Definition] = &[Definition::new("lstm", lstm)];

/// A gate's activation.
#[derive(Clone, Copy)]
enum Activation {
    Linear,
    Relu,
    Sigmoid,
    SigmoidHard,
    Tanh,
}

impl Activation {
    fn named(name: &str) -> Outcome<Self> {
        Ok(match name {
            "linear" => Self::Linear,
            "relu" => Self::Relu,
            "sigmoid" => Self::Sigmoid,
            "sigmoid_hard" => Self::SigmoidHard,
            "tanh" => Self::Tanh,
            other => return unsupported(format!("activation `{other}`")),
        })
    }

    fn apply(self, x: f32) -> f32 {
        match self {
            Self::Linear => x,
            Self::Relu => x.max(0.0),
            Self::Sigmoid => sigmoid(x),
            Self::SigmoidHard => (0.2 * x + 0.5).clamp(0.0, 1.0),
            Self::Tanh => x.tanh(),
        }
    }
}

/// Activations: of the input, forget and output gates, of the cell's input, of the cell's output.
#[derive(Clone, Copy)]
struct Activations {
    recurrent: Activation,
    cell: Activation,
    output: Activation,
    clip: Option<f32>,
}

/// Weights of one direction as arguments; rows in the order input, forget, output, cell.
struct Direction {
    input: Input,
    hidden: Input,
    bias: Option<Input>,
    peephole: Option<Input>,
    reverse: bool,
}

impl Direction {
    fn of(call: &Call<'_>, suffix: &str, reverse: bool) -> Outcome<Self> {
        Ok(Self {
            input: call.tensor(&format!("weight_ih{suffix}"))?,
            hidden: call.tensor(&format!("weight_hh{suffix}"))?,
            bias: call.optional(&format!("bias{suffix}"))?,
            peephole: call.optional(&format!("peephole{suffix}"))?,
            reverse,
        })
    }
}

/// Results: all hidden states (sequence, batch, directions * hidden), the last ones, the cell.
fn lstm(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let (initial_h, initial_c) = (call.tensor("initial_h")?, call.tensor("initial_c")?);
    let directions = match call.text("direction")?.unwrap_or("forward") {
        "forward" => vec![Direction::of(call, "", false)?],
        "reverse" => vec![Direction::of(call, "", true)?],
        "bidirectional" => {
            vec![Direction::of(call, "", false)?, Direction::of(call, "_back", true)?]
        }
        other => return invalid(format!("unknown direction `{other}`")),
    };
    let activation = |name: &str, default: &str| -> Outcome<Activation> {
        Activation::named(call.text(name)?.unwrap_or(default))
    };
    let activations = Activations {
        recurrent: activation("recurrent_activation", "sigmoid")?,
        cell: activation("cell_activation", "tanh")?,
        output: activation("activation", "tanh")?,
        clip: call.float("clip")?,
    };
    let whole = call.boolean("output_sequence", false)?;
    let element = call.element()?;
    Ok(Box::new(move |frame| {
        let x = x.get(frame)?;
        let &[length, batch, depth] = x.shape() else {
            return invalid(format!("x of shape {:?}", x.shape()));
        };
        let (h, c) = (initial_h.get(frame)?, initial_c.get(frame)?);
        let count = directions.len();
        let width = h.shape().last().copied().unwrap_or(0);
        if h.shape() != [batch, width] || c.shape() != h.shape() || width % count != 0 {
            return invalid(format!("initial state {:?} and cell {:?}", h.shape(), c.shape()));
        }
        let hidden = width / count;
        let values = x.floats()?;
        let (mut h, mut c) = (h.floats()?, c.floats()?);
        let mut sequence = vec![0.0; length * batch * width];
        for (index, direction) in directions.iter().enumerate() {
            let gates = Gates::new(frame, direction, depth, hidden)?;
            for sample in 0..batch {
                let own = sample * width + index * hidden..sample * width + (index + 1) * hidden;
                let (h, c) = (&mut h[own.clone()], &mut c[own]);
                for step in 0..length {
                    let time = if direction.reverse { length - 1 - step } else { step };
                    let input = &values[(time * batch + sample) * depth..][..depth];
                    gates.advance(input, h, c, activations);
                    let at = (time * batch + sample) * width + index * hidden;
                    sequence[at..at + hidden].copy_from_slice(h);
                }
            }
        }
        let tensor = |shape: &[usize], values: &[f32]| {
            let wide = Buffer::from_slice(values);
            from_wide(element, Layout::contiguous(shape), wide, frame.pool)
        };
        let outputs = if whole {
            tensor(&[length, batch, width], &sequence)?
        } else {
            tensor(&[1, batch, width], &h)?
        };
        Ok(smallvec![outputs, tensor(&[batch, width], &h)?, tensor(&[batch, width], &c)?])
    }))
}

/// Weights of one direction in f32.
struct Gates {
    input: Vec<f32>,
    hidden: Vec<f32>,
    bias: Vec<f32>,
    peephole: Option<Vec<f32>>,
    depth: usize,
}

impl Gates {
    fn new(frame: &Frame<'_>, direction: &Direction, depth: usize, size: usize) -> Outcome<Self> {
        let read = |input: &Input, shape: &[usize]| -> Outcome<Vec<f32>> {
            let tensor = input.get(frame)?;
            if tensor.shape() != shape || !matches!(tensor.element, Element::F16 | Element::F32) {
                return invalid(format!("weights {:?}, expected {shape:?}", tensor.shape()));
            }
            tensor.floats()
        };
        let bias = match &direction.bias {
            Some(bias) => read(bias, &[4 * size])?,
            None => vec![0.0; 4 * size],
        };
        Ok(Self {
            input: read(&direction.input, &[4 * size, depth])?,
            hidden: read(&direction.hidden, &[4 * size, size])?,
            bias,
            peephole: direction.peephole.as_ref().map(|p| read(p, &[3 * size])).transpose()?,
            depth,
        })
    }

    /// One time step: `h` and `c` become the next hidden state and cell.
    fn advance(&self, input: &[f32], h: &mut [f32], c: &mut [f32], functions: Activations) {
        let size = h.len();
        let sum = |row: usize| {
            let from_input = simd::dot(&self.input[row * self.depth..][..self.depth], input);
            from_input + simd::dot(&self.hidden[row * size..][..size], h) + self.bias[row]
        };
        let mut gates: Vec<f32> = simd::widest(|| (0..4 * size).map(sum).collect());
        if let Some(limit) = functions.clip {
            gates.iter_mut().for_each(|value| *value = value.clamp(-limit, limit));
        }
        let peephole = |gate: usize, unit: usize, cell: f32| {
            self.peephole.as_ref().map_or(0.0, |weights| weights[gate * size + unit] * cell)
        };
        for unit in 0..size {
            let gate = |number: usize, cell: f32| {
                functions
                    .recurrent
                    .apply(gates[number * size + unit] + peephole(number, unit, cell))
            };
            let (enter, forget) = (gate(0, c[unit]), gate(1, c[unit]));
            let candidate = functions.cell.apply(gates[3 * size + unit]);
            c[unit] = forget * c[unit] + enter * candidate;
            h[unit] = gate(2, c[unit]) * functions.output.apply(c[unit]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_follows_the_equations() {
        // one unit, one input; rows: input, forget, output, cell
        let gates = Gates {
            input: vec![0.5, -1.0, 0.25, 2.0],
            hidden: vec![1.0, 0.5, -0.5, 0.1],
            bias: vec![0.1, 0.2, 0.3, 0.4],
            peephole: None,
            depth: 1,
        };
        let functions = Activations {
            recurrent: Activation::Sigmoid,
            cell: Activation::Tanh,
            output: Activation::Tanh,
            clip: None,
        };
        let (mut h, mut c) = ([0.3f32], [0.7f32]);
        gates.advance(&[0.9], &mut h, &mut c, functions);
        let s = |x: f64| 1.0 / (1.0 + (-x).exp());
        let enter = s(0.5 * 0.9 + 0.3 + 0.1);
        let forget = s(-0.9 + 0.15 + 0.2);
        let leave = s(0.25 * 0.9 - 0.15 + 0.3);
        let cell = forget * 0.7 + enter * (2.0 * 0.9 + 0.03 + 0.4f64).tanh();
        assert!((f64::from(c[0]) - cell).abs() < 1e-6);
        assert!((f64::from(h[0]) - leave * cell.tanh()).abs() < 1e-6);
    }
}
