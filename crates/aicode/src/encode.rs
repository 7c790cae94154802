//! Programs to documents of bytecode: every attribute, type and string once, in order of first use.

use crate::attribute::Attribute;
use crate::element::ElementType;
use crate::operations;
use crate::program::{Block, Function, Operation, Port, Program, frame};
use crate::records::{self, ATTRIBUTES, Definition, ENCODING, TYPES, Value};
use crate::types::{Layout, TensorType, Type};
use anemll_mlirbc::{Dialect, Document, Encoded, Error, OperationName, Region, Resource, Result};
use std::collections::HashMap;
use std::hash::Hash;

/// First version of the dialect for which there are assets.
const FIRST_VERSION: u32 = 20_250_707;
/// What Apple's writer says that it is, for readers that ask.
const PRODUCER: &str = "MLIR22.0.0git";

/// The document of a program.
///
/// # Errors
/// An operation that is not in the table, and one with other attributes than the table says.
pub(crate) fn document(program: &Program) -> Result<Document> {
    let mut encoder = Encoder::new(program)?;
    let functions = program.functions.iter().map(|function| encoder.function(function));
    let functions = functions.collect::<Result<Vec<_>>>()?;
    let version = Attribute::Integer { width: 32, unsigned: true, value: program.version.into() };
    let asset = Operation {
        name: frame::ASSET.to_owned(),
        properties: vec![None, Some(version)],
        ..Operation::default()
    };
    let block = anemll_mlirbc::Block { arguments: Vec::new(), operations: functions };
    let mut asset = encoder.operation(&asset)?;
    asset.regions = vec![Region::isolated(block)];
    encoder.document.body.operations.push(asset);
    Ok(encoder.document)
}

/// The lowest version of the dialect that has all that the functions use.
pub(crate) fn needed_version(functions: &[Function]) -> u32 {
    let needed = functions.iter().map(|function| {
        let ports = function.inputs.iter().chain(&function.outputs).map(|port| &port.kind);
        ports.map(version_of_type).max().unwrap_or(0).max(version_of_block(&function.body))
    });
    needed.max().unwrap_or(0).max(FIRST_VERSION)
}

fn version_of_block(block: &Block) -> u32 {
    let operations = block.operations.iter().map(|operation| {
        let own = operations::find(&operation.name).map_or(0, |definition| definition.minimum);
        let inner = operation.regions.iter().map(version_of_block).max().unwrap_or(0);
        let results = operation.results.iter().map(version_of_type).max().unwrap_or(0);
        own.max(inner).max(results)
    });
    operations.max().unwrap_or(0)
}

fn version_of_type(kind: &Type) -> u32 {
    match kind {
        Type::Tensor(tensor) | Type::State(tensor) => tensor.element.minimum(),
        _ => 0,
    }
}

struct Encoder {
    document: Document,
    strings: HashMap<String, u32>,
    attributes: HashMap<Vec<u8>, u32>,
    types: HashMap<Vec<u8>, u32>,
    properties: HashMap<Vec<u8>, u32>,
    names: HashMap<String, u32>,
    location: u32,
}

/// The place of something in a list, to which it is added the first time.
fn place<K: Hash + Eq + Clone, T>(
    known: &mut HashMap<K, u32>,
    list: &mut Vec<T>,
    key: &K,
    make: impl FnOnce() -> T,
) -> Result<u32> {
    if let Some(place) = known.get(key) {
        return Ok(*place);
    }
    let next = u32::try_from(list.len());
    let next = next.map_err(|_| Error::Document("the program is too large".to_owned()))?;
    list.push(make());
    known.insert(key.clone(), next);
    Ok(next)
}

impl Encoder {
    fn new(program: &Program) -> Result<Self> {
        let mut encoder = Self {
            document: Document { producer: PRODUCER.to_owned(), ..Document::default() },
            strings: HashMap::new(),
            attributes: HashMap::new(),
            types: HashMap::new(),
            properties: HashMap::new(),
            names: HashMap::new(),
            location: 0,
        };
        let name = encoder.string(frame::DIALECT)?;
        let version = Some(ENCODING.to_vec());
        encoder.document.dialects.push(Dialect { name, version });
        for blob in &program.blobs {
            let key = encoder.string(&blob.key)?;
            let resource = Resource { dialect: 0, key, length: blob.length, offset: 0 };
            encoder.document.resources.push(resource);
        }
        encoder.location = encoder.unknown_location()?;
        Ok(encoder)
    }

    /// The location that all operations have: none that is known. Loaders demand one.
    fn unknown_location(&mut self) -> Result<u32> {
        let [dash, empty] = [self.string("-")?.into(), self.string("")?.into()];
        let numbers = |values: &[u64]| values.iter().copied().map(Value::Number).collect();
        let file = self.attribute_record("file", numbers(&[dash, empty, empty]))?;
        let position = self.attribute_record("position", numbers(&[file.into(), 0, 0, 0, 0]))?;
        let scope = self.attribute_record("unit", Vec::new())?;
        let mut values: Vec<Value> = numbers(&[position.into(), scope.into(), 0]);
        values.push(Value::Indices(Vec::new()));
        self.attribute_record("location", values)
    }

    fn string(&mut self, text: &str) -> Result<u32> {
        let key = text.to_owned();
        place(&mut self.strings, &mut self.document.strings, &key, || key.clone())
    }

    fn record(&mut self, definition: &Definition, values: &[Value], types: bool) -> Result<u32> {
        let bytes = records::encode(definition, values)?;
        let make = || Encoded { dialect: 0, binary: true, bytes: bytes.clone() };
        match types {
            true => place(&mut self.types, &mut self.document.types, &bytes, make),
            false => place(&mut self.attributes, &mut self.document.attributes, &bytes, make),
        }
    }

    fn attribute_record(&mut self, name: &str, values: Vec<Value>) -> Result<u32> {
        let definition = records::named(ATTRIBUTES, name);
        let definition = definition
            .ok_or_else(|| Error::Document(format!("attributes have no record `{name}`")))?;
        self.record(definition, &values, false)
    }

    fn type_record(&mut self, name: &str, values: &[Value]) -> Result<u32> {
        let definition = records::named(TYPES, name)
            .ok_or_else(|| Error::Document(format!("types have no record `{name}`")))?;
        self.record(definition, values, true)
    }

    fn attribute_list(&mut self, items: &[Attribute]) -> Result<Value> {
        items.iter().map(|item| self.attribute(item)).collect::<Result<_>>().map(Value::Indices)
    }

    fn attribute(&mut self, attribute: &Attribute) -> Result<u32> {
        let number = |index: u32| Value::Number(index.into());
        let (name, values) = match attribute {
            Attribute::String(text) => ("string", vec![number(self.string(text)?)]),
            Attribute::Integer { width, unsigned, value } => (
                "integer",
                vec![Value::Number(*width), Value::Flag(*unsigned), Value::Signed(*value)],
            ),
            Attribute::Float { width, bits } => {
                ("float", vec![Value::Number(*width), Value::Signed(*bits)])
            }
            Attribute::Type(kind) => ("type", vec![number(self.kind(kind)?)]),
            Attribute::Array(items) => ("array", vec![self.attribute_list(items)?]),
            Attribute::Dense { splat, bytes } => {
                ("dense", vec![Value::Flag(*splat), Value::Bytes(bytes.clone())])
            }
            Attribute::Blob(index) => ("blob", vec![number(*index)]),
            Attribute::Named(name, items) => {
                ("named", vec![number(self.string(name)?), self.attribute_list(items)?])
            }
            Attribute::Layout(layout) => ("layout", layout_values(layout)),
            Attribute::Symbol(parts) => {
                let parts = parts.iter().map(|part| self.string(part)).collect::<Result<_>>()?;
                ("symbol", vec![Value::Indices(parts)])
            }
            Attribute::Constant(value, kind) => {
                ("constant", vec![number(self.attribute(value)?), number(self.kind(kind)?)])
            }
            Attribute::Choice(name, value) => (*name, vec![Value::Number(*value)]),
            Attribute::Dictionary(items) => ("dictionary", vec![self.attribute_list(items)?]),
            Attribute::Unit => ("unit", Vec::new()),
            Attribute::Location => return Ok(self.location),
            Attribute::Other(code) => {
                return Err(Error::Document(format!("attribute {code} is not known here")));
            }
        };
        self.attribute_record(name, values)
    }

    fn element(&mut self, element: ElementType) -> Result<u32> {
        let definition = Definition { code: element.code(), name: element.name(), fields: &[] };
        self.record(&definition, &[], true)
    }

    fn tensor(&mut self, tensor: &TensorType) -> Result<u32> {
        let element = self.element(tensor.element)?;
        let shape = Value::SignedList(tensor.shape.clone());
        let element = Value::Number(element.into());
        match &tensor.layout {
            None => self.type_record("tensor", &[shape, element]),
            Some(layout) => {
                let layout = self.attribute(&Attribute::Layout(layout.clone()))?;
                let layout = Value::Number(layout.into());
                self.type_record("tensor_with_layout", &[shape, element, layout])
            }
        }
    }

    fn kinds(&mut self, kinds: &[Type]) -> Result<Vec<u32>> {
        kinds.iter().map(|kind| self.kind(kind)).collect()
    }

    fn kind(&mut self, kind: &Type) -> Result<u32> {
        match kind {
            Type::Tensor(tensor) => self.tensor(tensor),
            Type::State(tensor) => {
                let tensor = self.tensor(tensor)?;
                self.type_record("state", &[Value::Number(tensor.into())])
            }
            Type::Token => self.type_record("token", &[]),
            Type::Symbol => self.type_record("symbol", &[]),
            Type::Element(element) => self.element(*element),
            Type::Function { operands, results } => {
                let results = Value::Indices(self.kinds(results)?);
                let operands = Value::Indices(self.kinds(operands)?);
                // The record has the results first.
                self.type_record("function", &[results, operands])
            }
            Type::Other(code) => Err(Error::Document(format!("type {code} is not known here"))),
        }
    }

    fn function(&mut self, function: &Function) -> Result<anemll_mlirbc::Operation> {
        let kinds = |ports: &[Port]| ports.iter().map(|port| port.kind.clone()).collect();
        let kind =
            Type::Function { operands: kinds(&function.inputs), results: kinds(&function.outputs) };
        let properties = vec![
            Some(port_attributes(&function.inputs)),
            function.composite.clone(),
            Some(Attribute::flag(false)),
            Some(Attribute::Type(kind)),
            Some(Attribute::flag(function.private)),
            Some(Attribute::String(function.name.clone())),
            Some(Attribute::flag(function.no_inline)),
            Some(Attribute::Array(Vec::new())),
            Some(port_attributes(&function.outputs)),
        ];
        let outside =
            Operation { name: frame::FUNCTION.to_owned(), properties, ..Operation::default() };
        let mut operation = self.operation(&outside)?;
        operation.regions = vec![Region::isolated(self.block(&function.body)?)];
        Ok(operation)
    }

    fn block(&mut self, block: &Block) -> Result<anemll_mlirbc::Block> {
        let arguments = self.kinds(&block.arguments)?;
        let location = self.location;
        let operations = block.operations.iter().map(|operation| self.operation(operation));
        let operations = operations.collect::<Result<_>>()?;
        let arguments = arguments.into_iter().map(|kind| (kind, location)).collect();
        Ok(anemll_mlirbc::Block { arguments, operations })
    }

    fn operation(&mut self, operation: &Operation) -> Result<anemll_mlirbc::Operation> {
        let name = &operation.name;
        let definition = operations::find(name)
            .ok_or_else(|| Error::Document(format!("the dialect has no operation `{name}`")))?;
        if definition.properties.len() != operation.properties.len() {
            return Err(Error::Document(format!(
                "`{name}` has {} attributes, not {}",
                operation.properties.len(),
                definition.properties.len()
            )));
        }
        let mut record = anemll_mlirbc::Record::new();
        for (property, value) in definition.properties.iter().zip(&operation.properties) {
            match (property.ends_with('?'), value) {
                (true, None) => {
                    record.varint(0);
                }
                (true, Some(value)) => {
                    record.flagged(self.attribute(value)?.into(), true)?;
                }
                (false, Some(value)) => {
                    record.varint(self.attribute(value)?.into());
                }
                (false, None) => {
                    return Err(Error::Document(format!("`{name}` lacks its `{property}`")));
                }
            }
        }
        let string = self.string(name)?;
        let make = || OperationName { dialect: 0, name: string, registered: true };
        let number = place(&mut self.names, &mut self.document.operation_names, name, make)?;
        let properties = match definition.properties.is_empty() {
            true => None,
            false => {
                let bytes = record.into_bytes();
                let list = &mut self.document.properties;
                Some(place(&mut self.properties, list, &bytes, || bytes.clone())?)
            }
        };
        let regions = operation.regions.iter().map(|block| self.block(block).map(Region::isolated));
        Ok(anemll_mlirbc::Operation {
            regions: regions.collect::<Result<_>>()?,
            name: number,
            location: self.location,
            attributes: None,
            properties,
            results: self.kinds(&operation.results)?,
            operands: operation.operands.clone(),
            successors: Vec::new(),
        })
    }
}

fn layout_values(layout: &Layout) -> Vec<Value> {
    vec![
        Value::SignedList(layout.alignments.clone()),
        Value::SignedList(layout.interleave.clone()),
        Value::Number(layout.memory as u64),
    ]
}

fn port_attributes(ports: &[Port]) -> Attribute {
    let attributes = |port: &Port| {
        let name = port.name.iter().map(|name| Attribute::named_text(frame::NAME, name));
        let state = port.state.iter().map(|state| Attribute::named_text(frame::STATE, state));
        Attribute::Array(name.chain(state).collect())
    };
    Attribute::Array(ports.iter().map(attributes).collect())
}
