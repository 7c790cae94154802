//! Which values of a model's functions are the inputs of which weights.

use crate::flow::Flow;
use anemll_codes as codes;
use anemll_generation::observation::{each_block, half_type};
use anemll_plugin_api::{Error, Result};
use coreml_proto::mil;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The tensor of the model's files that each constant of its programs is made from, or a part of.
pub type WeightNames = BTreeMap<String, String>;

/// The inputs of all matrices in some functions of packages.
#[derive(Debug, Clone, Default)]
pub struct Taps {
    /// By package and function: names of the taps.
    by_function: BTreeMap<(PathBuf, String), Vec<String>>,
    /// By name.
    values: BTreeMap<String, Tap>,
}

/// How tokens count in sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// All alike.
    Evenly,
    /// By what becomes of errors in what is made of them, as [`Collector`](crate::Collector) says.
    ByEffect,
}

/// How much the errors of a token's products count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Weight {
    /// As much as those of any other.
    Even,
    /// By the size of a value of the residual stream, in which they are felt: less where it is larger.
    Size(String),
    /// By how much attention looks at the token, as these weights say.
    Attention(String),
}

impl Weight {
    /// The value that it is known by.
    pub(crate) fn value(&self) -> Option<&str> {
        match self {
            Self::Even => None,
            Self::Size(value) | Self::Attention(value) => Some(value),
        }
    }
}

/// A value that matrices are multiplied with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Its name in the function.
    pub(crate) value: String,
    /// How much its tokens count.
    pub(crate) weight: Weight,
    /// Elements for each token.
    pub(crate) inputs: usize,
    /// Where these elements are.
    pub(crate) axis: InputAxis,
    /// Tensors of the model that it is the input of.
    pub(crate) tensors: BTreeSet<String>,
}

/// The axis of a value that a matrix sums over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputAxis {
    /// The second, behind a batch of 1 and before the tokens: `conv`.
    Second,
    /// The last, behind the tokens: `linear`.
    Last,
}

impl Taps {
    /// The inputs of the matrices in these functions of packages. `weights` has the constants that
    /// are weights of the model, and `counting` says how much tokens count.
    ///
    /// # Errors
    /// A package that cannot be read.
    pub fn new(
        functions: &[(PathBuf, String)],
        weights: &WeightNames,
        counting: Counting,
    ) -> Result<Self> {
        let mut taps = Self::default();
        each_block(functions, |path, function, block| {
            let found = taps.add_block(block, weights, counting);
            // Sums are kept by name: those of two values would be mixed up.
            let mut known = taps.by_function.values().flatten();
            if let Some(name) = known.find(|name| found.contains(name)) {
                return Err(Error::new(
                    codes::GRAPH_INVALID,
                    format!("two functions of an evaluation have a value `{name}`"),
                )
                .with_at(path.display().to_string())
                .with_hint("this is a bug in the arch plugin; please report it to its author"));
            }
            taps.by_function.insert((path.to_owned(), function.to_owned()), found);
            Ok(())
        })?;
        Ok(taps)
    }

    /// Adds the inputs of a block's matrices, and gives their names.
    fn add_block(
        &mut self,
        block: &mil::Block,
        weights: &WeightNames,
        counting: Counting,
    ) -> Vec<String> {
        let shapes: BTreeMap<&str, Vec<u64>> = block
            .operations
            .iter()
            .flat_map(|operation| &operation.outputs)
            .filter_map(|output| Some((output.name.as_str(), half_type(output)?.fixed_shape()?)))
            .collect();
        let flow = Flow::new(block);
        let mut found: BTreeMap<String, Tap> = BTreeMap::new();
        for (at, operation) in block.operations.iter().enumerate() {
            let axis = match operation.r#type.as_str() {
                "conv" => InputAxis::Second,
                "linear" => InputAxis::Last,
                _ => continue,
            };
            let (Some(weight), Some(value)) =
                (argument(operation, "weight"), argument(operation, "x"))
            else {
                continue;
            };
            let (Some(tensor), Some(shape)) = (weights.get(weight), shapes.get(weight)) else {
                continue;
            };
            // A kernel of more than one element has inputs of more than one token.
            if shape.iter().skip(2).any(|size| *size != 1) {
                continue;
            }
            let inputs = shape.get(1).map_or(0, |size| *size as usize);
            let effects = match counting {
                Counting::Evenly => (None, None),
                Counting::ByEffect => (flow.attention_to(at), flow.residual_after(at)),
            };
            let (name, weight) = match effects {
                // What attention looks at counts by itself, even where other weights have the same input.
                (Some(attention), _) => {
                    (format!("{value} {LOOKED_AT}"), Weight::Attention(attention.to_owned()))
                }
                (None, Some(residual)) => (value.to_owned(), Weight::Size(residual.to_owned())),
                (None, None) => (value.to_owned(), Weight::Even),
            };
            let tap = found.entry(name).or_insert_with(|| Tap {
                value: value.to_owned(),
                weight,
                inputs,
                axis,
                tensors: BTreeSet::new(),
            });
            if tap.inputs == inputs && tap.axis == axis {
                tap.tensors.insert(tensor.clone());
            }
        }
        keep_whole(&mut found);
        let names = found.keys().cloned().collect();
        self.values.extend(found);
        names
    }

    /// Values with so many elements, each the input of a tensor of its name.
    #[cfg(test)]
    pub(crate) fn invented(values: &[(&str, usize)]) -> Self {
        let values = values.iter().map(|(name, inputs)| {
            let tensors = BTreeSet::from([(*name).to_owned()]);
            let (value, axis) = ((*name).to_owned(), InputAxis::Last);
            let weight = Weight::Even;
            ((*name).to_owned(), Tap { value, weight, inputs: *inputs, axis, tensors })
        });
        Self::of_values(values)
    }

    /// These taps, of no function.
    #[cfg(test)]
    pub(crate) fn of_values(values: impl IntoIterator<Item = (String, Tap)>) -> Self {
        Self { values: values.into_iter().collect(), ..Self::default() }
    }

    /// Names of the taps of a function.
    pub(crate) fn of(&self, package: &Path, function: &str) -> Vec<String> {
        let key = (package.to_owned(), function.to_owned());
        self.by_function.get(&key).cloned().unwrap_or_default()
    }

    pub(crate) fn values(&self) -> &BTreeMap<String, Tap> {
        &self.values
    }
}

/// What stands behind the name of a value where what attention looks at is counted by itself.
const LOOKED_AT: &str = "(looked at)";

/// A tensor whose rows are parts of several matrices has one set of statistics: the same as the others
/// of its input, if some of its rows have those.
fn keep_whole(taps: &mut BTreeMap<String, Tap>) {
    let apart = |tap: &Tap| matches!(tap.weight, Weight::Attention(_));
    let others = taps.values().filter(|tap| !apart(tap)).flat_map(|tap| &tap.tensors);
    let others: BTreeSet<String> = others.cloned().collect();
    for tap in taps.values_mut().filter(|tap| apart(tap)) {
        tap.tensors.retain(|tensor| !others.contains(tensor));
    }
    taps.retain(|_, tap| !tap.tensors.is_empty());
}

/// The value that an operation reads as an argument.
fn argument<'a>(operation: &'a mil::Operation, name: &str) -> Option<&'a str> {
    match operation.inputs.get(name)?.arguments.as_slice() {
        [mil::argument::Binding { binding: Some(mil::argument::binding::Binding::Name(name)) }] => {
            Some(name)
        }
        _ => None,
    }
}
