//! Element-wise operations of two values, with broadcasting.

use super::elementwise::{from_integers, integer_pairs, zip};
use super::{Call, Definition, Prepared, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};

pub(super) const ALL: &[Definition] = &[
    Definition::new("add", prepare),
    Definition::new("sub", prepare),
    Definition::new("mul", prepare),
    Definition::new("real_div", prepare),
    Definition::new("floor_div", prepare),
    Definition::new("mod", prepare),
    Definition::new("pow", prepare),
    Definition::new("maximum", prepare),
    Definition::new("minimum", prepare),
    Definition::new("equal", prepare),
    Definition::new("not_equal", prepare),
    Definition::new("less", prepare),
    Definition::new("less_equal", prepare),
    Definition::new("greater", prepare),
    Definition::new("greater_equal", prepare),
    Definition::new("logical_and", prepare),
    Definition::new("logical_or", prepare),
    Definition::new("logical_xor", prepare),
];

#[derive(Clone, Copy)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
    Maximum,
    Minimum,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Xor,
}

impl Operation {
    fn named(name: &str) -> Outcome<Self> {
        Ok(match name {
            "add" => Self::Add,
            "sub" => Self::Subtract,
            "mul" => Self::Multiply,
            "real_div" => Self::Divide,
            "floor_div" => Self::FloorDivide,
            "mod" => Self::Modulo,
            "pow" => Self::Power,
            "maximum" => Self::Maximum,
            "minimum" => Self::Minimum,
            "equal" => Self::Equal,
            "not_equal" => Self::NotEqual,
            "less" => Self::Less,
            "less_equal" => Self::LessEqual,
            "greater" => Self::Greater,
            "greater_equal" => Self::GreaterEqual,
            "logical_and" => Self::And,
            "logical_or" => Self::Or,
            "logical_xor" => Self::Xor,
            other => return unsupported(format!("operation `{other}`")),
        })
    }

    /// On blocks of f32; truth values are 0 and 1.
    #[inline(always)]
    fn floats(self, x: &mut [f32], y: &[f32]) {
        macro_rules! each {
            (|$a:ident, $b:ident| $result:expr) => {
                for (slot, &$b) in x.iter_mut().zip(y) {
                    let $a = *slot;
                    *slot = $result;
                }
            };
        }
        let flag = |condition: bool| if condition { 1.0 } else { 0.0 };
        match self {
            Self::Add => each!(|a, b| a + b),
            Self::Subtract => each!(|a, b| a - b),
            Self::Multiply => each!(|a, b| a * b),
            Self::Divide => each!(|a, b| a / b),
            Self::FloorDivide => each!(|a, b| (a / b).floor()),
            Self::Modulo => each!(|a, b| a - b * (a / b).floor()),
            Self::Power => each!(|a, b| power(a, b)),
            // NaN of either side stays, as in numpy.
            Self::Maximum => each!(|a, b| if a > b || a.is_nan() { a } else { b }),
            Self::Minimum => each!(|a, b| if a < b || a.is_nan() { a } else { b }),
            Self::Equal => each!(|a, b| flag(a == b)),
            Self::NotEqual => each!(|a, b| flag(a != b)),
            Self::Less => each!(|a, b| flag(a < b)),
            Self::LessEqual => each!(|a, b| flag(a <= b)),
            Self::Greater => each!(|a, b| flag(a > b)),
            Self::GreaterEqual => each!(|a, b| flag(a >= b)),
            Self::And => each!(|a, b| flag(a != 0.0 && b != 0.0)),
            Self::Or => each!(|a, b| flag(a != 0.0 || b != 0.0)),
            Self::Xor => each!(|a, b| flag((a != 0.0) != (b != 0.0))),
        }
    }

    fn integers(self, a: i64, b: i64) -> Outcome<i64> {
        if b == 0 && matches!(self, Self::Divide | Self::FloorDivide | Self::Modulo) {
            return invalid("an integer is divided by zero");
        }
        Ok(match self {
            Self::Add => a.wrapping_add(b),
            Self::Subtract => a.wrapping_sub(b),
            Self::Multiply => a.wrapping_mul(b),
            Self::Divide => a.wrapping_div(b),
            Self::FloorDivide => {
                let quotient = a.wrapping_div(b);
                let inexact = a.wrapping_rem(b) != 0;
                if inexact && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
            }
            Self::Modulo => {
                let rest = a.wrapping_rem(b);
                if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
            }
            Self::Power => match u32::try_from(b) {
                Ok(exponent) => a.wrapping_pow(exponent),
                Err(_) => return invalid(format!("integer power with exponent {b}")),
            },
            Self::Maximum => a.max(b),
            Self::Minimum => a.min(b),
            Self::Equal => i64::from(a == b),
            Self::NotEqual => i64::from(a != b),
            Self::Less => i64::from(a < b),
            Self::LessEqual => i64::from(a <= b),
            Self::Greater => i64::from(a > b),
            Self::GreaterEqual => i64::from(a >= b),
            Self::And => i64::from(a != 0 && b != 0),
            Self::Or => i64::from(a != 0 || b != 0),
            Self::Xor => i64::from((a != 0) != (b != 0)),
        })
    }
}

/// `x^y`, with the common square done exactly.
fn power(x: f32, y: f32) -> f32 {
    if y == 2.0 { x * x } else { x.powf(y) }
}

fn prepare(call: &Call<'_>) -> Outcome<Prepared> {
    let operation = Operation::named(call.operation)?;
    let element = call.element()?;
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    step(move |frame| {
        let (x, y) = (x.get(frame)?, y.get(frame)?);
        if x.element != y.element {
            return invalid(format!(
                "operands of types {} and {}",
                x.element.name(),
                y.element.name()
            ));
        }
        match x.element {
            Element::F16 | Element::F32 => {
                zip(frame, x, y, element, |x, y| operation.floats(x, y))
            }
            _ => {
                let (shape, left, right) = integer_pairs(frame, x, y)?;
                let results: Outcome<Vec<i64>> =
                    left.iter().zip(&right).map(|(&a, &b)| operation.integers(a, b)).collect();
                from_integers(element, &shape, &results?)
            }
        }
    })
}
