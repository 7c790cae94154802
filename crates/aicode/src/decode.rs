//! Documents of bytecode to programs, whoever wrote them.

use crate::attribute::Attribute;
use crate::element::ElementType;
use crate::operations;
use crate::program::{Blob, Block, Function, Operation, Port, Program, frame};
use crate::records::{self, ATTRIBUTES, Definition, ENCODING, TYPES, Value};
use crate::types::{Layout, Memory, TensorType, Type};
use anemll_mlirbc::{Document, Encoded, Error, Reader, Result};

/// How deep attributes and types may lie in each other.
const MAXIMUM_DEPTH: usize = 32;
/// How many attributes and types are decoded, each as often as it is named: so many for each operation, argument and
/// result, of which most need three at most; and for what functions say of what they take and give.
const RECORDS_OF_EACH: u64 = 8;
const RECORDS_OF_FUNCTIONS: u64 = 200_000;

/// The program of a document.
///
/// # Errors
/// What is not of the dialect, of another encoding, or contradicts itself.
pub(crate) fn program(document: &Document) -> Result<Program> {
    let each = RECORDS_OF_EACH.saturating_mul(entries(&document.body));
    let mut decoder = Decoder { document, left: RECORDS_OF_FUNCTIONS.saturating_add(each) };
    decoder.check_dialect()?;
    let [asset] = document.body.operations.as_slice() else {
        return Err(wrong(format!(
            "the file holds {} operations where one asset is wanted",
            document.body.operations.len()
        )));
    };
    let outside = decoder.operation(asset)?;
    if outside.name != frame::ASSET {
        return Err(wrong(format!("the file holds `{}`, not an asset", outside.name)));
    }
    let version = match outside.properties.get(1) {
        Some(Some(Attribute::Integer { value, .. })) => u32::try_from(*value).ok(),
        Some(None) => Some(0),
        _ => None,
    };
    let version = version.ok_or_else(|| wrong("the asset's version is not a number"))?;
    let operations = asset.regions.iter().flat_map(|region| &region.blocks);
    let operations = operations.flat_map(|block| &block.operations);
    let functions = operations.map(|operation| decoder.function(operation));
    let functions = functions.collect::<Result<_>>()?;
    let blobs = document.resources.iter().map(|resource| {
        let key = decoder.string(resource.key.into())?.to_owned();
        Ok(Blob { key, length: resource.length, offset: resource.offset })
    });
    Ok(Program { version, functions, blobs: blobs.collect::<Result<_>>()? })
}

/// Operations, arguments and results of a block and those in it.
fn entries(block: &anemll_mlirbc::Block) -> u64 {
    let own = block.arguments.len() + block.operations.len();
    let inside = block.operations.iter().map(|operation| {
        let inside: u64 =
            operation.regions.iter().flat_map(|region| &region.blocks).map(entries).sum();
        operation.results.len() as u64 + inside
    });
    own as u64 + inside.sum::<u64>()
}

fn wrong(message: impl Into<String>) -> Error {
    Error::Document(message.into())
}

/// A kind of record, and the values of its fields.
type Fields = (&'static Definition, Vec<Value>);

struct Decoder<'a> {
    document: &'a Document,
    left: u64,
}

impl<'a> Decoder<'a> {
    fn check_dialect(&self) -> Result<()> {
        for dialect in &self.document.dialects {
            let name = self.string(dialect.name.into())?;
            if name != frame::DIALECT {
                return Err(wrong(format!(
                    "the file is written in the dialect `{name}`; assets are of `{}`",
                    frame::DIALECT
                )));
            }
            if dialect.version.as_deref() != Some(ENCODING) {
                let number = |bytes: &[u8]| Reader::new(bytes, 0).varint().ok();
                let found = dialect.version.as_deref().and_then(number);
                let found = found.map_or("none".to_owned(), |number| number.to_string());
                let known = number(ENCODING).unwrap_or_default();
                return Err(wrong(format!(
                    "the dialect's encoding is {found}; {known} is the one that can be read"
                )));
            }
        }
        Ok(())
    }

    fn string(&self, index: u64) -> Result<&'a str> {
        let found = usize::try_from(index).ok().and_then(|i| self.document.strings.get(i));
        found.map(String::as_str).ok_or_else(|| wrong(format!("string {index} is not there")))
    }

    /// Counts what is decoded: few bytes can name the same things over and over.
    fn spend(&mut self, depth: usize) -> Result<()> {
        if depth > MAXIMUM_DEPTH {
            return Err(wrong(format!(
                "attributes or types lie deeper than {MAXIMUM_DEPTH} in each other: \
                 perhaps one holds itself"
            )));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            wrong("attributes and types name each other so often that they are not all read")
        })?;
        Ok(())
    }

    /// The record of an index, if its code is in the table.
    fn record(
        list: &'a [Encoded],
        index: u64,
        table: &'static [Definition],
    ) -> Result<(u64, Option<Fields>)> {
        let found = usize::try_from(index).ok().and_then(|index| list.get(index));
        let entry = found.ok_or_else(|| {
            let count = list.len();
            wrong(format!("attribute or type {index} is named, but there are {count}"))
        })?;
        if !entry.binary {
            return Err(wrong("attributes and types as text are not read"));
        }
        let mut reader = Reader::new(&entry.bytes, 0);
        let code = reader.varint()?;
        let definition = records::coded(table, code);
        let values = definition.map(|definition| {
            let values = records::decode(definition, &mut reader);
            let named = |error| wrong(format!("record `{}` {index}: {error}", definition.name));
            values.map(|values| (definition, values)).map_err(named)
        });
        Ok((code, values.transpose()?))
    }

    fn attribute(&mut self, index: u64, depth: usize) -> Result<Attribute> {
        self.spend(depth)?;
        let (code, found) = Self::record(&self.document.attributes, index, ATTRIBUTES)?;
        let Some((definition, values)) = found else { return Ok(Attribute::Other(code)) };
        Ok(match (definition.name, values.as_slice()) {
            ("string", [Value::Number(text)]) => Attribute::String(self.string(*text)?.to_owned()),
            ("integer", [Value::Number(width), Value::Flag(unsigned), Value::Signed(value)]) => {
                Attribute::Integer { width: *width, unsigned: *unsigned, value: *value }
            }
            ("float", [Value::Number(width), Value::Signed(bits)]) => {
                Attribute::Float { width: *width, bits: *bits }
            }
            ("type", [Value::Number(kind)]) => Attribute::Type(self.kind(*kind, depth + 1)?),
            ("array", [Value::Indices(items)]) => Attribute::Array(self.list(items, depth)?),
            ("dense", [Value::Flag(splat), Value::Bytes(bytes)]) => {
                Attribute::Dense { splat: *splat, bytes: bytes.clone() }
            }
            ("blob", [Value::Number(index)]) => {
                let there = (*index as usize) < self.document.resources.len();
                let index = u32::try_from(*index).ok().filter(|_| there);
                Attribute::Blob(index.ok_or_else(|| wrong("a constant's blob is not there"))?)
            }
            ("named", [Value::Number(name), Value::Indices(items)]) => {
                let name = self.string(*name)?.to_owned();
                Attribute::Named(name, self.list(items, depth)?)
            }
            ("layout", [Value::SignedList(alignments), Value::SignedList(interleave), memory]) => {
                let memory = match memory {
                    Value::Number(1) => Memory::IoSurface,
                    Value::Number(2) => Memory::Metal,
                    Value::Number(3) => Memory::Heap,
                    _ => return Err(wrong("a layout is for memory that is not known here")),
                };
                let (alignments, interleave) = (alignments.clone(), interleave.clone());
                Attribute::Layout(Layout { alignments, interleave, memory })
            }
            ("symbol", [Value::Indices(parts)]) => {
                let part = |index: &u32| self.string((*index).into()).map(str::to_owned);
                Attribute::Symbol(parts.iter().map(part).collect::<Result<_>>()?)
            }
            ("constant", [Value::Number(value), Value::Number(kind)]) => {
                let value = self.attribute(*value, depth + 1)?;
                Attribute::Constant(Box::new(value), self.kind(*kind, depth + 1)?)
            }
            ("dictionary", [Value::Indices(items)]) => {
                Attribute::Dictionary(self.list(items, depth)?)
            }
            ("unit", []) => Attribute::Unit,
            ("file" | "position" | "location", _) => Attribute::Location,
            (name, [Value::Number(value)]) => Attribute::Choice(name, *value),
            _ => Attribute::Other(code),
        })
    }

    fn list(&mut self, items: &[u32], depth: usize) -> Result<Vec<Attribute>> {
        items.iter().map(|item| self.attribute((*item).into(), depth + 1)).collect()
    }

    fn kinds(&mut self, indices: &[u32], depth: usize) -> Result<Vec<Type>> {
        indices.iter().map(|index| self.kind((*index).into(), depth)).collect()
    }

    fn kind(&mut self, index: u64, depth: usize) -> Result<Type> {
        self.spend(depth)?;
        let (code, found) = Self::record(&self.document.types, index, TYPES)?;
        let Some((definition, values)) = found else {
            return Ok(ElementType::from_code(code).map_or(Type::Other(code), Type::Element));
        };
        Ok(match (definition.name, values.as_slice()) {
            ("tensor", [Value::SignedList(shape), Value::Number(element)]) => {
                self.tensor(shape, *element, None, depth)?
            }
            (
                "tensor_with_layout",
                [Value::SignedList(shape), Value::Number(element), Value::Number(layout)],
            ) => {
                let Attribute::Layout(layout) = self.attribute(*layout, depth + 1)? else {
                    return Err(wrong("a tensor's layout is not a layout"));
                };
                self.tensor(shape, *element, Some(layout), depth)?
            }
            ("function", [Value::Indices(results), Value::Indices(operands)]) => {
                let results = self.kinds(results, depth + 1)?;
                Type::Function { operands: self.kinds(operands, depth + 1)?, results }
            }
            ("state", [Value::Number(tensor)]) => match self.kind(*tensor, depth + 1)? {
                Type::Tensor(tensor) => Type::State(tensor),
                other => return Err(wrong(format!("a state holds {other}, not a tensor"))),
            },
            ("token", []) => Type::Token,
            ("symbol", []) => Type::Symbol,
            _ => Type::Other(code),
        })
    }

    fn tensor(
        &mut self,
        shape: &[i64],
        element: u64,
        layout: Option<Layout>,
        depth: usize,
    ) -> Result<Type> {
        match self.kind(element, depth + 1)? {
            Type::Element(element) => {
                Ok(Type::Tensor(TensorType { element, shape: shape.to_vec(), layout }))
            }
            // Elements that are not known here: complex numbers, the newest floats.
            other => Ok(other),
        }
    }

    fn operation(&mut self, operation: &anemll_mlirbc::Operation) -> Result<Operation> {
        let name = self.document.operation_names.get(operation.name as usize);
        let name = name.ok_or_else(|| wrong("an operation has no name"))?;
        let name = self.string(name.name.into())?.to_owned();
        let mut properties = Vec::new();
        if let (Some(definition), Some(index)) = (operations::find(&name), operation.properties) {
            let bytes = self.document.properties.get(index as usize);
            let bytes = bytes.ok_or_else(|| wrong("a record of properties is not there"))?;
            let mut reader = Reader::new(bytes, 0);
            for property in definition.properties {
                let value = match property.ends_with('?') {
                    true => reader.flagged()?,
                    false => (reader.varint()?, true),
                };
                properties.push(match value {
                    (index, true) => Some(self.attribute(index, 0)?),
                    (_, false) => None,
                });
            }
            reader.end("a record of properties")?;
        }
        let results = self.kinds(&operation.results, 0)?;
        let mut regions = Vec::new();
        // The functions of an asset and the bodies of functions are read by their own.
        if name != frame::ASSET && name != frame::FUNCTION {
            for region in &operation.regions {
                regions.push(self.region(region)?);
            }
        }
        Ok(Operation { name, properties, operands: operation.operands.clone(), results, regions })
    }

    fn region(&mut self, region: &anemll_mlirbc::Region) -> Result<Block> {
        let [block] = region.blocks.as_slice() else {
            return Err(wrong(format!("a region has {} blocks, not one", region.blocks.len())));
        };
        let arguments = block.arguments.iter().map(|(kind, _)| self.kind((*kind).into(), 0));
        let arguments = arguments.collect::<Result<_>>()?;
        let operations = block.operations.iter().map(|operation| self.operation(operation));
        Ok(Block { arguments, operations: operations.collect::<Result<_>>()? })
    }

    fn function(&mut self, operation: &anemll_mlirbc::Operation) -> Result<Function> {
        let outside = self.operation(operation)?;
        let [region] = operation.regions.as_slice() else {
            return Err(wrong(format!("`{}` stands where a function is wanted", outside.name)));
        };
        if outside.name != frame::FUNCTION {
            return Err(wrong(format!("`{}` stands where a function is wanted", outside.name)));
        }
        let property = |place: usize| outside.properties.get(place).and_then(Option::as_ref);
        let flag = |place: usize| matches!(property(place), Some(Attribute::Integer { value, .. }) if *value != 0);
        let Some(Attribute::String(name)) = property(5) else {
            return Err(wrong("a function has no name"));
        };
        let Some(Attribute::Type(Type::Function { operands, results })) = property(3) else {
            return Err(wrong(format!("function `{name}` has no type")));
        };
        Ok(Function {
            name: name.clone(),
            inputs: ports(property(0), operands),
            outputs: ports(property(8), results),
            private: flag(4),
            no_inline: flag(6),
            composite: property(1).cloned(),
            body: self.region(region)?,
        })
    }
}

/// What a function takes or gives, with the names that its attributes give.
fn ports(attributes: Option<&Attribute>, kinds: &[Type]) -> Vec<Port> {
    let lists = attributes.map_or(&[][..], Attribute::items);
    let port = |(place, kind): (usize, &Type)| {
        let text = |wanted| lists.get(place)?.text_named(wanted).map(str::to_owned);
        Port { name: text(frame::NAME), kind: kind.clone(), state: text(frame::STATE) }
    };
    kinds.iter().enumerate().map(port).collect()
}
