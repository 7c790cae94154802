//! Adding up what matrices are multiplied with.

use crate::taps::{InputAxis, Tap, Taps, Weight};
use anemll_codes as codes;
use anemll_generation::observation::Observer;
use anemll_gptq::ProductSums;
use anemll_plugin_api::{DType, Error, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The square of each input.
    Squares,
    /// The product of every two inputs.
    Products,
}

/// Sums of one value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sums {
    Squares(Vec<f64>),
    Products(ProductSums),
}

/// Sees the inputs of matrices while a model runs, and adds up their squares or products.
///
/// Where that is asked for ([`Counting::ByEffect`](crate::Counting)), tokens count by what becomes of
/// them, as far as the run itself shows it. An error in what goes into
/// the residual stream is divided by the size of that stream at the next norm: for the first tokens of a
/// text, on which attention rests, this is hundreds of times that of others. Errors in keys and values
/// are felt wherever attention looks at their token. By gradients one would find nearly the same, at
/// three times the price.
#[derive(Debug)]
pub struct Collector {
    taps: Taps,
    sums: BTreeMap<String, Sums>,
    /// Tokens of the batch that is run which are none of its padding.
    pub(crate) tokens: usize,
    /// Inputs of this batch that wait for the value by which their tokens count.
    waiting: Vec<(String, Rows)>,
    /// Inputs of this window that wait for the end of it, by tap.
    window: BTreeMap<String, Vec<Rows>>,
    /// How much attention looks at each position of this window, by the name of its weights.
    looks: BTreeMap<String, Vec<f64>>,
}

/// A batch of inputs: a row of `stride` elements for each, of which the first are of tokens.
#[derive(Debug)]
struct Rows {
    values: Vec<f32>,
    stride: usize,
    tokens: usize,
}

impl Collector {
    /// Sums of these values of `taps`, all of them zero.
    pub(crate) fn new(taps: &Taps, names: &BTreeSet<String>, kind: Kind) -> Self {
        let known = taps.values().iter().filter(|(name, _)| names.contains(*name));
        let sums = known.map(|(name, tap)| (name.clone(), Sums::new(kind, tap.inputs))).collect();
        Self {
            taps: taps.clone(),
            sums,
            tokens: 0,
            waiting: Vec::new(),
            window: BTreeMap::new(),
            looks: BTreeMap::new(),
        }
    }

    pub(crate) fn sums(&self) -> &BTreeMap<String, Sums> {
        &self.sums
    }

    pub(crate) fn sums_mut(&mut self) -> &mut BTreeMap<String, Sums> {
        &mut self.sums
    }

    /// The taps that there are sums of.
    fn summed(&self) -> impl Iterator<Item = (&String, &Tap)> {
        self.taps.values().iter().filter(|(name, _)| self.sums.contains_key(*name))
    }

    /// Adds a batch of inputs to the sums of a tap, each token times its weight.
    fn add(&mut self, name: &str, mut rows: Rows, weights: Option<&[f32]>) {
        if let Some(weights) = weights {
            weigh(&mut rows.values, rows.stride, weights);
        }
        if let Some(sums) = self.sums.get_mut(name) {
            sums.add(&rows.values, rows.tokens, rows.stride);
        }
    }

    /// How the tokens of a tap count.
    fn weight(&self, name: &str) -> Option<&Weight> {
        self.taps.values().get(name).map(|tap| &tap.weight)
    }

    /// Ends a batch: what the model has not said more of counts evenly.
    pub(crate) fn end_batch(&mut self) {
        for (name, rows) in std::mem::take(&mut self.waiting) {
            self.add(&name, rows, None);
        }
    }

    /// Ends a window of the text: only now it is known how much attention has looked at its tokens.
    pub(crate) fn end_window(&mut self) {
        for (name, batches) in std::mem::take(&mut self.window) {
            let attention = self.weight(&name).and_then(Weight::value);
            let looks = attention.and_then(|attention| self.looks.get(attention));
            let looks = looks.map(Vec::as_slice).unwrap_or_default();
            let count: usize = batches.iter().map(|rows| rows.tokens).sum();
            let look = |at: usize| looks.get(at).map_or(0.0, |looks| looks.sqrt() as f32);
            let weights = even((0..count).map(look).collect());
            let mut first = 0;
            for rows in batches {
                let own = &weights[first..first + rows.tokens];
                first += rows.tokens;
                self.add(&name, rows, Some(own));
            }
        }
        self.looks.clear();
    }

    /// Adds the inputs that wait for a value of the residual stream, whose tokens have these sizes.
    fn add_waiting(&mut self, residual: &str, sizes: &[f32]) {
        let weights = even(weights_by_size(sizes));
        for (name, rows) in std::mem::take(&mut self.waiting) {
            if self.weight(&name).and_then(Weight::value) == Some(residual) {
                self.add(&name, rows, Some(&weights));
            } else {
                self.waiting.push((name, rows));
            }
        }
    }

    /// Adds up how much attention of (1, heads, tokens, positions) looks at each position: an error
    /// there comes into a token's sum times the weight, and such errors add up by their squares.
    fn look(&mut self, value: &Tensor) {
        let [_, _, tokens, positions] = value.shape[..] else { return };
        let (tokens, positions) = (tokens as usize, positions as usize);
        let looks = self.looks.entry(value.name.clone()).or_insert_with(|| vec![0.0; positions]);
        let rows = value.bytes.as_chunks::<4>().0.chunks_exact(positions.max(1));
        for (_, row) in rows.enumerate().filter(|(at, _)| at % tokens.max(1) < self.tokens) {
            for (look, bytes) in looks.iter_mut().zip(row) {
                let weight = f64::from(f32::from_le_bytes(*bytes));
                *look += weight * weight;
            }
        }
    }
}

/// Weights of tokens by the sizes of what their errors are divided by. What is smaller than usual counts
/// no more than what is usual.
fn weights_by_size(sizes: &[f32]) -> Vec<f32> {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let usual = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(1.0);
    sizes.iter().map(|size| if *size > usual { usual / size } else { 1.0 }).collect()
}

/// What every token has of a weight of 1, whatever becomes of its errors. Large errors, as those of two
/// bits, are felt even where small ones are not: without it, attention loses the first token of a text,
/// which it rests on (SmolLM2 with vectors of two bits: KL 3.7, and 2.1 with a quarter).
const SHARE: f32 = 0.25;

/// Weights with a mean of 1, of which each is [`SHARE`] at least; those that are all zero, or no numbers,
/// become 1.
fn even(mut weights: Vec<f32>) -> Vec<f32> {
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let factor = (weights.len() as f64 / sum) as f32;
    if !factor.is_finite() {
        weights.fill(1.0);
        return weights;
    }
    weights.iter_mut().for_each(|weight| *weight = SHARE + (1.0 - SHARE) * *weight * factor);
    weights
}

/// Multiplies the tokens of each row so that their products are those of before times the weights.
fn weigh(values: &mut [f32], stride: usize, weights: &[f32]) {
    let roots: Vec<f32> = weights.iter().map(|weight| weight.sqrt()).collect();
    for row in values.chunks_exact_mut(stride.max(1)) {
        row.iter_mut().zip(&roots).for_each(|(value, root)| *value *= root);
    }
}

/// The root of the mean square of each token of (1, tokens, width).
fn sizes(value: &Tensor) -> Vec<f32> {
    let width = value.shape.last().map_or(0, |width| *width as usize).max(1);
    let tokens = value.bytes.as_chunks::<4>().0.chunks_exact(width);
    let size = |token: &[[u8; 4]]| {
        let squares = token.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)).powi(2));
        (squares.sum::<f64>() / width as f64).sqrt() as f32
    };
    tokens.map(size).collect()
}

impl Sums {
    fn new(kind: Kind, inputs: usize) -> Self {
        match kind {
            Kind::Squares => Self::Squares(vec![0.0; inputs]),
            Kind::Products => Self::Products(ProductSums::new(inputs)),
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(kind: Kind, inputs: usize) -> u64 {
        let inputs = inputs as u64;
        match kind {
            Kind::Squares => inputs.saturating_mul(8),
            Kind::Products => inputs.saturating_mul(inputs).saturating_mul(4),
        }
    }

    /// Adds `tokens` tokens of `values`, a row of `stride` elements for each input.
    pub(crate) fn add(&mut self, values: &[f32], tokens: usize, stride: usize) {
        match self {
            Self::Products(sums) => sums.add(values, tokens, stride),
            Self::Squares(sums) => {
                for (sum, row) in sums.iter_mut().zip(values.chunks_exact(stride)) {
                    *sum += row[..tokens]
                        .iter()
                        .map(|value| f64::from(*value) * f64::from(*value))
                        .sum::<f64>();
                }
            }
        }
    }

    /// The shape of the means.
    pub(crate) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Squares(sums) => vec![sums.len()],
            Self::Products(sums) => vec![sums.inputs(); 2],
        }
    }

    /// Means over so many tokens.
    pub(crate) fn means(&self, tokens: u64) -> Vec<f32> {
        let share = 1.0 / tokens.max(1) as f64;
        match self {
            Self::Squares(sums) => sums.iter().map(|sum| (sum * share) as f32).collect(),
            Self::Products(sums) => sums.symmetric(share as f32),
        }
    }
}

impl Observer for Collector {
    fn taps(&self, package: &Path, function: &str) -> Vec<String> {
        let names = self.taps.of(package, function);
        let own = self.summed().filter(|(name, _)| names.contains(name));
        let values = own.flat_map(|(_, tap)| [Some(tap.value.as_str()), tap.weight.value()]);
        let values: BTreeSet<&str> = values.flatten().collect();
        values.into_iter().map(str::to_owned).collect()
    }

    fn see(&mut self, _: &Path, function: &str, value: &Tensor) -> Result<()> {
        let failed = |what: String| {
            Error::new(codes::RUN_FAILED, format!("the runtime gave `{}` {what}", value.name))
                .with_at(format!("function `{function}`"))
        };
        let taps: Vec<(String, Tap)> = self
            .summed()
            .filter(|(_, tap)| tap.value == value.name)
            .map(|(name, tap)| (name.clone(), tap.clone()))
            .collect();
        let by_this = self
            .summed()
            .map(|(_, tap)| &tap.weight)
            .find(|weight| weight.value() == Some(value.name.as_str()))
            .cloned();
        if taps.is_empty() && by_this.is_none() {
            return Ok(());
        }
        if value.dtype != DType::FLOAT32 {
            return Err(failed(format!("as {}, not as float32", value.dtype)));
        }
        for (name, tap) in taps {
            let (values, stride) = rows(value, &tap).ok_or_else(|| {
                failed(format!("in the shape {:?}, without {} inputs", value.shape, tap.inputs))
            })?;
            let tokens = self.tokens.min(stride);
            refuse_not_finite(&value.name, &values, tokens, stride)?;
            let rows = Rows { values, stride, tokens };
            match &tap.weight {
                Weight::Even => self.add(&name, rows, None),
                Weight::Size(_) => self.waiting.push((name, rows)),
                Weight::Attention(_) => self.window.entry(name).or_default().push(rows),
            }
        }
        match by_this {
            Some(Weight::Size(residual)) => {
                let mut sizes = sizes(value);
                sizes.truncate(self.tokens);
                self.add_waiting(&residual, &sizes);
            }
            Some(Weight::Attention(_)) => self.look(value),
            Some(Weight::Even) | None => {}
        }
        Ok(())
    }
}

fn refuse_not_finite(name: &str, values: &[f32], tokens: usize, stride: usize) -> Result<()> {
    let mut counted = values.iter().enumerate().filter(|(at, _)| at % stride < tokens);
    let Some((at, number)) = counted.find(|(_, number)| !number.is_finite()) else {
        return Ok(());
    };
    let input = at / stride;
    Err(Error::new(
        codes::CALIBRATION_INPUT,
        format!("the model computes {number} as the input {input} of `{name}`"),
    )
    .with_hint(
        "weights that are multiplied with it cannot be weighed; `anemll preflight` shows where \
         values leave their range",
    ))
}

/// A value as a row for each input, and how many elements a row has; none where the shape is another.
fn rows(value: &Tensor, tap: &Tap) -> Option<(Vec<f32>, usize)> {
    let elements: usize = value.shape.iter().map(|size| *size as usize).product();
    let stride = elements.checked_div(tap.inputs).filter(|stride| *stride > 0)?;
    let floats = value.bytes.as_chunks::<4>().0.iter();
    let values: Vec<f32> = floats.map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let inputs = tap.inputs as u64;
    match (tap.axis, value.shape.as_slice()) {
        (InputAxis::Second, [1, found, ..]) if *found == inputs => Some((values, stride)),
        (InputAxis::Last, [.., found]) if *found == inputs => {
            let mut rows = vec![0.0; values.len()];
            for (token, values) in values.chunks_exact(tap.inputs).enumerate() {
                for (input, value) in values.iter().enumerate() {
                    rows[input * stride + token] = *value;
                }
            }
            Some((rows, stride))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(inputs: usize, axis: InputAxis) -> Tap {
        let (value, weight) = ("x".to_owned(), Weight::Even);
        Tap { value, weight, inputs, axis, tensors: BTreeSet::new() }
    }

    fn tensor(shape: &[u64], values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new("x", DType::FLOAT32, shape, bytes).unwrap()
    }

    #[test]
    fn inputs_of_conv_and_linear_become_the_same_rows() {
        let conv = tensor(&[1, 2, 1, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
        let linear = tensor(&[1, 3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        let (first, second) =
            (rows(&conv, &tap(2, InputAxis::Second)), rows(&linear, &tap(2, InputAxis::Last)));
        assert_eq!(first, second);
        assert_eq!(first.unwrap().1, 3);
        assert_eq!(rows(&conv, &tap(3, InputAxis::Second)), None);
        assert_eq!(rows(&linear, &tap(3, InputAxis::Last)), None);
    }

    #[test]
    fn tokens_count_by_what_becomes_of_them() {
        assert_eq!(weights_by_size(&[2.0, 200.0, 1.0, 4.0]), [1.0, 0.01, 1.0, 0.5]);
        assert_eq!(even(vec![1.0, 3.0]), [0.625, 1.375]);
        assert_eq!(even(vec![0.0, 0.0]), [1.0, 1.0]);
        assert_eq!(even(vec![f32::NAN, 1.0]), [1.0, 1.0]);

        let key = |name: &str, weight| {
            let tensors = BTreeSet::from([name.to_owned()]);
            let (value, axis) = ("x".to_owned(), InputAxis::Last);
            (name.to_owned(), Tap { value, weight, inputs: 1, axis, tensors })
        };
        let taps = Taps::of_values([
            key("query", Weight::Size("residual".to_owned())),
            key("key", Weight::Attention("looks".to_owned())),
            key("other", Weight::Size("never".to_owned())),
        ]);
        let names = taps.values().keys().cloned().collect();
        let mut collector = Collector::new(&taps, &names, Kind::Squares);
        let see = |collector: &mut Collector, name: &str, shape: &[u64], values: &[f32]| {
            let mut value = tensor(shape, values);
            name.clone_into(&mut value.name);
            collector.see(Path::new("p"), "f", &value).unwrap();
        };
        // Two batches of a window, each with one token of padding; the first token is a place of rest.
        for (first, x) in [(0, [1.0, 2.0, 99.0]), (2, [3.0, 4.0, 99.0])] {
            collector.tokens = 2;
            see(&mut collector, "x", &[1, 3, 1], &x);
            let mut looks = [0.0; 12];
            for token in 0..3 {
                looks[token * 4] = 0.6;
                looks[token * 4 + 1 + first / 2] = 0.8;
            }
            see(&mut collector, "looks", &[1, 1, 3, 4], &looks);
            let size = if first == 0 { 30.0 } else { 3.0 };
            see(&mut collector, "residual", &[1, 3, 1], &[size, 3.0, 1e9]);
            collector.end_batch();
        }
        collector.end_window();
        let sums = |name: &str| match &collector.sums()[name] {
            Sums::Squares(sums) => sums[0],
            Sums::Products(_) => unreachable!("squares"),
        };
        let near =
            |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-6, "{found}");
        // A quarter counts evenly. Of the rest, the first batch has the weights 0.1 and 1, evened; the
        // smaller of two is the usual size.
        let parts = |even: f64, weighted: f64| 0.25 * even + 0.75 * weighted;
        let evenly = 1.0 + 4.0 + 9.0 + 16.0;
        near(sums("query"), parts(evenly, (2.0 * 0.1 * 1.0 + 2.0 * 1.0 * 4.0) / 1.1 + 9.0 + 16.0));
        // Four tokens look at the first, two each at the next ones, and none at the last.
        let roots =
            [(4.0_f64 * 0.36).sqrt(), (2.0_f64 * 0.64).sqrt(), (2.0_f64 * 0.64).sqrt(), 0.0];
        let mean = roots.iter().sum::<f64>() / 4.0;
        let expected = (roots[0] + roots[1] * 4.0 + roots[2] * 9.0) / mean;
        near(sums("key"), parts(evenly, expected));
        near(sums("other"), evenly);
    }

    #[test]
    fn sums_leave_padding_out() {
        let values = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0];
        let mut squares = Sums::new(Kind::Squares, 2);
        let mut products = Sums::new(Kind::Products, 2);
        for sums in [&mut squares, &mut products] {
            sums.add(&values, 2, 3);
        }
        assert_eq!((squares.shape(), squares.means(2)), (vec![2], vec![2.5, 12.5]));
        let means = vec![2.5, 5.5, 5.5, 12.5];
        assert_eq!((products.shape(), products.means(2)), (vec![2, 2], means));
    }
}
