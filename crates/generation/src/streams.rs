//! How far the residual stream of one run is from that of another, layer by layer.
//!
//! The cosine of logits is blind to magnitude, and a norm hides much of what went wrong before it. So
//! what stands behind each layer is compared itself, as a share of its length.

use crate::engine::Engine;
use crate::head::Elements as _;
use crate::observation::{Observer, each_block, half_type, reads};
use crate::peaks::layer_of;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result, Tensor};
use anemll_services::check_cancelled;
use coreml_proto::mil;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The residual stream behind each layer, as functions of packages compute it.
///
/// It is the last sum of a layer of the shape (1, tokens, width), by the layer's number in the names
/// of values. A function that does not name its values so has no layers to compare.
pub struct Streams {
    /// Values to see, by package and function: name and layer.
    taps: BTreeMap<(PathBuf, String), BTreeMap<String, u32>>,
    /// Tokens of the present call that are none of the padding.
    pub tokens: usize,
    /// Rows of each layer since they were cleared.
    rows: BTreeMap<u32, Rows>,
}

/// The residual stream behind one layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Elements of a token.
    pub width: usize,
    /// Token by token.
    pub values: Vec<f32>,
}

impl Streams {
    /// The streams of these functions of packages.
    ///
    /// # Errors
    /// A package that cannot be read.
    pub fn new(functions: &[(PathBuf, String)]) -> Result<Self> {
        let mut taps = BTreeMap::new();
        each_block(functions, |path, function, block| {
            taps.insert((path.to_owned(), function.to_owned()), sums(block));
            Ok(())
        })?;
        Ok(Self { taps, tokens: 0, rows: BTreeMap::new() })
    }

    /// Whether no layer is known.
    pub fn is_empty(&self) -> bool {
        self.taps.values().all(BTreeMap::is_empty)
    }

    /// What was seen of each layer, which then is forgotten.
    pub fn take(&mut self) -> BTreeMap<u32, Rows> {
        std::mem::take(&mut self.rows)
    }

    /// The rows of a text that fits into the context, run from its beginning.
    ///
    /// # Errors
    /// Those of the runtime.
    pub fn of_text(&mut self, engine: &mut Engine, tokens: &[u32]) -> Result<BTreeMap<u32, Rows>> {
        engine.reset()?;
        let batch = engine.batch().max(1) as usize;
        for (number, tokens) in tokens.chunks(batch).enumerate() {
            check_cancelled()?;
            self.tokens = tokens.len();
            engine.observe(tokens, (number * batch) as u64, self)?;
        }
        Ok(self.take())
    }
}

/// The last sum of each layer of a block: a value's name and the layer.
fn sums(block: &mil::Block) -> BTreeMap<String, u32> {
    let mut last: BTreeMap<u32, String> = BTreeMap::new();
    for operation in &block.operations {
        let [output] = operation.outputs.as_slice() else { continue };
        let shape = half_type(output).and_then(|kind| kind.fixed_shape());
        if operation.r#type != "add" || !matches!(shape.as_deref(), Some([1, _, _])) {
            continue;
        }
        // What a function gives has another name than its layer's.
        let operands = || reads(operation).find_map(layer_of);
        if let Some(layer) = layer_of(&output.name).or_else(operands) {
            last.insert(layer, output.name.clone());
        }
    }
    last.into_iter().map(|(layer, name)| (name, layer)).collect()
}

impl Observer for Streams {
    fn taps(&self, package: &Path, function: &str) -> Vec<String> {
        let key = (package.to_owned(), function.to_owned());
        self.taps.get(&key).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    fn see(&mut self, package: &Path, function: &str, value: &Tensor) -> Result<()> {
        let key = (package.to_owned(), function.to_owned());
        let Some(layer) = self.taps.get(&key).and_then(|taps| taps.get(&value.name)) else {
            return Ok(());
        };
        let [1, tokens, width] = value.shape[..] else {
            return Err(Error::new(
                codes::RUN_FAILED,
                format!("the runtime gave `{}` in the shape {:?}", value.name, value.shape),
            )
            .with_at(format!("function `{function}`")));
        };
        let width = usize::try_from(width).unwrap_or(usize::MAX);
        let values = value.floats()?;
        let rows = self.rows.entry(*layer).or_default();
        rows.width = width;
        let count = self.tokens.min(usize::try_from(tokens).unwrap_or(usize::MAX));
        rows.values.extend(values.iter().take(count.saturating_mul(width)));
        Ok(())
    }
}

/// How far the residual stream behind a layer is from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerError {
    /// The layer, from 0.
    pub layer: u32,
    /// Length of all differences together as a share of the length of all that it should be.
    pub relative_l2: f64,
    /// The same of the token that is farthest off.
    pub token_max: f64,
    /// That token, counted over the tokens that were run.
    pub token: u64,
    /// Length of all that it is as a share of the length of all that it should be.
    pub norm_ratio: f64,
}

/// The worst layer: the first whose stream is no number, else that with the largest relative L2.
pub fn worst_layer(layers: &[LayerError]) -> Option<&LayerError> {
    layers.iter().find(|layer| !layer.relative_l2.is_finite()).or_else(|| {
        layers.iter().max_by(|one, other| one.relative_l2.total_cmp(&other.relative_l2))
    })
}

/// A line on the worst layer and the last one; none where no layer is known.
pub fn summary(layers: &[LayerError]) -> Option<String> {
    let (worst, last) = (worst_layer(layers)?, layers.last()?);
    let told = |layer: &LayerError| match layer.relative_l2.is_finite() {
        true => format!("off by {} of its length", share(layer.relative_l2)),
        false => format!("no number from token {} on", layer.token),
    };
    let behind_last = match worst.layer == last.layer {
        true => String::new(),
        false => format!("; behind layer {}, the last: {}", last.layer, told(last)),
    };
    Some(format!(
        "residual stream: worst behind layer {}, {}{behind_last}",
        worst.layer,
        told(worst)
    ))
}

/// A share in percent, with two digits that count.
fn share(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        0.0 => "0 %".to_owned(),
        0.0..0.001 => format!("{percent:.1e} %"),
        0.0..0.1 => format!("{percent:.4} %"),
        0.0..1.0 => format!("{percent:.3} %"),
        _ => format!("{percent:.1} %"),
    }
}

/// Adds up how far the rows of one run are from those of another.
#[derive(Debug, Default)]
pub struct LayerErrors {
    layers: BTreeMap<u32, Sums>,
    tokens: u64,
}

/// Sums of squares of one layer.
#[derive(Debug, Default)]
struct Sums {
    difference: f64,
    own: f64,
    reference: f64,
    token_max: f64,
    token: u64,
}

impl LayerErrors {
    /// Adds the rows that both have of some tokens.
    pub fn add(&mut self, reference: &BTreeMap<u32, Rows>, own: &BTreeMap<u32, Rows>) {
        let mut tokens = 0;
        for (layer, reference) in reference {
            let Some(own) = own.get(layer).filter(|own| own.width == reference.width) else {
                continue;
            };
            let width = reference.width.max(1);
            let sums = self.layers.entry(*layer).or_default();
            let rows = reference.values.chunks_exact(width).zip(own.values.chunks_exact(width));
            tokens = tokens.max(rows.len() as u64);
            for (row, (reference, own)) in rows.enumerate() {
                sums.add(reference, own, self.tokens + row as u64);
            }
        }
        self.tokens += tokens;
    }

    /// The error of each layer, first to last.
    pub fn finish(&self) -> Vec<LayerError> {
        let error = |(layer, sums): (&u32, &Sums)| LayerError {
            layer: *layer,
            relative_l2: (sums.difference / sums.reference).sqrt(),
            token_max: sums.token_max,
            token: sums.token,
            norm_ratio: (sums.own / sums.reference).sqrt(),
        };
        self.layers.iter().map(error).collect()
    }
}

impl Sums {
    fn add(&mut self, reference: &[f32], own: &[f32], token: u64) {
        let (mut difference, mut own_square, mut square) = (0.0, 0.0, 0.0);
        for (reference, own) in reference.iter().zip(own) {
            let (reference, own) = (f64::from(*reference), f64::from(*own));
            difference += (own - reference) * (own - reference);
            own_square += own * own;
            square += reference * reference;
        }
        self.difference += difference;
        self.own += own_square;
        self.reference += square;
        let share = (difference / square).sqrt();
        // What is no number stays the worst.
        if share > self.token_max || (share.is_nan() && !self.token_max.is_nan()) {
            (self.token_max, self.token) = (share, token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(width: usize, values: &[f32]) -> Rows {
        Rows { width, values: values.to_vec() }
    }

    #[test]
    fn errors_are_shares_of_lengths_and_name_the_worst_token() {
        let mut errors = LayerErrors::default();
        let reference = BTreeMap::from([(0, rows(2, &[3.0, 4.0, 0.0, 1.0]))]);
        let own = BTreeMap::from([(0, rows(2, &[3.0, 4.0, 0.5, 1.0])), (1, rows(2, &[1.0, 1.0]))]);
        errors.add(&reference, &own);
        errors.add(&reference, &reference);
        let [layer] = errors.finish()[..] else { panic!("one layer is known to both") };
        assert_eq!(layer.layer, 0);
        assert!((layer.relative_l2 - (0.25_f64 / 52.0).sqrt()).abs() < 1e-12);
        assert_eq!((layer.token_max, layer.token), (0.5, 1));
        assert!((layer.norm_ratio - (52.25_f64 / 52.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_layer_without_numbers_is_the_worst() {
        let mut errors = LayerErrors::default();
        let stream = |value| BTreeMap::from([(0, rows(1, &[1.1])), (1, rows(1, &[value]))]);
        let fine = BTreeMap::from([(0, rows(1, &[1.0])), (1, rows(1, &[1.0]))]);
        errors.add(&fine, &stream(f32::INFINITY));
        errors.add(&fine, &stream(f32::NAN));
        errors.add(&fine, &stream(5.0));
        let layers = errors.finish();
        let worst = worst_layer(&layers).unwrap();
        assert_eq!((worst.layer, worst.token), (1, 1));
        assert!(worst.token_max.is_nan() && !worst.relative_l2.is_finite());
        let line = summary(&layers).unwrap();
        assert_eq!(line, "residual stream: worst behind layer 1, no number from token 1 on");
        assert!(worst_layer(&[]).is_none() && summary(&[]).is_none());
    }
}
