//! Which values of a model's functions are the inputs of which weights.

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
    /// By package and function: names of the values to see.
    by_function: BTreeMap<(PathBuf, String), Vec<String>>,
    /// By name.
    values: BTreeMap<String, Tap>,
}

/// A value that matrices are multiplied with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tap {
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
    /// are weights of the model.
    ///
    /// # Errors
    /// A package that cannot be read.
    pub fn new(functions: &[(PathBuf, String)], weights: &WeightNames) -> Result<Self> {
        let mut taps = Self::default();
        each_block(functions, |path, function, block| {
            let found = taps.add_block(block, weights);
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
    fn add_block(&mut self, block: &mil::Block, weights: &WeightNames) -> Vec<String> {
        let shapes: BTreeMap<&str, Vec<u64>> = block
            .operations
            .iter()
            .flat_map(|operation| &operation.outputs)
            .filter_map(|output| Some((output.name.as_str(), half_type(output)?.fixed_shape()?)))
            .collect();
        let mut found = BTreeSet::new();
        for operation in &block.operations {
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
            let tap = self.values.entry(value.to_owned()).or_insert_with(|| Tap {
                inputs,
                axis,
                tensors: BTreeSet::new(),
            });
            if tap.inputs == inputs && tap.axis == axis {
                tap.tensors.insert(tensor.clone());
                found.insert(value.to_owned());
            }
        }
        found.into_iter().collect()
    }

    /// Values with so many elements, each the input of a tensor of its name.
    #[cfg(test)]
    pub(crate) fn invented(values: &[(&str, usize)]) -> Self {
        let values = values.iter().map(|(name, inputs)| {
            let tensors = BTreeSet::from([(*name).to_owned()]);
            ((*name).to_owned(), Tap { inputs: *inputs, axis: InputAxis::Last, tensors })
        });
        Self { values: values.collect(), ..Self::default() }
    }

    pub(crate) fn of(&self, package: &Path, function: &str) -> Vec<String> {
        let key = (package.to_owned(), function.to_owned());
        self.by_function.get(&key).cloned().unwrap_or_default()
    }

    pub(crate) fn values(&self) -> &BTreeMap<String, Tap> {
        &self.values
    }
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
