//! Palettized weights: reading the operation, and decoding it piece by piece.

use crate::error::Result;
use crate::store::{RecordId, RecordStore, record_id};
use anemll_mil::{DataType, Symbols, TensorType, ValueType, literal};
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use half::f16;

/// The operation that looks indices up in palettes.
pub(crate) const OPERATION: &str = "constexpr_lut_to_dense";

/// The operands that say what the values are.
pub(crate) const OPERANDS: [&str; 2] = ["indices", "lut"];

/// Indices decoded at a time: a multiple of 8, so that every piece begins at a whole byte.
pub(crate) const INDICES: usize = 1 << 16;

/// Where an operation holds its operands, which differs by operation set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Form {
    /// iOS 16 and 17: one palette; indices as packed bytes; operands are attributes.
    Packed,
    /// iOS 18: palettes for blocks of the weight; operands are inputs.
    Wide,
}

/// What two palettized weights must have in common to be comparable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) form: Form,
    /// Element type of the palettes, and of the result.
    pub(crate) data_type: &'static str,
    /// Shape of the indices.
    pub(crate) shape: Vec<u64>,
    /// Elements that one index stands for, and the axis along which they lie.
    pub(crate) vector: (u64, Option<i64>),
}

/// Data of an operand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Data {
    Record(RecordId),
    Immediate(Vec<u8>),
}

/// A palettized weight. Equal ones have the same operands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Palettized {
    kind: Kind,
    indices: Data,
    bits: u32,
    table: Data,
    table_bytes: u64,
    element: DataType,
    /// Palettes along each axis.
    groups: Vec<u64>,
    /// Consecutive indices that use one palette.
    run: u64,
    count: u64,
}

impl Palettized {
    /// Reads an operation of an adopted model. `None` for another operation, operands that are
    /// other operations' results, and what the validator refuses.
    pub(crate) fn read(operation: &mil::Operation) -> Option<Self> {
        if operation.r#type != OPERATION {
            return None;
        }
        let wide = operation.inputs.contains_key(OPERANDS[0]);
        let form = if wide { Form::Wide } else { Form::Packed };
        let operand = |name: &str| -> Option<&mil::Value> {
            if !wide {
                return operation.attributes.get(name);
            }
            match operation.inputs.get(name)?.arguments.as_slice() {
                [mil::argument::Binding { binding: Some(Binding::Value(value)) }] => Some(value),
                _ => None,
            }
        };
        let (indices, table) = (operand(OPERANDS[0])?, operand(OPERANDS[1])?);
        let index_type = literal::tensor_type(indices).ok()?;
        let table_type = literal::tensor_type(table).ok()?;
        let sizes = table_type.fixed_shape()?;
        let (shape, bits, groups, entries, vector) = if wide {
            let shape = index_type.fixed_shape()?;
            let (groups, tail) = sizes.split_at_checked(shape.len())?;
            let [entries, vector] = tail else { return None };
            (shape, index_type.data_type.bits()?, groups.to_vec(), *entries, *vector)
        } else {
            let [entries] = sizes[..] else { return None };
            let shape = output_type(operation)?.fixed_shape()?;
            let groups = vec![1; shape.len()];
            (shape, entries.checked_ilog2()?, groups, entries, 1)
        };
        let axis = match operation.inputs.get("vector_axis") {
            Some(_) => {
                let axis = literal::Literal::from_value(operand("vector_axis")?).ok()?;
                Some(*axis.integers()?.first()?)
            }
            None => None,
        };
        let count = product(&shape)?;
        let element = table_type.data_type;
        let width = u64::from(element.bits()?) / 8;
        let table_bytes =
            product(&groups)?.checked_mul(entries)?.checked_mul(vector)?.checked_mul(width)?;
        let index_bytes = count.checked_mul(u64::from(bits))?.div_ceil(8);
        let sound = (1..=8).contains(&bits)
            && entries == 1 << bits
            && matches!(width, 1 | 2 | 4)
            && vector > 0
            && count > 0
            && groups.iter().zip(&shape).all(|(group, size)| *group > 0 && size % group == 0)
            && index_type.byte_size() == Some(index_bytes)
            && table_type.byte_size() == Some(table_bytes);
        if !sound {
            return None;
        }
        let data_type = element.name();
        Some(Self {
            run: run_length(&groups, &shape),
            kind: Kind { form, data_type, shape, vector: (vector, axis) },
            indices: data(indices)?,
            bits,
            table: data(table)?,
            table_bytes,
            element,
            groups,
            count,
        })
    }

    /// What another weight must have in common with this one to be compared with it.
    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Number of indices.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the palettes hold floating point numbers.
    pub(crate) fn is_float(&self) -> bool {
        self.element.is_float()
    }

    /// Element of the table at which the palette of a run of indices begins.
    fn palette(&self, run: u64) -> usize {
        // The runs count the places of all axes before the last divided one, and the palettes of
        // that one: from the last axis to the first.
        let last = self.groups.iter().rposition(|group| *group > 1).unwrap_or(0);
        let (mut left, mut palette, mut stride) = (run, 0, 1);
        for axis in (0..=last).rev() {
            let (Some(size), Some(groups)) = (self.kind.shape.get(axis), self.groups.get(axis))
            else {
                break;
            };
            let (places, each) = if axis == last { (*groups, 1) } else { (*size, size / groups) };
            palette += left % places / each * stride;
            left /= places;
            stride *= groups;
        }
        // Below the table's element count, which is that of bytes in memory.
        usize::try_from(palette * (1 << self.bits) * self.kind.vector.0).unwrap_or_default()
    }
}

/// Consecutive indices, in row-major order, that use one palette.
fn run_length(groups: &[u64], shape: &[u64]) -> u64 {
    let mut run = 1;
    for (group, size) in groups.iter().zip(shape).rev() {
        run *= size / group;
        if *group > 1 {
            break;
        }
    }
    run
}

fn product(sizes: &[u64]) -> Option<u64> {
    sizes.iter().try_fold(1_u64, |product, size| product.checked_mul(*size))
}

fn output_type(operation: &mil::Operation) -> Option<TensorType> {
    let kind = operation.outputs.first()?.r#type.as_ref()?;
    ValueType::from_proto(kind, &Symbols::default()).ok()?.tensor().cloned()
}

fn data(value: &mil::Value) -> Option<Data> {
    match record_id(value) {
        Some(id) => Some(Data::Record(id)),
        None => Some(Data::Immediate(literal::tensor_bytes(value).ok()?.1.into_owned())),
    }
}

/// Decodes one weight. Elements come in the order of the indices; those of one index together.
pub(crate) struct LutDecoder<'a> {
    store: &'a RecordStore,
    weight: &'a Palettized,
    table: Vec<u8>,
    packed: Vec<u8>,
}

impl<'a> LutDecoder<'a> {
    /// Reads the palettes.
    pub(crate) fn new(store: &'a RecordStore, weight: &'a Palettized) -> Result<Self> {
        let table = match &weight.table {
            Data::Immediate(bytes) => bytes.clone(),
            Data::Record(id) => {
                let length = usize::try_from(weight.table_bytes).unwrap_or_default();
                let mut bytes = vec![0; length];
                store.read(*id, 0, &mut bytes)?;
                bytes
            }
        };
        Ok(Self { store, weight, table, packed: Vec::new() })
    }

    /// The palettes as numbers, for palettes of floating point numbers.
    pub(crate) fn table_values(&self) -> Vec<f32> {
        match self.weight.element {
            DataType::Float32 => self
                .table
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
            _ => self
                .table
                .as_chunks::<2>()
                .0
                .iter()
                .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
                .collect(),
        }
    }

    /// The bytes of the elements of `count` indices from `start` on, a multiple of 8; they replace
    /// what is in `bytes`.
    pub(crate) fn bytes(&mut self, start: u64, count: usize, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.clear();
        let width = self.weight.element.bits().unwrap_or(8) as usize / 8;
        let each = width * usize::try_from(self.weight.kind.vector.0).unwrap_or(1);
        let table = std::mem::take(&mut self.table);
        let outcome = self.walk(start, count, |place| {
            let first = place * width;
            bytes.extend_from_slice(table.get(first..first + each).unwrap_or_default());
        });
        self.table = table;
        outcome
    }

    /// Tells the place in the table of each of `count` indices from `start` on, a multiple of 8.
    pub(crate) fn walk(
        &mut self,
        start: u64,
        count: usize,
        mut tell: impl FnMut(usize),
    ) -> Result<()> {
        let weight = self.weight;
        let bits = weight.bits as usize;
        let length = (count * bits).div_ceil(8);
        let first = start / 8 * bits as u64;
        // One byte more, so that an index that straddles bytes can be read as two.
        self.packed.clear();
        self.packed.resize(length + 1, 0);
        match &weight.indices {
            Data::Record(id) => self.store.read(*id, first, &mut self.packed[..length])?,
            Data::Immediate(bytes) => {
                let from = usize::try_from(first).unwrap_or(usize::MAX);
                let piece = bytes.get(from..).and_then(|rest| rest.get(..length));
                self.packed[..length].copy_from_slice(piece.unwrap_or(&vec![0; length]));
            }
        }
        let mask = (1_u16 << bits) - 1;
        let vector = usize::try_from(weight.kind.vector.0).unwrap_or(1);
        let mut done = 0;
        while done < count {
            let position = start + done as u64;
            let left = weight.run - position % weight.run;
            let end = count.min(done + usize::try_from(left).unwrap_or(usize::MAX - count));
            let palette = weight.palette(position / weight.run);
            for index in done..end {
                let bit = index * bits;
                let word = u16::from_le_bytes([self.packed[bit / 8], self.packed[bit / 8 + 1]]);
                tell(palette + usize::from((word >> (bit % 8)) & mask) * vector);
            }
            done = end;
        }
        Ok(())
    }
}

/// The pieces in which a weight is decoded: first index and number of indices.
pub(crate) fn pieces(count: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..count.div_ceil(INDICES as u64)).map(move |piece| {
        let start = piece * INDICES as u64;
        (start, usize::try_from(count - start).unwrap_or(usize::MAX).min(INDICES))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(shape: &[u64], groups: &[u64]) -> Palettized {
        Palettized {
            kind: Kind {
                form: Form::Wide,
                data_type: "fp16",
                shape: shape.to_vec(),
                vector: (1, None),
            },
            indices: Data::Immediate(Vec::new()),
            bits: 1,
            table: Data::Immediate(Vec::new()),
            table_bytes: 0,
            element: DataType::Float16,
            groups: groups.to_vec(),
            run: run_length(groups, shape),
            count: product(shape).unwrap(),
        }
    }

    /// Against the rule of the format: along axis i, group j covers shape/groups entries.
    #[test]
    fn every_index_finds_its_palette() {
        for (shape, groups) in [
            (vec![6, 4], vec![3, 1]),
            (vec![6, 4], vec![3, 2]),
            (vec![6, 4], vec![1, 4]),
            (vec![4, 3, 2, 2], vec![2, 1, 1, 1]),
            (vec![4, 3, 2, 2], vec![2, 3, 1, 2]),
            (vec![4, 3], vec![1, 1]),
            (vec![5], vec![5]),
        ] {
            let weight = weight(&shape, &groups);
            for flat in 0..weight.count {
                let (mut left, mut palette, mut stride) = (flat, 0, 1);
                for axis in (0..shape.len()).rev() {
                    let place = left % shape[axis];
                    left /= shape[axis];
                    palette += place / (shape[axis] / groups[axis]) * stride;
                    stride *= groups[axis];
                }
                let found = weight.palette(flat / weight.run) as u64;
                assert_eq!(found, palette * 2, "{shape:?} {groups:?} {flat}");
            }
        }
    }

    #[test]
    fn pieces_cover_all_indices_once() {
        let many = 2 * INDICES as u64 + 3;
        let cut: Vec<_> = pieces(many).collect();
        assert_eq!(cut, [(0, INDICES), (INDICES as u64, INDICES), (2 * INDICES as u64, 3)]);
        assert_eq!(pieces(5).collect::<Vec<_>>(), [(0, 5)]);
    }
}
