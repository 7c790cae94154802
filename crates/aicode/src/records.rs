//! The records of attributes and types, as data: codes and fields. A newer version of the encoding
//! is a change of these tables.

use anemll_mlirbc::{Error, Reader, Record, Result};

/// The version of the encoding that these tables describe, as the dialect's version bytes.
pub(crate) const ENCODING: &[u8] = &[0x05];

/// What a field of a record is. Indices are those of the file's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// Index of a string.
    String,
    /// Index of an attribute.
    Attribute,
    /// Index of a type.
    Type,
    /// A number.
    Number,
    /// A number with a sign.
    Signed,
    /// A byte that is 0 or 1.
    Flag,
    /// How many bits the next field has.
    Width,
    /// An integer of that many bits.
    Integer,
    /// A number of bytes, and the bytes.
    Bytes,
    /// A count, and so many indices of strings.
    Strings,
    /// A count, and so many indices of attributes.
    Attributes,
    /// A count, and so many indices of types.
    Types,
    /// A count, and so many numbers with signs.
    SignedList,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u64),
    Signed(i64),
    Flag(bool),
    Bytes(Vec<u8>),
    Indices(Vec<u32>),
    SignedList(Vec<i64>),
}

/// A kind of record.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) code: u64,
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
}

const fn record(code: u64, name: &'static str, fields: &'static [Field]) -> Definition {
    Definition { code, name, fields }
}

/// Records of attributes.
pub(crate) const ATTRIBUTES: &[Definition] = &[
    record(1, "string", &[Field::String]),
    record(2, "integer", &[Field::Width, Field::Flag, Field::Integer]),
    record(3, "float", &[Field::Number, Field::Signed]),
    record(4, "type", &[Field::Type]),
    record(5, "array", &[Field::Attributes]),
    record(6, "dense", &[Field::Flag, Field::Bytes]),
    record(7, "blob", &[Field::Number]),
    record(9, "named", &[Field::String, Field::Attributes]),
    record(12, "layout", &[Field::SignedList, Field::SignedList, Field::Number]),
    record(14, "symbol", &[Field::Strings]),
    record(16, "constant", &[Field::Attribute, Field::Type]),
    record(17, "padding_mode", &[Field::Number]),
    record(19, "approximate", &[Field::Number]),
    record(20, "scatter_mode", &[Field::Number]),
    record(25, "combiner", &[Field::Number]),
    record(30, "file", &[Field::String, Field::String, Field::String]),
    record(
        31,
        "position",
        &[Field::Attribute, Field::Number, Field::Number, Field::Number, Field::Number],
    ),
    record(40, "location", &[Field::Attribute, Field::Attribute, Field::Number, Field::Attributes]),
    record(43, "interpolation_mode", &[Field::Number]),
    record(45, "dictionary", &[Field::Attributes]),
    record(46, "unit", &[]),
];

/// Records of types, beside those of element types, which are their codes alone.
pub(crate) const TYPES: &[Definition] = &[
    record(2, "tensor", &[Field::SignedList, Field::Type]),
    record(3, "tensor_with_layout", &[Field::SignedList, Field::Type, Field::Attribute]),
    record(30, "function", &[Field::Types, Field::Types]),
    record(31, "state", &[Field::Type]),
    record(32, "token", &[]),
    record(33, "symbol", &[]),
];

/// The record of a name in a table.
pub(crate) fn named(table: &'static [Definition], name: &str) -> Option<&'static Definition> {
    table.iter().find(|definition| definition.name == name)
}

/// The record of a code in a table.
pub(crate) fn coded(table: &'static [Definition], code: u64) -> Option<&'static Definition> {
    table.iter().find(|definition| definition.code == code)
}

/// Integers of at most this many bits are one byte.
const BYTE: u64 = 8;

/// The bytes of a record. Values that are not those of the fields are a mistake of this crate.
pub(crate) fn encode(definition: &Definition, values: &[Value]) -> Result<Vec<u8>> {
    let mut record = Record::new();
    record.varint(definition.code);
    let mut width = 0;
    for (field, value) in definition.fields.iter().zip(values) {
        match (field, value) {
            (Field::Width, Value::Number(number)) => {
                width = *number;
                record.varint(*number);
            }
            (Field::Integer, Value::Signed(number)) if width <= BYTE => {
                record.byte(number.to_le_bytes()[0]);
            }
            (Field::Integer | Field::Signed, Value::Signed(number)) => {
                record.signed_varint(*number);
            }
            (_, Value::Number(number)) => {
                record.varint(*number);
            }
            (_, Value::Flag(flag)) => {
                record.byte(u8::from(*flag));
            }
            (_, Value::Bytes(bytes)) => {
                record.varint(bytes.len() as u64).bytes(bytes);
            }
            (_, Value::Indices(list)) => {
                record.varint(list.len() as u64);
                for index in list {
                    record.varint((*index).into());
                }
            }
            (_, Value::SignedList(list)) => {
                record.varint(list.len() as u64);
                for number in list {
                    record.signed_varint(*number);
                }
            }
            (field, value) => {
                let name = definition.name;
                return Err(Error::Document(format!("{name}: {value:?} is no {field:?}")));
            }
        }
    }
    Ok(record.into_bytes())
}

/// The values of a record whose code was read already.
pub(crate) fn decode(definition: &Definition, reader: &mut Reader<'_>) -> Result<Vec<Value>> {
    let mut width = 0;
    let mut values = Vec::with_capacity(definition.fields.len());
    for field in definition.fields {
        values.push(match field {
            Field::String | Field::Attribute | Field::Type | Field::Number => {
                Value::Number(reader.varint()?)
            }
            Field::Width => {
                width = reader.varint()?;
                Value::Number(width)
            }
            Field::Integer if width <= BYTE => Value::Signed(reader.byte()?.into()),
            Field::Integer | Field::Signed => Value::Signed(reader.signed_varint()?),
            Field::Flag => Value::Flag(reader.boolean()?),
            Field::Bytes => {
                let count = reader.varint()?;
                Value::Bytes(reader.bytes(count)?.to_vec())
            }
            Field::Strings | Field::Attributes | Field::Types => {
                let count = reader.count()?;
                let index = |reader: &mut Reader<'_>| reader.index(u32::MAX as usize, "entry");
                Value::Indices((0..count).map(|_| index(reader)).collect::<Result<_>>()?)
            }
            Field::SignedList => {
                let count = reader.count()?;
                let list = (0..count).map(|_| reader.signed_varint());
                Value::SignedList(list.collect::<Result<_>>()?)
            }
        });
    }
    reader.end("a record")?;
    Ok(values)
}
