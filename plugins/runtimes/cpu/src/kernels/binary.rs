//! Element-wise operations of two values, with broadcasting.

use super::elementwise::{from_integers, integer_pairs, zip};
use super::{Call, Definition, Step, step};
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

fn prepare(call: &Call<'_>) -> Outcome<Step> {
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
            Element::F16 | Element::F32 => zip(frame, x, y, element, |x, y| operation.floats(x, y)),
            _ => {
                let (shape, left, right) = integer_pairs(frame, x, y)?;
                let results: Outcome<Vec<i64>> =
                    left.iter().zip(&right).map(|(&a, &b)| operation.integers(a, b)).collect();
                from_integers(element, &shape, &results?)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;
    use crate::testing::{Random, evaluate, f16s, f32s, i32s};
    use half::f16;

    fn pair(operation: &str, x: Tensor, y: Tensor) -> Outcome<Tensor> {
        let element = x.element;
        evaluate(operation, vec![("x", x.into()), ("y", y.into())], element)
    }

    #[test]
    fn halves_are_rounded_once_after_each_operation() {
        let mut random = Random::new(2);
        let (x, y) = (random.units(3000), random.units(3000));
        for (operation, exact) in [
            ("add", (|a, b| a + b) as fn(f32, f32) -> f32),
            ("sub", |a, b| a - b),
            ("mul", |a, b| a * b),
            ("real_div", |a, b| a / b),
            ("maximum", f32::max),
            ("minimum", f32::min),
        ] {
            let (x, y) = (f16s(&[3, 1000], &x), f16s(&[3, 1000], &y));
            let result = pair(operation, x.clone(), y.clone()).unwrap();
            let operands = x.dense::<f16>().iter().zip(y.dense::<f16>());
            for (value, (a, b)) in result.dense::<f16>().iter().zip(operands) {
                let expected = f16::from_f32(exact(a.to_f32(), b.to_f32()));
                assert_eq!(value.to_bits(), expected.to_bits(), "{operation} {a} {b}");
            }
        }
    }

    #[test]
    fn operands_broadcast_and_views_give_the_same() {
        let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let column = f32s(&[2, 1], &[10.0, 20.0]);
        let sum = pair("add", x.clone(), column.clone()).unwrap();
        assert_eq!(sum.floats().unwrap(), [11.0, 12.0, 13.0, 24.0, 25.0, 26.0]);
        let turned = x.viewed(x.layout.permuted(&[1, 0]).unwrap());
        let row = column.viewed(column.layout.reshaped(&[1, 2]));
        let sum = pair("add", turned, row).unwrap();
        assert_eq!(sum.shape(), [3, 2]);
        assert_eq!(sum.floats().unwrap(), [11.0, 24.0, 12.0, 25.0, 13.0, 26.0]);
        let scalar = pair("sub", f32s(&[], &[1.0]), x.clone()).unwrap();
        assert_eq!(scalar.floats().unwrap(), [0.0, -1.0, -2.0, -3.0, -4.0, -5.0]);
        assert!(pair("add", x, f32s(&[2], &[1.0, 2.0])).is_err());
    }

    #[test]
    fn infinities_of_masks_follow_ieee() {
        let mask = f16s(&[3], &[0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
        let scores = f16s(&[3], &[1.0, 2.0, f32::INFINITY]);
        let sum = pair("add", mask, scores).unwrap().floats().unwrap();
        assert_eq!(sum[..2], [1.0, f32::NEG_INFINITY]);
        assert!(sum[2].is_nan());
    }

    #[test]
    fn integers_divide_as_python_does() {
        let x = || i32s(&[4], &[7, -7, 7, -7]);
        let y = || i32s(&[4], &[2, 2, -2, -2]);
        let list = |operation| pair(operation, x(), y()).unwrap().integers().unwrap();
        assert_eq!(list("floor_div"), [3, -4, -4, 3]);
        assert_eq!(list("mod"), [1, 1, -1, -1]);
        assert!(pair("mod", x(), i32s(&[1], &[0])).is_err());
        let wrapped = pair("add", i32s(&[1], &[i32::MAX]), i32s(&[1], &[1])).unwrap();
        assert_eq!(wrapped.integers().unwrap(), [i64::from(i32::MIN)]);
    }

    #[test]
    fn comparisons_give_truth_values() {
        let arguments =
            vec![("x", f16s(&[3], &[1.0, 2.0, f32::NAN]).into()), ("y", f16s(&[1], &[2.0]).into())];
        let result = evaluate("greater_equal", arguments, Element::Bool).unwrap();
        assert_eq!(result.integers().unwrap(), [0, 1, 0]);
    }
}
