//! A function as the rules look at it: who makes and who uses each value, and of what type it is.

use crate::dtype::DataType;
use crate::literal::Literal;
use crate::model;
use crate::types::{Symbols, TensorType, ValueType};
use coreml_proto::mil::argument::binding::Binding;
use coreml_proto::{Model, mil};
use std::collections::{HashMap, HashSet};

/// One function. What cannot be read is left out.
pub(crate) struct FunctionView<'a> {
    pub(crate) name: &'a str,
    pub(crate) inputs: Vec<(&'a str, ValueType)>,
    pub(crate) outputs: &'a [String],
    /// All operations in order.
    pub(crate) operations: Vec<&'a mil::Operation>,
    types: HashMap<&'a str, ValueType>,
    producers: HashMap<&'a str, usize>,
    consumers: HashMap<&'a str, Vec<usize>>,
    constants: HashSet<&'a str>,
}

/// The functions of a model, by name.
pub(crate) fn functions(model: &Model) -> Vec<FunctionView<'_>> {
    let functions = model::program(model).into_iter().flat_map(|program| &program.functions);
    functions.filter_map(|(name, function)| FunctionView::new(name, function)).collect()
}

impl<'a> FunctionView<'a> {
    fn new(name: &'a str, function: &'a mil::Function) -> Option<Self> {
        let block = model::block(function).ok()?;
        let symbols = Symbols::default();
        let read = |value: &'a mil::NamedValueType| {
            let kind = model::value_type(value, &symbols).ok()?;
            Some((value.name.as_str(), kind))
        };
        let inputs: Vec<_> = function.inputs.iter().filter_map(read).collect();
        let mut view = Self {
            name,
            outputs: &block.outputs,
            operations: block.operations.iter().collect(),
            types: inputs.iter().cloned().collect(),
            inputs,
            producers: HashMap::new(),
            consumers: HashMap::new(),
            constants: HashSet::new(),
        };
        for (index, operation) in block.operations.iter().enumerate() {
            for source in sources(operation) {
                view.consumers.entry(source).or_default().push(index);
            }
            for output in &operation.outputs {
                view.types.extend(read(output));
                view.producers.insert(&output.name, index);
                if is_constant(operation) {
                    view.constants.insert(&output.name);
                }
            }
        }
        Some(view)
    }

    /// Operations that run: neither `const` nor constexpr.
    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &'a mil::Operation)> {
        let all = self.operations.iter().copied().enumerate();
        all.filter(|(_, operation)| !is_constant(operation))
    }

    /// Operations of a type.
    pub(crate) fn of_type(&self, kind: &str) -> impl Iterator<Item = (usize, &'a mil::Operation)> {
        let all = self.operations.iter().copied().enumerate();
        all.filter(move |(_, operation)| operation.r#type == kind)
    }

    /// Tensor type of a value.
    pub(crate) fn tensor(&self, value: &str) -> Option<&TensorType> {
        self.types.get(value)?.tensor()
    }

    /// Known sizes of a value.
    pub(crate) fn shape(&self, value: &str) -> Option<Vec<u64>> {
        self.tensor(value)?.fixed_shape()
    }

    /// Element type of a value.
    pub(crate) fn data_type(&self, value: &str) -> Option<DataType> {
        self.tensor(value).map(|tensor| tensor.data_type)
    }

    /// The operation that makes a value; `None` for inputs.
    pub(crate) fn producer(&self, value: &str) -> Option<&'a mil::Operation> {
        self.producers.get(value).map(|index| self.operations[*index])
    }

    /// Operations that use a value, by index.
    pub(crate) fn consumers(&self, value: &str) -> &[usize] {
        self.consumers.get(value).map_or(&[], Vec::as_slice)
    }

    /// Whether a value is a `const` or comes from a constexpr operation.
    pub(crate) fn is_constant(&self, value: &str) -> bool {
        self.constants.contains(value)
    }

    /// Tensors that exist while the function runs: inputs and results of running operations.
    pub(crate) fn running_tensors(&self) -> impl Iterator<Item = (&'a str, &TensorType)> {
        let inputs = self.inputs.iter().filter_map(|(name, kind)| Some((*name, kind.tensor()?)));
        let results = self
            .running()
            .flat_map(|(_, operation)| &operation.outputs)
            .filter_map(|output| Some((output.name.as_str(), self.tensor(&output.name)?)));
        inputs.chain(results)
    }

    /// States by name.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&'a str, &TensorType)> {
        self.inputs.iter().filter_map(|(name, kind)| match kind {
            ValueType::State(tensor) => Some((*name, tensor)),
            _ => None,
        })
    }

    /// The immediate value that a parameter is bound to, directly or through a `const`.
    pub(crate) fn literal(&self, operation: &mil::Operation, parameter: &str) -> Option<Literal> {
        let bindings = &operation.inputs.get(parameter)?.arguments;
        let value = match &bindings.first()?.binding {
            Some(Binding::Value(value)) => value,
            Some(Binding::Name(name)) => self
                .producer(name)
                .filter(|source| source.r#type == "const")?
                .attributes
                .get("val")?,
            None => return None,
        };
        Literal::from_value(value).ok()
    }

    /// Whether the function holds attention: a softmax, or writes to a state.
    pub(crate) fn has_attention(&self) -> bool {
        self.operations.iter().any(|operation| {
            matches!(operation.r#type.as_str(), "softmax" | "write_state")
                || operation.r#type == "scaled_dot_product_attention"
        })
    }

    /// Attention layers: a softmax each, or two writes (key and value) each.
    pub(crate) fn layers(&self) -> usize {
        let attention =
            self.of_type("softmax").count() + self.of_type("scaled_dot_product_attention").count();
        attention.max(self.of_type("write_state").count().div_ceil(2))
    }
}

/// Whether an operation gives constants.
pub(crate) fn is_constant(operation: &mil::Operation) -> bool {
    crate::ops::is_constant(&operation.r#type)
}

/// Values that an operation uses by name.
pub(crate) fn sources(operation: &mil::Operation) -> impl Iterator<Item = &str> {
    let bindings = operation.inputs.values().flat_map(|argument| &argument.arguments);
    bindings.filter_map(|binding| match &binding.binding {
        Some(Binding::Name(name)) => Some(name.as_str()),
        _ => None,
    })
}

/// The value that a parameter is bound to by name.
pub(crate) fn source<'a>(operation: &'a mil::Operation, parameter: &str) -> Option<&'a str> {
    operation.inputs.get(parameter)?.arguments.iter().find_map(|binding| match &binding.binding {
        Some(Binding::Name(name)) => Some(name.as_str()),
        _ => None,
    })
}

/// The first value that an operation makes; empty if it makes none.
pub(crate) fn output(operation: &mil::Operation) -> &str {
    operation.outputs.first().map_or("", |output| output.name.as_str())
}
