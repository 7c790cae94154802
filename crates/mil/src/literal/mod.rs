//! Immediate values: decoding, encoding, and their stored bytes.
//!
//! Which protobuf field holds the elements depends on their type: `floats` fp32, `doubles` fp64,
//! `ints` int16, uint16 and int32, `longInts` the 64-bit types, `bools`, `strings`, and
//! little-endian `bytes` for fp16, the 8-bit types, uint32 and the sub-byte types.

mod storage;

pub(crate) use storage::e4m3;

use crate::dtype::DataType;
use crate::types::{Symbols, TensorType, ValueType, byte_size, element_count};
use coreml_proto::mil;
use coreml_proto::mil::tensor_value::{self, Value as Field};
use coreml_proto::mil::value::{ImmediateValue, Value as Storage, immediate_value};
use half::f16;
use std::borrow::Cow;
pub use storage::e4m3 as float8_e4m3;
use storage::{pack, unpack};

/// How deep lists, tuples and dictionaries may nest in a value.
const MAXIMUM_VALUE_DEPTH: usize = 8;

/// Elements of a tensor literal, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// Of type bool.
    Bools(Vec<bool>),
    /// Of any integer type.
    Integers(Vec<i64>),
    /// Of any floating point type, exactly.
    Floats(Vec<f64>),
    /// Of type string.
    Strings(Vec<String>),
}

impl Elements {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Bools(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Strings(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A decoded tensor value.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorLiteral {
    /// Element type.
    pub data_type: DataType,
    /// Sizes; empty for a scalar.
    pub shape: Vec<u64>,
    /// Row-major elements.
    pub elements: Elements,
}

/// A decoded immediate value.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A tensor or scalar.
    Tensor(TensorLiteral),
    /// A list.
    List(Vec<Self>),
    /// A tuple.
    Tuple(Vec<Self>),
    /// A dictionary, in stored order.
    Dictionary(Vec<(Self, Self)>),
}

impl Literal {
    /// A scalar int32.
    pub fn int32(value: i32) -> Self {
        Self::tensor(DataType::Int32, &[], Elements::Integers(vec![value.into()]))
    }

    /// A vector of int32.
    pub fn int32s(values: &[i32]) -> Self {
        let elements = values.iter().copied().map(i64::from).collect();
        Self::tensor(DataType::Int32, &[values.len() as u64], Elements::Integers(elements))
    }

    /// A scalar bool.
    pub fn boolean(value: bool) -> Self {
        Self::tensor(DataType::Bool, &[], Elements::Bools(vec![value]))
    }

    /// A vector of bool.
    pub fn booleans(values: &[bool]) -> Self {
        Self::tensor(DataType::Bool, &[values.len() as u64], Elements::Bools(values.to_vec()))
    }

    /// A scalar string.
    pub fn string(value: &str) -> Self {
        Self::tensor(DataType::String, &[], Elements::Strings(vec![value.to_owned()]))
    }

    /// A scalar fp16.
    pub fn float16(value: f16) -> Self {
        Self::tensor(DataType::Float16, &[], Elements::Floats(vec![value.into()]))
    }

    /// A tensor of fp16.
    pub fn float16s(shape: &[u64], values: &[f16]) -> Self {
        let elements = values.iter().copied().map(f64::from).collect();
        Self::tensor(DataType::Float16, shape, Elements::Floats(elements))
    }

    fn tensor(data_type: DataType, shape: &[u64], elements: Elements) -> Self {
        Self::Tensor(TensorLiteral { data_type, shape: shape.to_vec(), elements })
    }

    /// Decodes an immediate value. Errors: a weight file value, and data that do not fit the type.
    pub fn from_value(value: &mil::Value) -> Result<Self, String> {
        Self::decode(value, 0)
    }

    fn decode(value: &mil::Value, depth: usize) -> Result<Self, String> {
        if depth > MAXIMUM_VALUE_DEPTH {
            return Err(format!("a value nests deeper than {MAXIMUM_VALUE_DEPTH}"));
        }
        let inner = |values: &[mil::Value]| -> Result<Vec<Self>, String> {
            values.iter().map(|value| Self::decode(value, depth + 1)).collect()
        };
        match immediate(value)? {
            immediate_value::Value::Tensor(_) => decode_tensor(value).map(Self::Tensor),
            immediate_value::Value::List(list) => inner(&list.values).map(Self::List),
            immediate_value::Value::Tuple(tuple) => inner(&tuple.values).map(Self::Tuple),
            immediate_value::Value::Dictionary(dictionary) => {
                let mut pairs = Vec::with_capacity(dictionary.values.len());
                for pair in &dictionary.values {
                    let (Some(key), Some(value)) = (&pair.key, &pair.value) else {
                        return Err("a dictionary entry lacks its key or value".to_owned());
                    };
                    pairs.push((Self::decode(key, depth + 1)?, Self::decode(value, depth + 1)?));
                }
                Ok(Self::Dictionary(pairs))
            }
        }
    }

    /// Encodes a tensor literal as an immediate value. Errors: elements that do not fit the type or
    /// number other than the shape says, and compositions (lists are never written).
    pub fn to_value(&self) -> Result<mil::Value, String> {
        let Self::Tensor(tensor) = self else {
            return Err("only tensor literals can be written".to_owned());
        };
        let count = element_count(&tensor.shape).and_then(|count| usize::try_from(count).ok());
        if count != Some(tensor.elements.len()) {
            return Err(format!(
                "shape {:?} does not hold {} elements",
                tensor.shape,
                tensor.elements.len()
            ));
        }
        let field = encode_elements(tensor.data_type, &tensor.elements)?;
        Ok(immediate_tensor(&TensorType::new(tensor.data_type, &tensor.shape), field))
    }

    /// The integers of an integer tensor.
    pub fn integers(&self) -> Option<&[i64]> {
        match self {
            Self::Tensor(TensorLiteral { elements: Elements::Integers(values), .. }) => {
                Some(values)
            }
            _ => None,
        }
    }

    /// The bools of a bool tensor.
    pub fn bools(&self) -> Option<&[bool]> {
        match self {
            Self::Tensor(TensorLiteral { elements: Elements::Bools(values), .. }) => Some(values),
            _ => None,
        }
    }

    /// The numbers of a floating point tensor.
    pub fn floats(&self) -> Option<&[f64]> {
        match self {
            Self::Tensor(TensorLiteral { elements: Elements::Floats(values), .. }) => Some(values),
            _ => None,
        }
    }

    /// The string of a scalar string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Tensor(TensorLiteral { elements: Elements::Strings(values), .. }) => {
                match values.as_slice() {
                    [value] => Some(value),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// An immediate tensor value from little-endian stored bytes of its type (sub-byte types packed).
/// Errors: strings, unknown sizes, and a length that is not that of the type.
pub fn value_from_bytes(kind: &TensorType, bytes: Vec<u8>) -> Result<mil::Value, String> {
    let expected = kind.byte_size().ok_or_else(|| format!("{kind} has no stored size"))?;
    if bytes.len() as u64 != expected {
        return Err(format!("{kind} takes {expected} bytes, not {}", bytes.len()));
    }
    let field = match storage_of(kind.data_type) {
        FieldKind::Bytes => Field::Bytes(tensor_value::RepeatedBytes { values: bytes }),
        _ => {
            let count = usize::try_from(kind.element_count().unwrap_or_default())
                .map_err(|_| format!("{kind} is too large"))?;
            encode_elements(kind.data_type, &unpack(kind.data_type, &bytes, count))?
        }
    };
    Ok(immediate_tensor(kind, field))
}

/// A value of the weight file: type, file name (or weight reference), offset of the record.
pub fn blob_value(kind: &TensorType, file_name: &str, offset: u64) -> mil::Value {
    mil::Value {
        doc_string: String::new(),
        r#type: Some(ValueType::Tensor(kind.clone()).to_proto()),
        value: Some(Storage::BlobFileValue(mil::value::BlobFileValue {
            file_name: file_name.to_owned(),
            offset,
        })),
    }
}

/// Type and little-endian stored bytes of an immediate tensor value (sub-byte types packed), as
/// they would stand in the weight file. Errors: strings, weight file values, data of another size.
pub fn tensor_bytes(value: &mil::Value) -> Result<(TensorType, Cow<'_, [u8]>), String> {
    let kind = tensor_type(value)?;
    let count = checked_field(value, &kind)?;
    let immediate_value::Value::Tensor(tensor) = immediate(value)? else {
        return Err("the value is not a tensor".to_owned());
    };
    if let Some(Field::Bytes(bytes)) = &tensor.value {
        return Ok((kind, Cow::Borrowed(&bytes.values)));
    }
    let literal = decode_tensor(value)?;
    let bytes = pack(kind.data_type, &literal.elements)?;
    debug_assert_eq!(Some(bytes.len() as u64), byte_size(kind.data_type, count));
    Ok((kind, Cow::Owned(bytes)))
}

/// Checks that an immediate value holds as many elements as its type says, in the field of its
/// type, at every level, without decoding large data. Weight file values pass.
pub fn check_value(value: &mil::Value) -> Result<(), String> {
    check_value_at(value, 0)
}

fn check_value_at(value: &mil::Value, depth: usize) -> Result<(), String> {
    if depth > MAXIMUM_VALUE_DEPTH {
        return Err(format!("a value nests deeper than {MAXIMUM_VALUE_DEPTH}"));
    }
    match &value.value {
        None => return Err("a value holds neither data nor a weight file reference".to_owned()),
        Some(Storage::BlobFileValue(blob)) => {
            if depth > 0 {
                return Err(format!("a value of file `{}` stands inside another", blob.file_name));
            }
            let kind = tensor_type(value)?;
            return match kind.byte_size() {
                Some(_) => Ok(()),
                None => Err(format!("{kind} cannot stand in a weight file")),
            };
        }
        Some(Storage::ImmediateValue(_)) => {}
    }
    match immediate(value)? {
        immediate_value::Value::Tensor(_) => {
            checked_field(value, &tensor_type(value)?)?;
        }
        immediate_value::Value::List(list) => {
            for item in &list.values {
                check_value_at(item, depth + 1)?;
            }
        }
        immediate_value::Value::Tuple(tuple) => {
            for item in &tuple.values {
                check_value_at(item, depth + 1)?;
            }
        }
        immediate_value::Value::Dictionary(dictionary) => {
            for pair in &dictionary.values {
                let (Some(key), Some(item)) = (&pair.key, &pair.value) else {
                    return Err("a dictionary entry lacks its key or value".to_owned());
                };
                check_value_at(key, depth + 1)?;
                check_value_at(item, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// The tensor type that a value declares; an error if it declares none.
pub fn tensor_type(value: &mil::Value) -> Result<TensorType, String> {
    let kind = value.r#type.as_ref().ok_or("a value declares no type")?;
    match ValueType::from_proto(kind, &Symbols::default())? {
        ValueType::Tensor(tensor) => Ok(tensor),
        other => Err(format!("a value of type {other} stands where a tensor is wanted")),
    }
}

fn immediate(value: &mil::Value) -> Result<&immediate_value::Value, String> {
    match &value.value {
        Some(Storage::ImmediateValue(ImmediateValue { value: Some(immediate) })) => Ok(immediate),
        Some(Storage::ImmediateValue(_)) | None => Err("a value holds no data".to_owned()),
        Some(Storage::BlobFileValue(blob)) => {
            Err(format!("the value stands in file `{}`", blob.file_name))
        }
    }
}

fn immediate_tensor(kind: &TensorType, field: Field) -> mil::Value {
    mil::Value {
        doc_string: String::new(),
        r#type: Some(ValueType::Tensor(kind.clone()).to_proto()),
        value: Some(Storage::ImmediateValue(ImmediateValue {
            value: Some(immediate_value::Value::Tensor(mil::TensorValue { value: Some(field) })),
        })),
    }
}

#[derive(PartialEq, Eq, Clone, Copy, Debug)]
enum FieldKind {
    Floats,
    Doubles,
    Ints,
    LongInts,
    Bools,
    Strings,
    Bytes,
}

const fn storage_of(kind: DataType) -> FieldKind {
    match kind {
        DataType::Float32 => FieldKind::Floats,
        DataType::Float64 => FieldKind::Doubles,
        DataType::Int16 | DataType::UInt16 | DataType::Int32 => FieldKind::Ints,
        DataType::Int64 | DataType::UInt64 => FieldKind::LongInts,
        DataType::Bool => FieldKind::Bools,
        DataType::String => FieldKind::Strings,
        _ => FieldKind::Bytes,
    }
}

fn field_kind(field: &Field) -> (FieldKind, usize) {
    match field {
        Field::Floats(values) => (FieldKind::Floats, values.values.len()),
        Field::Doubles(values) => (FieldKind::Doubles, values.values.len()),
        Field::Ints(values) => (FieldKind::Ints, values.values.len()),
        Field::LongInts(values) => (FieldKind::LongInts, values.values.len()),
        Field::Bools(values) => (FieldKind::Bools, values.values.len()),
        Field::Strings(values) => (FieldKind::Strings, values.values.len()),
        Field::Bytes(values) => (FieldKind::Bytes, values.values.len()),
    }
}

/// Number of elements, after checking field and length. Integer types may stand in `ints` or in
/// `bytes` (writers differ); everything else only in its own field.
fn checked_field(value: &mil::Value, kind: &TensorType) -> Result<u64, String> {
    let immediate_value::Value::Tensor(tensor) = immediate(value)? else {
        return Err(format!("data of another form stand under type {kind}"));
    };
    let count = kind
        .element_count()
        .ok_or_else(|| format!("{kind} is not a fixed size, so no value can have it"))?;
    let Some(field) = &tensor.value else {
        // Writers leave the field out for empty tensors.
        return if count == 0 { Ok(0) } else { Err(format!("{kind} holds no data")) };
    };
    let (found, length) = field_kind(field);
    let small_integer = kind.data_type.is_integer() && kind.data_type.bits() <= Some(32);
    let allowed = found == storage_of(kind.data_type)
        || (small_integer && matches!(found, FieldKind::Ints | FieldKind::Bytes));
    if !allowed {
        return Err(format!("{kind} is stored as {found:?}"));
    }
    let expected = match found {
        FieldKind::Bytes => byte_size(kind.data_type, count),
        _ => Some(count),
    };
    if expected != Some(length as u64) {
        let unit = if found == FieldKind::Bytes { "bytes" } else { "elements" };
        let expected = expected.map_or_else(|| "too many".to_owned(), |count| count.to_string());
        return Err(format!("{kind} takes {expected} {unit} but holds {length}"));
    }
    Ok(count)
}

fn decode_tensor(value: &mil::Value) -> Result<TensorLiteral, String> {
    let kind = tensor_type(value)?;
    let count = checked_field(value, &kind)?;
    let count = usize::try_from(count).map_err(|_| format!("{kind} is too large"))?;
    let shape = kind.fixed_shape().unwrap_or_default();
    let immediate_value::Value::Tensor(tensor) = immediate(value)? else {
        return Err("the value is not a tensor".to_owned());
    };
    let elements = match &tensor.value {
        None => unpack(kind.data_type, &[], 0),
        Some(Field::Bytes(bytes)) => unpack(kind.data_type, &bytes.values, count),
        Some(Field::Floats(values)) => {
            Elements::Floats(values.values.iter().copied().map(f64::from).collect())
        }
        Some(Field::Doubles(values)) => Elements::Floats(values.values.clone()),
        Some(Field::Ints(values)) => {
            Elements::Integers(values.values.iter().copied().map(i64::from).collect())
        }
        Some(Field::LongInts(values)) => Elements::Integers(values.values.clone()),
        Some(Field::Bools(values)) => Elements::Bools(values.values.clone()),
        Some(Field::Strings(values)) => Elements::Strings(values.values.clone()),
    };
    if let (Elements::Integers(values), Some((low, high))) =
        (&elements, kind.data_type.integer_range())
        && let Some(wrong) = values.iter().find(|value| !(low..=high).contains(value))
    {
        return Err(format!("{wrong} does not fit {}", kind.data_type));
    }
    Ok(TensorLiteral { data_type: kind.data_type, shape, elements })
}

fn encode_elements(kind: DataType, elements: &Elements) -> Result<Field, String> {
    let mismatch = || format!("elements of another kind cannot be stored as {kind}");
    if let (Elements::Integers(values), Some((low, high))) = (elements, kind.integer_range())
        && let Some(wrong) = values.iter().find(|value| !(low..=high).contains(value))
    {
        return Err(format!("{wrong} does not fit {kind}"));
    }
    Ok(match (storage_of(kind), elements) {
        (FieldKind::Floats, Elements::Floats(values)) => {
            let values = values.iter().map(|value| *value as f32).collect();
            Field::Floats(tensor_value::RepeatedFloats { values })
        }
        (FieldKind::Doubles, Elements::Floats(values)) => {
            Field::Doubles(tensor_value::RepeatedDoubles { values: values.clone() })
        }
        (FieldKind::Ints, Elements::Integers(values)) => {
            // The range check above holds every value inside 32 bits.
            let values = values.iter().map(|value| *value as i32).collect();
            Field::Ints(tensor_value::RepeatedInts { values })
        }
        (FieldKind::LongInts, Elements::Integers(values)) => {
            Field::LongInts(tensor_value::RepeatedLongInts { values: values.clone() })
        }
        (FieldKind::Bools, Elements::Bools(values)) => {
            Field::Bools(tensor_value::RepeatedBools { values: values.clone() })
        }
        (FieldKind::Strings, Elements::Strings(values)) => {
            Field::Strings(tensor_value::RepeatedStrings { values: values.clone() })
        }
        (FieldKind::Bytes, Elements::Integers(_) | Elements::Floats(_)) => {
            Field::Bytes(tensor_value::RepeatedBytes { values: pack(kind, elements)? })
        }
        _ => return Err(mismatch()),
    })
}

#[cfg(test)]
mod tests;
