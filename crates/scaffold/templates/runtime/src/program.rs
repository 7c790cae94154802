//! The one function of a package, read and run.

use std::collections::BTreeMap;

use anemll_mil::{DataType, FunctionInterface, Literal, Port, interface, model};
use anemll_plugin_api::data::{FunctionSignature, SessionDescription, ValueInfo};
use anemll_plugin_api::{DType, Error, Result, TensorView, codes};
use coreml_proto::mil::argument::binding::Binding;
use coreml_proto::{Model, mil};
use half::f16;

/// A value while the function runs: float16, widened.
#[derive(Clone)]
pub struct Value {
    /// Its shape.
    pub shape: Vec<u64>,
    elements: Vec<f32>,
}

/// Values by name.
pub type Values = BTreeMap<String, Value>;

/// A function that can be run.
pub struct Program {
    interface: FunctionInterface,
    block: mil::Block,
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(codes::GRAPH_INVALID, text)
}

impl Value {
    /// The dtype of all values.
    pub fn dtype(&self) -> DType {
        DType::FLOAT16
    }

    /// The elements as they are handed out.
    pub fn bytes(&self) -> Vec<u8> {
        self.elements.iter().flat_map(|element| f16::from_f32(*element).to_le_bytes()).collect()
    }

    /// Each element with one of `other`, whose shape is the end of this one's; rounded.
    fn with(&self, other: &Self, combine: fn(f32, f32) -> f32) -> Result<Self> {
        if !self.shape.ends_with(&other.shape) {
            let text = format!("the shapes {:?} and {:?}", self.shape, other.shape);
            return Err(Error::new(codes::OPERATION_UNSUPPORTED, text));
        }
        let others = other.elements.iter().cycle();
        let pairs = self.elements.iter().zip(others);
        let elements = pairs.map(|(one, other)| rounded(combine(*one, *other))).collect();
        Ok(Self { shape: self.shape.clone(), elements })
    }
}

fn rounded(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

impl Program {
    /// Reads a model, and refuses what cannot be run.
    pub fn read(model: &Model) -> Result<Self> {
        let mut functions = interface(model).map_err(|error| invalid(error.to_string()))?;
        let (Some(interface), true) = (functions.pop(), functions.is_empty()) else {
            return Err(invalid("only packages with one function are run"));
        };
        let ports = interface.inputs.iter().chain(&interface.outputs);
        if !interface.states.is_empty()
            || ports.clone().any(|port| port.data_type != DataType::Float16)
        {
            return Err(invalid("only float16 values and no states are run"));
        }
        let program = model::program(model).map_err(|error| invalid(error.to_string()))?;
        let function = program.functions.get(&interface.name);
        let function = function.ok_or_else(|| invalid("the program lacks its function"))?;
        let block = model::block(function).map_err(|error| invalid(error.to_string()))?;
        for operation in &block.operations {
            if !["const", "add", "mul", "relu"].contains(&operation.r#type.as_str()) {
                let text = format!("there is no operation `{}` here", operation.r#type);
                return Err(Error::new(codes::OPERATION_UNSUPPORTED, text));
            }
        }
        Ok(Self { block: block.clone(), interface })
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.interface.name
    }

    /// The names of the outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.interface.outputs.iter().map(|port| port.name.as_str())
    }

    /// What the host is told of the function.
    pub fn describe(&self) -> SessionDescription {
        let ports = |ports: &[Port]| -> Vec<ValueInfo> {
            let info =
                |port: &Port| ValueInfo::new(&*port.name, DType::FLOAT16, port.shapes.clone());
            ports.iter().map(info).collect()
        };
        let signature = FunctionSignature::new(self.name())
            .with_inputs(ports(&self.interface.inputs))
            .with_outputs(ports(&self.interface.outputs));
        SessionDescription::default()
            .with_functions(vec![signature])
            .with_default_function(self.name().to_owned())
    }

    /// All values of a run.
    pub fn run(&self, inputs: &[TensorView<'_>]) -> Result<Values> {
        let mut values = self.read_inputs(inputs)?;
        for operation in &self.block.operations {
            let value = match operation.r#type.as_str() {
                "const" => constant(operation)?,
                "add" => operand(&values, operation, "x")?
                    .with(operand(&values, operation, "y")?, |x, y| x + y)?,
                "mul" => operand(&values, operation, "x")?
                    .with(operand(&values, operation, "y")?, |x, y| x * y)?,
                _ => {
                    let x = operand(&values, operation, "x")?;
                    let zero = Value { shape: Vec::new(), elements: vec![0.0] };
                    x.with(&zero, f32::max)?
                }
            };
            if let Some(output) = operation.outputs.first() {
                values.insert(output.name.clone(), value);
            }
        }
        Ok(values)
    }

    fn read_inputs(&self, inputs: &[TensorView<'_>]) -> Result<Values> {
        let refuse = |name: &str, why: &str| {
            Err(Error::new(codes::INPUT_INVALID, format!("the input `{name}` {why}")))
        };
        let mut values = Values::new();
        for input in inputs {
            let ports = &self.interface.inputs;
            let Some(port) = ports.iter().find(|port| port.name == input.name()) else {
                return refuse(input.name(), "is unknown");
            };
            if input.dtype() != DType::FLOAT16 || !port.shapes.iter().any(|it| it == input.shape())
            {
                return refuse(input.name(), "has another dtype or shape than described");
            }
            let halves = input.bytes().as_chunks::<2>().0.iter();
            let elements = halves.map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect();
            let value = Value { shape: input.shape().to_vec(), elements };
            values.insert(input.name().to_owned(), value);
        }
        match self.interface.inputs.iter().find(|port| !values.contains_key(&port.name)) {
            Some(port) => refuse(&port.name, "is missing"),
            None => Ok(values),
        }
    }
}

/// The value that an operation reads under this name.
fn operand<'a>(values: &'a Values, operation: &mil::Operation, name: &str) -> Result<&'a Value> {
    let argument = operation.inputs.get(name).and_then(|argument| argument.arguments.first());
    let value = match argument.and_then(|argument| argument.binding.as_ref()) {
        Some(Binding::Name(name)) => values.get(name),
        _ => None,
    };
    let text = format!("`{name}` of `{}` is not a value of the function", operation.r#type);
    value.ok_or_else(|| invalid(text))
}

/// The numbers of a `const` that stand in the program itself.
fn constant(operation: &mil::Operation) -> Result<Value> {
    let value = operation.attributes.get("val").ok_or_else(|| invalid("a const has no value"))?;
    match Literal::from_value(value).map_err(invalid)? {
        Literal::Tensor(tensor) if tensor.data_type == DataType::Float16 => {
            let shape = tensor.shape.clone();
            let elements = Literal::Tensor(tensor).floats().unwrap_or_default().to_vec();
            Ok(Value { shape, elements: elements.iter().map(|element| *element as f32).collect() })
        }
        _ => Err(Error::new(codes::OPERATION_UNSUPPORTED, "a const that is not float16")),
    }
}
