//! How positions are scaled: `rope_scaling` of config.json from the metadata, or from the factors that
//! are stored as a tensor.

use crate::container::Container;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::source::Source;
use crate::value::shortest;
use serde_json::{Map, Value as Json, json};
use std::f64::consts::TAU;

/// Factors of llama3's scaling, one for each frequency.
pub(crate) const FACTORS: &str = "rope_freqs.weight";
/// Factors of longrope.
pub(crate) const LONG: &str = "rope_factors_long.weight";
pub(crate) const SHORT: &str = "rope_factors_short.weight";

/// Key of a factor of what the rotation gives.
const ATTENTION: &str = "rope.scaling.attn_factor";
/// Most factors that are read.
const MOST: u64 = 4096;
/// How far factors may be from those that a scaling gives, in parts of them: they were computed and
/// stored in float32.
const TOLERANCE: f64 = 1e-4;

/// `rope_scaling`, if positions are scaled. `base` is rope_theta, `dimensions` the rotated part of a
/// head.
pub(crate) fn scaling(
    container: &Container,
    source: &(impl Source + ?Sized),
    keys: &Keys<'_>,
    base: f64,
    dimensions: u64,
) -> Result<Option<Json>> {
    let factor = keys.number("rope.scaling.factor")?;
    let factor = match factor {
        None => keys.number("rope.scale_linear")?,
        some => some,
    };
    // Readers of these files take a factor without a type for linear.
    let kind = match keys.text("rope.scaling.type")? {
        Some(kind) => kind,
        None if factor.is_some_and(|factor| factor != 0.0) => "linear",
        None => "none",
    };
    let original = keys.size("rope.scaling.original_context_length")?;
    match (factors(container, source, LONG)?, factors(container, source, SHORT)?) {
        (None, None) => {}
        (Some(long), Some(short)) => {
            check_longrope(keys, original)?;
            let scaling = json!({ "type": "longrope", "long_factor": long, "short_factor": short });
            return Ok(Some(scaling));
        }
        (long, _) => {
            let missing = if long.is_some() { SHORT } else { LONG };
            return Err(Error::invalid("the tensor is missing").with_key(missing));
        }
    }
    if keys.number(ATTENTION)?.is_some_and(|factor| factor != 0.0 && factor != 1.0) {
        return Err(Error::unsupported("a factor of attention, which only longrope has")
            .with_key(keys.full(ATTENTION)));
    }
    let scales = kind != "none" && (kind != "linear" || factor != Some(1.0));
    if scales && container.tensor(FACTORS).is_some() {
        return Err(
            Error::unsupported(format!("factors of frequencies beside `{kind}`")).with_key(FACTORS)
        );
    }
    let needed = |value: Option<f64>| {
        value.ok_or_else(|| {
            Error::invalid("the scaling has no factor").with_key(keys.full("rope.scaling.factor"))
        })
    };
    match kind {
        "none" => {}
        // Factor 1 is no scaling.
        "linear" if factor == Some(1.0) => {}
        "linear" => {
            return Ok(Some(json!({ "rope_type": "linear", "factor": needed(factor)? })));
        }
        "yarn" => {
            let mut scaling = Map::new();
            scaling.insert("rope_type".to_owned(), json!("yarn"));
            scaling.insert("factor".to_owned(), json!(needed(factor)?));
            if let Some(original) = original {
                scaling.insert("original_max_position_embeddings".to_owned(), json!(original));
            }
            for (key, name) in [
                ("rope.scaling.yarn_beta_fast", "beta_fast"),
                ("rope.scaling.yarn_beta_slow", "beta_slow"),
                ("rope.scaling.yarn_attn_factor", "attention_factor"),
            ] {
                if let Some(number) = keys.number(key)? {
                    scaling.insert(name.to_owned(), json!(number));
                }
            }
            return Ok(Some(Json::Object(scaling)));
        }
        other => {
            return Err(Error::unsupported(format!("the scaling `{other}` of positions"))
                .with_key(keys.full("rope.scaling.type")));
        }
    }
    let Some(factors) = factors(container, source, FACTORS)? else { return Ok(None) };
    llama3(&factors, base, dimensions).map(Some).ok_or_else(|| {
        Error::unsupported("factors of frequencies that no scaling of transformers gives")
            .with_key(FACTORS)
    })
}

/// The factor of attention must be the one that transformers computes for longrope: config.json does not
/// say it.
fn check_longrope(keys: &Keys<'_>, original: Option<u64>) -> Result<()> {
    let context = keys.size("context_length")?;
    let (Some(given), Some(context), Some(original)) = (keys.number(ATTENTION)?, context, original)
    else {
        return Ok(());
    };
    let (scale, original) = (context as f64 / original as f64, original as f64);
    let expected = if scale > 1.0 { (1.0 + scale.ln() / original.ln()).sqrt() } else { 1.0 };
    if (given - expected).abs() <= TOLERANCE * expected {
        return Ok(());
    }
    Err(Error::unsupported(format!("= {given}, where transformers takes {expected:.6}"))
        .with_key(keys.full(ATTENTION)))
}

/// The numbers of a tensor of float32, if it is there.
fn factors(
    container: &Container,
    source: &(impl Source + ?Sized),
    name: &str,
) -> Result<Option<Vec<f64>>> {
    let Some(tensor) = container.tensor(name) else { return Ok(None) };
    if tensor.shape.len() != 1 || tensor.shape[0] > MOST {
        return Err(Error::invalid("not a list of factors").with_key(name));
    }
    let factors = tensor.values(source)?;
    if let Some(other) = factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
        return Err(
            Error::invalid(format!("has the factor {other}, not a positive number")).with_key(name)
        );
    }
    Ok(Some(factors.into_iter().map(shortest).collect()))
}

/// The scaling `llama3` that gives these factors.
///
/// Between the wavelengths that are left alone and those that get the whole factor, the part that is
/// not scaled is a line in the frequency, and the line is all that the numbers of the configuration
/// decide. So the usual numbers are tried first, and then the line through two of the factors.
fn llama3(factors: &[f64], base: f64, dimensions: u64) -> Option<Json> {
    if factors.len() as u64 * 2 != dimensions || dimensions == 0 {
        return None;
    }
    let frequencies: Vec<f64> = (0..factors.len())
        .map(|index| base.powf(-2.0 * index as f64 / dimensions as f64) / TAU)
        .collect();
    let factor = factors.iter().copied().fold(0.0, f64::max);
    if factor == 1.0 && factors.iter().all(|one| *one == 1.0) {
        return Some(Json::Null);
    }
    if !factor.is_finite() || factor <= 1.0 {
        return None;
    }
    // The share of a frequency that stays, from its factor 1 / ((1 - share) / factor + share).
    let between: Vec<(f64, f64)> = frequencies
        .iter()
        .zip(factors)
        .filter(|(_, one)| **one > 1.0 && **one < factor)
        .map(|(frequency, one)| {
            (*frequency, (one.recip() - factor.recip()) / (1.0 - factor.recip()))
        })
        .collect();
    let mut tries = vec![(8192.0, 4.0)];
    if let ([(first, high), .., (last, low)], true) = (between.as_slice(), between.len() > 1) {
        let slope = (high - low) / (first - last);
        let high_factor = 1.0 - (high - slope * first).recip();
        let original = slope * (high_factor - 1.0);
        let original = original.round();
        tries.push((original, (high_factor * 1e4).round() / 1e4));
        tries.push((original, high_factor));
    }
    let fits = |&(original, high): &(f64, f64)| {
        original >= 1.0
            && high > 1.0
            && frequencies.iter().zip(factors).all(|(frequency, one)| {
                let share = ((original * frequency - 1.0) / (high - 1.0)).clamp(0.0, 1.0);
                let expected = ((1.0 - share) / factor + share).recip();
                (expected - one).abs() <= TOLERANCE * one
            })
    };
    let (original, high) = tries.into_iter().find(fits)?;
    Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": high,
        "original_max_position_embeddings": original as u64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors_of(original: f64, low: f64, high: f64, factor: f64, base: f64) -> Vec<f64> {
        (0..32)
            .map(|index| {
                let frequency = base.powf(-f64::from(index) / 32.0) / TAU;
                let share = ((original * frequency - low) / (high - low)).clamp(0.0, 1.0);
                f64::from(((1.0 - share) / factor + share).recip() as f32)
            })
            .collect()
    }

    #[test]
    fn the_scaling_is_found_again() {
        let usual = llama3(&factors_of(8192.0, 1.0, 4.0, 32.0, 500_000.0), 500_000.0, 64).unwrap();
        assert_eq!(usual["original_max_position_embeddings"], 8192);
        assert_eq!(usual["factor"], 32.0);
        assert_eq!(usual["high_freq_factor"], 4.0);
        let other = llama3(&factors_of(640.0, 1.0, 8.0, 8.0, 10_000.0), 10_000.0, 64).unwrap();
        assert_eq!(other["original_max_position_embeddings"], 640);
        assert_eq!(other["high_freq_factor"], 8.0);
    }

    #[test]
    fn what_is_no_scaling_is_not_taken_for_one() {
        let mut factors = factors_of(8192.0, 1.0, 4.0, 32.0, 500_000.0);
        factors[3] = 1.5;
        assert_eq!(llama3(&factors, 500_000.0, 64), None);
        assert_eq!(llama3(&factors, 500_000.0, 128), None);
        assert_eq!(llama3(&[1.0; 32], 500_000.0, 64), Some(Json::Null));
    }
}
