//! Where text goes: a small buffer before the output, and the spelling of words and types.

use super::string::put_escaped;
use super::{Dialect, WriteError, number};
use crate::dtype::DataType;
use crate::error::Error;
use crate::identifier;
use crate::types::MAXIMUM_RANK;
use coreml_proto::mil;
use std::collections::BTreeMap;
use std::io;

/// Bytes that are gathered before they go to the output.
const BUFFER: usize = 64 << 10;

/// How deep types may nest in each other.
pub(super) const MAXIMUM_TYPE_DEPTH: usize = 16;

pub(super) struct Printer<'a> {
    output: &'a mut dyn io::Write,
    pub(super) buffer: Vec<u8>,
    dialect: Dialect,
    /// Strings that are spelled otherwise than by [`put_escaped`].
    spellings: &'a BTreeMap<String, String>,
}

pub(super) fn wrong(message: impl Into<String>) -> WriteError {
    WriteError::Model(Error::new(message))
}

impl<'a> Printer<'a> {
    pub(super) fn new(
        output: &'a mut dyn io::Write,
        dialect: Dialect,
        spellings: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { output, buffer: Vec::with_capacity(BUFFER + BUFFER / 4), dialect, spellings }
    }

    pub(super) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn put(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    pub(super) fn spaces(&mut self, count: usize) {
        self.buffer.resize(self.buffer.len() + count, b' ');
    }

    /// Hands the gathered bytes on, if they are many.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER { self.finish() } else { Ok(()) }
    }

    /// Hands the gathered bytes on.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.output.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// A name of a function, value, operation or parameter.
    pub(super) fn name(&mut self, name: &str) -> Result<(), WriteError> {
        if !identifier::is_legal(name) {
            return Err(wrong(format!("the name {name:?} cannot stand in MIL text")));
        }
        self.put(name);
        Ok(())
    }

    pub(super) fn quoted(&mut self, text: &str) {
        self.buffer.push(b'"');
        match self.spellings.get(text) {
            Some(spelling) => self.buffer.extend_from_slice(spelling.as_bytes()),
            None => put_escaped(&mut self.buffer, text),
        }
        self.buffer.push(b'"');
    }

    pub(super) fn integer(&mut self, value: u64) {
        number::put_integer(&mut self.buffer, value);
    }

    /// The type of a scalar.
    pub(super) fn scalar_type(&mut self, kind: DataType) {
        if self.dialect.bare_scalars {
            self.put(kind.mil_name());
        } else {
            self.put("tensor<");
            self.put(kind.mil_name());
            self.put(", []>");
        }
    }

    /// A type, whatever it is.
    pub(super) fn value_type(&mut self, kind: Option<&mil::ValueType>) -> Result<(), WriteError> {
        self.nested_type(kind, 0)
    }

    fn nested_type(
        &mut self,
        kind: Option<&mil::ValueType>,
        depth: usize,
    ) -> Result<(), WriteError> {
        use mil::value_type::Type;
        if depth > MAXIMUM_TYPE_DEPTH {
            return Err(wrong(format!("a type nests deeper than {MAXIMUM_TYPE_DEPTH}")));
        }
        let kind = kind.and_then(|kind| kind.r#type.as_ref());
        match kind.ok_or_else(|| wrong("a type is not given"))? {
            Type::TensorType(tensor) => self.tensor_type(tensor)?,
            Type::StateType(state) => {
                self.put("state<");
                self.nested_type(state.wrapped_type.as_deref(), depth + 1)?;
                self.put(">");
            }
            Type::ListType(list) => {
                self.put("list<");
                self.nested_type(list.r#type.as_deref(), depth + 1)?;
                self.put(", ");
                let length = list.length.as_ref();
                self.dimension(length.ok_or_else(|| wrong("a list type leaves its length out"))?)?;
                self.put(">");
            }
            Type::TupleType(tuple) => {
                self.put("tuple<");
                for (index, kind) in tuple.types.iter().enumerate() {
                    self.separator(index);
                    self.nested_type(Some(kind), depth + 1)?;
                }
                self.put(">");
            }
            Type::DictionaryType(dictionary) => {
                self.put("dict<");
                self.nested_type(dictionary.key_type.as_deref(), depth + 1)?;
                self.put(", ");
                self.nested_type(dictionary.value_type.as_deref(), depth + 1)?;
                self.put(">");
            }
        }
        Ok(())
    }

    fn tensor_type(&mut self, tensor: &mil::TensorType) -> Result<(), WriteError> {
        let kind = DataType::from_proto(tensor.data_type).map_err(wrong)?;
        let rank = tensor.dimensions.len();
        if i64::try_from(rank) != Ok(tensor.rank) || rank > MAXIMUM_RANK {
            return Err(wrong(format!("rank {} is declared with {rank} dimensions", tensor.rank)));
        }
        if let Some(name) = tensor.attributes.keys().next() {
            return Err(wrong(format!("a tensor type has the attribute `{name}`")));
        }
        if rank == 0 {
            self.scalar_type(kind);
            return Ok(());
        }
        self.put("tensor<");
        self.put(kind.mil_name());
        self.put(", [");
        for (index, dimension) in tensor.dimensions.iter().enumerate() {
            self.separator(index);
            self.dimension(dimension)?;
        }
        self.put("]>");
        Ok(())
    }

    fn dimension(&mut self, dimension: &mil::Dimension) -> Result<(), WriteError> {
        use mil::dimension::Dimension;
        match &dimension.dimension {
            Some(Dimension::Constant(constant)) => self.integer(constant.size),
            Some(Dimension::Unknown(unknown)) if unknown.variadic => {
                return Err(wrong("a variadic dimension (unknown rank) cannot stand in MIL text"));
            }
            Some(Dimension::Unknown(_)) => self.put("?"),
            None => return Err(wrong("a dimension is neither a size nor unknown")),
        }
        Ok(())
    }

    /// What stands before the item of this index.
    pub(super) fn separator(&mut self, index: usize) {
        if index > 0 {
            self.put(", ");
        }
    }
}
