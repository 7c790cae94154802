//! What `lut-aware` does with the statistics of a weight's inputs.

use anemll_gptq::Method;
use anemll_plugin_api::data::Knowledge;
use anemll_plugin_api::{ComponentOptions, Error, Result, Value, codes};

/// Share of the usual mean square of inputs that is added to each one's, where it is not known of
/// how many tokens these are.
pub(crate) const DAMPING: f32 = 0.05;
/// Bounds of the share where it is known.
const BOUNDS: [f64; 2] = [0.005, 1.0];

/// Seed of the rotation: any one does.
pub(crate) const ROTATION: u64 = 1;

/// Most passes over a weight that can be asked for.
const MOST_TURNS: u32 = 20;

/// How tables and indices follow the inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aware {
    /// What is done with mean products of two inputs; none takes mean squares as the importance
    /// of columns, and no more.
    pub method: Option<Method>,
    /// Whether the method was asked for; else it is the best that the statistics allow, and without
    /// any the weights alone count.
    pub demanded: bool,
    /// Share of the usual mean square of inputs that is added to each one's, above zero; none leaves
    /// it to the number of tokens.
    pub damping: Option<f32>,
    /// Whether the residual stream is rotated first.
    pub rotate: bool,
}

impl Default for Aware {
    fn default() -> Self {
        let method = Some(Method::LNQ);
        Self { method, demanded: false, damping: None, rotate: true }
    }
}

impl Aware {
    /// Reads `method` (`diagonal`, `gptq` or `lnq`), `turns`, `damping` and `rotate`, which is on but
    /// for `diagonal`: mean squares alone say nothing of rotated inputs.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] with the option's name.
    pub fn parse(options: &ComponentOptions) -> Result<Self> {
        let mut aware = Self::default();
        match options.get("method") {
            None => {}
            Some(name) => {
                aware.demanded = true;
                aware.method = match name.as_str() {
                    Some("diagonal") => None,
                    Some("gptq") => Some(Method::GPTQ),
                    Some("lnq") => Some(Method::LNQ),
                    _ => {
                        return Err(refuse("method", name, "diagonal, gptq or lnq"));
                    }
                };
            }
        }
        match (options.get("turns"), &mut aware.method) {
            (None, _) => {}
            (Some(value), method) => {
                let turns = value
                    .as_u64()
                    .and_then(|turns| u32::try_from(turns).ok())
                    .filter(|turns| (1..=MOST_TURNS).contains(turns))
                    .ok_or_else(|| refuse("turns", value, "a whole number from 1 to 20"))?;
                match method {
                    Some(method) => method.feedback = turns,
                    None => return Err(unused("turns")),
                }
            }
        }
        match options.get("damping") {
            None => {}
            Some(_) if aware.method.is_none() => return Err(unused("damping")),
            Some(value) => {
                let number = value.as_f64().filter(|damping| *damping > 0.0 && *damping <= 1.0);
                let refused = || refuse("damping", value, "a number above 0, at most 1");
                aware.damping = Some(number.ok_or_else(refused)? as f32);
            }
        }
        aware.rotate = options.boolean("rotate")?.unwrap_or(aware.method.is_some());
        if aware.rotate && aware.method.is_none() {
            return Err(unused("rotate"));
        }
        Ok(aware)
    }

    /// What it would like to know.
    pub(crate) fn wants(&self) -> Knowledge {
        if self.method.is_some() { Knowledge::Products } else { Knowledge::Squares }
    }
}

/// The share for a weight with so many inputs: the fewer tokens there are for each input, the more of
/// what their mean products show is chance. Measured on SmolLM2-135M with 4,096 and 16,384 tokens, where
/// four times the tokens want a quarter of the damping.
pub(crate) fn damping(inputs: u64, tokens: u64) -> f64 {
    let share = inputs as f64 / tokens as f64;
    // Few digits: this stands in plans.
    (share.clamp(BOUNDS[0], BOUNDS[1]) * 1000.0).round() / 1000.0
}

fn unused(name: &str) -> Error {
    Error::new(
        codes::PLUGIN_OPTION_INVALID,
        format!("option \"{name}\" of `lut-aware` does nothing with the method `diagonal`"),
    )
    .with_at(name)
    .with_hint("leave it out, or take the method gptq or lnq")
}

fn refuse(name: &str, value: &Value, expected: &str) -> Error {
    Error::new(
        codes::PLUGIN_OPTION_INVALID,
        format!("option \"{name}\" of `lut-aware` is {value}, not {expected}"),
    )
    .with_at(name)
    .with_hint(format!("give {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::testing::options;
    use serde_json::json;

    #[test]
    fn options_have_defaults_and_bounds() {
        assert_eq!(Aware::parse(&ComponentOptions::new()).unwrap(), Aware::default());
        let aware = Aware::parse(&options(json!({"method": "gptq", "damping": 0.1}))).unwrap();
        assert_eq!(aware.method, Some(Method::GPTQ));
        assert_eq!(
            Aware::parse(&options(json!({"method": "lnq"}))).unwrap().method,
            Some(Method::LNQ)
        );
        assert_eq!(aware.damping, Some(0.1));
        assert_eq!(damping(576, 4096), 0.141);
        assert_eq!([damping(64, 1 << 30), damping(9000, 10)], BOUNDS);
        let one = Aware::parse(&options(json!({"turns": 4}))).unwrap();
        assert_eq!(one.method, Some(Method { feedback: 4, ..Method::LNQ }));
        assert_eq!(Aware::parse(&options(json!({"method": "diagonal"}))).unwrap().method, None);
        assert!(!Aware::parse(&options(json!({"method": "diagonal"}))).unwrap().rotate);
        let straight = Aware::parse(&options(json!({"rotate": false}))).unwrap();
        assert_eq!(straight, Aware { rotate: false, ..Aware::default() });
        for (name, value) in [("turns", json!(1)), ("damping", json!(1)), ("rotate", json!(true))] {
            let given = options(json!({"method": "diagonal", name: value}));
            let error = Aware::parse(&given).unwrap_err();
            assert_eq!(error.at.as_deref(), Some(name));
        }
        for (name, value) in [
            ("method", json!("best")),
            ("method", json!(2)),
            ("turns", json!(0)),
            ("turns", json!(21)),
            ("turns", json!(1.5)),
            ("damping", json!(0)),
            ("damping", json!(1.5)),
            ("damping", json!("0.1")),
        ] {
            let error = Aware::parse(&options(json!({ name: value }))).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
            assert_eq!(error.at.as_deref(), Some(name));
        }
    }
}
