//! Builds one function, value by value, every value with its inferred type.
//!
//! Values are handed out as [`Var`]s. Each operation passes through the table of [`crate::ops`]:
//! what does not type-check is refused where it is made, with the names and types of its operands.
//! Equal small constants are one `const`; constants that nothing uses are left out.

mod finish;
mod operations;

use crate::dtype::DataType;
use crate::error::{Error, Result};
use crate::identifier;
use crate::literal::{self, Literal};
use crate::ops::{self, Arguments, OpDefinition, Operand, Opset, Origin, Placement};
use crate::types::{Dimension, Symbols, TensorType, ValueType};
use coreml_proto::mil;
use half::f16;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Constants up to this many encoded bytes are shared when equal.
const SHARED_CONSTANT_BYTES: usize = 4096;

/// A value of the function that is being built. Only good with the builder that made it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Var(u32);

/// An argument of the generic [`FunctionBuilder::op`].
#[derive(Clone, Debug)]
pub enum Arg {
    /// A value.
    Var(Var),
    /// Several values, as `values` of `concat` takes them.
    Vars(Vec<Var>),
    /// An immediate or weight file value, as constexpr operations take them.
    Value(Box<mil::Value>),
}

impl From<Var> for Arg {
    fn from(var: Var) -> Self {
        Self::Var(var)
    }
}

impl From<&[Var]> for Arg {
    fn from(vars: &[Var]) -> Self {
        Self::Vars(vars.to_vec())
    }
}

impl From<mil::Value> for Arg {
    fn from(value: mil::Value) -> Self {
        Self::Value(Box::new(value))
    }
}

#[derive(Debug)]
struct Slot {
    name: String,
    kind: ValueType,
    origin: Origin,
    value: Option<mil::Value>,
    is_input: bool,
}

#[derive(Debug)]
enum Bound {
    Var(Var),
    Value(Box<mil::Value>),
}

#[derive(Debug)]
struct Draft {
    kind: String,
    name: String,
    inputs: BTreeMap<String, Vec<Bound>>,
    attributes: BTreeMap<String, mil::Value>,
    outputs: Vec<Var>,
}

/// Builds one function. See the [module](self).
#[derive(Debug)]
pub struct FunctionBuilder {
    opset: Opset,
    inputs: Vec<Var>,
    slots: Vec<Slot>,
    operations: Vec<Draft>,
    names: HashSet<String>,
    name_counts: HashMap<String, u32>,
    constants: HashMap<Vec<u8>, Var>,
    scopes: Vec<String>,
    symbols: Symbols,
}

impl Default for FunctionBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl FunctionBuilder {
    /// An empty function of opset `CoreML8` (iOS 18).
    pub fn new() -> Self {
        Self::with_opset(Opset::CoreML8)
    }

    /// An empty function of another opset.
    pub fn with_opset(opset: Opset) -> Self {
        Self {
            opset,
            inputs: Vec::new(),
            slots: Vec::new(),
            operations: Vec::new(),
            names: HashSet::new(),
            name_counts: HashMap::new(),
            constants: HashMap::new(),
            scopes: Vec::new(),
            symbols: Symbols::default(),
        }
    }

    /// A size that is not known when the model is built, equal to no other.
    pub fn symbol(&mut self) -> Dimension {
        self.symbols.fresh()
    }

    /// Declares an input. Errors: a name that is not legal or taken.
    pub fn input(&mut self, name: &str, kind: TensorType) -> Result<Var> {
        // Symbols that the caller chose must not be given out again.
        for dimension in &kind.shape {
            if let Dimension::Symbol(number) = dimension {
                self.symbols.reserve(*number);
            }
        }
        self.declare(name, ValueType::Tensor(kind))
    }

    /// Declares a state. Errors: a name that is not legal or taken; a type that is not fp16 of a
    /// known shape of rank 1 or more, the only states that Core ML keeps.
    pub fn state(&mut self, name: &str, kind: TensorType) -> Result<Var> {
        if kind.data_type != DataType::Float16 || kind.rank() == 0 || kind.fixed_shape().is_none() {
            return Err(Error::new(format!(
                "state `{name}` is {kind}; a state is fp16, of known shape and rank 1 or more"
            )));
        }
        self.declare(name, ValueType::State(kind))
    }

    fn declare(&mut self, name: &str, kind: ValueType) -> Result<Var> {
        self.claim(name)?;
        let slot = Slot {
            name: name.to_owned(),
            kind,
            origin: Origin::Runtime,
            value: None,
            is_input: true,
        };
        let var = self.push(slot);
        self.inputs.push(var);
        Ok(var)
    }

    /// A constant of the weight file, named by a weight reference or a file name. The shape is
    /// that of the constant in the program. Equal references are one constant.
    pub fn weight(
        &mut self,
        name_hint: &str,
        file_name: &str,
        data_type: DataType,
        shape: &[u64],
    ) -> Result<Var> {
        let kind = TensorType::new(data_type, shape);
        if kind.byte_size().is_none() {
            return Err(Error::new(format!("weight `{name_hint}` of type {kind} has no size")));
        }
        self.constant(Some(name_hint), literal::blob_value(&kind, file_name, 0))
    }

    /// An fp16 table as an immediate constant, row-major. Errors: another number of values than
    /// the shape holds.
    pub fn table_f16(&mut self, name_hint: &str, shape: &[u64], values: &[f16]) -> Result<Var> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let kind = TensorType::new(DataType::Float16, shape);
        let value = literal::value_from_bytes(&kind, bytes)
            .map_err(|error| Error::new(format!("table `{name_hint}`: {error}")))?;
        self.constant(Some(name_hint), value)
    }

    /// A scalar fp16 constant, rounded to nearest. Errors: a finite value that fp16 cannot hold.
    pub fn scalar_f16(&mut self, value: f32) -> Result<Var> {
        let rounded = f16::from_f32(value);
        if value.is_finite() && rounded.is_infinite() {
            return Err(Error::new(format!("the constant {value} overflows fp16")));
        }
        self.literal(&Literal::float16(rounded))
    }

    /// A vector of fp16 constants, rounded to nearest. Errors as [`Self::scalar_f16`].
    pub fn vector_f16(&mut self, values: &[f32]) -> Result<Var> {
        let rounded: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
        if let Some(place) = (0..values.len())
            .find(|place| values[*place].is_finite() && rounded[*place].is_infinite())
        {
            return Err(Error::new(format!("the constant {} overflows fp16", values[place])));
        }
        self.literal(&Literal::float16s(&[values.len() as u64], &rounded))
    }

    /// A scalar int32 constant.
    pub fn scalar_i32(&mut self, value: i32) -> Result<Var> {
        self.literal(&Literal::int32(value))
    }

    /// A vector of int32 constants.
    pub fn vector_i32(&mut self, values: &[i32]) -> Result<Var> {
        self.literal(&Literal::int32s(values))
    }

    /// A scalar bool constant.
    pub fn scalar_bool(&mut self, value: bool) -> Result<Var> {
        self.literal(&Literal::boolean(value))
    }

    /// A vector of bool constants.
    pub fn vector_bool(&mut self, values: &[bool]) -> Result<Var> {
        self.literal(&Literal::booleans(values))
    }

    /// A string constant.
    pub fn string(&mut self, value: &str) -> Result<Var> {
        self.literal(&Literal::string(value))
    }

    /// Any tensor literal as a constant.
    pub fn literal(&mut self, literal: &Literal) -> Result<Var> {
        let value = literal.to_value().map_err(Error::new)?;
        self.constant(None, value)
    }

    /// A constant of a value; shared with an equal one where it is small or in the weight file.
    pub fn constant(&mut self, name_hint: Option<&str>, value: mil::Value) -> Result<Var> {
        literal::check_value(&value).map_err(Error::new)?;
        let kind = literal::tensor_type(&value).map_err(Error::new)?;
        let small = kind.byte_size().is_none_or(|bytes| bytes <= SHARED_CONSTANT_BYTES as u64);
        let in_file = matches!(value.value, Some(mil::value::Value::BlobFileValue(_)));
        let key = (small || in_file).then(|| coreml_proto::write(&value));
        if let Some(var) = key.as_ref().and_then(|key| self.constants.get(key)) {
            return Ok(*var);
        }
        let name = self.fresh_name(name_hint.unwrap_or("const"), name_hint.is_some());
        let var = self.push(Slot {
            name: name.clone(),
            kind: ValueType::Tensor(kind),
            origin: Origin::Constant,
            value: Some(value.clone()),
            is_input: false,
        });
        self.operations.push(Draft {
            kind: "const".to_owned(),
            name,
            inputs: BTreeMap::new(),
            attributes: BTreeMap::from([("val".to_owned(), value)]),
            outputs: vec![var],
        });
        if let Some(key) = key {
            self.constants.insert(key, var);
        }
        Ok(var)
    }

    /// The type of a value.
    ///
    /// # Panics
    /// If the value belongs to another builder.
    pub fn type_of(&self, var: Var) -> &ValueType {
        &self.slots[var.0 as usize].kind
    }

    /// The shape of a tensor or state; empty for other types.
    ///
    /// # Panics
    /// If the value belongs to another builder.
    pub fn shape_of(&self, var: Var) -> Vec<Dimension> {
        match self.type_of(var) {
            ValueType::Tensor(tensor) | ValueType::State(tensor) => tensor.shape.clone(),
            _ => Vec::new(),
        }
    }

    /// The present name of a value.
    ///
    /// # Panics
    /// If the value belongs to another builder.
    pub fn name_of(&self, var: Var) -> &str {
        &self.slots[var.0 as usize].name
    }

    /// Puts a prefix (such as `layers_0_self_attn`) before the names of the values made from now
    /// on, after those of the scopes around it, until [`Self::end_scope`].
    pub fn scope(&mut self, name: &str) {
        self.scopes.push(identifier::legal(name));
    }

    /// Ends the innermost scope; nothing happens outside all scopes.
    pub fn end_scope(&mut self) {
        self.scopes.pop();
    }

    /// Gives a value its final name. Errors: an input or state, a name that is not legal or taken.
    pub fn name_value(&mut self, var: Var, name: &str) -> Result<()> {
        let slot = self.slot(var)?;
        if slot.name == name {
            return Ok(());
        }
        if slot.is_input {
            let old = &slot.name;
            return Err(Error::new(format!(
                "`{old}` is an input and keeps its name, not `{name}`"
            )));
        }
        self.claim(name)?;
        let slot = &mut self.slots[var.0 as usize];
        let old = std::mem::replace(&mut slot.name, name.to_owned());
        self.names.remove(&old);
        Ok(())
    }

    /// Adds any operation of the table. Outputs are named after the scope and the operation.
    ///
    /// Errors: an operation that the opset lacks; arguments that its parameters do not take; types
    /// and shapes that do not fit. They name the operation and its operands.
    pub fn op(&mut self, kind: &str, arguments: Vec<(&str, Arg)>) -> Result<Vec<Var>> {
        let name = self.peek_name(kind);
        let fail = |message: String| Error::new(message).at_operation(&name, kind);
        let definition = ops::find(kind, self.opset).map_err(fail)?;
        if kind == "const" {
            return Err(fail("constants are made by `constant`".to_owned()));
        }
        let mut inputs = BTreeMap::new();
        for (parameter, argument) in arguments {
            let bound = match argument {
                Arg::Var(var) => vec![Bound::Var(var)],
                Arg::Vars(vars) => vars.into_iter().map(Bound::Var).collect(),
                Arg::Value(value) => vec![Bound::Value(value)],
            };
            if inputs.insert(parameter.to_owned(), bound).is_some() {
                return Err(fail(format!("parameter `{parameter}` is given twice")));
            }
        }
        if definition.placement != Placement::Inputs {
            self.inline_constants(definition, &mut inputs).map_err(fail)?;
        }
        let outputs = self.infer(definition, &inputs).map_err(fail)?;
        Ok(self.append(definition, inputs, outputs))
    }

    /// As [`Self::op`], for operations with one output.
    pub fn op1(&mut self, kind: &str, arguments: Vec<(&str, Arg)>) -> Result<Var> {
        match self.op(kind, arguments)?.as_slice() {
            [var] => Ok(*var),
            vars => Err(Error::new(format!("`{kind}` gives {} values, not one", vars.len()))),
        }
    }

    /// Constexpr operations take values where others take names.
    fn inline_constants(
        &self,
        definition: &OpDefinition,
        inputs: &mut BTreeMap<String, Vec<Bound>>,
    ) -> Result<(), String> {
        for (parameter, bound) in inputs.iter_mut() {
            for bound in bound.iter_mut() {
                let Bound::Var(var) = bound else { continue };
                let slot = self.slot(*var).map_err(|error| error.message)?;
                match (slot.origin, &slot.value) {
                    (Origin::Constant, Some(value)) => {
                        *bound = Bound::Value(Box::new(value.clone()));
                    }
                    (Origin::Constexpr, _) if definition.placement == Placement::ConstantInputs => {
                    }
                    _ => {
                        return Err(format!(
                            "parameter `{parameter}` must be constant, but `{}` is not",
                            slot.name
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn infer(
        &self,
        definition: &OpDefinition,
        inputs: &BTreeMap<String, Vec<Bound>>,
    ) -> Result<Vec<ValueType>, String> {
        let mut value_types: HashMap<(&str, usize), ValueType> = HashMap::new();
        for (parameter, bound) in inputs {
            for (place, bound) in bound.iter().enumerate() {
                if let Bound::Value(value) = bound {
                    literal::check_value(value)?;
                    let kind = literal::tensor_type(value)?;
                    value_types.insert((parameter, place), ValueType::Tensor(kind));
                }
            }
        }
        let mut arguments = Arguments::new(&self.symbols);
        let mut described = Vec::new();
        for (parameter, bound) in inputs {
            let mut operands = Vec::with_capacity(bound.len());
            for (place, bound) in bound.iter().enumerate() {
                let operand = match bound {
                    Bound::Var(var) => {
                        let slot = self.slot(*var).map_err(|error| error.message)?;
                        Operand {
                            label: format!("`{}`", slot.name),
                            kind: &slot.kind,
                            origin: slot.origin,
                            value: slot.value.as_ref(),
                        }
                    }
                    Bound::Value(value) => Operand {
                        label: "the value".to_owned(),
                        kind: &value_types[&(parameter.as_str(), place)],
                        origin: Origin::Constant,
                        value: Some(value),
                    },
                };
                described.push(format!("{parameter} = {} {}", operand.label, operand.kind));
                operands.push(operand);
            }
            arguments.bind(parameter, operands);
        }
        ops::infer(definition, &arguments, self.opset)
            .map_err(|message| format!("{message} ({})", described.join(", ")))
    }

    fn append(
        &mut self,
        definition: &OpDefinition,
        inputs: BTreeMap<String, Vec<Bound>>,
        outputs: Vec<ValueType>,
    ) -> Vec<Var> {
        let name = self.fresh_name(definition.name, false);
        let origin = if definition.is_constexpr() { Origin::Constexpr } else { Origin::Runtime };
        let single = outputs.len() == 1;
        let vars: Vec<Var> = outputs
            .into_iter()
            .enumerate()
            .map(|(place, kind)| {
                let name =
                    if single { name.clone() } else { self.unique(format!("{name}_{place}")) };
                self.push(Slot { name, kind, origin, value: None, is_input: false })
            })
            .collect();
        let (inputs, attributes) = if definition.placement == Placement::Attributes {
            let values = inputs
                .into_iter()
                .filter_map(|(parameter, bound)| match bound.into_iter().next() {
                    Some(Bound::Value(value)) => Some((parameter, *value)),
                    _ => None,
                })
                .collect();
            (BTreeMap::new(), values)
        } else {
            (inputs, BTreeMap::new())
        };
        let kind = definition.name.to_owned();
        self.operations.push(Draft { kind, name, inputs, attributes, outputs: vars.clone() });
        vars
    }

    fn slot(&self, var: Var) -> Result<&Slot> {
        self.slots
            .get(var.0 as usize)
            .ok_or_else(|| Error::new("a value of another builder was passed"))
    }

    fn push(&mut self, slot: Slot) -> Var {
        let var = Var(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.slots.push(slot);
        var
    }

    fn claim(&mut self, name: &str) -> Result<()> {
        if !identifier::is_legal(name) || identifier::is_reserved(name) {
            return Err(Error::new(format!("{name:?} is not a legal name for a value")));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(Error::new(format!("the name `{name}` is taken")));
        }
        Ok(())
    }

    fn scoped(&self, hint: &str) -> String {
        let mut name = self.scopes.join("_");
        if !name.is_empty() {
            name.push('_');
        }
        identifier::legal(&(name + hint))
    }

    /// The name that an operation of this kind would get, for messages.
    fn peek_name(&self, kind: &str) -> String {
        self.scoped(kind)
    }

    /// A name that no value has yet. Names that a caller chose stand without the scope.
    fn fresh_name(&mut self, hint: &str, chosen: bool) -> String {
        let base =
            if chosen || hint == "const" { identifier::legal(hint) } else { self.scoped(hint) };
        self.unique(base)
    }

    fn unique(&mut self, base: String) -> String {
        if self.names.insert(base.clone()) {
            return base;
        }
        loop {
            let count = self.name_counts.entry(base.clone()).or_insert(0);
            *count += 1;
            let name = format!("{base}_{count}");
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests;
