//! Operations that work on each element alone.

use super::{Job, Lowered, Lowering};
use anemll_aicode::{ElementType, TensorType, Value};
use anemll_mil::Literal;
use half::f16;

impl<'a> Lowering<'a, '_> {
    pub(super) fn elementwise(&mut self, job: &Job<'a>) -> Lowered<Option<Value>> {
        let name = job.operation.r#type.as_str();
        if let Some(value) = self.binary(job, name)? {
            return Ok(Some(value));
        }
        let simple = match name {
            "silu" | "sigmoid" | "relu" => format!("{name}_v1"),
            "tanh" | "exp" | "sqrt" | "abs" | "cos" | "sin" | "erf" | "round" | "tan" | "sinh"
            | "cosh" | "asin" | "acos" | "atan" | "atanh" => format!("primitive.{name}_v1"),
            "logical_not" => "primitive.not_v1".to_owned(),
            _ => return self.composed(job, name),
        };
        let x = self.operand(job, "x")?;
        Ok(Some(self.builder.unary(&simple, x)))
    }

    fn binary(&mut self, job: &Job<'a>, name: &str) -> Lowered<Option<Value>> {
        let simple = match name {
            "add" | "sub" | "mul" | "pow" | "maximum" | "minimum" | "equal" | "not_equal"
            | "logical_and" | "logical_or" | "logical_xor" | "greater" => name,
            "real_div" => "divide",
            "floor_div" => "floor_divide",
            "less" | "greater_equal" | "less_equal" | "mod" => "",
            _ => return Ok(None),
        };
        let (x, y) = (self.operand(job, "x")?, self.operand(job, "y")?);
        let element = job.kind()?.element;
        let builder = &mut self.builder;
        Ok(Some(match name {
            "less" => builder.binary("greater", y, x, element),
            "greater_equal" | "less_equal" => {
                let (high, low) = if name == "less_equal" { (y, x) } else { (x, y) };
                let above = builder.binary("greater", high, low, element);
                let same = builder.binary("equal", high, low, element);
                builder.binary("logical_or", above, same, element)
            }
            // The sign is the divisor's, as quotients are rounded down.
            "mod" => {
                let quotient = builder.binary("floor_divide", x, y, element);
                let whole = builder.binary("mul", quotient, y, element);
                builder.binary("sub", x, whole, element)
            }
            _ => builder.binary(simple, x, y, element),
        }))
    }

    /// Those for which Core AI has several simpler ones.
    fn composed(&mut self, job: &Job<'a>, name: &str) -> Lowered<Option<Value>> {
        if name == "select" {
            let condition = self.operand(job, "cond")?;
            let (a, b) = (self.operand(job, "a")?, self.operand(job, "b")?);
            return Ok(Some(self.builder.select(condition, a, b)));
        }
        const KNOWN: [&str; 10] = [
            "square", "rsqrt", "log", "inverse", "clip", "relu6", "gelu", "softplus", "identity",
            "cast",
        ];
        if !KNOWN.contains(&name) {
            return Ok(None);
        }
        let x = self.operand(job, "x")?;
        let kind = self.builder.tensor(x);
        let element = kind.element;
        Ok(Some(match name {
            "identity" => x,
            "cast" => self.builder.cast(x, job.kind()?.element),
            "square" => self.builder.binary("mul", x, x, element),
            "rsqrt" | "log" | "inverse" => {
                let small = match name {
                    "rsqrt" => 1e-12,
                    "log" => 1e-45,
                    _ => 1e-4,
                };
                let epsilon = self.float(job, "epsilon", small)?;
                let x = self.plus(x, epsilon)?;
                match name {
                    "rsqrt" => self.builder.unary("primitive.rsqrt_v1", x),
                    "log" => self.builder.unary("primitive.log_v1", x),
                    _ => {
                        let one = self.number(element, 1.0)?;
                        self.builder.binary("divide", one, x, element)
                    }
                }
            }
            "clip" => {
                let (low, high) = (self.operand(job, "alpha")?, self.operand(job, "beta")?);
                let above = self.builder.binary("maximum", x, low, element);
                self.builder.binary("minimum", above, high, element)
            }
            "relu6" => {
                let (low, high) = (self.number(element, 0.0)?, self.number(element, 6.0)?);
                let above = self.builder.binary("maximum", x, low, element);
                self.builder.binary("minimum", above, high, element)
            }
            "softplus" => self.softplus(x)?,
            _ => match self.text(job, "mode", "EXACT")?.as_str() {
                "EXACT" => self.builder.gelu(x, false),
                "TANH_APPROXIMATION" => self.builder.gelu(x, true),
                mode => return Err(format!("Core AI has no mode {mode}").into()),
            },
        }))
    }

    /// `ln(1 + exp(x))` as `max(x, 0) + ln(1 + e)` of `e = exp(-|x|)`, which does not overflow.
    ///
    /// `1 + e` would lose a small `e`. So the logarithm is the series of `2 artanh(z)` of `z = e / (2 + e)`, which is at most a
    /// third: each term is a ninth of the one before it.
    fn softplus(&mut self, x: Value) -> Lowered {
        let element = self.builder.tensor(x).element;
        let terms: u8 = if element == ElementType::Float16 { 4 } else { 8 };
        let (zero, two) = (self.number(element, 0.0)?, self.number(element, 2.0)?);
        let size = self.builder.unary("primitive.abs_v1", x);
        let power = self.builder.binary("sub", zero, size, element);
        let power = self.builder.unary("primitive.exp_v1", power);
        let divisor = self.builder.binary("add", two, power, element);
        let z = self.builder.binary("divide", power, divisor, element);
        let square = self.builder.binary("mul", z, z, element);
        let mut sum = self.number(element, 2.0 / f64::from(2 * terms - 1))?;
        for term in (1..terms).rev() {
            let coefficient = self.number(element, 2.0 / f64::from(2 * term - 1))?;
            let product = self.builder.binary("mul", square, sum, element);
            sum = self.builder.binary("add", product, coefficient, element);
        }
        let logarithm = self.builder.binary("mul", z, sum, element);
        let positive = self.builder.binary("maximum", x, zero, element);
        Ok(self.builder.binary("add", positive, logarithm, element))
    }

    /// A float of a parameter.
    pub(super) fn float(&self, job: &Job<'a>, parameter: &str, default: f64) -> Lowered<f64> {
        let read = |literal: &Literal| literal.floats()?.first().copied();
        Ok(self.given(job, parameter, "a number", read)?.unwrap_or(default))
    }

    /// `x` and a number, which changes nothing where it is zero in the type of `x`.
    fn plus(&mut self, x: Value, number: f64) -> Lowered {
        let element = self.builder.tensor(x).element;
        if element == ElementType::Float16 && f16::from_f64(number) == f16::ZERO {
            return Ok(x);
        }
        let number = self.number(element, number)?;
        Ok(self.builder.binary("add", x, number, element))
    }

    /// A scalar of a floating point type.
    pub(super) fn number(&mut self, element: ElementType, value: f64) -> Lowered {
        let bytes = match element {
            ElementType::Float16 => f16::from_f64(value).to_le_bytes().to_vec(),
            #[expect(clippy::cast_possible_truncation, reason = "the nearest number is wanted")]
            ElementType::Float32 => (value as f32).to_le_bytes().to_vec(),
            other => return Err(format!("{} has no such number", other.name()).into()),
        };
        Ok(self.builder.constant(&TensorType::new(element, &[]), &bytes))
    }
}
