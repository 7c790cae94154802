//! A weight as indices and tables.

use crate::options::Lut;
use anemll_palettize::{BITS, GroupError, PaletteError, Palettizer, pack};
use anemll_plugin_api::data::{Encoded, EncodedArgument, EncodingError};
use anemll_plugin_api::{DType, Error, Host, Result, Sink, TensorView, Value, codes};
use half::f16;
use serde::Deserialize as _;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// About how many elements one task of the host's threads gets.
const TASK_ELEMENTS: usize = 1 << 18;

/// The sizes of a weight and its tables.
struct Job<'a> {
    tensor: TensorView<'a>,
    columns: usize,
    bits: u32,
    /// Elements that share a table.
    group: usize,
    importance: Option<Vec<f32>>,
}

/// What one task makes.
struct Piece {
    lut: Vec<u8>,
    indices: Vec<u8>,
    error: GroupError,
}

/// Writes indices of the tensor's shape and tables of shape `[groups, 1, .., 2^bits, 1]`.
pub(crate) fn encode(
    tensor: TensorView<'_>,
    decision: &Value,
    statistics: Option<TensorView<'_>>,
    sink: &mut dyn Sink,
    host: &Host,
) -> Result<Encoded> {
    let job = Job::new(tensor, decision, statistics)?;
    let index_type = DType::from_name(&format!("uint{}", job.bits)).ok_or_else(|| {
        Error::new(codes::INTERNAL, format!("there are no unsigned integers of {} bits", job.bits))
    })?;
    let pieces = job.pieces(host)?;
    let rank = tensor.shape().len();
    let groups = job.elements() / job.group;
    let mut lut_shape = vec![1; rank + 2];
    lut_shape[0] = groups as u64;
    lut_shape[rank] = 1 << job.bits;

    let indices = sink.begin("indices", index_type, tensor.shape())?;
    for piece in &pieces {
        sink.write(indices, &piece.indices)?;
    }
    sink.finish(indices)?;
    let lut = sink.begin("lut", DType::FLOAT16, &lut_shape)?;
    for piece in &pieces {
        sink.write(lut, &piece.lut)?;
    }
    sink.finish(lut)?;

    let argument = |dtype: DType, shape: &[u64], blob| EncodedArgument {
        dtype: dtype.name().to_owned(),
        shape: shape.to_vec(),
        blob,
    };
    let error = pieces.iter().fold(GroupError::default(), |error, piece| error.and(piece.error));
    Ok(Encoded {
        op: "constexpr_lut_to_dense".to_owned(),
        arguments: BTreeMap::from([
            ("indices".to_owned(), argument(index_type, tensor.shape(), indices)),
            ("lut".to_owned(), argument(DType::FLOAT16, &lut_shape, lut)),
        ]),
        error: Some(EncodingError {
            mean_squared: error.squared / job.elements() as f64,
            max_absolute: error.max_absolute,
        }),
    })
}

impl<'a> Job<'a> {
    fn new(
        tensor: TensorView<'a>,
        decision: &Value,
        statistics: Option<TensorView<'_>>,
    ) -> Result<Self> {
        let name = tensor.name();
        let lut = Lut::deserialize(decision)
            .map_err(|error| bad(name, &format!("the decision {decision} is none: {error}")))?;
        if !BITS.contains(&lut.bits) {
            return Err(bad(name, &format!("tables cannot have {} bits", lut.bits)));
        }
        if tensor.dtype() != DType::FLOAT16 {
            return Err(bad(name, &format!("it is {}, not float16", tensor.dtype().name())));
        }
        let shape = tensor.shape();
        let elements = tensor.bytes().len() / 2;
        let rows = shape.first().map_or(0, |rows| *rows as usize);
        if shape.len() < 2 || elements == 0 {
            return Err(bad(name, &format!("the shape {shape:?} is not that of a matrix")));
        }
        let columns = elements / rows;
        let group = match lut.group {
            None => rows,
            Some(group) => usize::try_from(group)
                .ok()
                .filter(|group| *group > 0 && rows.is_multiple_of(*group))
                .ok_or_else(|| {
                    bad(name, &format!("groups of {group} do not divide its {rows} channels"))
                })?,
        };
        let importance =
            statistics.map(|statistics| diagonal(name, statistics, columns)).transpose()?;
        Ok(Self { tensor, columns, bits: lut.bits, group: group * columns, importance })
    }

    fn elements(&self) -> usize {
        self.tensor.bytes().len() / 2
    }

    /// All pieces in order. Their bounds depend on sizes alone, so that the bytes are the same for
    /// any number of threads.
    fn pieces(&self, host: &Host) -> Result<Vec<Piece>> {
        // The indices of eight groups are whole bytes.
        let eights = (TASK_ELEMENTS / 8 / self.group).max(1);
        let task = self.group.saturating_mul(8 * eights).saturating_mul(2);
        let count = self.tensor.bytes().len().div_ceil(task);
        let pieces: Vec<Mutex<Option<Piece>>> = (0..count).map(|_| Mutex::new(None)).collect();
        host.parallel(count, &|index| {
            let start = index * task;
            let end = start.saturating_add(task).min(self.tensor.bytes().len());
            let piece = self.piece(start, &self.tensor.bytes()[start..end], host)?;
            *pieces[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(piece);
            Ok(())
        })?;
        let missing = || Error::new(codes::INTERNAL, "the host left out a task of the quantizer");
        pieces
            .into_iter()
            .map(|piece| {
                piece.into_inner().unwrap_or_else(PoisonError::into_inner).ok_or_else(missing)
            })
            .collect()
    }

    /// The groups in `bytes`, which begin at byte `start` of the tensor.
    fn piece(&self, start: usize, bytes: &[u8], host: &Host) -> Result<Piece> {
        let mut palettizer = Palettizer::new();
        let mut values: Vec<f16> = Vec::with_capacity(self.group);
        let mut entries = vec![f16::ZERO; 1 << self.bits];
        let mut indices = vec![0; bytes.len() / 2];
        let mut lut = Vec::with_capacity(bytes.len() / 2 / self.group * entries.len() * 2);
        let mut error = GroupError::default();
        for (at, indices) in indices.chunks_exact_mut(self.group).enumerate() {
            host.check_cancelled()?;
            let from = at * self.group * 2;
            let group = bytes[from..from + self.group * 2].as_chunks::<2>().0;
            values.clear();
            values.extend(group.iter().map(|bytes| f16::from_le_bytes(*bytes)));
            let found = palettizer.group(
                &values,
                self.columns,
                self.bits,
                self.importance.as_deref(),
                &mut entries,
                indices,
            );
            let first_row = (start + from) / 2 / self.columns;
            error = error.and(found.map_err(|error| self.refuse(error, first_row))?);
            lut.extend(entries.iter().flat_map(|entry| entry.to_le_bytes()));
        }
        let indices = pack(&indices, self.bits)
            .map_err(|error| bad(self.tensor.name(), &error.to_string()))?;
        Ok(Piece { lut, indices, error })
    }

    /// An error of a group that begins at `first_row`.
    fn refuse(&self, error: PaletteError, first_row: usize) -> Error {
        let name = self.tensor.name();
        match error {
            PaletteError::NotFinite { row, column, value } => {
                let mut position = vec![first_row + row];
                let mut rest = column;
                let mut below = self.columns;
                for size in &self.tensor.shape()[1..] {
                    below /= *size as usize;
                    position.push(rest / below);
                    rest %= below;
                }
                Error::new(
                    codes::WEIGHT_NOT_FINITE,
                    format!("`{name}` has the value {value} at {position:?}"),
                )
                .with_at(name)
            }
            error => bad(name, &error.to_string()),
        }
    }
}

/// The importance of each column: the statistics, or their diagonal.
fn diagonal(name: &str, statistics: TensorView<'_>, columns: usize) -> Result<Vec<f32>> {
    let size = columns as u64;
    let step = match statistics.shape() {
        [count] if *count == size => 1,
        [rows, count] if *rows == size && *count == size => columns + 1,
        shape => {
            return Err(bad(
                name,
                &format!("statistics of shape {shape:?} do not fit {columns} input channels"),
            ));
        }
    };
    if statistics.dtype() != DType::FLOAT32 {
        let kind = statistics.dtype().name();
        return Err(bad(name, &format!("its statistics are {kind}, not float32")));
    }
    let values = statistics.bytes().as_chunks::<4>().0;
    Ok(values.iter().step_by(step).map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn bad(name: &str, reason: &str) -> Error {
    Error::new(codes::PLUGIN_BAD_REQUEST, format!("`{name}` cannot get tables: {reason}"))
        .with_at(name)
}
