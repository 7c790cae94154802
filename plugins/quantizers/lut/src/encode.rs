//! A weight as indices and tables.

use crate::aware::{Aware, DAMPING};
use crate::options::{Lut, VECTOR, fits_vectors};
use crate::plan::{index_type, indices_shape, lut_shape};
use crate::scale;
use anemll_gptq::{GptqError, Method, Moments, quantize, quantize_vectors};
use anemll_palettize::{BITS, GroupError, PaletteError, Palettizer, pack, palettize_vectors};
use anemll_plugin_api::data::{Decision, Encoded, EncodingError};
use anemll_plugin_api::{DType, Error, Host, Result, Sink, TensorView, Value, codes};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use serde::Deserialize as _;
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

/// About how many elements one task of the host's threads gets.
const TASK_ELEMENTS: usize = 1 << 18;

/// The sizes of a weight and its tables.
struct Job<'a> {
    tensor: TensorView<'a>,
    columns: usize,
    lut: Lut,
    /// Elements that share a table.
    group: usize,
    /// The factors of output channels, if they have any.
    scales: Option<Vec<f16>>,
    knowledge: Knowledge,
}

/// What is known of the weight's inputs.
enum Knowledge {
    Nothing,
    /// The mean square of each input.
    Importance(Vec<f32>),
    /// The mean products of two inputs, and what to do with them.
    Moments(Box<Moments>, Method),
}

/// What one task makes.
struct Piece {
    lut: Vec<u8>,
    indices: Vec<u8>,
    error: GroupError,
    /// Mean squares over the inputs of what the products lose, and of the products.
    power: [f64; 2],
}

/// Tables, indices (one per element, or per vector) and how far they are off.
type Tables = (Vec<f16>, Vec<u8>, GroupError);

/// Writes indices of the tensor's shape and tables of shape `[groups, 1, .., 2^bits, 1]`, or those of
/// vectors; with scales, those of the rows divided by them, and the scales.
pub(crate) fn encode(
    tensor: TensorView<'_>,
    decision: &Value,
    statistics: Option<TensorView<'_>>,
    aware: Option<&Aware>,
    sink: &mut dyn Sink,
    host: &Host,
) -> Result<Encoded> {
    let job = Job::new(tensor, decision, statistics, aware)?;
    let index_type = index_type(job.lut.index_bits())?;
    let mut pieces = job.pieces(host)?;
    let groups = job.elements() / job.group;
    let lut_shape = lut_shape(tensor.shape(), job.lut, groups as u64);
    let indices_shape = indices_shape(tensor.shape(), job.lut);

    let indices = sink.begin("indices", index_type, &indices_shape)?;
    for piece in &mut pieces {
        // Nothing is held twice for longer than it takes.
        sink.write(indices, &std::mem::take(&mut piece.indices))?;
    }
    sink.finish(indices)?;
    let lut = sink.begin("lut", DType::FLOAT16, &lut_shape)?;
    for piece in &pieces {
        sink.write(lut, &piece.lut)?;
    }
    sink.finish(lut)?;
    if let Some(scales) = &job.scales {
        let bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let shape = tensor.shape().get(..1).unwrap_or_default();
        sink.tensor(Decision::OUTPUT_SCALE, DType::FLOAT16, shape, &bytes)?;
    }

    let [lost, whole] =
        pieces.iter().fold([0.0; 2], |sums, piece| [0, 1].map(|at| sums[at] + piece.power[at]));
    let of_products = if whole > 0.0 { lost / whole } else { 0.0 };
    let error = pieces.iter().fold(GroupError::default(), |error, piece| error.and(piece.error));
    Ok(Encoded::default().with_error(
        EncodingError::new(error.squared / job.elements() as f64, error.max_absolute)
            .with_error_of_products(of_products),
    ))
}

impl<'a> Job<'a> {
    fn new(
        tensor: TensorView<'a>,
        decision: &Value,
        statistics: Option<TensorView<'_>>,
        aware: Option<&Aware>,
    ) -> Result<Self> {
        let name = tensor.name();
        let lut = Lut::deserialize(decision).map_err(|error| {
            bad(name, &format!("the decision {decision} cannot be read: {error}"))
        })?;
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
        if lut.vector {
            let why = match lut {
                Lut { bits, .. } if !fits_vectors(bits) => {
                    Some(format!("`vector` takes 1, 2 or 3 bits, not {bits}"))
                }
                Lut { group: Some(_), .. } => Some("vectors have one table".to_owned()),
                _ if !rows.is_multiple_of(VECTOR as usize) => Some(format!(
                    "`vector` needs an even number of output channels, and it has {rows}"
                )),
                _ => None,
            };
            why.map_or(Ok(()), |why| Err(bad(name, &why)))?;
        }
        let knowledge = match statistics {
            None => Knowledge::Nothing,
            Some(statistics) => {
                let damping = decision.get("damping").and_then(Value::as_f64);
                knowledge(name, statistics, columns, aware, damping)?
            }
        };
        let scales = lut.scale.then(|| scale::of_rows(tensor.bytes(), columns));
        Ok(Self { tensor, columns, lut, group: group * columns, scales, knowledge })
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
        host.check_cancelled()?;
        let halves = bytes.as_chunks::<2>().0.iter();
        let given: Vec<f16> = halves.map(|bytes| f16::from_le_bytes(*bytes)).collect();
        let first_row = start / 2 / self.columns;
        let scales = self.scales.as_deref().map(|scales| &scales[first_row..]);
        let values = match scales {
            Some(scales) => Cow::Owned(scale::divide(&given, self.columns, scales)),
            None => Cow::Borrowed(&given),
        };
        let (lut, indices, mut error) = self.tables(&values, first_row, host)?;
        let entry = |at: usize| self.entry(&lut, &indices, at);
        if let Some(scales) = scales {
            error = scale::error(&given, self.columns, scales, entry);
        }
        let power = self.power(&given, &lut, &indices, scales);
        let indices = pack(&indices, self.lut.index_bits())
            .map_err(|error| bad(self.tensor.name(), &error.to_string()))?;
        let lut = lut.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        Ok(Piece { lut, indices, error, power })
    }

    /// The entry that stands for element `at` of a piece.
    fn entry(&self, lut: &[f16], indices: &[u8], at: usize) -> f32 {
        if !self.lut.vector {
            return lut[((at / self.group) << self.lut.bits) + usize::from(indices[at])].to_f32();
        }
        let length = VECTOR as usize;
        let (row, column) = (at / self.columns, at % self.columns);
        let index = usize::from(indices[row / length * self.columns + column]);
        lut[index * length + row % length].to_f32()
    }

    /// Tables and indices of whole groups, which begin at `first_row`, by all that is known.
    fn tables(&self, values: &[f16], first_row: usize, host: &Host) -> Result<Tables> {
        let bits = self.lut.index_bits();
        let length = VECTOR as usize;
        let importance = match &self.knowledge {
            Knowledge::Nothing => None,
            Knowledge::Importance(importance) => Some(importance.as_slice()),
            Knowledge::Moments(moments, method) if self.lut.vector => {
                let made = quantize_vectors(values, length, bits, moments, method.feedback);
                let made = made.map_err(|error| self.refuse_gptq(error, first_row))?;
                return Ok((made.lut, made.indices, made.error));
            }
            Knowledge::Moments(moments, method) => {
                let rows = self.group / self.columns;
                let made = quantize(values, rows, bits, moments, *method);
                let made = made.map_err(|error| self.refuse_gptq(error, first_row))?;
                return Ok((made.lut, made.indices, made.error));
            }
        };
        if !self.lut.vector {
            return self.palettes(values, importance, first_row, host);
        }
        let made = palettize_vectors(values, self.columns, length, bits, importance)
            .map_err(|error| self.refuse(error, first_row))?;
        Ok((made.lut, made.indices, made.error))
    }

    /// The entries that stand for row `row` of a piece.
    fn row(&self, lut: &[f32], indices: &[u8], row: usize, entries: &mut [f32]) {
        let length = VECTOR as usize;
        let (line, stride, table) = match self.lut.vector {
            true => (row / length, length, &lut[row % length..]),
            false => (row, 1, &lut[((row * self.columns / self.group) << self.lut.bits)..]),
        };
        let indices = &indices[line * self.columns..][..self.columns];
        for (entry, index) in entries.iter_mut().zip(indices) {
            *entry = table[usize::from(*index) * stride];
        }
    }

    /// Mean squares over the inputs of what the products lose with these tables, and of the products
    /// themselves; inputs are taken to be independent of each other.
    fn power(
        &self,
        values: &[f16],
        lut: &[f16],
        indices: &[u8],
        scales: Option<&[f16]>,
    ) -> [f64; 2] {
        let squares: Cow<'_, [f32]> = match &self.knowledge {
            Knowledge::Nothing => Cow::Owned(vec![1.0; self.columns]),
            Knowledge::Importance(squares) => Cow::Borrowed(squares),
            Knowledge::Moments(moments, _) => Cow::Borrowed(moments.squares()),
        };
        let mut table = vec![0.0; lut.len()];
        lut.convert_to_f32_slice(&mut table);
        let (mut given, mut kept) = (vec![0.0; self.columns], vec![0.0; self.columns]);
        let mut power = [0.0_f64; 2];
        for (row, values) in values.chunks_exact(self.columns).enumerate() {
            values.convert_to_f32_slice(&mut given);
            self.row(&table, indices, row, &mut kept);
            if let Some(scales) = scales {
                let scale = scales[row].to_f32();
                kept.iter_mut().for_each(|entry| *entry *= scale);
            }
            let sums = weighted_squares(&given, &kept, &squares);
            power[0] += f64::from(sums[0]);
            power[1] += f64::from(sums[1]);
        }
        power
    }

    /// Tables with the least squared error, group by group.
    fn palettes(
        &self,
        values: &[f16],
        importance: Option<&[f32]>,
        first_row: usize,
        host: &Host,
    ) -> Result<Tables> {
        let entries = 1_usize << self.lut.bits;
        let mut palettizer = Palettizer::new();
        let mut lut = vec![f16::ZERO; values.len() / self.group * entries];
        let mut indices = vec![0; values.len()];
        let mut error = GroupError::default();
        let groups = values.chunks_exact(self.group).zip(indices.chunks_exact_mut(self.group));
        for (at, ((values, indices), lut)) in groups.zip(lut.chunks_exact_mut(entries)).enumerate()
        {
            host.check_cancelled()?;
            let found =
                palettizer.group(values, self.columns, self.lut.bits, importance, lut, indices);
            let row = first_row + at * self.group / self.columns;
            error = error.and(found.map_err(|error| self.refuse(error, row))?);
        }
        Ok((lut, indices, error))
    }

    fn refuse_gptq(&self, error: GptqError, first_row: usize) -> Error {
        match error {
            GptqError::Palette(error) => self.refuse(error, first_row),
            error => bad(self.tensor.name(), &error.to_string()),
        }
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

/// Sums of the weighted squares of what `entries` lose of `values`, and of these: in lanes, for vector
/// instructions.
fn weighted_squares(values: &[f32], entries: &[f32], weights: &[f32]) -> [f32; 2] {
    const LANES: usize = 16;
    let mut sums = [[0.0_f32; LANES]; 2];
    let mut add = |lane: usize, value: f32, entry: f32, weight: f32| {
        let lost = value - entry;
        sums[0][lane] += weight * lost * lost;
        sums[1][lane] += weight * value * value;
    };
    let (values, last) = values.as_chunks::<LANES>();
    let (entries, last_entries) = entries.as_chunks::<LANES>();
    let (weights, last_weights) = weights.as_chunks::<LANES>();
    for ((values, entries), weights) in values.iter().zip(entries).zip(weights) {
        for lane in 0..LANES {
            add(lane, values[lane], entries[lane], weights[lane]);
        }
    }
    for (lane, value) in last.iter().enumerate() {
        add(lane, *value, last_entries[lane], last_weights[lane]);
    }
    sums.map(|lanes| lanes.iter().sum())
}

/// What statistics tell of the inputs: one float32 for each, or for each two of them. Without
/// `aware`, mean products count by their diagonal alone.
fn knowledge(
    name: &str,
    statistics: TensorView<'_>,
    columns: usize,
    aware: Option<&Aware>,
    damping: Option<f64>,
) -> Result<Knowledge> {
    let size = columns as u64;
    if statistics.dtype() != DType::FLOAT32 {
        let kind = statistics.dtype().name();
        return Err(bad(name, &format!("its statistics are {kind}, not float32")));
    }
    let values = statistics.bytes().as_chunks::<4>().0.iter();
    let values = values.map(|bytes| f32::from_le_bytes(*bytes));
    match (statistics.shape(), aware) {
        ([count], Some(Aware { method: Some(_), demanded: true, .. })) if *count == size => {
            Err(bad(
                name,
                "its statistics have mean squares alone; the methods `gptq` and `lnq` need mean products of \
             every two inputs, `diagonal` does not",
            ))
        }
        ([count], _) if *count == size => Ok(Knowledge::Importance(values.collect())),
        ([rows, count], None | Some(Aware { method: None, .. }))
            if *rows == size && *count == size =>
        {
            Ok(Knowledge::Importance(values.step_by(columns + 1).collect()))
        }
        ([rows, count], Some(Aware { method: Some(method), damping: asked, .. }))
            if *rows == size && *count == size =>
        {
            let values: Vec<f32> = values.collect();
            let damping = asked.or(damping.map(|damping| damping as f32)).unwrap_or(DAMPING);
            let moments = Moments::new(&values, columns, damping)
                .map_err(|error| bad(name, &error.to_string()))?;
            Ok(Knowledge::Moments(Box::new(moments), *method))
        }
        (shape, _) => Err(bad(
            name,
            &format!("statistics of shape {shape:?} do not fit {columns} input channels"),
        )),
    }
}

fn bad(name: &str, reason: &str) -> Error {
    Error::new(codes::PLUGIN_BAD_REQUEST, format!("`{name}` cannot get tables: {reason}"))
        .with_at(name)
}
