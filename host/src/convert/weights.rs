//! From weight references to one weight.bin per weight file.
//!
//! Every distinct reference of a weight file's functions is read, converted, transformed, encoded
//! and written once, in the order in which the operations name it; infer, prefill and evaluation
//! functions that name the same weight get the same record. Memory stays near one tensor per
//! thread.

use super::references::{ConstexprArgument, Item, Replacement, Resolved, Weight, collect};
use super::statistics::Statistics;
use crate::error::{from_huggingface, from_package};
use crate::services::{self, check_cancelled};
use anemll_huggingface::{
    Fp16Options, Fp16Report, ModelDirectory, SourceType, TensorData, to_f32, to_fp16,
};
use anemll_mil::{DataType, TensorType};
use anemll_mlpackage::{BlobType, BlobWriter};
use anemll_plugin_api::data::{
    Axis, Decision, Encoded, EncodingError, Plan, PlanRequest, Transform, WeightInfo,
    WeightReference,
};
use anemll_plugin_api::{DType, Error, Host, MemorySink, Quantizer, Result, TensorView, codes};
use coreml_proto::Model;
use half::f16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What the report says of one weight.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WeightReport {
    /// Name in the safetensors files.
    pub(super) tensor: String,
    /// What it is to the model, such as `mlp.down`.
    pub(super) role: String,
    /// Shape in the package.
    pub(super) shape: Vec<u64>,
    /// Operation that carries it: `const`, or the constexpr operation of the quantizer.
    pub(super) operation: String,
    /// Bytes in weight.bin.
    pub(super) bytes: u64,
    /// Functions that share the record.
    pub(super) functions: Vec<String>,
    /// Values clamped to the range of 16-bit floats (with `--clamp`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) clamped: u64,
    /// Non-zero values that became zero as 16-bit floats.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) underflowed: u64,
    /// Values below 2^-14 as 16-bit floats, which keep fewer digits, and which some hardware takes as
    /// zero.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) subnormal: u64,
    /// Whether the source lacks it, so that it is all zeros (with `--allow-missing-weights`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) missing: bool,
    /// Remark of the quantizer's plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    /// Error of the encoding, as the quantizer measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) encoding_error: Option<EncodingError>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A quantizer and the statistics that it is given.
pub(super) struct Quantization {
    /// Its id.
    pub(super) id: String,
    /// The plugin.
    pub(super) quantizer: Box<dyn Quantizer>,
    /// Statistics of the weights' inputs, if the user gave any.
    pub(super) statistics: Option<Statistics>,
}

/// What every weight file of a conversion is made from.
pub(super) struct WeightJob<'a> {
    /// The source.
    pub(super) directory: &'a ModelDirectory,
    /// Clamp finite values beyond fp16 instead of refusing them.
    pub(super) clamp: bool,
    /// Take zeros for weights that the source lacks instead of refusing.
    pub(super) allow_missing: bool,
    /// The quantizer stage, if there is one.
    pub(super) quantization: Option<&'a Quantization>,
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

/// Share of a weight's values that may become zero without a remark.
const FEW_ZEROS: f64 = 0.001;
/// Share of a weight's values that may be subnormal without a remark: of normally distributed
/// weights with the small deviation of 0.001 there are 5 %.
const FEW_SUBNORMAL: f64 = 0.1;
/// Most weights that remarks name.
const NAMED: usize = 5;

impl WeightReport {
    /// A remark where much of the weight vanishes in 16-bit floats.
    fn vanishing(&self) -> Option<String> {
        let elements: u64 = self.shape.iter().product();
        let share = |count: u64| count as f64 / elements.max(1) as f64;
        let (what, count) = if share(self.underflowed) > FEW_ZEROS {
            ("become zero", self.underflowed)
        } else if share(self.subnormal) > FEW_SUBNORMAL {
            ("are subnormal", self.subnormal)
        } else {
            return None;
        };
        let percent = 100.0 * share(count);
        Some(format!(
            "{count} values of `{}` ({percent:.1} %) {what} as 16-bit floats",
            self.tensor
        ))
    }
}

/// Remarks on the weights that vanish in 16-bit floats; the report has the counts of all.
pub(super) fn vanishing(weights: &[WeightReport]) -> Vec<String> {
    let mut remarks: Vec<String> = weights.iter().filter_map(WeightReport::vanishing).collect();
    // Pieces of one tensor have the same line where nothing but zeros is lost.
    remarks.dedup();
    let more = remarks.len().saturating_sub(NAMED);
    remarks.truncate(NAMED);
    if more > 0 {
        remarks.push(format!("and {more} more weights lose values so; see the report"));
    }
    remarks
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
        let mut written = Written {
            total: items.len() as u64,
            total_bytes: items.iter().map(|(_, item)| item_bytes(item)).sum(),
            ..Written::default()
        };
        progress(written);
        let plan = self.plan(&items, functions)?;
        let mut writer = BlobWriter::create(path).map_err(from_package)?;
        let mut resolved = BTreeMap::new();
        let mut reports = Vec::new();
        for batch in items.chunks(rayon::current_num_threads().max(1)) {
            let prepared: Vec<Result<Prepared>> = batch
                .par_iter()
                .map(|(_, item)| {
                    check_cancelled()?;
                    self.prepare(item, &plan)
                })
                .collect();
            for ((key, item), prepared) in batch.iter().zip(prepared) {
                check_cancelled()?;
                let prepared = prepared?;
                let (replacement, bytes) = prepared.write(&mut writer)?;
                if let Item::Weight(weight) = item {
                    let mut report = prepared.report(weight, bytes, &plan);
                    report.missing = self.is_missing(weight);
                    reports.push(report);
                }
                resolved.insert(key.clone(), replacement);
                written.done += 1;
                written.done_bytes += item_bytes(item);
            }
            progress(written);
        }
        // What was read must be what was hashed.
        self.directory.check_unchanged().map_err(from_huggingface)?;
        let summary = writer.finish().map_err(from_package)?;
        Ok(WeightFileResult {
            resolved: Resolved(resolved),
            bytes: summary.bytes,
            deduplicated: summary.deduplicated_bytes,
            weights: reports,
        })
    }

    fn plan(&self, items: &[(String, Item)], functions: &[(&str, &Model)]) -> Result<Plan> {
        let Some(quantization) = self.quantization else { return Ok(Plan::default()) };
        let members: Vec<&Weight> = items
            .iter()
            .filter_map(|(_, item)| match item {
                Item::Weight(weight) => Some(&**weight),
                Item::Table { .. } => None,
            })
            .collect();
        let mut weights = Vec::new();
        let mut statistics = Vec::new();
        for weight in &members {
            let known = match &quantization.statistics {
                Some(statistics) => statistics.of(weight, &weight.id)?,
                None => None,
            };
            statistics.extend(known);
            weights.push(WeightInfo {
                id: weight.id.clone(),
                tensor: weight.reference.tensor.clone(),
                role: weight.reference.role.clone(),
                layer: weight.reference.layer,
                shape: weight.shape.clone(),
                functions: weight.functions.clone(),
                reads: weight.reference.reads.clone(),
                writes: weight.reference.writes.clone(),
                has_statistics: known.is_some(),
            });
        }
        let programs: Vec<Vec<u8>> =
            functions.iter().map(|(_, model)| coreml_proto::write(*model)).collect();
        let request = PlanRequest {
            weights,
            programs: programs.iter().map(Vec::as_slice).collect(),
            statistics,
        };
        let plan = quantization.quantizer.plan(&request, self.host)?;
        let known = |id: &String| request.weights.iter().any(|weight| weight.id == *id);
        let unknown = plan
            .decisions
            .keys()
            .chain(plan.transforms.iter().map(|transform| &transform.weight))
            .find(|id| !known(id));
        match unknown {
            Some(id) => Err(Error::new(
                codes::PLUGIN_BAD_ANSWER,
                format!("the quantizer's plan names the weight `{id}`, which does not exist"),
            )
            .with_hint("this is an error of the quantizer plugin")),
            None => {
                if let Some(statistics) = &quantization.statistics {
                    statistics.check_complete(&members, &plan)?;
                }
                Ok(plan)
            }
        }
    }

    fn prepare(&self, item: &Item, plan: &Plan) -> Result<Prepared> {
        let weight = match item {
            Item::Table { kind, bytes } => {
                return Ok(Prepared::Table { kind: kind.clone(), bytes: bytes.clone() });
            }
            Item::Weight(weight) => weight,
        };
        let (values, fp16) = self.read(weight, plan)?;
        let bytes: &[u8] = bytemuck::cast_slice(&values);
        let decision = plan.decisions.get(&weight.id).filter(|decision| decision.encode);
        let (Some(decision), Some(quantization)) = (decision, self.quantization) else {
            let kind = TensorType::new(DataType::Float16, &weight.shape);
            return Ok(Prepared::Halves { kind, values, fp16 });
        };
        let tensor =
            TensorView::new(&weight.reference.tensor, DType::FLOAT16, &weight.shape, bytes)?;
        let statistics = match &quantization.statistics {
            Some(statistics) => statistics.of(weight, &weight.reference.tensor)?,
            None => None,
        };
        let bytes = bytes.len() as u64;
        services::encoding(bytes, || {
            encode(tensor, statistics, decision, quantization, self.host, fp16)
        })
    }

    /// Whether zeros stand in for a weight.
    fn is_missing(&self, weight: &Weight) -> bool {
        self.allow_missing && !self.directory.tensors().contains_key(&weight.reference.tensor)
    }

    /// Reads a weight as fp16, transformed, in the element order of the package.
    fn read(&self, weight: &Weight, plan: &Plan) -> Result<(Vec<f16>, Fp16Report)> {
        let reference = &weight.reference;
        // A weight that the index promises is not absent but not fetched.
        if let Some(absence) = self.directory.absence(&reference.tensor) {
            return Err(from_huggingface(absence));
        }
        if self.is_missing(weight) {
            let elements: u64 = weight.shape.iter().product();
            return Ok((vec![f16::ZERO; elements as usize], Fp16Report::default()));
        }
        let mut source = self
            .directory
            .weight(&reference.tensor, &reference.shape, &reference.dimensions)
            .map_err(from_huggingface)?;
        if let Some([first, end]) = reference.rows {
            source = source.rows(first, end).map_err(from_huggingface)?;
        }
        let options = Fp16Options { clamp: self.clamp, scale: reference.scale, add: reference.add };
        let mut transforms =
            plan.transforms.iter().filter(|transform| transform.weight == weight.id).peekable();
        let (values, report) = if transforms.peek().is_none() {
            to_fp16(&source, &options).map_err(from_huggingface)?
        } else {
            let shape = source.shape();
            let columns: u64 = shape.iter().skip(1).product();
            let mut values = to_f32(&source).map_err(from_huggingface)?;
            for transform in transforms {
                apply(transform, &mut values, shape.first().copied().unwrap_or(1), columns)?;
            }
            let bytes = bytemuck::cast_slice(&values);
            TensorData::new(&reference.tensor, SourceType::Float32, &shape, bytes)
                .and_then(|transformed| to_fp16(&transformed, &options))
                .map_err(from_huggingface)?
        };
        let elements: u64 = weight.shape.iter().product();
        if values.len() as u64 != elements {
            return Err(Error::new(
                codes::WEIGHT_REFERENCE_INVALID,
                format!(
                    "the reference to `{}` gives {} values, but its type {:?} has {elements}",
                    reference.tensor,
                    values.len(),
                    weight.shape
                ),
            )
            .with_hint("this is an error of the arch plugin"));
        }
        Ok((permute(values, reference, &source.shape())?, report))
    }
}

/// Multiplies the rows or the columns of a `rows` x `columns` matrix.
fn apply(transform: &Transform, values: &mut [f32], rows: u64, columns: u64) -> Result<()> {
    let expected = match transform.axis {
        Axis::Rows => rows,
        Axis::Columns => columns,
    };
    if transform.factors.len() as u64 != expected {
        return Err(Error::new(
            codes::PLUGIN_BAD_ANSWER,
            format!(
                "a transform of `{}` has {} factors, but the weight has {expected} {}",
                transform.weight,
                transform.factors.len(),
                match transform.axis {
                    Axis::Rows => "rows",
                    Axis::Columns => "columns",
                }
            ),
        ));
    }
    for (row, values) in values.chunks_exact_mut(columns as usize).enumerate() {
        match transform.axis {
            Axis::Rows => values.iter_mut().for_each(|value| *value *= transform.factors[row]),
            Axis::Columns => {
                for (value, factor) in values.iter_mut().zip(&transform.factors) {
                    *value *= factor;
                }
            }
        }
    }
    Ok(())
}

/// Reorders the axes of a row-major tensor.
fn permute(values: Vec<f16>, reference: &WeightReference, shape: &[u64]) -> Result<Vec<f16>> {
    let Some(order) = &reference.permute else { return Ok(values) };
    let order: Vec<usize> = order.iter().map(|axis| *axis as usize).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..shape.len()) {
        return Err(Error::new(
            codes::WEIGHT_REFERENCE_INVALID,
            format!("the reference to `{}` permutes {shape:?} by {order:?}", reference.tensor),
        )
        .with_hint("this is an error of the arch plugin"));
    }
    let shape: Vec<usize> = shape.iter().map(|size| *size as usize).collect();
    let strides: Vec<usize> =
        (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    let target: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    let mut index = vec![0usize; target.len()];
    let mut permuted = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        let offset: usize = index.iter().zip(&order).map(|(at, axis)| at * strides[*axis]).sum();
        permuted.push(values[offset]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < target[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(permuted)
}

/// A weight or table that is ready to be written.
enum Prepared {
    Table { kind: TensorType, bytes: Vec<u8> },
    Halves { kind: TensorType, values: Vec<f16>, fp16: Fp16Report },
    Encoded { answer: Encoded, tensors: Vec<anemll_plugin_api::Tensor>, fp16: Fp16Report },
}

fn encode(
    tensor: TensorView<'_>,
    statistics: Option<TensorView<'_>>,
    decision: &Decision,
    quantization: &Quantization,
    host: &Host,
    fp16: Fp16Report,
) -> Result<Prepared> {
    let name = tensor.name().to_owned();
    let mut sink = MemorySink::new();
    let answer =
        quantization.quantizer.encode(tensor, &decision.parameters, statistics, &mut sink, host)?;
    let tensors = sink.into_tensors()?;
    for (argument, value) in &answer.arguments {
        let Some(blob) = tensors.get(value.blob as usize) else {
            return Err(Error::new(
                codes::PLUGIN_BAD_ANSWER,
                format!(
                    "the quantizer's answer for `{name}` names blob {} for `{argument}`, which it \
                     did not write",
                    value.blob
                ),
            ));
        };
        if blob.dtype.name() != value.dtype || blob.shape != value.shape {
            return Err(Error::new(
                codes::PLUGIN_BAD_ANSWER,
                format!(
                    "the quantizer's answer for `{name}` declares `{argument}` as {} {:?}, but \
                     wrote {} {:?}",
                    value.dtype,
                    value.shape,
                    blob.dtype.name(),
                    blob.shape
                ),
            ));
        }
    }
    Ok(Prepared::Encoded { answer, tensors, fp16 })
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
            Self::Encoded { answer, tensors, .. } => {
                let mut total = 0;
                let mut arguments = Vec::new();
                for (name, value) in &answer.arguments {
                    let Some(blob) = tensors.get(value.blob as usize) else { continue };
                    let kind = TensorType::new(data_type(blob.dtype)?, &blob.shape);
                    let offset = append(writer, &kind, &blob.bytes)?;
                    total += blob.bytes.len() as u64;
                    arguments.push(ConstexprArgument {
                        name: name.clone(),
                        dtype: kind.data_type.name().to_owned(),
                        shape: blob.shape.clone(),
                        offset,
                    });
                }
                Ok((Replacement::Constexpr { op: answer.op.clone(), arguments }, total))
            }
        }
    }

    fn report(&self, weight: &Weight, bytes: u64, plan: &Plan) -> WeightReport {
        let (operation, fp16, encoding_error) = match self {
            Self::Table { .. } => ("const".to_owned(), Fp16Report::default(), None),
            Self::Halves { fp16, .. } => ("const".to_owned(), *fp16, None),
            Self::Encoded { answer, fp16, .. } => (answer.op.clone(), *fp16, answer.error),
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

/// Appends a record and gives its offset.
fn append(writer: &mut BlobWriter, kind: &TensorType, bytes: &[u8]) -> Result<u64> {
    let (Some(blob_type), Some(elements)) =
        (BlobType::from_data_type(kind.data_type), kind.element_count())
    else {
        return Err(Error::new(
            codes::PLUGIN_BAD_ANSWER,
            format!("a weight file cannot hold {} values", kind.data_type.name()),
        ));
    };
    Ok(writer.append(blob_type, elements, bytes).map_err(from_package)?.offset)
}

fn data_type(dtype: DType) -> Result<DataType> {
    let known = i32::try_from(dtype.0).ok().and_then(|number| DataType::from_proto(number).ok());
    known.ok_or_else(|| {
        Error::new(codes::PLUGIN_BAD_ANSWER, format!("data type {} is not known", dtype.0))
    })
}
