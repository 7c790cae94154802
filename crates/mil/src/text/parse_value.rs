//! Reading types and values.

use super::ParseError;
use super::build::{dictionary_type, dimension, tensor_type, typed, value_type};
use super::cursor::Cursor;
use super::elements::Sink;
use super::printer::MAXIMUM_TYPE_DEPTH;
use crate::dtype::DataType;
use crate::types::MAXIMUM_RANK;
use coreml_proto::mil;
use coreml_proto::mil::value::{
    BlobFileValue, ImmediateValue, Value as Storage, immediate_value::Value as Immediate,
};
use coreml_proto::mil::value_type::Type;
use std::collections::BTreeMap;

/// Reads a text, and gathers what the program does not hold.
pub(super) struct Parser<'t> {
    pub(super) cursor: Cursor<'t>,
    /// Whether scalar types are spelled by their element type alone, once one was seen.
    pub(super) bare_scalars: Option<bool>,
    /// Strings that are spelled otherwise than ours.
    pub(super) spellings: BTreeMap<String, String>,
}

impl<'t> Parser<'t> {
    /// Items between commas up to the closing sign, which is stepped over.
    pub(super) fn items(
        &mut self,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        if self.cursor.eat(close) {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.cursor.eat(b',') {
                continue;
            }
            if self.cursor.eat(close) {
                return Ok(());
            }
            return Err(self.cursor.expected(&format!("`,` or `{}`", char::from(close))));
        }
    }

    pub(super) fn value_type(&mut self) -> Result<mil::ValueType, ParseError> {
        self.nested_type(0)
    }

    fn nested_type(&mut self, depth: usize) -> Result<mil::ValueType, ParseError> {
        self.cursor.skip_spaces();
        let start = self.cursor.offset();
        if depth > MAXIMUM_TYPE_DEPTH {
            let message = format!("a type nests deeper than {MAXIMUM_TYPE_DEPTH}");
            return Err(self.cursor.error(message));
        }
        let word = self.cursor.name("a type")?;
        let kind = match word {
            "tensor" => return self.tensor_type(),
            "state" => {
                self.cursor.expect(b'<')?;
                let wrapped_type = Some(Box::new(self.nested_type(depth + 1)?));
                Type::StateType(Box::new(mil::StateType { wrapped_type }))
            }
            "list" => {
                self.cursor.expect(b'<')?;
                let element = self.nested_type(depth + 1)?;
                self.cursor.expect(b',')?;
                let length = self.size()?;
                Type::ListType(Box::new(mil::ListType {
                    r#type: Some(Box::new(element)),
                    length: Some(dimension(length)),
                }))
            }
            "tuple" => {
                self.cursor.expect(b'<')?;
                let mut types = Vec::new();
                self.items(b'>', |parser| {
                    types.push(parser.nested_type(depth + 1)?);
                    Ok(())
                })?;
                return Ok(value_type(Type::TupleType(mil::TupleType { types })));
            }
            "dict" => {
                self.cursor.expect(b'<')?;
                let key = self.nested_type(depth + 1)?;
                self.cursor.expect(b',')?;
                let value = self.nested_type(depth + 1)?;
                self.cursor.expect(b'>')?;
                return Ok(dictionary_type(key, value));
            }
            _ => {
                let kind = data_type(word).ok_or_else(|| {
                    self.cursor.error_at(start, format!("expected a type, found `{word}`"))
                })?;
                self.bare_scalars.get_or_insert(true);
                return Ok(tensor_type(proto(kind), &[]));
            }
        };
        self.cursor.expect(b'>')?;
        Ok(value_type(kind))
    }

    /// The rest of a tensor type after its first word.
    fn tensor_type(&mut self) -> Result<mil::ValueType, ParseError> {
        self.cursor.expect(b'<')?;
        self.cursor.skip_spaces();
        let start = self.cursor.offset();
        let word = self.cursor.name("an element type")?;
        let kind = data_type(word).ok_or_else(|| {
            self.cursor.error_at(start, format!("expected an element type, found `{word}`"))
        })?;
        self.cursor.expect(b',')?;
        self.cursor.expect(b'[')?;
        let mut shape = Vec::new();
        self.items(b']', |parser| {
            if shape.len() == MAXIMUM_RANK {
                return Err(parser.cursor.error(format!("a rank above {MAXIMUM_RANK}")));
            }
            shape.push(parser.size()?);
            Ok(())
        })?;
        self.cursor.expect(b'>')?;
        if shape.is_empty() {
            self.bare_scalars.get_or_insert(false);
        }
        Ok(tensor_type(proto(kind), &shape))
    }

    /// A size, or `?`.
    fn size(&mut self) -> Result<Option<u64>, ParseError> {
        if self.cursor.eat(b'?') {
            return Ok(None);
        }
        self.cursor.unsigned("a size or `?`").map(Some)
    }

    /// `TYPE(literal)` or `TYPE(BLOBFILE(path = …, offset = …))`.
    pub(super) fn value(&mut self) -> Result<mil::Value, ParseError> {
        let kind = self.value_type()?;
        self.cursor.expect(b'(')?;
        let before = self.cursor;
        let is_tensor = matches!(kind.r#type, Some(Type::TensorType(_)));
        if is_tensor && self.cursor.peek() == Some(b'B') && self.cursor.keyword("BLOBFILE").is_ok()
        {
            let blob = self.blob()?;
            self.cursor.expect(b')')?;
            let value = Some(Storage::BlobFileValue(blob));
            return Ok(mil::Value { doc_string: String::new(), r#type: Some(kind), value });
        }
        self.cursor = before;
        let mut value = self.literal(&kind)?;
        if let Some(Type::TensorType(tensor)) = &kind.r#type {
            let unknown = tensor.dimensions.iter().filter(|size| fixed(size).is_none()).count();
            // With one unknown size, the others must leave no doubt about it.
            let doubt = tensor.dimensions.iter().any(|size| fixed(size) == Some(0));
            if unknown > 1 || (unknown == 1 && doubt) {
                return Err(before.error("a value whose sizes are not known"));
            }
        }
        self.cursor.expect(b')')?;
        value.r#type = Some(kind);
        Ok(value)
    }

    fn blob(&mut self) -> Result<BlobFileValue, ParseError> {
        self.cursor.expect(b'(')?;
        self.cursor.keyword("path")?;
        self.cursor.expect(b'=')?;
        self.scalar_type(DataType::String)?;
        self.cursor.expect(b'(')?;
        let file_name = self.string()?;
        self.cursor.expect(b')')?;
        self.cursor.expect(b',')?;
        self.cursor.keyword("offset")?;
        self.cursor.expect(b'=')?;
        self.scalar_type(DataType::UInt64)?;
        self.cursor.expect(b'(')?;
        let offset = self.cursor.unsigned("an offset")?;
        self.cursor.expect(b')')?;
        self.cursor.expect(b')')?;
        Ok(BlobFileValue { file_name, offset })
    }

    /// The type of a scalar, which must be this one.
    fn scalar_type(&mut self, wanted: DataType) -> Result<(), ParseError> {
        let mut before = self.cursor;
        let found = self.value_type()?;
        if found == tensor_type(proto(wanted), &[]) {
            Ok(())
        } else {
            Err(before.expected(&format!("the type {wanted}")))
        }
    }

    /// A string literal; its spelling is kept where it is not ours.
    pub(super) fn string(&mut self) -> Result<String, ParseError> {
        let (value, spelling) = self.cursor.string()?;
        let value = value.into_owned();
        if let Some(spelling) = spelling {
            self.spellings.entry(value.clone()).or_insert_with(|| spelling.to_owned());
        }
        Ok(value)
    }

    /// A literal of a type, which bounds how deep it nests. A tensor has its own type, with the
    /// sizes that were found; a composition has none, as copies of a large type for many small
    /// values would take more than the text.
    fn literal(&mut self, kind: &mil::ValueType) -> Result<mil::Value, ParseError> {
        let missing = |parser: &Self| parser.cursor.error("a type leaves its inner type out");
        match &kind.r#type {
            Some(Type::TensorType(tensor)) => self.tensor(tensor),
            Some(Type::ListType(list)) => {
                let element = list.r#type.as_deref().ok_or_else(|| missing(self))?;
                let start = self.cursor.offset();
                self.cursor.expect(b'[')?;
                let mut values = Vec::new();
                self.items(b']', |parser| {
                    values.push(parser.literal(element)?);
                    Ok(())
                })?;
                let length = list.length.as_ref().and_then(fixed);
                if length.is_some_and(|length| length != values.len() as u64) {
                    let message = format!("a list of another length has {} values", values.len());
                    return Err(self.cursor.error_at(start, message));
                }
                Ok(untyped(Immediate::List(mil::ListValue { values })))
            }
            Some(Type::TupleType(tuple)) => {
                let start = self.cursor.offset();
                self.cursor.expect(b'(')?;
                let mut values = Vec::new();
                self.items(b')', |parser| {
                    let kind = tuple.types.get(values.len()).ok_or_else(|| {
                        parser.cursor.error(format!("a tuple of {} types", tuple.types.len()))
                    })?;
                    values.push(parser.literal(kind)?);
                    Ok(())
                })?;
                if values.len() != tuple.types.len() {
                    let message =
                        format!("{} values for {} types", values.len(), tuple.types.len());
                    return Err(self.cursor.error_at(start, message));
                }
                Ok(untyped(Immediate::Tuple(mil::TupleValue { values })))
            }
            Some(Type::DictionaryType(dictionary)) => {
                let key_type = dictionary.key_type.as_deref().ok_or_else(|| missing(self))?;
                let value_type = dictionary.value_type.as_deref().ok_or_else(|| missing(self))?;
                self.cursor.expect(b'{')?;
                let mut values = Vec::new();
                self.items(b'}', |parser| {
                    parser.cursor.expect(b'{')?;
                    let key = Some(parser.literal(key_type)?);
                    parser.cursor.expect(b',')?;
                    let value = Some(parser.literal(value_type)?);
                    parser.cursor.expect(b'}')?;
                    values.push(mil::dictionary_value::KeyValuePair { key, value });
                    Ok(())
                })?;
                Ok(untyped(Immediate::Dictionary(mil::DictionaryValue { values })))
            }
            Some(Type::StateType(_)) | None => {
                Err(self.cursor.error("a state cannot be written as a value"))
            }
        }
    }

    fn tensor(&mut self, tensor: &mil::TensorType) -> Result<mil::Value, ParseError> {
        let kind =
            DataType::from_proto(tensor.data_type).map_err(|message| self.cursor.error(message))?;
        let mut sizes: Vec<Option<u64>> = tensor.dimensions.iter().map(fixed).collect();
        let mut sink = Sink::new(kind);
        let before = self.cursor;
        let is_empty = sizes.contains(&Some(0)) && self.cursor.eat(b'[') && self.cursor.eat(b']');
        if !is_empty {
            self.cursor = before;
            self.brackets(&mut sizes, 0, &mut sink)?;
        }
        let shape: Vec<Option<u64>> = sizes.into_iter().map(|size| size.or(Some(0))).collect();
        let kind = tensor_type(proto(kind), &shape);
        Ok(typed(kind, Immediate::Tensor(mil::TensorValue { value: Some(sink.finish()) })))
    }

    /// The elements of the dimensions from `level` on. Unknown sizes become what is found first.
    fn brackets(
        &mut self,
        sizes: &mut [Option<u64>],
        level: usize,
        sink: &mut Sink,
    ) -> Result<(), ParseError> {
        if level == sizes.len() {
            return self.element(sink);
        }
        self.cursor.skip_spaces();
        let start = self.cursor.offset();
        self.cursor.expect(b'[')?;
        let mut count = 0_u64;
        if level + 1 == sizes.len() {
            self.items(b']', |parser| {
                count += 1;
                parser.element(sink)
            })?;
        } else {
            self.items(b']', |parser| {
                count += 1;
                parser.brackets(sizes, level + 1, sink)
            })?;
        }
        match sizes[level] {
            Some(size) if size != count => {
                let message = format!("{count} elements where the type has {size}");
                Err(self.cursor.error_at(start, message))
            }
            Some(_) => Ok(()),
            None => {
                sizes[level] = Some(count);
                Ok(())
            }
        }
    }

    fn element(&mut self, sink: &mut Sink) -> Result<(), ParseError> {
        if let Sink::Strings(values) = sink {
            values.push(self.string()?);
            return Ok(());
        }
        self.cursor.skip_spaces();
        let mut before = self.cursor;
        let token = self.cursor.token();
        match sink.push(token) {
            Ok(()) => Ok(()),
            Err(_) if token.is_empty() => {
                Err(before.expected(&format!("a value of type {}", sink.kind())))
            }
            Err(message) => Err(before.error(message)),
        }
    }
}

const fn untyped(immediate: Immediate) -> mil::Value {
    let storage = Storage::ImmediateValue(ImmediateValue { value: Some(immediate) });
    mil::Value { doc_string: String::new(), r#type: None, value: Some(storage) }
}

pub(super) fn fixed(dimension: &mil::Dimension) -> Option<u64> {
    match &dimension.dimension {
        Some(mil::dimension::Dimension::Constant(constant)) => Some(constant.size),
        _ => None,
    }
}

fn data_type(word: &str) -> Option<DataType> {
    DataType::ALL.iter().copied().find(|kind| kind.mil_name() == word)
}

/// The number of a type in the schema; our types are those of the schema.
fn proto(kind: DataType) -> mil::DataType {
    mil::DataType::try_from(kind.to_proto()).unwrap_or_default()
}
