//! Values of composed types, which the compiler adds to a program.

use coreml_proto::mil;
use coreml_proto::mil::dimension::{ConstantDimension, Dimension, UnknownDimension};
use coreml_proto::mil::tensor_value::{RepeatedInts, RepeatedStrings, Value as Field};
use coreml_proto::mil::value::{
    ImmediateValue, Value as Storage, immediate_value::Value as Immediate,
};
use coreml_proto::mil::value_type::Type;

pub(super) const fn value_type(kind: Type) -> mil::ValueType {
    mil::ValueType { r#type: Some(kind) }
}

/// A dimension; unknown where there is no size.
pub(super) fn dimension(size: Option<u64>) -> mil::Dimension {
    let dimension = match size {
        Some(size) => Dimension::Constant(ConstantDimension { size }),
        None => Dimension::Unknown(UnknownDimension { variadic: false }),
    };
    mil::Dimension { dimension: Some(dimension) }
}

pub(super) fn tensor_type(kind: mil::DataType, shape: &[Option<u64>]) -> mil::ValueType {
    value_type(Type::TensorType(mil::TensorType {
        data_type: kind.into(),
        // Ranks are bounded where types are read.
        rank: i64::try_from(shape.len()).unwrap_or(i64::MAX),
        dimensions: shape.iter().copied().map(dimension).collect(),
        attributes: Default::default(),
    }))
}

pub(super) fn string_type() -> mil::ValueType {
    tensor_type(mil::DataType::String, &[])
}

/// A list of unknown length.
pub(super) fn list_type(element: mil::ValueType) -> mil::ValueType {
    value_type(Type::ListType(Box::new(mil::ListType {
        r#type: Some(Box::new(element)),
        length: Some(dimension(None)),
    })))
}

pub(super) fn dictionary_type(key: mil::ValueType, value: mil::ValueType) -> mil::ValueType {
    value_type(Type::DictionaryType(Box::new(mil::DictionaryType {
        key_type: Some(Box::new(key)),
        value_type: Some(Box::new(value)),
    })))
}

/// A value of this type.
pub(super) fn typed(kind: mil::ValueType, immediate: Immediate) -> mil::Value {
    let storage = Storage::ImmediateValue(ImmediateValue { value: Some(immediate) });
    mil::Value { doc_string: String::new(), r#type: Some(kind), value: Some(storage) }
}

fn tensor(kind: mil::ValueType, field: Field) -> mil::Value {
    typed(kind, Immediate::Tensor(mil::TensorValue { value: Some(field) }))
}

pub(super) fn string(text: &str) -> mil::Value {
    tensor(string_type(), Field::Strings(RepeatedStrings { values: vec![text.to_owned()] }))
}

/// A vector of int32.
pub(super) fn integers(values: &[i32]) -> mil::Value {
    let kind = tensor_type(mil::DataType::Int32, &[Some(values.len() as u64)]);
    tensor(kind, Field::Ints(RepeatedInts { values: values.to_vec() }))
}

pub(super) fn list(element: mil::ValueType, values: Vec<mil::Value>) -> mil::Value {
    typed(list_type(element), Immediate::List(mil::ListValue { values }))
}

/// A dictionary with keys of strings.
pub(super) fn dictionary<'a>(
    value: mil::ValueType,
    entries: impl Iterator<Item = (&'a str, mil::Value)>,
) -> mil::Value {
    let values = entries
        .map(|(key, value)| mil::dictionary_value::KeyValuePair {
            key: Some(string(key)),
            value: Some(value),
        })
        .collect();
    let kind = dictionary_type(string_type(), value);
    typed(kind, Immediate::Dictionary(mil::DictionaryValue { values }))
}

/// A tuple, of the types of its values.
pub(super) fn tuple(values: Vec<mil::Value>) -> mil::Value {
    let types = values.iter().map(|value| value.r#type.clone().unwrap_or_default()).collect();
    typed(
        value_type(Type::TupleType(mil::TupleType { types })),
        Immediate::Tuple(mil::TupleValue { values }),
    )
}

/// The text of a scalar string.
pub(super) fn text(value: &mil::Value) -> Option<&str> {
    let Some(Storage::ImmediateValue(immediate)) = &value.value else { return None };
    let Some(Immediate::Tensor(tensor)) = &immediate.value else { return None };
    match &tensor.value {
        Some(Field::Strings(texts)) => match texts.values.as_slice() {
            [text] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The entries of a dictionary from strings to strings; `None` if the value is something else.
pub(super) fn entries(value: &mil::Value) -> Option<Vec<(&str, &str)>> {
    let Some(Storage::ImmediateValue(immediate)) = &value.value else { return None };
    let Some(Immediate::Dictionary(dictionary)) = &immediate.value else { return None };
    let pairs = dictionary.values.iter();
    pairs.map(|pair| Some((text(pair.key.as_ref()?)?, text(pair.value.as_ref()?)?))).collect()
}
