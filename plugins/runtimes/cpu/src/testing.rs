//! Small deterministic helpers of the tests.

use crate::element::Element;
use crate::failure::Outcome;
use crate::kernels::{Call, Frame, Input, Operand, Results};
use crate::storage::Pool;
use crate::tensor::Tensor;
use crate::workers::Team;
use anemll_plugin_api::Host;
use half::f16;

/// A deterministic generator (splitmix64) for property tests.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound` (1 or more).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A number in [-1, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn units(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }
}

/// Indices of so many bits, one behind the other, the lowest bit first.
pub(crate) fn pack(indices: &[usize], bits: u8) -> Vec<u8> {
    let bits = usize::from(bits);
    let mut bytes = vec![0_u8; (indices.len() * bits).div_ceil(8)];
    for (at, index) in indices.iter().enumerate() {
        for bit in 0..bits {
            let to = at * bits + bit;
            bytes[to / 8] |= ((index >> bit & 1) as u8) << (to % 8);
        }
    }
    bytes
}

/// An argument of [`evaluate`].
pub(crate) enum Given {
    Tensor(Tensor),
    Text(&'static str),
    List(Vec<Tensor>),
}

impl From<Tensor> for Given {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

/// Prepares and runs one operation on constant arguments; all its outputs.
pub(crate) fn evaluate_all(
    operation: &str,
    arguments: Vec<(&'static str, Given)>,
    outputs: &[Element],
) -> Outcome<Results> {
    let operand = |tensor: Tensor| Operand::Tensor(Input::Constant(tensor));
    let arguments = arguments.into_iter().map(|(name, given)| {
        let operands = match given {
            Given::Tensor(tensor) => vec![operand(tensor)],
            Given::Text(text) => vec![Operand::Text(text.to_owned())],
            Given::List(tensors) => tensors.into_iter().map(operand).collect(),
        };
        (name, operands)
    });
    let call = Call {
        operation,
        arguments: arguments.collect(),
        outputs: outputs.iter().map(|element| (*element, Vec::new())).collect(),
        last_uses: Vec::new(),
        in_place: None,
    };
    let definition = crate::kernels::find(operation).unwrap();
    let step = (definition.prepare)(&call)?;
    let (pool, host) = (Pool::default(), Host::quiet());
    let mut frame =
        Frame { slots: Vec::new(), states: &mut [], pool: &pool, team: &Team::new(&host) };
    step(&mut frame)
}

/// The first output of [`evaluate_all`].
pub(crate) fn evaluate(
    operation: &str,
    arguments: Vec<(&'static str, Given)>,
    output: Element,
) -> Outcome<Tensor> {
    Ok(evaluate_all(operation, arguments, &[output])?.remove(0))
}

pub(crate) fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(Element::F32, shape, values)
}

pub(crate) fn f16s(shape: &[usize], values: &[f32]) -> Tensor {
    let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
    Tensor::from_slice(Element::F16, shape, &halves)
}

pub(crate) fn i32s(shape: &[usize], values: &[i32]) -> Tensor {
    Tensor::from_slice(Element::I32, shape, values)
}

pub(crate) fn flag(value: bool) -> Tensor {
    Tensor::from_slice(Element::Bool, &[], &[u8::from(value)])
}
