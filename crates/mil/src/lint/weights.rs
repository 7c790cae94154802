//! Weights: form of compression, size, sharing.

use super::view::{FunctionView, is_constant, output, source};
use super::{CHUNK_BYTES, LAYERS_PER_FUNCTION, LintOptions, Report, weight_file_limit};
use crate::dtype::DataType;
use crate::literal;
use crate::references::{blob_of, values};
use crate::types::{TensorType, element_count};
use coreml_proto::mil;
use std::collections::BTreeMap;

/// Weights below this many elements stay dense without harm.
const SMALL: u64 = 2048;

/// Lengths of vectors, and numbers of a table of them, that the newest chips take.
const VECTOR_LENGTHS: [u64; 4] = [2, 4, 8, 16];
const VECTOR_NUMBERS: u64 = 256;

/// What a file may hold at all, and what an app on a phone should hold.
const HARD_LIMIT: u64 = 1 << 31;
const PHONE_LIMIT: u64 = 1_000_000_000;

/// Type of a stored operand, which stands in the operation or comes from another constexpr.
fn stored(view: &FunctionView<'_>, operation: &mil::Operation, name: &str) -> Option<TensorType> {
    match source(operation, name) {
        Some(value) => view.tensor(value).cloned(),
        None => {
            let value = values(operation).find(|(parameter, _)| *parameter == name)?.1;
            literal::tensor_type(value).ok()
        }
    }
}

/// Sizes of the indices, of the table's groups along each axis, entries and vector of a lookup
/// table of the iOS 18 form.
fn table(view: &FunctionView<'_>, operation: &mil::Operation) -> Option<(Vec<u64>, Vec<u64>)> {
    let indices = stored(view, operation, "indices")?.fixed_shape()?;
    let lut = stored(view, operation, "lut")?.fixed_shape()?;
    (lut.len() == indices.len() + 2).then_some((indices, lut))
}

fn tables<'a>(view: &FunctionView<'a>) -> Vec<(&'a mil::Operation, Vec<u64>, Vec<u64>)> {
    view.of_type("constexpr_lut_to_dense")
        .filter_map(|(_, operation)| {
            let (indices, lut) = table(view, operation)?;
            Some((operation, indices, lut))
        })
        .collect()
}

pub(super) fn lut_form(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (operation, indices, lut) in tables(view) {
        let place = output(operation);
        let kind = stored(view, operation, "lut").map(|lut| lut.data_type);
        if kind != Some(DataType::Float16) {
            report.add(place, "entries of the lookup table are not fp16");
        }
        match lut.as_slice() {
            [.., 1] => {}
            [groups @ .., entries, length]
                if view
                    .literal(operation, "vector_axis")
                    .is_some_and(|axis| axis.integers() == Some(&[0]))
                    && groups.iter().all(|groups| *groups == 1)
                    && VECTOR_LENGTHS.contains(length)
                    && entries.saturating_mul(*length) <= VECTOR_NUMBERS =>
            {
                report.add_case(4, place, "lookup tables of vectors need the newest chips");
            }
            _ => report.add_case(
                1,
                place,
                "a lookup table of vectors leaves the engine in this form",
            ),
        }
        if stored(view, operation, "indices").is_some_and(|t| t.data_type == DataType::UInt3) {
            let reason = "3-bit indices are stored as 4 bits before the newest chips";
            report.add_case(2, place, reason);
        }
        if indices.len() != 2 && indices.len() != 4 {
            report.add_case(3, place, "the weight is of no linear layer, so it should stay fp16");
        }
    }
}

pub(super) fn lut_groups(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (operation, indices, lut) in tables(view) {
        let (Some(channels), Some(groups @ 2..)) = (indices.first(), lut.first()) else { continue };
        let size = channels / groups;
        if size < 8 {
            report.add_case(
                usize::from(size <= 2),
                output(operation),
                format!("a lookup table serves {size} output channels; below 8 it is slow"),
            );
        }
    }
}

pub(super) fn lut_axis(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (operation, indices, lut) in tables(view) {
        if lut[1..indices.len()].iter().any(|groups| *groups > 1) {
            report.add(
                output(operation),
                "lookup tables are grouped along input channels, which gave wrong numbers",
            );
        }
    }
}

pub(super) fn blockwise(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, operation) in view.of_type("constexpr_blockwise_shift_scale") {
        let scale = stored(view, operation, "scale").and_then(|scale| scale.fixed_shape());
        if scale.is_some_and(|scale| scale.iter().skip(1).any(|blocks| *blocks > 1)) {
            report.add(
                output(operation),
                "scales in blocks of input channels run off the engine, or give wrong numbers",
            );
        }
    }
}

pub(super) fn wrapped(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, operation) in view.of_type("constexpr_blockwise_shift_scale") {
        if stored(view, operation, "data").is_some_and(|data| data.data_type.is_float()) {
            report.add(
                output(operation),
                "a scale is wrapped around floats (a lookup table): loading crashes on macOS 26",
            );
        }
    }
}

/// Weights of linear layers, with the operation that uses them.
fn layers<'a>(view: &FunctionView<'a>) -> Vec<(&'a mil::Operation, &'a str)> {
    view.operations
        .iter()
        .filter(|operation| matches!(operation.r#type.as_str(), "conv" | "linear"))
        .filter_map(|operation| Some((*operation, source(operation, "weight")?)))
        .filter(|(_, weight)| view.is_constant(weight))
        .collect()
}

pub(super) fn skipped(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    let layers = layers(view);
    let dense = |weight: &str| view.producer(weight).is_some_and(|p| p.r#type == "const");
    if layers.iter().all(|(_, weight)| dense(weight)) {
        return;
    }
    for (_, weight) in layers {
        let big = view.shape(weight).and_then(|shape| element_count(&shape));
        if dense(weight) && big.is_some_and(|count| count >= SMALL) {
            let reason = "the weight is not compressed, though others of the function are";
            report.add(weight, reason);
        }
    }
}

pub(super) fn file_size(_: &[FunctionView<'_>], options: &LintOptions, report: &mut Report) {
    let bytes = options.weight_file_bytes;
    let (case, what) = match bytes {
        HARD_LIMIT.. => (2, "from 2147.5 MB on nothing loads it"),
        PHONE_LIMIT.. => (1, "more than the 1000 MB that phones load"),
        CHUNK_BYTES.. => (0, "close to the 1000 MB that phones load"),
        _ => return,
    };
    let reason = format!("the weight file has {:.1} MB, {what}", bytes as f64 / 1e6);
    report.add_case(case, "weight file", reason);
}

pub(super) fn chunks(views: &[FunctionView<'_>], options: &LintOptions, report: &mut Report) {
    let layers = views.iter().map(FunctionView::layers).max().unwrap_or(0) as u64;
    let by_bytes = options.weight_file_bytes.div_ceil(weight_file_limit(CHUNK_BYTES));
    let chunks = by_bytes.max(layers.div_ceil(LAYERS_PER_FUNCTION.into()));
    if chunks > 1 {
        let reason = format!("the limits of bytes and layers ask for {chunks} chunks");
        report.add("", reason);
    }
}

/// Large weights of one name and type that stand at different places of the file.
pub(super) fn shared(views: &[FunctionView<'_>], _: &LintOptions, report: &mut Report) {
    let mut known: BTreeMap<(&str, &str), (&str, TensorType, &str, u64)> = BTreeMap::new();
    for view in views {
        for operation in view.operations.iter().filter(|operation| is_constant(operation)) {
            for (parameter, value) in values(operation) {
                let (Some(blob), Ok(kind)) = (blob_of(value), literal::tensor_type(value)) else {
                    continue;
                };
                if kind.element_count().is_none_or(|count| count < SMALL) {
                    continue;
                }
                let key = (output(operation), parameter);
                let place = (view.name, kind.clone(), blob.file_name.as_str(), blob.offset);
                let (owner, other, file, offset) = known.entry(key).or_insert(place);
                if *other == kind && (*file, *offset) != (blob.file_name.as_str(), blob.offset) {
                    report.add(
                        key.0,
                        format!("`{owner}` and `{}` store the weight twice", view.name),
                    );
                }
            }
        }
    }
}

/// Stored bits of one element of a weight.
fn bits(view: &FunctionView<'_>, weight: &str) -> Option<(u64, &'static str)> {
    let operation = view.producer(weight)?;
    let kind = match operation.r#type.as_str() {
        "const" => return Some((view.data_type(weight)?.bits()?.into(), "M")),
        "constexpr_lut_to_dense" => stored(view, operation, "indices")?,
        "constexpr_blockwise_shift_scale" => stored(view, operation, "data")?,
        "constexpr_affine_dequantize" => stored(view, operation, "quantized_data")?,
        _ => return None,
    };
    Some((kind.data_type.bits()?.into(), "I"))
}

pub(super) fn notch(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    const MEBIBYTE: u64 = 1 << 20;
    const WINDOW: u64 = 16 << 10;
    const CORES: u64 = 16;
    for (_, weight) in layers(view) {
        let Some((bits, evidence)) = bits(view, weight) else { continue };
        let Some(shape) = view.shape(weight) else { continue };
        let Some((rows, rest)) = shape.split_first() else { continue };
        let payload = element_count(rest)
            .and_then(|inner| inner.checked_mul(rows.div_ceil(CORES)))
            .and_then(|elements| elements.checked_mul(bits));
        let Some(payload) = payload.map(|payload| payload / 8) else { continue };
        let over = payload % MEBIBYTE;
        if payload >= MEBIBYTE - WINDOW && over.min(MEBIBYTE - over) < WINDOW {
            report.add_with(
                0,
                weight,
                format!(
                    "each core loads {payload} bytes, near a multiple of 1 MiB, where loading is \
                     half as fast; split the input channels"
                ),
                evidence,
            );
        }
    }
}
