//! Rotary position embeddings: inverse frequencies, and tables of cosines and sines.
//!
//! The numbers follow transformers' `modeling_rope_utils` operation by operation: what is a float32
//! tensor there is `f32` here, what is a Python number there is `f64` here. Powers and angles are
//! evaluated in `f64` and rounded once, which is within one unit in the last place of torch's
//! vectorised functions.

use anemll_plugin_api::Result;
use half::f16;

use crate::error::{entries, key_invalid, shape_invalid, shown};

/// How the frequencies are changed for contexts longer than those of pretraining.
///
/// Field names are those of `rope_scaling` (or `rope_parameters`) in `config.json`, spelled out.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No change; `default`.
    None,
    /// All frequencies divided by `factor`; `linear`.
    Linear {
        /// Positive divisor.
        factor: f64,
    },
    /// Long waves divided by `factor`, short ones kept, a ramp between; `llama3`.
    Llama3 {
        /// Divisor of the long waves.
        factor: f64,
        /// Waves longer than `original_context / low_frequency_factor` are divided.
        low_frequency_factor: f64,
        /// Waves shorter than `original_context / high_frequency_factor` are kept.
        high_frequency_factor: f64,
        /// Context length of pretraining, in tokens.
        original_context: f64,
    },
    /// Interpolation by parts, and a factor on cosines and sines; `yarn`.
    Yarn {
        /// Divisor of the interpolated frequencies.
        factor: f64,
        /// Factor of cosines and sines; computed from the other fields when absent.
        attention_factor: Option<f64>,
        /// Rotations above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which a frequency is interpolated.
        beta_slow: f64,
        /// Numerator's weight in the computed attention factor.
        mscale: Option<f64>,
        /// Denominator's weight in the computed attention factor.
        mscale_all_dimensions: Option<f64>,
        /// Context length of pretraining, in tokens.
        original_context: f64,
        /// Whether the ramp's ends are rounded outwards to whole dimensions.
        truncate: bool,
    },
    /// Every frequency divided by a factor of its own, and a factor on cosines and sines; `longrope`.
    Long {
        /// Positive divisors, one for each frequency.
        factors: Vec<f64>,
        /// Factor of cosines and sines.
        attention_factor: f64,
        /// The key of the divisors, for errors.
        key: String,
    },
}

/// Widest heads that are accepted: thirty times those of the widest models.
pub const LARGEST_HEAD: u64 = 1 << 14;

/// Most elements of a table: 512 MiB in float16, enough for 2^20 positions of heads of 256.
pub const LARGEST_TABLE: u64 = 1 << 28;

/// Inverse frequencies and the factor that multiplies cosines and sines.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Radians per position, one for each pair of dimensions that are rotated.
    pub inverse: Vec<f32>,
    /// transformers' `attention_scaling`; 1 but for yarn and longrope.
    pub attention_scaling: f64,
}

/// Cosines and sines, float16, row-major `(1, rows, rotated dimensions)`: a row for each position.
///
/// The second half of each row repeats the first, as the halves form of the rotation wants.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeTables {
    /// Shape of each table.
    pub shape: [u64; 3],
    /// Cosines times the attention scaling.
    pub cosine: Vec<f16>,
    /// Sines times the attention scaling.
    pub sine: Vec<f16>,
}

/// Computes the inverse frequencies of heads of `dimension` (even) elements for `base`.
///
/// # Errors
/// An odd or zero dimension or one beyond [`LARGEST_HEAD`], a base that is not positive, and parameters that give a frequency
/// which is not finite; the error names the parameter.
pub fn frequencies(base: f64, dimension: u64, scaling: &RopeScaling) -> Result<Frequencies> {
    if dimension == 0 || !dimension.is_multiple_of(2) {
        return Err(key_invalid("head_dim", format!("is {dimension}, not a positive even number")));
    }
    if dimension > LARGEST_HEAD {
        return Err(key_invalid("head_dim", format!("is {dimension}, more than {LARGEST_HEAD}")));
    }
    if !(base.is_finite() && base > 0.0) {
        return Err(key_invalid(
            "rope_theta",
            format!("is {}, not a positive number", shown(base)),
        ));
    }
    let powers = powers(base, dimension);
    let plain: Vec<f32> = powers.iter().map(|power| 1.0 / power).collect();
    let (inverse, attention_scaling) = match scaling {
        RopeScaling::None => (plain, 1.0),
        &RopeScaling::Linear { factor } => {
            positive("factor", factor)?;
            (plain.iter().map(|frequency| frequency / factor as f32).collect(), 1.0)
        }
        &RopeScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context,
        } => {
            positive("factor", factor)?;
            positive("low_freq_factor", low_frequency_factor)?;
            positive("high_freq_factor", high_frequency_factor)?;
            positive("original_max_position_embeddings", original_context)?;
            let bands =
                Bands { factor, low_frequency_factor, high_frequency_factor, original_context };
            (plain.iter().map(|&frequency| bands.apply(frequency)).collect(), 1.0)
        }
        RopeScaling::Yarn { .. } => yarn(base, dimension, &powers, scaling)?,
        RopeScaling::Long { factors, attention_factor, key } => {
            if factors.len() != powers.len() {
                let many = format!(
                    "has {}, but heads have {} pairs that are rotated",
                    entries(factors.len()),
                    powers.len()
                );
                return Err(key_invalid(key, many));
            }
            if let Some(factor) = factors.iter().find(|factor| **factor <= 0.0) {
                return Err(key_invalid(
                    key,
                    format!("has {}, not a positive number", shown(*factor)),
                ));
            }
            let divided = powers.iter().zip(factors);
            let inverse = divided.map(|(power, factor)| 1.0 / (*factor as f32 * power)).collect();
            (inverse, *attention_factor)
        }
    };
    if inverse.iter().any(|frequency| !frequency.is_finite()) || !attention_scaling.is_finite() {
        return Err(key_invalid("rope_scaling", "gives a rotary frequency that is not finite"));
    }
    Ok(Frequencies { inverse, attention_scaling })
}

impl Frequencies {
    /// Cosines and sines of positions 0 to `rows` - 1.
    ///
    /// Angles are float32 products and the results are rounded to float32 before they are scaled and
    /// rounded to float16, as transformers' `LlamaRotaryEmbedding` does in float32.
    ///
    /// # Errors
    /// A table of more than [`LARGEST_TABLE`] elements, or a value beyond float16.
    pub fn tables(&self, rows: u64) -> Result<RopeTables> {
        let too_large = || {
            shape_invalid("context", format!("needs {rows} rotary positions, which are too many"))
        };
        let half = self.inverse.len();
        let row_count = usize::try_from(rows).map_err(|_| too_large())?;
        let elements = half
            .checked_mul(2)
            .and_then(|width| width.checked_mul(row_count))
            .filter(|elements| *elements as u64 <= LARGEST_TABLE)
            .ok_or_else(too_large)?;
        let mut cosine = Vec::new();
        let mut sine = Vec::new();
        cosine.try_reserve_exact(elements).map_err(|_| too_large())?;
        sine.try_reserve_exact(elements).map_err(|_| too_large())?;
        let scaling = self.attention_scaling as f32;
        for position in 0..row_count {
            let start = cosine.len();
            for frequency in &self.inverse {
                let angle = f64::from(frequency * position as f32);
                cosine.push(f16::from_f32(angle.cos() as f32 * scaling));
                sine.push(f16::from_f32(angle.sin() as f32 * scaling));
            }
            cosine.extend_from_within(start..);
            sine.extend_from_within(start..);
        }
        if cosine.iter().chain(&sine).any(|value| !value.is_finite()) {
            return Err(key_invalid(
                "rope_scaling.attention_factor",
                format!("is {}, which gives cosines beyond float16", shown(self.attention_scaling)),
            ));
        }
        Ok(RopeTables { shape: [1, rows, 2 * half as u64], cosine, sine })
    }
}

/// `base ** (arange(0, dimension, 2) / dimension)` in float32.
fn powers(base: f64, dimension: u64) -> Vec<f32> {
    let base = f64::from(base as f32);
    (0..dimension / 2)
        .map(|pair| {
            let exponent = (2 * pair) as f32 / dimension as f32;
            base.powf(f64::from(exponent)) as f32
        })
        .collect()
}

/// The bands of `_compute_llama3_parameters`.
struct Bands {
    factor: f64,
    low_frequency_factor: f64,
    high_frequency_factor: f64,
    original_context: f64,
}

impl Bands {
    fn apply(&self, frequency: f32) -> f32 {
        let factor = self.factor as f32;
        let longest = (self.original_context / self.low_frequency_factor) as f32;
        let shortest = (self.original_context / self.high_frequency_factor) as f32;
        // torch divides a number by a tensor as the number times the tensor's reciprocal.
        let wave = frequency.recip() * (2.0 * std::f64::consts::PI) as f32;
        if wave > longest {
            return frequency / factor;
        }
        if wave < shortest {
            return frequency;
        }
        let span = (self.high_frequency_factor - self.low_frequency_factor) as f32;
        let smooth =
            (wave.recip() * self.original_context as f32 - self.low_frequency_factor as f32) / span;
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// `_compute_yarn_parameters`.
fn yarn(
    base: f64,
    dimension: u64,
    powers: &[f32],
    scaling: &RopeScaling,
) -> Result<(Vec<f32>, f64)> {
    let &RopeScaling::Yarn {
        factor,
        attention_factor,
        beta_fast,
        beta_slow,
        mscale,
        mscale_all_dimensions,
        original_context,
        truncate,
    } = scaling
    else {
        return Err(key_invalid("rope_scaling", "is not yarn"));
    };
    positive("factor", factor)?;
    positive("beta_fast", beta_fast)?;
    positive("beta_slow", beta_slow)?;
    positive("original_max_position_embeddings", original_context)?;
    if base <= 1.0 {
        return Err(key_invalid("rope_theta", format!("is {base}; yarn wants it above 1")));
    }
    let weight = |mscale: f64| {
        if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
    };
    let given = |value: Option<f64>| value.filter(|value| *value != 0.0);
    let attention = match (attention_factor, given(mscale), given(mscale_all_dimensions)) {
        (Some(attention), ..) => attention,
        (None, Some(numerator), Some(denominator)) => weight(numerator) / weight(denominator),
        (None, ..) => weight(1.0),
    };

    let size = dimension as f64;
    let dimension_of = |rotations: f64| {
        size * (original_context / (rotations * 2.0 * std::f64::consts::PI)).ln()
            / (2.0 * base.ln())
    };
    let (mut low, mut high) = (dimension_of(beta_fast), dimension_of(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let low = low.max(0.0);
    let mut high = high.min(size - 1.0);
    if low == high {
        high += 0.001;
    }
    let (start, span) = (low as f32, (high - low) as f32);
    let factor = factor as f32;
    let inverse = powers
        .iter()
        .enumerate()
        .map(|(pair, power)| {
            let ramp = ((pair as f32 - start) / span).clamp(0.0, 1.0);
            let kept = 1.0 - ramp;
            1.0 / (factor * power) * (1.0 - kept) + 1.0 / power * kept
        })
        .collect();
    Ok((inverse, attention))
}

fn positive(key: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(key_invalid(&format!("rope_scaling.{key}"), format!("is {value}, not a positive number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_frequencies_fall_from_one() {
        let found = frequencies(10_000.0, 4, &RopeScaling::None).unwrap();
        assert_eq!(found.inverse, [1.0, 0.01]);
        let tables = found.tables(3).unwrap();
        assert_eq!(tables.shape, [1, 3, 4]);
        assert_eq!(tables.cosine[..4], [f16::ONE; 4]);
        let row: Vec<f32> = tables.sine[8..].iter().map(|value| value.to_f32()).collect();
        assert!((row[0] - 2_f32.sin()).abs() < 1e-3 && (row[3] - 0.02_f32.sin()).abs() < 1e-4);
        assert_eq!(row[..2], row[2..]);
    }

    #[test]
    fn bad_parameters_are_named() {
        let key = |base, dimension, scaling| {
            let error = frequencies(base, dimension, &scaling).unwrap_err();
            error.at.unwrap().trim_start_matches("config.json: ").to_owned()
        };
        assert_eq!(key(1e4, 5, RopeScaling::None), "head_dim");
        assert_eq!(key(1e4, 0, RopeScaling::None), "head_dim");
        assert_eq!(key(1e4, LARGEST_HEAD + 2, RopeScaling::None), "head_dim");
        assert_eq!(key(1e4, 1 << 62, RopeScaling::None), "head_dim");
        assert_eq!(key(0.0, 4, RopeScaling::None), "rope_theta");
        assert_eq!(key(f64::NAN, 4, RopeScaling::None), "rope_theta");
        let linear = RopeScaling::Linear { factor: 0.0 };
        assert_eq!(key(1e4, 4, linear), "rope_scaling.factor");
        // A factor this small makes the frequencies infinite in float32.
        let linear = RopeScaling::Linear { factor: 1e-39 };
        assert_eq!(key(1e4, 4, linear), "rope_scaling");
        let yarn = RopeScaling::Yarn {
            factor: 2.0,
            attention_factor: None,
            beta_fast: 32.0,
            beta_slow: 1.0,
            mscale: None,
            mscale_all_dimensions: None,
            original_context: 64.0,
            truncate: true,
        };
        assert_eq!(key(1.0, 4, yarn), "rope_theta");
    }

    #[test]
    fn tables_that_cannot_be_are_refused() {
        let mut found = frequencies(10_000.0, 4, &RopeScaling::None).unwrap();
        assert!(found.tables(u64::MAX).is_err() && found.tables(LARGEST_TABLE).is_err());
        found.attention_scaling = 1e6;
        assert!(found.tables(1).is_err());
    }
}
