//! The file: its metadata, and where its tensors are.

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::types::TensorType;
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};

const MAGIC: [u8; 4] = *b"GGUF";
/// Where tensors begin if the metadata says nothing else: at multiples of so many bytes.
const ALIGNMENT: u64 = 32;
/// Most dimensions of a tensor.
const MOST_DIMENSIONS: u32 = 4;
/// Fewest bytes of a key with its value, and of a tensor in the header.
const LEAST: (u64, u64) = (8 + 1 + 4 + 1, 8 + 1 + 4 + 8 + 4 + 8);

/// What the header says, checked against the size of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    version: u32,
    pub(crate) metadata: BTreeMap<String, Value>,
    pub(crate) tensors: Vec<Tensor>,
}

/// A tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Type of the elements.
    pub kind: TensorType,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// First byte, from the beginning of the file.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// All elements, in the order and with the values of the file.
    ///
    /// # Errors
    /// A type that cannot be read, and a file that was cut short.
    pub fn values(&self, source: &(impl Source + ?Sized)) -> Result<Vec<f32>> {
        let decode = self.kind.decoder().ok_or_else(|| {
            let reason = format!("tensors of type {} cannot be read", self.kind.name());
            Error::unsupported(reason).with_key(&self.name)
        })?;
        let mut packed = vec![0; self.bytes as usize];
        source.read(&mut packed, self.start)?;
        let mut values = vec![0.0; self.elements() as usize];
        decode(&packed, &mut values);
        Ok(values)
    }

    /// Elements of a row.
    pub(crate) fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }
}

impl Container {
    /// Reads the header of a file of `size` bytes.
    ///
    /// # Errors
    /// Whatever is wrong with it: a file cut short, counts, names or offsets that cannot be, values
    /// or tensors of unknown types.
    pub fn read(source: &(impl Source + ?Sized), size: u64) -> Result<Self> {
        let mut cursor = Cursor::new(source, size);
        if size < 4 || cursor.take(4)? != MAGIC {
            return Err(Error::invalid("not a GGUF file: it does not begin with `GGUF`"));
        }
        let version = cursor.u32()?;
        if version.swap_bytes() < 0x1_0000 && version > 0xFFFF {
            return Err(Error::unsupported("a GGUF file for big-endian machines")
                .with_hint("take the file for little-endian machines"));
        }
        if !matches!(version, 2 | 3) {
            return Err(Error::unsupported(format!("the file is of version {version} of GGUF"))
                .with_hint("versions 2 and 3 can be read: take a newer file of the model"));
        }
        let tensor_count = cursor.u64()?;
        let key_count = cursor.u64()?;
        for (count, least, what) in
            [(key_count, LEAST.0, "keys"), (tensor_count, LEAST.1, "tensors")]
        {
            if count.checked_mul(least).is_none_or(|bytes| bytes > cursor.left()) {
                return Err(Error::invalid(format!(
                    "{count} {what}, which the {size} bytes of the file cannot hold"
                )));
            }
        }
        let mut metadata = BTreeMap::new();
        for number in 1..=key_count {
            let key = cursor.name().map_err(|error| error.of(&format!("key {number}")))?;
            let value = cursor.value().map_err(|error| error.with_key(&key))?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(Error::invalid("the key is there twice").with_key(key));
            }
        }
        let mut tensors = Vec::new();
        for number in 1..=tensor_count {
            let name = cursor.name().map_err(|error| error.of(&format!("tensor {number}")))?;
            tensors.push(tensor(&mut cursor, name)?);
        }
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(value) => value
                .size()
                .filter(|size| size.is_power_of_two() && *size <= 1 << 20)
                .ok_or_else(|| {
                Error::invalid("is not an alignment: a power of two of up to 1048576 is expected")
                    .with_key("general.alignment")
            })?,
        };
        let data = cursor.position().next_multiple_of(alignment);
        place(&mut tensors, data, alignment, size)?;
        Ok(Self { version, metadata, tensors })
    }

    /// Version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata, by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A tensor by name.
    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// A value of a key that must be what `read` takes, if it is there.
    pub(crate) fn typed<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::invalid(format!("is {}, not {what}", value.brief())).with_key(key)),
        }
    }
}

/// A tensor of the header; its start is counted from where tensors begin.
fn tensor<S: Source + ?Sized>(cursor: &mut Cursor<'_, S>, name: String) -> Result<Tensor> {
    let wrong = |reason: String| Error::invalid(reason).with_key(&name);
    let dimensions = cursor.u32().map_err(|error| error.with_key(&name))?;
    if dimensions == 0 || dimensions > MOST_DIMENSIONS {
        return Err(wrong(format!(
            "the tensor has {dimensions} dimensions, not 1 to {MOST_DIMENSIONS}"
        )));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(cursor.u64()?);
    }
    // The file has the innermost dimension first.
    shape.reverse();
    let number = cursor.u32()?;
    let Some(kind) = TensorType::of(number) else {
        return Err(Error::unsupported(format!("the tensor is of the unknown type {number}"))
            .with_key(name)
            .with_hint("take the model in another type, such as Q4_K_M, Q8_0 or F16"));
    };
    let start = cursor.u64()?;
    let elements = shape.iter().try_fold(1_u64, |elements, side| elements.checked_mul(*side));
    let Some(elements) = elements.filter(|elements| *elements > 0) else {
        return Err(wrong(format!("the tensor cannot have the shape {shape:?}")));
    };
    let columns = shape.last().copied().unwrap_or(1);
    if !columns.is_multiple_of(kind.block_elements()) {
        return Err(wrong(format!(
            "its rows have {columns} elements, not a multiple of {}, the block size of {}",
            kind.block_elements(),
            kind.name()
        )));
    }
    let bytes = (elements / kind.block_elements()).checked_mul(kind.block_bytes());
    let bytes =
        bytes.ok_or_else(|| wrong(format!("the tensor cannot have the shape {shape:?}")))?;
    Ok(Tensor { name, kind, shape, start, bytes })
}

/// Counts starts from the beginning of the file, and checks that the tensors lie in the file side by
/// side.
fn place(tensors: &mut [Tensor], data: u64, alignment: u64, size: u64) -> Result<()> {
    let mut names = BTreeSet::new();
    for tensor in tensors.iter_mut() {
        let wrong = |reason: String| Error::invalid(reason).with_key(&tensor.name);
        if !names.insert(tensor.name.clone()) {
            return Err(wrong("the tensor is there twice".to_owned()));
        }
        if !tensor.start.is_multiple_of(alignment) {
            return Err(wrong(format!(
                "its offset {} is not a multiple of {alignment}",
                tensor.start
            )));
        }
        let start = tensor.start.checked_add(data);
        let end = start.and_then(|start| start.checked_add(tensor.bytes));
        let Some((start, _)) = start.zip(end).filter(|(_, end)| *end <= size) else {
            return Err(wrong(format!(
                "cut short: the file has {size} bytes, but the tensor ends after {}",
                end.map_or_else(|| "more than can be counted".to_owned(), |end| end.to_string())
            )));
        };
        tensor.start = start;
    }
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.start);
    for pair in order.windows(2) {
        if pair[0].start + pair[0].bytes > pair[1].start {
            return Err(Error::invalid(format!("the tensor overlaps `{}`", pair[0].name))
                .with_key(&pair[1].name));
        }
    }
    Ok(())
}
