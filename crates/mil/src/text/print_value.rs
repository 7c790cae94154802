//! Printing values: types, literals, records of weight files.

use super::WriteError;
use super::number::{put_float, put_integer, put_signed, widen};
use super::printer::{MAXIMUM_TYPE_DEPTH, Printer, wrong};
use crate::dtype::DataType;
use crate::types::{byte_size, element_count};
use coreml_proto::mil;
use coreml_proto::mil::tensor_value::Value as Field;
use coreml_proto::mil::value::{Value as Storage, immediate_value::Value as Immediate};
use coreml_proto::mil::value_type::Type;

/// Most brackets that an empty tensor is spelled with.
const MAXIMUM_EMPTY: u64 = 1 << 16;

impl Printer<'_> {
    /// `TYPE(literal)`, or `TYPE(BLOBFILE(path = …, offset = …))`.
    pub(super) fn value(&mut self, value: &mil::Value) -> Result<(), WriteError> {
        let kind = value.r#type.as_ref().ok_or_else(|| wrong("a value declares no type"))?;
        self.value_type(Some(kind))?;
        self.put("(");
        match &value.value {
            Some(Storage::BlobFileValue(blob)) => {
                if !matches!(kind.r#type, Some(Type::TensorType(_))) {
                    return Err(wrong("a value of a weight file is not a tensor"));
                }
                self.put("BLOBFILE(path = ");
                self.scalar_type(DataType::String);
                self.put("(");
                self.quoted(&blob.file_name);
                self.put("), offset = ");
                self.scalar_type(DataType::UInt64);
                self.put("(");
                self.integer(blob.offset);
                self.put("))");
            }
            _ => self.literal(value, kind, 0)?,
        }
        self.put(")");
        Ok(())
    }

    /// The literal of a value, whose type is what stands outside; the inner types must agree.
    fn literal(
        &mut self,
        value: &mil::Value,
        kind: &mil::ValueType,
        depth: usize,
    ) -> Result<(), WriteError> {
        if depth > MAXIMUM_TYPE_DEPTH {
            return Err(wrong(format!("a value nests deeper than {MAXIMUM_TYPE_DEPTH}")));
        }
        if value.r#type.as_ref().is_some_and(|inner| !fits(inner, kind, 0)) {
            return Err(wrong("a value inside another has another type than its place"));
        }
        let Some(Storage::ImmediateValue(immediate)) = &value.value else {
            return Err(match &value.value {
                None => wrong("a value holds no data"),
                Some(_) => wrong("a value of a weight file stands inside another"),
            });
        };
        let immediate = immediate.value.as_ref().ok_or_else(|| wrong("a value holds no data"))?;
        self.drain()?;
        match (immediate, &kind.r#type) {
            (Immediate::Tensor(tensor), Some(Type::TensorType(outer))) => {
                let inner = match value.r#type.as_ref().and_then(|kind| kind.r#type.as_ref()) {
                    Some(Type::TensorType(inner)) => inner,
                    _ => outer,
                };
                self.tensor(tensor, inner)?;
            }
            (Immediate::List(list), Some(Type::ListType(outer))) => {
                let element = inner_type(outer.r#type.as_deref())?;
                let length = outer.length.as_ref().and_then(fixed);
                if length.is_some_and(|length| length != list.values.len() as u64) {
                    return Err(wrong(format!(
                        "a list has {} values, but another length",
                        list.values.len()
                    )));
                }
                self.put("[");
                for (index, item) in list.values.iter().enumerate() {
                    self.separator(index);
                    self.literal(item, element, depth + 1)?;
                }
                self.put("]");
            }
            (Immediate::Tuple(tuple), Some(Type::TupleType(outer))) => {
                if tuple.values.len() != outer.types.len() {
                    return Err(wrong(format!(
                        "a tuple of {} types has {} values",
                        outer.types.len(),
                        tuple.values.len()
                    )));
                }
                self.put("(");
                for (index, (item, kind)) in tuple.values.iter().zip(&outer.types).enumerate() {
                    self.separator(index);
                    self.literal(item, kind, depth + 1)?;
                }
                self.put(")");
            }
            (Immediate::Dictionary(dictionary), Some(Type::DictionaryType(outer))) => {
                let key_type = inner_type(outer.key_type.as_deref())?;
                let value_type = inner_type(outer.value_type.as_deref())?;
                let mut pairs = Vec::with_capacity(dictionary.values.len());
                for pair in &dictionary.values {
                    let (Some(key), Some(value)) = (&pair.key, &pair.value) else {
                        return Err(wrong("a dictionary entry lacks its key or value"));
                    };
                    pairs.push((key, value));
                }
                pairs.sort_by(|(left, _), (right, _)| sort_key(left).cmp(&sort_key(right)));
                self.put("{");
                for (index, (key, value)) in pairs.into_iter().enumerate() {
                    self.separator(index);
                    self.put("{");
                    self.literal(key, key_type, depth + 1)?;
                    self.put(", ");
                    self.literal(value, value_type, depth + 1)?;
                    self.put("}");
                }
                self.put("}");
            }
            _ => return Err(wrong("a value holds data of another form than its type")),
        }
        Ok(())
    }

    fn tensor(
        &mut self,
        tensor: &mil::TensorValue,
        kind: &mil::TensorType,
    ) -> Result<(), WriteError> {
        let data_type = DataType::from_proto(kind.data_type).map_err(wrong)?;
        let elements = Elements::new(data_type, tensor.value.as_ref()).map_err(wrong)?;
        let shape = shape(kind, &elements).map_err(wrong)?;
        let Some(empty) = shape.iter().position(|size| *size == 0) else {
            return self.nested(&shape, |printer, index| elements.put(printer, index));
        };
        // `[]` for each place of the dimensions before the empty one.
        let outer = &shape[..empty];
        if element_count(outer).is_none_or(|count| count > MAXIMUM_EMPTY) {
            return Err(wrong(format!("an empty tensor of shape {shape:?} is too large")));
        }
        self.nested(outer, |printer, _| {
            printer.put("[]");
            Ok(())
        })
    }

    /// Elements in nested brackets; none of the sizes is zero.
    fn nested(
        &mut self,
        shape: &[u64],
        mut put: impl FnMut(&mut Self, u64) -> Result<(), String>,
    ) -> Result<(), WriteError> {
        let mut position = vec![0_u64; shape.len()];
        let mut index = 0;
        loop {
            let starts = position.iter().rev().take_while(|place| **place == 0).count();
            for _ in 0..starts {
                self.put("[");
            }
            put(self, index).map_err(wrong)?;
            index += 1;
            self.drain()?;
            let mut carry = true;
            for (place, size) in position.iter_mut().zip(shape).rev() {
                *place += 1;
                if *place < *size {
                    carry = false;
                    break;
                }
                *place = 0;
                self.put("]");
            }
            if carry {
                return Ok(());
            }
            self.put(", ");
        }
    }
}

fn inner_type(kind: Option<&mil::ValueType>) -> Result<&mil::ValueType, WriteError> {
    kind.ok_or_else(|| wrong("a composed type leaves its inner type out"))
}

fn fixed(dimension: &mil::Dimension) -> Option<u64> {
    match &dimension.dimension {
        Some(mil::dimension::Dimension::Constant(constant)) => Some(constant.size),
        _ => None,
    }
}

/// Whether a value of the inner type may stand where the outer type is wanted: an unknown size on
/// either side agrees with any.
fn fits(inner: &mil::ValueType, outer: &mil::ValueType, depth: usize) -> bool {
    let boxed =
        |inner: Option<&mil::ValueType>, outer: Option<&mil::ValueType>| match (inner, outer) {
            (Some(inner), Some(outer)) => fits(inner, outer, depth + 1),
            _ => false,
        };
    let sizes = |inner: &mil::Dimension, outer: &mil::Dimension| match (fixed(inner), fixed(outer))
    {
        (Some(inner), Some(outer)) => inner == outer,
        _ => true,
    };
    if depth > MAXIMUM_TYPE_DEPTH {
        return false;
    }
    match (&inner.r#type, &outer.r#type) {
        (Some(Type::TensorType(inner)), Some(Type::TensorType(outer))) => {
            inner.data_type == outer.data_type
                && inner.dimensions.len() == outer.dimensions.len()
                && inner.dimensions.iter().zip(&outer.dimensions).all(|(a, b)| sizes(a, b))
        }
        (Some(Type::ListType(inner)), Some(Type::ListType(outer))) => {
            boxed(inner.r#type.as_deref(), outer.r#type.as_deref())
        }
        (Some(Type::TupleType(inner)), Some(Type::TupleType(outer))) => {
            inner.types.len() == outer.types.len()
                && inner.types.iter().zip(&outer.types).all(|(a, b)| fits(a, b, depth + 1))
        }
        (Some(Type::DictionaryType(inner)), Some(Type::DictionaryType(outer))) => {
            boxed(inner.key_type.as_deref(), outer.key_type.as_deref())
                && boxed(inner.value_type.as_deref(), outer.value_type.as_deref())
        }
        _ => false,
    }
}

/// What dictionary entries are sorted by: strings by their bytes, numbers by value.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortKey<'a> {
    Number(i64),
    Text(&'a str),
    Other,
}

fn sort_key(key: &mil::Value) -> SortKey<'_> {
    let Some(Storage::ImmediateValue(immediate)) = &key.value else { return SortKey::Other };
    let Some(Immediate::Tensor(tensor)) = &immediate.value else { return SortKey::Other };
    match &tensor.value {
        Some(Field::Strings(texts)) => {
            texts.values.first().map_or(SortKey::Other, |text| SortKey::Text(text))
        }
        Some(Field::Ints(numbers)) => numbers
            .values
            .first()
            .map_or(SortKey::Other, |number| SortKey::Number((*number).into())),
        Some(Field::LongInts(numbers)) => {
            numbers.values.first().map_or(SortKey::Other, |number| SortKey::Number(*number))
        }
        _ => SortKey::Other,
    }
}

/// The sizes of a literal: those of its type, and where one is unknown, what the elements leave.
fn shape(kind: &mil::TensorType, elements: &Elements<'_>) -> Result<Vec<u64>, String> {
    let known: Vec<Option<u64>> = kind.dimensions.iter().map(fixed).collect();
    let unknown = known.iter().filter(|size| size.is_none()).count();
    let product = element_count(&known.iter().flatten().copied().collect::<Vec<_>>());
    let found = elements.length;
    let missing = match unknown {
        0 => 1,
        1 => {
            // Bytes do not say how many elements of 3 bits they hold.
            let count = elements.count().ok_or("a packed value has an unknown size")?;
            match product {
                Some(product) if product > 0 && count % product == 0 => count / product,
                _ => return Err("a value's unknown size does not follow from its data".to_owned()),
            }
        }
        _ => return Err("a value has several unknown sizes".to_owned()),
    };
    let count = product.and_then(|product| product.checked_mul(missing));
    let expected = count.and_then(|count| elements.stored(count));
    if expected != Some(found) {
        let expected = expected.map_or_else(|| "too many".to_owned(), |count| count.to_string());
        return Err(format!(
            "a value of type {} takes {expected} {}, but holds {found}",
            elements.kind,
            if elements.is_bytes() { "bytes" } else { "elements" },
        ));
    }
    Ok(known.into_iter().map(|size| size.unwrap_or(missing)).collect())
}

/// The elements of a tensor value where they stand.
struct Elements<'a> {
    kind: DataType,
    field: Option<&'a Field>,
    /// Elements, or bytes of a byte field.
    length: u64,
}

impl<'a> Elements<'a> {
    /// Errors: a field that does not carry this type.
    fn new(kind: DataType, field: Option<&'a Field>) -> Result<Self, String> {
        let length = match field {
            None => 0,
            Some(Field::Floats(values)) => values.values.len(),
            Some(Field::Doubles(values)) => values.values.len(),
            Some(Field::Ints(values)) => values.values.len(),
            Some(Field::LongInts(values)) => values.values.len(),
            Some(Field::Bools(values)) => values.values.len(),
            Some(Field::Strings(values)) => values.values.len(),
            Some(Field::Bytes(values)) => values.values.len(),
        } as u64;
        let small = kind.is_integer() && kind.bits() <= Some(32);
        let carries = match field {
            None => true,
            Some(Field::Floats(_)) => kind == DataType::Float32,
            Some(Field::Doubles(_)) => kind == DataType::Float64,
            Some(Field::Ints(_)) => small,
            Some(Field::LongInts(_)) => matches!(kind, DataType::Int64 | DataType::UInt64),
            Some(Field::Bools(_)) => kind == DataType::Bool,
            Some(Field::Strings(_)) => kind == DataType::String,
            Some(Field::Bytes(_)) => kind != DataType::String,
        };
        if carries {
            Ok(Self { kind, field, length })
        } else {
            Err(format!("elements of type {kind} stand in a field of another type"))
        }
    }

    const fn is_bytes(&self) -> bool {
        matches!(self.field, Some(Field::Bytes(_)))
    }

    /// How many elements there are, where the field says it.
    fn count(&self) -> Option<u64> {
        match self.kind.bits() {
            Some(bits) if self.is_bytes() => match bits {
                8.. => Some(self.length / u64::from(bits / 8)),
                _ => None,
            },
            _ => Some(self.length),
        }
    }

    /// The length of a field that holds so many elements.
    fn stored(&self, count: u64) -> Option<u64> {
        if self.is_bytes() { byte_size(self.kind, count) } else { Some(count) }
    }

    /// Prints one element. The index is inside, which [`shape`] has checked.
    fn put(&self, printer: &mut Printer<'_>, index: u64) -> Result<(), String> {
        let buffer = &mut printer.buffer;
        let at = usize::try_from(index).map_err(|_| "a value is too large".to_owned())?;
        let missing = || "a value ends early".to_owned();
        match self.field.ok_or_else(missing)? {
            Field::Floats(values) => {
                put_float(buffer, f64::from(*values.values.get(at).ok_or_else(missing)?));
            }
            Field::Doubles(values) => {
                put_float(buffer, *values.values.get(at).ok_or_else(missing)?)
            }
            Field::Ints(values) => {
                let value = *values.values.get(at).ok_or_else(missing)?;
                // A 32-bit field holds the larger half of uint32 as negative numbers.
                let value = if self.kind == DataType::UInt32 {
                    i64::from(value as u32)
                } else {
                    value.into()
                };
                let (low, high) = self.kind.integer_range().unwrap_or((i64::MIN, i64::MAX));
                if !(low..=high).contains(&value) {
                    return Err(format!("{value} does not fit {}", self.kind));
                }
                put_signed(buffer, value);
            }
            Field::LongInts(values) => {
                let value = *values.values.get(at).ok_or_else(missing)?;
                match self.kind {
                    // The upper half stands as negative numbers.
                    DataType::UInt64 => put_integer(buffer, value as u64),
                    _ => put_signed(buffer, value),
                }
            }
            Field::Bools(values) => put_bool(buffer, *values.values.get(at).ok_or_else(missing)?),
            Field::Strings(values) => printer.quoted(values.values.get(at).ok_or_else(missing)?),
            Field::Bytes(values) => {
                put_stored(buffer, self.kind, &values.values, at).ok_or_else(missing)?;
            }
        }
        Ok(())
    }
}

fn put_bool(buffer: &mut Vec<u8>, value: bool) {
    buffer.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends an element of little-endian stored bytes; `None` past the end.
fn put_stored(buffer: &mut Vec<u8>, kind: DataType, bytes: &[u8], index: usize) -> Option<()> {
    let bits = kind.bits()? as usize;
    let first = index.checked_mul(bits)?;
    let mut raw = 0_u64;
    let whole = bytes.get(first / 8..(first + bits).div_ceil(8))?;
    for (place, byte) in whole.iter().enumerate() {
        raw |= u64::from(*byte) << (8 * place);
    }
    raw >>= first % 8;
    if bits < 64 {
        raw &= (1 << bits) - 1;
    }
    match kind {
        DataType::Bool => put_bool(buffer, raw != 0),
        DataType::Float64 => put_float(buffer, f64::from_bits(raw)),
        DataType::Float32 => put_float(buffer, f64::from(f32::from_bits(raw as u32))),
        _ if kind.is_float() => put_float(buffer, widen(kind, raw as u16)),
        DataType::Int4 | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let unused = 64 - bits;
            put_signed(buffer, (raw << unused) as i64 >> unused);
        }
        _ => put_integer(buffer, raw),
    }
    Some(())
}
