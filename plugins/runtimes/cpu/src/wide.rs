//! Running a program without rounding to float16: what its values are declared as, kept in f32.
//!
//! Constants are widened when a function is planned, but for weights that their kernels take as
//! they are stored; so no operation meets two float types.

use crate::element::Element;
use crate::failure::Outcome;
use crate::kernels::{Input, Operand, Step};
use std::collections::BTreeMap;

/// Arguments whose kernels take float16 beside f32, by operation: the large ones.
const STORED: &[(&str, &str)] = &[
    ("conv", "weight"),
    ("conv", "bias"),
    ("gather", "x"),
    ("linear", "weight"),
    ("linear", "bias"),
];

/// Widens the constants among an operation's arguments, and what it casts to.
pub(crate) fn arguments(kind: &str, arguments: &mut BTreeMap<&str, Vec<Operand>>) -> Outcome<()> {
    for (name, operands) in arguments.iter_mut() {
        if STORED.contains(&(kind, *name)) {
            continue;
        }
        for operand in operands {
            match operand {
                Operand::Tensor(Input::Constant(tensor)) => *tensor = tensor.widened()?,
                Operand::Text(text)
                    if kind == "cast"
                        && *name == "dtype"
                        && Element::from_cast_name(text) == Some(Element::F16) =>
                {
                    "fp32".clone_into(text);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// A step whose float16 results, which are elements picked from a stored constant, become f32.
pub(crate) fn step(run: Step) -> Step {
    Box::new(move |frame| run(frame)?.iter().map(crate::tensor::Tensor::widened).collect())
}
