//! Programs of a few operations, made by hand.

use anemll_mil::DataType;
use anemll_mil::text::{self, TextOptions};
use anemll_mil::types::{Dimension, TensorType, ValueType};
use anemll_mil::{Elements, Literal, TensorLiteral};
use coreml_proto::mil::argument::{Binding, binding};
use coreml_proto::mil::tensor_value::Value as Field;
use coreml_proto::mil::value::{
    ImmediateValue, Value as Storage, immediate_value::Value as Immediate,
};
use coreml_proto::{Model, ModelDescription, mil, model};
use std::collections::BTreeMap;

pub fn tensor(kind: DataType, shape: &[u64]) -> mil::ValueType {
    ValueType::Tensor(TensorType::new(kind, shape)).to_proto()
}

pub fn unknown(kind: DataType, shape: &[Option<u64>]) -> mil::ValueType {
    let shape = shape.iter().map(|size| size.map_or(Dimension::Symbol(0), Dimension::Fixed));
    ValueType::Tensor(TensorType::with_shape(kind, shape.collect())).to_proto()
}

pub fn literal(kind: DataType, shape: &[u64], elements: Elements) -> mil::Value {
    Literal::Tensor(TensorLiteral { data_type: kind, shape: shape.to_vec(), elements })
        .to_value()
        .unwrap()
}

pub fn immediate(kind: mil::ValueType, value: Immediate) -> mil::Value {
    let value = Some(Storage::ImmediateValue(ImmediateValue { value: Some(value) }));
    mil::Value { doc_string: String::new(), r#type: Some(kind), value }
}

pub fn field(kind: mil::ValueType, field: Field) -> mil::Value {
    immediate(kind, Immediate::Tensor(mil::TensorValue { value: Some(field) }))
}

pub fn named(name: &str, kind: mil::ValueType) -> mil::NamedValueType {
    mil::NamedValueType { name: name.to_owned(), r#type: Some(kind) }
}

pub fn names(names: &[&str]) -> mil::Argument {
    let bind = |name: &&str| Binding { binding: Some(binding::Binding::Name((*name).to_owned())) };
    mil::Argument { arguments: names.iter().map(bind).collect() }
}

pub fn bound(value: mil::Value) -> mil::Argument {
    mil::Argument { arguments: vec![Binding { binding: Some(binding::Binding::Value(value)) }] }
}

pub fn operation(
    kind: &str,
    inputs: &[(&str, mil::Argument)],
    outputs: &[(&str, mil::ValueType)],
    attributes: &[(&str, mil::Value)],
) -> mil::Operation {
    mil::Operation {
        r#type: kind.to_owned(),
        inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        outputs: outputs.iter().map(|(name, kind)| named(name, kind.clone())).collect(),
        blocks: Vec::new(),
        attributes: attributes.iter().map(|(n, value)| ((*n).to_owned(), value.clone())).collect(),
    }
}

pub fn function(
    opset: &str,
    inputs: Vec<mil::NamedValueType>,
    operations: Vec<mil::Operation>,
    outputs: &[&str],
) -> mil::Function {
    let outputs = outputs.iter().map(|name| (*name).to_owned()).collect();
    let block = mil::Block { operations, outputs, ..mil::Block::default() };
    mil::Function {
        inputs,
        opset: opset.to_owned(),
        block_specializations: BTreeMap::from([(opset.to_owned(), block)]),
        attributes: BTreeMap::new(),
    }
}

pub fn model(version: i32, functions: Vec<(&str, mil::Function)>) -> Model {
    let functions = functions.into_iter().map(|(name, body)| (name.to_owned(), body)).collect();
    Model {
        specification_version: version,
        description: Some(ModelDescription::default()),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(mil::Program {
            version: 1,
            functions,
            ..mil::Program::default()
        })),
    }
}

pub fn plain() -> TextOptions {
    TextOptions { build_info: BTreeMap::from([("v".to_owned(), "1".to_owned())]) }
}

/// The text, after it came back from the parser unchanged.
pub fn text_of(model: &Model) -> String {
    let text = text::to_text(model, &plain()).unwrap();
    let document = text::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(document.to_text().unwrap(), text);
    text
}

pub fn floats(kind: DataType, shape: &[u64], values: &[f64]) -> mil::Value {
    literal(kind, shape, Elements::Floats(values.to_vec()))
}

pub fn integers(kind: DataType, shape: &[u64], values: &[i64]) -> mil::Value {
    literal(kind, shape, Elements::Integers(values.to_vec()))
}

pub fn strings(shape: &[u64], values: &[&str]) -> mil::Value {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    literal(DataType::String, shape, Elements::Strings(values))
}
