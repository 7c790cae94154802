//! From weight references to one weight.bin per weight file.
//!
//! Every distinct reference of a weight file's functions is read, converted, transformed, encoded
//! and written once, in the order in which the operations name it; infer, prefill and evaluation
//! functions that name the same weight get the same record. Reading, quantizing and writing go on
//! at once; memory is bounded by the largest tensor and a budget.

use super::in_order::in_order;
use super::kept::Encoded;
use super::quantization::{Quantization, check_written, encoding_of, stored_type};
use super::references::{Item, Replacement, Resolved, Weight, collect};
use super::rotation::Rotation;
use super::stored_argument::ConstexprArgument;
use super::weight_report::WeightReport;
use super::weight_values::WeightSource;
use anemll_codes as codes;
use anemll_huggingface::Fp16Report;
use anemll_mil::{DataType, TensorType};
use anemll_mlpackage::{BlobType, BlobWriter};
use anemll_plugin_api::data::{Decision, Encoding, Outline, Plan};
use anemll_plugin_api::{DType, Error, Host, MemorySink, Result, Tensor, TensorView};
use anemll_services::{self as services, check_cancelled};
use coreml_proto::Model;
use half::f16;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Bytes of weights, as 16-bit floats, that are worked on at once; one that is larger is alone.
pub(super) const BUDGET: u64 = 768 << 20;

/// What every weight file of a conversion is made from.
pub(super) struct WeightJob<'a> {
    /// Where values come from.
    pub(super) source: WeightSource<'a>,
    /// The quantizer stage, if there is one.
    pub(super) quantization: Option<&'a Quantization>,
    /// The seed of the rotation that the quantizer wants.
    pub(super) rotation: Option<u64>,
    /// Whether the quantizer wants mean products of inputs.
    pub(super) wants_products: bool,
    /// Whether the quantizer cannot do without what it wants.
    pub(super) needs_statistics: bool,
    /// What the quantizer is told of the conversion.
    pub(super) outline: &'a Outline,
    /// Services for plugins.
    pub(super) host: &'a Host,
}

/// What one weight file came to.
pub(super) struct WeightFileResult {
    /// What to put into the programs.
    pub(super) resolved: Resolved,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Bytes that were not written since an equal record was there already.
    pub(super) deduplicated: u64,
    /// One entry per weight.
    pub(super) weights: Vec<WeightReport>,
}

/// How far the writing of a weight file is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    /// Weights and tables that are written.
    pub(super) done: u64,
    /// Weights and tables that there are.
    pub(super) total: u64,
    /// Bytes of the written ones, as 16-bit floats.
    pub(super) done_bytes: u64,
    /// Bytes of all, as 16-bit floats.
    pub(super) total_bytes: u64,
}

/// Bytes of an item before it is palettized.
pub(super) fn item_bytes(item: &Item) -> u64 {
    match item {
        Item::Weight(weight) => weight.shape.iter().product::<u64>().saturating_mul(2),
        Item::Table { bytes, .. } => bytes.len() as u64,
    }
}

impl WeightJob<'_> {
    /// Writes the weights of `functions` (id and model, in file order) to `path`; `progress` hears
    /// how far it is.
    pub(super) fn write(
        &self,
        functions: &[(&str, &Model)],
        path: &Path,
        progress: &dyn Fn(Written),
    ) -> Result<WeightFileResult> {
        let items = collect(functions)?;
        let sizes: Vec<u64> = items.iter().map(|(_, item)| item_bytes(item)).collect();
        let mut written = Written {
            total: items.len() as u64,
            total_bytes: sizes.iter().sum(),
            ..Written::default()
        };
        progress(written);
        let plan = match self.quantization {
            Some(quantization) => quantization.plan(self.outline, &items, functions, self.host)?,
            None => Plan::default(),
        };
        let mut writer = BlobWriter::create(path)?;
        let mut resolved = BTreeMap::new();
        let mut reports = Vec::new();
        let prepare = |at: usize| {
            check_cancelled()?;
            self.prepare(&items[at].1, &plan)
        };
        in_order(&sizes, BUDGET, prepare, |at, prepared| {
            check_cancelled()?;
            let (key, item) = &items[at];
            let (replacement, bytes) = prepared.write(&mut writer)?;
            if let Item::Weight(weight) = item {
                let mut report = prepared.report(weight, bytes, &plan);
                report.missing = self.source.is_missing(weight);
                reports.push(report);
            }
            resolved.insert(key.clone(), replacement);
            written.done += 1;
            written.done_bytes += item_bytes(item);
            progress(written);
            Ok(())
        })?;
        // What was read must be what was hashed.
        self.source.directory.check_unchanged()?;
        let summary = writer.finish()?;
        Ok(WeightFileResult {
            resolved: Resolved(resolved),
            bytes: summary.bytes,
            deduplicated: summary.deduplicated_bytes,
            weights: reports,
        })
    }

    /// How far off a weight's products are with each of these decisions, as a share: by some of its
    /// rows, where it has many.
    pub(super) fn errors_of(
        &self,
        quantization: &Quantization,
        weight: &Weight,
        decisions: &[&Decision],
    ) -> Result<Vec<f64>> {
        let (values, _) = self.source.read(weight, &[], self.rotation())?;
        if let Some((rows, shape)) = sample(&values, &weight.shape)
            && let Ok(errors) = self.errors(quantization, weight, (&rows, &shape), decisions)
        {
            return Ok(errors);
        }
        // A sample may not suit a decision: groups that do not divide it.
        self.errors(quantization, weight, (&values, &weight.shape), decisions)
    }

    fn errors(
        &self,
        quantization: &Quantization,
        weight: &Weight,
        (values, shape): (&[f16], &[u64]),
        decisions: &[&Decision],
    ) -> Result<Vec<f64>> {
        let name = &weight.reference.tensor;
        let tensor = TensorView::new(name, DType::FLOAT16, shape, bytemuck::cast_slice(values))?;
        let mut statistics = self.statistics(quantization, weight)?;
        // Squares are enough to tell choices apart, and quick.
        if !self.needs_statistics {
            statistics = statistics.map(squares).transpose()?;
        }
        let statistics = statistics.as_ref().map(Tensor::view).transpose()?;
        let error = |decision: &&Decision| {
            let mut sink = MemorySink::new();
            let (quantizer, parameters) = (&quantization.quantizer, &decision.parameters);
            let encoded = quantizer.encode(tensor, parameters, statistics, &mut sink, self.host)?;
            encoded.error.and_then(|error| error.of_products).ok_or_else(|| {
                let what = "it leaves bits to be measured, and does not tell the error of";
                quantization.blame(&format!("{what} `{name}`"))
            })
        };
        decisions.iter().map(error).collect()
    }

    /// The statistics of a weight's inputs as it is encoded: those of the rotated stream, where that is
    /// rotated.
    fn statistics(&self, quantization: &Quantization, weight: &Weight) -> Result<Option<Tensor>> {
        let Some(statistics) = quantization.statistics() else { return Ok(None) };
        let Some(known) = statistics.of(weight, &weight.reference.tensor)? else { return Ok(None) };
        let rotated = match self.rotation() {
            Some(rotation) => rotation.statistics(&weight.reference, &known.view()?)?,
            None => None,
        };
        match rotated {
            Some(bytes) => Tensor::new(known.name, known.dtype, known.shape, bytes).map(Some),
            None => Ok(Some(known)),
        }
    }

    /// The seed of the rotation that weights are written with, if there is one.
    pub(super) fn rotated_by(&self) -> Option<u64> {
        self.rotation().map(|rotation| rotation.seed)
    }

    /// The rotation of the residual stream, if the quantizer wants one and it does no harm: mean
    /// squares say nothing of rotated inputs, and whoever wants products rotates for their sake alone.
    fn rotation(&self) -> Option<Rotation<'_>> {
        let suits = match self.quantization?.statistics() {
            Some(statistics) => statistics.have_products(),
            None => !self.wants_products,
        };
        let seed = self.rotation.filter(|_| suits)?;
        Some(Rotation { seed, directory: self.source.directory })
    }

    fn prepare(&self, item: &Item, plan: &Plan) -> Result<Prepared> {
        let weight = match item {
            Item::Table { kind, bytes } => {
                return Ok(Prepared::Table { kind: kind.clone(), bytes: bytes.clone() });
            }
            Item::Weight(weight) => weight,
        };
        let rotation = self.rotation();
        let encoding = encoding_of(plan, weight);
        let kept = self.source.kept.filter(|_| plan.transforms.is_empty());
        if let (Some((decision, encoding)), Some(kept)) = (encoding, kept)
            && let Some(encoded) = kept.encoded(weight, self.rotated_by(), decision)
        {
            return Ok(Prepared::Encoded { encoding: encoding.clone(), encoded });
        }
        let (values, fp16) = self.source.read(weight, &plan.transforms, rotation)?;
        let bytes: &[u8] = bytemuck::cast_slice(&values);
        let (Some((decision, encoding)), Some(quantization)) = (encoding, self.quantization) else {
            let kind = TensorType::new(DataType::Float16, &weight.shape);
            return Ok(Prepared::Halves { kind, values, fp16 });
        };
        let tensor =
            TensorView::new(&weight.reference.tensor, DType::FLOAT16, &weight.shape, bytes)?;
        let statistics = self.statistics(quantization, weight)?;
        let bytes = bytes.len() as u64;
        services::encoding(bytes, || {
            let mut sink = MemorySink::new();
            let (quantizer, parameters) = (&quantization.quantizer, &decision.parameters);
            let statistics = statistics.as_ref().map(Tensor::view).transpose()?;
            let encoded = quantizer.encode(tensor, parameters, statistics, &mut sink, self.host)?;
            let tensors = sink.into_tensors()?;
            check_written(decision, encoding, &weight.shape, &tensors).map_err(|what| {
                quantization.blame(&format!("for `{}` it {what}", tensor.name()))
            })?;
            let encoded = Arc::new(Encoded { tensors, fp16, error: encoded.error });
            if let Some(kept) = kept {
                kept.put_encoded(weight, self.rotated_by(), decision, &encoded);
            }
            Ok(Prepared::Encoded { encoding: encoding.clone(), encoded })
        })
    }
}

/// Rows that tell how far off a weight becomes: more would tell the same.
const SAMPLED_ROWS: usize = 512;
/// Rows of a sample that are neighbours, as those that share a table are.
const NEIGHBOURS: usize = 32;

/// Rows from everywhere in a matrix, and their shape; none where it has no more than that.
fn sample(values: &[f16], shape: &[u64]) -> Option<(Vec<f16>, Vec<u64>)> {
    let rows = usize::try_from(*shape.first()?).ok()?;
    if rows <= SAMPLED_ROWS {
        return None;
    }
    let columns = values.len() / rows;
    let runs = SAMPLED_ROWS / NEIGHBOURS;
    let mut sampled = Vec::with_capacity(SAMPLED_ROWS * columns);
    for run in 0..runs {
        let first = run * (rows - NEIGHBOURS) / (runs - 1) / NEIGHBOURS * NEIGHBOURS;
        sampled.extend_from_slice(&values[first * columns..][..NEIGHBOURS * columns]);
    }
    let mut shape = shape.to_vec();
    shape[0] = SAMPLED_ROWS as u64;
    Some((sampled, shape))
}

/// The mean squares among mean products.
fn squares(statistics: Tensor) -> Result<Tensor> {
    let [inputs, _] = statistics.shape[..] else { return Ok(statistics) };
    let all = statistics.bytes.as_chunks::<4>().0.iter();
    let squares: Vec<u8> = all.step_by(inputs as usize + 1).flatten().copied().collect();
    Tensor::new(statistics.name, statistics.dtype, [inputs], squares)
}

/// A weight or table that is ready to be written.
enum Prepared {
    Table { kind: TensorType, bytes: Vec<u8> },
    Halves { kind: TensorType, values: Vec<f16>, fp16: Fp16Report },
    Encoded { encoding: Encoding, encoded: Arc<Encoded> },
}

impl Prepared {
    fn write(&self, writer: &mut BlobWriter) -> Result<(Replacement, u64)> {
        match self {
            Self::Table { kind, bytes } => {
                let offset = append(writer, kind, bytes)?;
                Ok((Replacement::Record { offset }, bytes.len() as u64))
            }
            Self::Halves { kind, values, .. } => {
                let bytes: &[u8] = bytemuck::cast_slice(values);
                let offset = append(writer, kind, bytes)?;
                Ok((Replacement::Record { offset }, bytes.len() as u64))
            }
            Self::Encoded { encoding, encoded } => {
                let tensors = &encoded.tensors;
                let mut total = 0;
                let mut arguments = Vec::new();
                for (name, argument) in &encoding.arguments {
                    let Some(tensor) = tensors.iter().find(|tensor| tensor.name == *name) else {
                        continue;
                    };
                    let kind = stored_type(argument).ok_or_else(|| unstorable(argument))?;
                    let offset = append(writer, &kind, &tensor.bytes)?;
                    total += tensor.bytes.len() as u64;
                    arguments.push(ConstexprArgument {
                        name: name.clone(),
                        dtype: kind.data_type.name().to_owned(),
                        shape: argument.shape.clone(),
                        offset,
                    });
                }
                let mut output_scale = None;
                if let Some(scale) = scale_of(tensors, encoding) {
                    let kind = TensorType::new(DataType::Float16, &scale.shape);
                    let offset = append(writer, &kind, &scale.bytes)?;
                    total += scale.bytes.len() as u64;
                    output_scale = Some(ConstexprArgument {
                        name: scale.name.clone(),
                        dtype: kind.data_type.name().to_owned(),
                        shape: scale.shape.clone(),
                        offset,
                    });
                }
                let (op, settings) = (encoding.op.clone(), encoding.settings.clone());
                Ok((Replacement::Constexpr { op, arguments, settings, output_scale }, total))
            }
        }
    }

    fn report(&self, weight: &Weight, bytes: u64, plan: &Plan) -> WeightReport {
        let (operation, fp16, encoding_error) = match self {
            Self::Table { .. } => ("const".to_owned(), Fp16Report::default(), None),
            Self::Halves { fp16, .. } => ("const".to_owned(), *fp16, None),
            Self::Encoded { encoding, encoded } => {
                (encoding.op.clone(), encoded.fp16, encoded.error)
            }
        };
        WeightReport {
            tensor: weight.reference.tensor.clone(),
            role: weight.reference.role.clone(),
            shape: weight.shape.clone(),
            operation,
            bytes,
            functions: weight.functions.clone(),
            missing: false,
            clamped: fp16.clamped,
            underflowed: fp16.underflow_to_zero,
            subnormal: fp16.subnormal,
            note: plan.decisions.get(&weight.id).and_then(|decision| decision.note.clone()),
            encoding_error,
        }
    }
}

/// The factors of output channels, if they are among what was written.
fn scale_of<'a>(tensors: &'a [Tensor], encoding: &Encoding) -> Option<&'a Tensor> {
    tensors.iter().find(|tensor| {
        tensor.name == Decision::OUTPUT_SCALE && !encoding.arguments.contains_key(&tensor.name)
    })
}

/// Appends a record and gives its offset.
fn append(writer: &mut BlobWriter, kind: &TensorType, bytes: &[u8]) -> Result<u64> {
    let (Some(blob_type), Some(elements)) =
        (BlobType::from_data_type(kind.data_type), kind.element_count())
    else {
        return Err(unstorable(kind));
    };
    Ok(writer.append(blob_type, elements, bytes)?.offset)
}

fn unstorable(kind: &impl std::fmt::Debug) -> Error {
    Error::new(codes::PLUGIN_BAD_ANSWER, format!("a weight file cannot hold {kind:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_rows_from_the_first_to_the_last_each_once() {
        for rows in [513, 576, 1536, 49_152, 128_257] {
            let values: Vec<f16> =
                (0..rows * 2).map(|at| f16::from_bits((at / 2) as u16)).collect();
            let (sampled, shape) = sample(&values, &[rows as u64, 2, 1, 1]).unwrap();
            assert_eq!((shape.as_slice(), sampled.len()), ([512, 2, 1, 1].as_slice(), 1024));
            let kept: Vec<u16> = sampled.iter().step_by(2).map(|value| value.to_bits()).collect();
            let neighbours = kept.chunks_exact(NEIGHBOURS).map(|run| run[NEIGHBOURS - 1] - run[0]);
            assert!(neighbours.clone().all(|apart| apart == NEIGHBOURS as u16 - 1), "{rows}");
            if rows < 65_536 {
                assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "{rows}: {kept:?}");
            }
            // The last rows are in it, as far as runs begin where tables do.
            assert_eq!(kept[0], 0);
            let last = (rows - NEIGHBOURS) / NEIGHBOURS * NEIGHBOURS;
            assert_eq!(kept[SAMPLED_ROWS - NEIGHBOURS], last as u16);
        }
        assert!(sample(&[f16::ZERO; 1024], &[512, 2]).is_none());
        assert!(sample(&[], &[]).is_none());
    }
}
