//! Element-wise operations of one value.

use super::elementwise::{from_integers, map};
use super::math::{erf, erfc, exp, sigmoid};
use super::{Call, Definition, Step, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};

pub(super) const ALL: &[Definition] = &[
    Definition::new("abs", prepare),
    Definition::new("acos", prepare),
    Definition::new("asin", prepare),
    Definition::new("atan", prepare),
    Definition::new("atanh", prepare),
    Definition::new("ceil", prepare),
    Definition::new("clamped_relu", prepare),
    Definition::new("clip", prepare),
    Definition::new("cos", prepare),
    Definition::new("cosh", prepare),
    Definition::new("elu", prepare),
    Definition::new("erf", prepare),
    Definition::new("exp", prepare),
    Definition::new("exp2", prepare),
    Definition::new("floor", prepare),
    Definition::new("gelu", prepare),
    Definition::new("inverse", prepare),
    Definition::new("leaky_relu", prepare),
    Definition::new("linear_activation", prepare),
    Definition::new("log", prepare),
    Definition::new("logical_not", prepare),
    Definition::new("relu", prepare),
    Definition::new("relu6", prepare),
    Definition::new("round", prepare),
    Definition::new("rsqrt", prepare),
    Definition::new("scaled_tanh", prepare),
    Definition::new("sigmoid", prepare),
    Definition::new("sigmoid_hard", prepare),
    Definition::new("sign", prepare),
    Definition::new("silu", prepare),
    Definition::new("sin", prepare),
    Definition::new("sinh", prepare),
    Definition::new("softplus", prepare),
    Definition::new("softsign", prepare),
    Definition::new("sqrt", prepare),
    Definition::new("square", prepare),
    Definition::new("tan", prepare),
    Definition::new("tanh", prepare),
    Definition::new("threshold", prepare),
    Definition::new("thresholded_relu", prepare),
];

/// A function with its constant parameters.
#[derive(Clone, Copy)]
enum Operation {
    Abs,
    Acos,
    Asin,
    Atan,
    Atanh,
    Ceil,
    /// min(max(x, alpha * x where negative), beta)
    ClampedRelu(f32, f32),
    Clip(f32, f32),
    Cos,
    Cosh,
    Elu(f32),
    Erf,
    Exp,
    Exp2,
    Floor,
    GeluExact,
    GeluSigmoid,
    GeluTanh,
    Inverse(f32),
    LeakyRelu(f32),
    Linear(f32, f32),
    Log(f32),
    Not,
    Relu,
    Relu6,
    Round,
    ReciprocalRoot(f32),
    ScaledTanh(f32, f32),
    Sigmoid,
    SigmoidHard(f32, f32),
    Sign,
    Silu,
    Sin,
    Sinh,
    Softplus,
    Softsign,
    SquareRoot,
    Square,
    Tan,
    Tanh,
    Threshold(f32),
    ThresholdedRelu(f32),
}

impl Operation {
    /// The operation of a call; parameters that are left out have MIL's defaults.
    fn of(call: &Call<'_>) -> Outcome<Self> {
        let number = |name: &str, default: f32| call.float(name).map(|v| v.unwrap_or(default));
        let needed = |name: &str| match call.float(name)? {
            Some(value) => Ok(value),
            None => invalid(format!("argument `{name}` is missing")),
        };
        Ok(match call.operation {
            "abs" => Self::Abs,
            "acos" => Self::Acos,
            "asin" => Self::Asin,
            "atan" => Self::Atan,
            "atanh" => Self::Atanh,
            "ceil" => Self::Ceil,
            "clamped_relu" => Self::ClampedRelu(needed("alpha")?, needed("beta")?),
            "clip" => Self::Clip(needed("alpha")?, needed("beta")?),
            "cos" => Self::Cos,
            "cosh" => Self::Cosh,
            "elu" => Self::Elu(number("alpha", 1.0)?),
            "erf" => Self::Erf,
            "exp" => Self::Exp,
            "exp2" => Self::Exp2,
            "floor" => Self::Floor,
            "gelu" => match call.text("mode")?.unwrap_or("EXACT") {
                "EXACT" => Self::GeluExact,
                "TANH_APPROXIMATION" => Self::GeluTanh,
                "SIGMOID_APPROXIMATION" => Self::GeluSigmoid,
                other => return invalid(format!("unknown mode `{other}`")),
            },
            "inverse" => Self::Inverse(number("epsilon", 1e-4)?),
            "leaky_relu" => Self::LeakyRelu(number("alpha", 0.01)?),
            "linear_activation" => Self::Linear(needed("alpha")?, number("beta", 0.0)?),
            "log" => Self::Log(number("epsilon", 1e-45)?),
            "logical_not" => Self::Not,
            "relu" => Self::Relu,
            "relu6" => Self::Relu6,
            "round" => Self::Round,
            "rsqrt" => Self::ReciprocalRoot(number("epsilon", 1e-12)?),
            "scaled_tanh" => Self::ScaledTanh(number("alpha", 1.0)?, number("beta", 1.0)?),
            "sigmoid" => Self::Sigmoid,
            "sigmoid_hard" => Self::SigmoidHard(number("alpha", 0.2)?, number("beta", 0.5)?),
            "sign" => Self::Sign,
            "silu" => Self::Silu,
            "sin" => Self::Sin,
            "sinh" => Self::Sinh,
            "softplus" => Self::Softplus,
            "softsign" => Self::Softsign,
            "sqrt" => Self::SquareRoot,
            "square" => Self::Square,
            "tan" => Self::Tan,
            "tanh" => Self::Tanh,
            "threshold" => Self::Threshold(needed("alpha")?),
            "thresholded_relu" => Self::ThresholdedRelu(number("alpha", 1.0)?),
            other => return unsupported(format!("operation `{other}`")),
        })
    }

    /// Rough price of one element in multiply-adds.
    fn cost(self) -> usize {
        match self {
            Self::Abs | Self::Ceil | Self::Clip(..) | Self::Floor | Self::Relu | Self::Square => 1,
            Self::Exp | Self::Sigmoid | Self::Silu => 8,
            _ => 32,
        }
    }

    #[inline(always)]
    fn floats(self, block: &mut [f32]) {
        macro_rules! each {
            (|$x:ident| $result:expr) => {
                for slot in block.iter_mut() {
                    let $x = *slot;
                    *slot = $result;
                }
            };
        }
        match self {
            Self::Abs => each!(|x| x.abs()),
            Self::Acos => each!(|x| x.acos()),
            Self::Asin => each!(|x| x.asin()),
            Self::Atan => each!(|x| x.atan()),
            Self::Atanh => each!(|x| x.atanh()),
            Self::Ceil => each!(|x| x.ceil()),
            Self::ClampedRelu(alpha, beta) => {
                each!(|x| at_most(if x < 0.0 { alpha * x } else { x }, beta));
            }
            Self::Clip(low, high) => each!(|x| at_most(if x < low { low } else { x }, high)),
            Self::Cos => each!(|x| x.cos()),
            Self::Cosh => each!(|x| x.cosh()),
            Self::Elu(alpha) => each!(|x| if x < 0.0 { alpha * x.exp_m1() } else { x }),
            Self::Erf => each!(|x| erf(f64::from(x)) as f32),
            Self::Exp => each!(|x| exp(x)),
            Self::Exp2 => each!(|x| x.exp2()),
            Self::Floor => each!(|x| x.floor()),
            Self::GeluExact => each!(|x| {
                let wide = f64::from(x);
                (0.5 * wide * erfc(-wide * std::f64::consts::FRAC_1_SQRT_2)) as f32
            }),
            Self::GeluSigmoid => each!(|x| x * sigmoid(1.702 * x)),
            Self::GeluTanh => each!(|x| {
                let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                // 0.5 * (1 + tanh(y)) = sigmoid(2 y)
                x * sigmoid(2.0 * inner)
            }),
            Self::Inverse(epsilon) => each!(|x| 1.0 / (x + epsilon)),
            Self::LeakyRelu(alpha) => each!(|x| if x < 0.0 { alpha * x } else { x }),
            Self::Linear(alpha, beta) => each!(|x| alpha * x + beta),
            Self::Log(epsilon) => each!(|x| (x + epsilon).ln()),
            Self::Not => each!(|x| if x == 0.0 { 1.0 } else { 0.0 }),
            Self::Relu => each!(|x| if x < 0.0 { 0.0 } else { x }),
            Self::Relu6 => each!(|x| at_most(if x < 0.0 { 0.0 } else { x }, 6.0)),
            Self::Round => each!(|x| x.round_ties_even()),
            Self::ReciprocalRoot(epsilon) => each!(|x| 1.0 / (x + epsilon).sqrt()),
            Self::ScaledTanh(alpha, beta) => each!(|x| alpha * (beta * x).tanh()),
            Self::Sigmoid => each!(|x| sigmoid(x)),
            Self::SigmoidHard(alpha, beta) => {
                each!(|x| at_most((alpha * x + beta).max(0.0), 1.0));
            }
            Self::Sign => {
                each!(|x| if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                });
            }
            Self::Silu => each!(|x| x * sigmoid(x)),
            Self::Sin => each!(|x| x.sin()),
            Self::Sinh => each!(|x| x.sinh()),
            Self::Softplus => each!(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
            Self::Softsign => each!(|x| x / (1.0 + x.abs())),
            Self::SquareRoot => each!(|x| x.sqrt()),
            Self::Square => each!(|x| x * x),
            Self::Tan => each!(|x| x.tan()),
            Self::Tanh => each!(|x| x.tanh()),
            Self::Threshold(alpha) => each!(|x| if x < alpha { alpha } else { x }),
            Self::ThresholdedRelu(alpha) => each!(|x| if x < alpha { 0.0 } else { x }),
        }
    }

    fn integers(self, x: i64) -> Outcome<i64> {
        Ok(match self {
            Self::Abs => x.wrapping_abs(),
            Self::Sign => x.signum(),
            Self::Square => x.wrapping_mul(x),
            Self::Relu => x.max(0),
            Self::Not => i64::from(x == 0),
            Self::Ceil | Self::Floor | Self::Round => x,
            _ => return unsupported("this operation on integers"),
        })
    }
}

/// The lesser of a value, which may be NaN, and a bound.
#[inline(always)]
fn at_most(x: f32, bound: f32) -> f32 {
    if x > bound { bound } else { x }
}

fn prepare(call: &Call<'_>) -> Outcome<Step> {
    let operation = Operation::of(call)?;
    let element = call.element()?;
    let x = call.tensor("x")?;
    step(move |frame| {
        let x = x.get(frame)?;
        match x.element {
            Element::F16 | Element::F32 => {
                map(frame, x, element, operation.cost(), |block| operation.floats(block))
            }
            _ => {
                let results: Outcome<Vec<i64>> =
                    x.integers()?.into_iter().map(|value| operation.integers(value)).collect();
                from_integers(element, x.shape(), &results?)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Given, evaluate, f16s, f32s};

    const POINTS: [f32; 9] = [-30.0, -4.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 2.0, 20.0];

    fn check(operation: &str, more: Vec<(&'static str, Given)>, exact: fn(f64) -> f64) {
        let mut arguments = vec![("x", f32s(&[9], &POINTS).into())];
        arguments.extend(more);
        let result = evaluate(operation, arguments, Element::F32).unwrap();
        for (x, value) in POINTS.iter().zip(result.floats().unwrap()) {
            let expected = exact(f64::from(*x));
            let close = (f64::from(value) - expected).abs() <= 1e-6 * expected.abs() + 1e-12;
            assert!(close || expected.is_nan() && value.is_nan(), "{operation}({x}) = {value}");
        }
    }

    #[test]
    fn functions_match_their_definitions() {
        check("exp", vec![], f64::exp);
        check("sigmoid", vec![], |x| 1.0 / (1.0 + (-x).exp()));
        check("silu", vec![], |x| x / (1.0 + (-x).exp()));
        check("tanh", vec![], f64::tanh);
        check("softplus", vec![], |x| x.max(0.0) + (-x.abs()).exp().ln_1p());
        check("gelu", vec![("mode", Given::Text("SIGMOID_APPROXIMATION"))], |x| {
            x / (1.0 + (-1.702 * x).exp())
        });
        check("square", vec![], |x| x * x);
        check("relu", vec![], |x| x.max(0.0));
        check("rsqrt", vec![("epsilon", f32s(&[], &[40.0]).into())], |x| 1.0 / (x + 40.0).sqrt());
        check(
            "clip",
            vec![("alpha", f32s(&[], &[-1.0]).into()), ("beta", f32s(&[], &[0.5]).into())],
            |x| x.clamp(-1.0, 0.5),
        );
    }

    #[test]
    fn gelu_modes_have_known_values() {
        for (mode, expected) in [
            ("EXACT", [-0.158_655_25, 0.841_344_7, 1.954_499_7]),
            ("TANH_APPROXIMATION", [-0.158_808, 0.841_192, 1.954_597_7]),
        ] {
            let arguments =
                vec![("x", f32s(&[3], &[-1.0, 1.0, 2.0]).into()), ("mode", Given::Text(mode))];
            let result = evaluate("gelu", arguments, Element::F32).unwrap();
            for (value, exact) in result.floats().unwrap().iter().zip(expected) {
                assert!((value - exact).abs() < 2e-6, "{mode}: {value} {exact}");
            }
        }
        let unknown = vec![("x", f32s(&[1], &[1.0]).into()), ("mode", Given::Text("OTHER"))];
        assert!(evaluate("gelu", unknown, Element::F32).is_err());
    }

    #[test]
    fn minus_infinity_and_nan_pass() {
        let x = f16s(&[3], &[f32::NEG_INFINITY, f32::NAN, 12.0]);
        let result = evaluate("exp", vec![("x", x.into())], Element::F16).unwrap();
        let values = result.floats().unwrap();
        assert_eq!(values[0], 0.0);
        assert!(values[1].is_nan());
        assert_eq!(values[2], f32::INFINITY, "e^12 is beyond fp16");
    }
}
