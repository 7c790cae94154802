//! From the operations of a function to the values of its weights.

use crate::WeightFiles;
use crate::error::{DecodeError, Outcome};
use crate::groups::Groups;
use crate::source::{FileData, Lookup, Mask, PIECE, Scaled, Source};
use anemll_mil::literal::{tensor_bytes, tensor_type};
use anemll_mil::references::blob_of;
use anemll_mil::{DataType, Literal};
use anemll_mlpackage::{BlobFile, BlobRecord, PackageError};
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use std::borrow::Cow;
use std::collections::HashMap;

/// How many constexpr operations may stand in a row; real programs have two.
const MAXIMUM_DEPTH: usize = 8;

/// Gives the values of a function's weights.
#[derive(Debug)]
pub struct Decoder<'a> {
    producers: HashMap<&'a str, &'a mil::Operation>,
    /// The operations that are given a value, by its name.
    pub(crate) readers: HashMap<&'a str, Vec<&'a mil::Operation>>,
    files: &'a WeightFiles,
}

/// The values of one weight. They are read from the file when they are asked for.
#[derive(Debug)]
pub struct Values<'a> {
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Element type that the weight has in the program.
    pub data_type: DataType,
    pub(crate) source: Source<'a>,
    count: usize,
}

impl Values<'_> {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Writes the values from number `start` on, in row-major order, as many as `output` holds.
    /// Places behind the last value become zeros.
    ///
    /// # Errors
    /// A weight file that cannot be read, or became shorter.
    pub fn fill(&self, start: usize, output: &mut [f32]) -> Result<(), PackageError> {
        let inside = self.count.saturating_sub(start).min(output.len());
        let (values, beyond) = output.split_at_mut(inside);
        if !values.is_empty() {
            self.source.fill(start, values)?;
        }
        beyond.fill(0.0);
        Ok(())
    }

    /// Calls `visit` with all values in row-major order, some thousands at a time.
    ///
    /// # Errors
    /// As [`Self::fill`], and those of `visit`.
    pub fn for_each_piece(
        &self,
        mut visit: impl FnMut(&[f32]) -> Result<(), PackageError>,
    ) -> Result<(), PackageError> {
        let mut piece = [0.0; PIECE];
        let mut start = 0;
        while start < self.count {
            let piece = &mut piece[..PIECE.min(self.count - start)];
            self.source.fill(start, piece)?;
            visit(piece)?;
            start += piece.len();
        }
        Ok(())
    }
}

impl<'a> Values<'a> {
    /// Where the indices and tables of the values are, if each is an entry of a table and neighbours
    /// share one; none of any other form.
    pub fn palette(&self) -> Option<Palette<'a, '_>> {
        let Source::Lookup(lookup) = &self.source else { return None };
        let Source::File { data_type, data } = &lookup.indices else { return None };
        let run = lookup.groups.whole_runs().filter(|_| lookup.length == 1)?;
        let bits = u8::try_from(data_type.bits()?).ok()?;
        let (file, record) = data.place();
        Some(Palette { bits, entries: &lookup.table, run, file, record })
    }
}

/// Where the parts of a weight with tables are.
#[derive(Debug, Clone, Copy)]
pub struct Palette<'a, 'v> {
    /// Bits of an index: 1, 2, 3, 4, 6 or 8.
    pub bits: u8,
    /// The tables, `2^bits` entries each.
    pub entries: &'v [f32],
    /// Elements that share a table, in row-major order.
    pub run: usize,
    /// The file with the indices.
    pub file: &'a BlobFile,
    /// Where they are in it: packed, low bits of a byte first.
    pub record: &'v BlobRecord,
}

/// A tensor that an operation holds or that another one makes.
struct Tensor<'a> {
    shape: Vec<usize>,
    data_type: DataType,
    source: Source<'a>,
}

impl Tensor<'_> {
    fn count(&self) -> Outcome<usize> {
        element_count(&self.shape)
    }

    /// All values; for tables and scales, which are small beside the weight.
    fn all(&self) -> Outcome<Vec<f32>> {
        let mut values = vec![0.0; self.count()?];
        self.source.fill(0, &mut values)?;
        Ok(values)
    }
}

fn element_count(shape: &[usize]) -> Outcome<usize> {
    let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    // No file has more elements than this; sizes below are multiplied by bits.
    count
        .filter(|count| *count <= 1 << 48)
        .ok_or_else(|| format!("a tensor of shape {shape:?} is too large").into())
}

impl<'a> Decoder<'a> {
    /// For the weights of a block and of the blocks inside it, whose files are given.
    pub fn new(block: &'a mil::Block, files: &'a WeightFiles) -> Self {
        let mut producers = HashMap::new();
        let mut readers: HashMap<&str, Vec<&mil::Operation>> = HashMap::new();
        for operation in crate::list::operations(block) {
            for output in &operation.outputs {
                producers.insert(output.name.as_str(), operation);
            }
            for (_, name) in crate::list::names(operation) {
                readers.entry(name).or_default().push(operation);
            }
        }
        Self { producers, readers, files }
    }

    /// The values of a `const`, or of what a constexpr operation makes, by its name.
    ///
    /// # Errors
    /// No such value, another operation makes it, a damaged record, sizes that contradict each
    /// other, and strings.
    pub fn values(&self, name: &str) -> Outcome<Values<'a>> {
        let tensor = self.named(name, 0)?;
        let count = tensor.count()?;
        Ok(Values {
            shape: tensor.shape,
            data_type: tensor.data_type,
            source: tensor.source,
            count,
        })
    }

    fn named(&self, name: &str, depth: usize) -> Outcome<Tensor<'a>> {
        if depth > MAXIMUM_DEPTH {
            return Err(format!("`{name}`: too many constexpr operations in a row").into());
        }
        let operation =
            *self.producers.get(name).ok_or_else(|| format!("no operation makes `{name}`"))?;
        let call = Call { decoder: self, operation, depth };
        match operation.r#type.as_str() {
            "const" => call.tensor("val"),
            "constexpr_affine_dequantize" => call.affine(),
            "constexpr_blockwise_shift_scale" => call.scaled(call.tensor("data")?),
            "constexpr_cast" => {
                let source = call.tensor("source_val")?;
                Ok(rounded(source.shape, call.cast_type()?, source.source))
            }
            "constexpr_lut_to_dense" => match call.sizes("shape")? {
                Some(shape) => call.packed_lookup(shape),
                None => {
                    let indices = call.tensor("indices")?;
                    call.lookup(indices)
                }
            },
            "constexpr_sparse_to_dense" => match call.sizes("shape")? {
                Some(shape) => {
                    let values = call.tensor("nonzero_data")?;
                    let bytes = call.bytes("mask")?;
                    sparse(values, bytes, shape)
                }
                None => call.sparse("nonzero_data", "mask", depth),
            },
            other => Err(format!("`{name}` is made by `{other}`, which stores no weight").into()),
        }
    }

    /// The elements of a value, where they are stored.
    fn stored(&self, value: &'a mil::Value) -> Outcome<Tensor<'a>> {
        let kind = tensor_type(value)?;
        let data_type = kind.data_type;
        let shape: Vec<usize> = kind
            .fixed_shape()
            .and_then(|shape| shape.into_iter().map(|size| usize::try_from(size).ok()).collect())
            .ok_or_else(|| format!("{kind} is not a size that can be stored"))?;
        element_count(&shape)?;
        let source = match blob_of(value) {
            Some(blob) => {
                let file = self
                    .files
                    .get(&blob.file_name)
                    .ok_or_else(|| format!("the weight file {:?} is missing", blob.file_name))?;
                let record = file.record(blob.offset)?;
                if record.blob_type().data_type() != data_type
                    || Some(record.size_in_bytes()) != kind.byte_size()
                {
                    return Err(format!(
                        "the record at offset {} holds {} bytes of {}, the program says {kind}",
                        blob.offset,
                        record.size_in_bytes(),
                        record.blob_type()
                    )
                    .into());
                }
                Source::File { data_type, data: Box::new(FileData::new(file, record)) }
            }
            None => Source::Stored { data_type, bytes: tensor_bytes(value)?.1 },
        };
        Ok(Tensor { shape, data_type, source })
    }
}

/// One constexpr operation and its arguments.
#[derive(Clone, Copy)]
struct Call<'c, 'a> {
    decoder: &'c Decoder<'a>,
    operation: &'a mil::Operation,
    depth: usize,
}

/// What an argument is bound to.
enum Bound<'a> {
    Value(&'a mil::Value),
    Name(&'a str),
}

impl<'a> Call<'_, 'a> {
    fn optional(&self, parameter: &str) -> Option<Bound<'a>> {
        if let Some(value) = self.operation.attributes.get(parameter) {
            return Some(Bound::Value(value));
        }
        let argument = self.operation.inputs.get(parameter)?;
        match argument.arguments.first()?.binding.as_ref()? {
            Binding::Value(value) => Some(Bound::Value(value)),
            Binding::Name(name) => Some(Bound::Name(name)),
        }
    }

    fn bound(&self, parameter: &str) -> Outcome<Bound<'a>> {
        self.optional(parameter).ok_or_else(|| format!("argument `{parameter}` is missing").into())
    }

    fn tensor(&self, parameter: &str) -> Outcome<Tensor<'a>> {
        match self.bound(parameter)? {
            Bound::Value(value) => self.decoder.stored(value),
            Bound::Name(name) => self.decoder.named(name, self.depth + 1),
        }
        .map_err(|error| error.within(parameter))
    }

    /// The stored bytes of an argument that must stand in a value.
    fn bytes(&self, parameter: &str) -> Outcome<Cow<'a, [u8]>> {
        match self.tensor(parameter)?.source {
            Source::Stored { bytes, .. } => Ok(bytes),
            Source::File { data, .. } => Ok(Cow::Owned(data.all()?)),
            _ => Err(format!("`{parameter}` is not stored as it is").into()),
        }
    }

    /// A small argument that says how to decode, immediate or a constant; `None` where it is absent.
    fn setting(&self, parameter: &str) -> Outcome<Option<Literal>> {
        let value = match self.optional(parameter) {
            None => return Ok(None),
            Some(Bound::Value(value)) => value,
            Some(Bound::Name(name)) => self
                .decoder
                .producers
                .get(name)
                .and_then(|operation| operation.attributes.get("val"))
                .ok_or_else(|| format!("`{parameter}` is not a constant"))?,
        };
        Ok(Some(Literal::from_value(value)?))
    }

    /// Integers of a setting; `None` where it is absent.
    fn sizes(&self, parameter: &str) -> Outcome<Option<Vec<usize>>> {
        let Some(literal) = self.setting(parameter)? else { return Ok(None) };
        let integers =
            literal.integers().ok_or_else(|| format!("`{parameter}` is not a list of integers"))?;
        let sizes: Option<Vec<usize>> =
            integers.iter().map(|size| usize::try_from(*size).ok()).collect();
        sizes.map(Some).ok_or_else(|| format!("`{parameter}` holds a negative size").into())
    }

    /// The float type that a cast names; float32, the only one of the specification, by default.
    fn cast_type(&self) -> Outcome<DataType> {
        let Some(named) = self.setting("output_dtype")? else { return Ok(DataType::Float32) };
        named
            .text()
            .and_then(DataType::from_name)
            .filter(|data_type| data_type.is_float())
            .ok_or_else(|| "`output_dtype` is not a float type".to_owned().into())
    }

    fn axis(&self, parameter: &str, rank: usize) -> Outcome<Option<usize>> {
        let Some(value) = self.setting(parameter)? else { return Ok(None) };
        let axis = value.integers().and_then(|all| all.first().copied());
        let axis = axis.ok_or_else(|| format!("`{parameter}` is not an integer"))?;
        let place = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(place) {
            Ok(place) if place < rank => Ok(Some(place)),
            _ => Err(format!("`{parameter}` is {axis} for rank {rank}").into()),
        }
    }

    /// The older form: flat packed bytes, one table.
    fn packed_lookup(&self, shape: Vec<usize>) -> Outcome<Tensor<'a>> {
        let table = self.tensor("lut")?;
        let values = table.all()?;
        let data_type = INDICES
            .into_iter()
            .find(|data_type| check_width(*data_type, values.len()).is_ok())
            .ok_or_else(|| format!("a table of {} entries", values.len()))?;
        let bytes = self.bytes("indices")?;
        let bits = data_type.bits().unwrap_or(8) as usize;
        if bytes.len() < (element_count(&shape)? * bits).div_ceil(8) {
            return Err(format!("too few index bytes for shape {shape:?}").into());
        }
        let groups = Groups::new(&shape, &vec![1; shape.len()])
            .ok_or_else(|| format!("shape {shape:?} is too large"))?;
        let lookup = Lookup {
            indices: Source::Stored { data_type, bytes },
            entries: values.len(),
            table: values,
            groups,
            length: 1,
            inner: 1,
        };
        let source = Source::Lookup(Box::new(lookup));
        Ok(Tensor { shape, data_type: table.data_type, source })
    }

    /// The newer form: indices of the result's rank, a table for each group of them.
    fn lookup(&self, indices: Tensor<'a>) -> Outcome<Tensor<'a>> {
        let table = self.tensor("lut")?;
        let (rank, shape) = (indices.shape.len(), indices.shape);
        let wrong =
            || DecodeError::from(format!("lut {:?} does not suit indices {shape:?}", table.shape));
        let (counts, tail) = table.shape.split_at_checked(rank).ok_or_else(wrong)?;
        let ([entries, length], Some(groups)) = (tail, Groups::new(&shape, counts)) else {
            return Err(wrong());
        };
        let (entries, length) = (*entries, *length);
        let axis = self.axis("vector_axis", rank)?;
        let mut result = shape.clone();
        let inner = match (length, axis) {
            (1, _) => 1,
            (0, _) | (_, None) => return Err(wrong()),
            (_, Some(axis)) => {
                result[axis] = shape[axis].checked_mul(length).ok_or_else(wrong)?;
                shape[axis + 1..].iter().product()
            }
        };
        element_count(&result)?;
        check_width(indices.data_type, entries)?;
        let values = table.all()?;
        let lookup =
            Lookup { indices: indices.source, table: values, groups, entries, length, inner };
        let source = Source::Lookup(Box::new(lookup));
        Ok(Tensor { shape: result, data_type: table.data_type, source })
    }

    /// `data` under the operation's `scale` and `offset`, one for each block.
    fn scaled(&self, data: Tensor<'a>) -> Outcome<Tensor<'a>> {
        let scale = self.tensor("scale")?;
        let offset = self.optional("offset").map(|_| self.tensor("offset")).transpose()?;
        let groups = Groups::new(&data.shape, &scale.shape)
            .filter(|_| offset.as_ref().is_none_or(|offset| offset.shape == scale.shape))
            .ok_or_else(|| {
                format!("scale {:?} or the offset does not suit {:?}", scale.shape, data.shape)
            })?;
        let offsets = offset.map(|offset| offset.all()).transpose()?;
        let scales = scale.all()?;
        Ok(scaled(data, scale.data_type, Scaling { scales, offsets, groups }))
    }

    fn affine(&self) -> Outcome<Tensor<'a>> {
        let data = self.tensor("quantized_data")?;
        let (scale, zero) = (self.tensor("scale")?, self.tensor("zero_point")?);
        let axis = self.axis("axis", data.shape.len())?.unwrap_or(0);
        let size = data.shape.get(axis).copied().unwrap_or(1);
        let spread = |values: Vec<f32>, counts: usize| match values.len() {
            1 => Some(vec![values[0]; counts]),
            own => Some(values).filter(|_| own == counts),
        };
        let (scales, zeros) = (scale.all()?, zero.all()?);
        let per_row = scales.len() > 1 || zeros.len() > 1;
        let count = if per_row { size } else { 1 };
        let mut counts = vec![1; data.shape.len()];
        if let Some(own) = counts.get_mut(axis) {
            *own = count;
        }
        let (Some(scales), Some(offsets), Some(groups)) =
            (spread(scales, count), spread(zeros, count), Groups::new(&data.shape, &counts))
        else {
            return Err(format!(
                "scale or zero point does not suit axis {axis} of {:?}",
                data.shape
            )
            .into());
        };
        Ok(scaled(data, scale.data_type, Scaling { scales, offsets: Some(offsets), groups }))
    }

    /// Elements where a mask has a one. The elements are stored, or made by an operation which
    /// keeps the mask and is computed at the places of the dense tensor.
    fn sparse(&self, nonzero: &str, mask: &str, depth: usize) -> Outcome<Tensor<'a>> {
        if depth > MAXIMUM_DEPTH {
            return Err("too many constexpr operations in a row".to_owned().into());
        }
        let (shape, bytes) = self.mask(mask, depth)?;
        let name = match self.bound(nonzero)? {
            Bound::Value(value) => return sparse(self.decoder.stored(value)?, bytes, shape),
            Bound::Name(name) => name,
        };
        let operation = self.decoder.producers.get(name);
        let operation = *operation.ok_or_else(|| format!("no operation makes `{name}`"))?;
        let inner = Call { decoder: self.decoder, operation, depth: depth + 1 };
        let dense = match operation.r#type.as_str() {
            "const" => return sparse(inner.tensor("val")?, bytes, shape),
            "constexpr_lut_to_sparse" => {
                inner.lookup(inner.sparse("indices_nonzero_data", "indices_mask", depth + 1)?)?
            }
            "constexpr_sparse_blockwise_shift_scale" => {
                inner.scaled(inner.sparse("nonzero_data", "data_mask", depth + 1)?)?
            }
            other => return Err(format!("`{nonzero}` is made by `{other}`").into()),
        };
        if dense.shape != shape {
            return Err(format!("elements of {:?} for a mask of {shape:?}", dense.shape).into());
        }
        let mask = Mask::new(bytes, element_count(&shape)?)
            .ok_or_else(|| "mask bits are missing".to_owned())?;
        let source = Source::Masked { mask, values: Box::new(dense.source) };
        Ok(Tensor { shape, data_type: dense.data_type, source })
    }

    /// Shape and bits of a mask, which other operations hand on as it is.
    fn mask(&self, parameter: &str, depth: usize) -> Outcome<(Vec<usize>, Cow<'a, [u8]>)> {
        if depth > MAXIMUM_DEPTH {
            return Err("too many constexpr operations in a row".to_owned().into());
        }
        let tensor = match self.bound(parameter)? {
            Bound::Value(value) => self.decoder.stored(value)?,
            Bound::Name(name) => {
                let operation = self.decoder.producers.get(name);
                let operation = *operation.ok_or_else(|| format!("no operation makes `{name}`"))?;
                let inner = Call { decoder: self.decoder, operation, depth: depth + 1 };
                match operation.r#type.as_str() {
                    "const" => inner.tensor("val")?,
                    "constexpr_lut_to_sparse" => return inner.mask("indices_mask", depth + 1),
                    "constexpr_sparse_blockwise_shift_scale" => {
                        return inner.mask("data_mask", depth + 1);
                    }
                    other => return Err(format!("`{parameter}` is made by `{other}`").into()),
                }
            }
        };
        match tensor.source {
            Source::Stored { data_type: DataType::UInt1, bytes } => Ok((tensor.shape, bytes)),
            Source::File { data_type: DataType::UInt1, data } => {
                Ok((tensor.shape, Cow::Owned(data.all()?)))
            }
            _ => Err(format!("`{parameter}` is {}, not uint1", tensor.data_type).into()),
        }
    }
}

/// Types of indices into tables.
const INDICES: [DataType; 6] = [
    DataType::UInt1,
    DataType::UInt2,
    DataType::UInt3,
    DataType::UInt4,
    DataType::UInt6,
    DataType::UInt8,
];

/// Refuses indices that could name an entry which a table does not have, or not each of its own.
fn check_width(indices: DataType, entries: usize) -> Outcome<()> {
    match indices.bits() {
        Some(bits) if INDICES.contains(&indices) && entries == 1 << bits => Ok(()),
        _ => Err(format!("a table of {entries} entries does not suit indices of {indices}").into()),
    }
}

/// Values rounded to a result's type, where that is float16.
fn rounded(shape: Vec<usize>, data_type: DataType, source: Source<'_>) -> Tensor<'_> {
    let source = match data_type {
        DataType::Float16 => Source::Rounded(Box::new(source)),
        _ => source,
    };
    Tensor { shape, data_type, source }
}

struct Scaling {
    scales: Vec<f32>,
    offsets: Option<Vec<f32>>,
    groups: Groups,
}

fn scaled<'a>(data: Tensor<'a>, data_type: DataType, scaling: Scaling) -> Tensor<'a> {
    let Scaling { scales, offsets, groups } = scaling;
    let source = Source::Scaled(Box::new(Scaled { data: data.source, scales, offsets, groups }));
    rounded(data.shape, data_type, source)
}

fn sparse<'a>(values: Tensor<'a>, mask: Cow<'a, [u8]>, shape: Vec<usize>) -> Outcome<Tensor<'a>> {
    let mask = Mask::new(mask, element_count(&shape)?)
        .ok_or_else(|| format!("too few mask bits for shape {shape:?}"))?;
    if mask.ones() != values.count()? {
        return Err(
            format!("a mask of {} ones for {:?} elements", mask.ones(), values.shape).into()
        );
    }
    let data_type = values.data_type;
    Ok(Tensor {
        shape,
        data_type,
        source: Source::Sparse { mask, values: Box::new(values.source) },
    })
}
