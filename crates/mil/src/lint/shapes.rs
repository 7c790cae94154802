//! Ranks, sizes and alignment of the tensors that the engine computes with.

use super::view::{FunctionView, output, source};
use super::{ChipFloor, LintOptions, Report};
use crate::types::{Dimension, TensorType};

/// Elements from which a tensor that ends in an axis of size 1 matters: 32 KiB padded to 1 MiB.
const BIG: u64 = 1024;

pub(super) fn rank(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (name, tensor) in view.running_tensors().chain(view.states()) {
        if tensor.rank() > 5 {
            report.add(
                name,
                format!("rank {} is refused by the engine, whose limit is 5", tensor.rank()),
            );
        }
    }
}

pub(super) fn alignment(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    let inputs = view.inputs.iter().filter_map(|(name, kind)| Some((*name, kind.tensor()?)));
    let outputs = view.outputs.iter();
    let outputs = outputs.filter_map(|name| Some((name.as_str(), view.tensor(name)?)));
    for (name, tensor) in inputs.chain(outputs).chain(view.states()) {
        let Some(Dimension::Fixed(last)) = tensor.shape.last().copied() else { continue };
        let bits = tensor.data_type.bits().unwrap_or(0);
        // A handful of integers (a position, ids of tokens) is no tensor worth aligning.
        if !tensor.data_type.is_float() || last.saturating_mul(bits.into()) % 512 == 0 {
            continue;
        }
        let reason = if last == 1 {
            "the last axis has size 1, which is padded 32 times"
        } else if last < 32 {
            "the last axis is shorter than 32, which some systems read as garbage"
        } else {
            "the last axis is not a multiple of 64 bytes, so rows are padded"
        };
        report.add_case(usize::from(last < 32), name, reason);
    }
}

pub(super) fn axis_limit(view: &FunctionView<'_>, options: &LintOptions, report: &mut Report) {
    let limit = match options.floor {
        ChipFloor::A14 => 16_384,
        ChipFloor::A17Pro => 65_536,
    };
    for (name, tensor) in view.running_tensors().chain(view.states()) {
        // Height and width; channels are tiled by the compiler.
        let start = tensor.rank().saturating_sub(2);
        let axes = &tensor.shape[if tensor.rank() == 1 { 0 } else { start }..];
        if axes.iter().filter_map(|size| size.fixed()).any(|size| size > limit) {
            report.add(
                name,
                format!("a height or width above {limit} does not compile for the oldest chips"),
            );
        }
    }
}

pub(super) fn inner_size(view: &FunctionView<'_>, options: &LintOptions, report: &mut Report) {
    let limit = match options.floor {
        ChipFloor::A14 => 16_384,
        ChipFloor::A17Pro => 32_768,
    };
    for (_, operation) in view.running() {
        let shape = |parameter: &str| view.shape(source(operation, parameter)?);
        let inner = match operation.r#type.as_str() {
            "conv" => shape("weight")
                .and_then(|weight| weight.get(1..).and_then(crate::types::element_count)),
            "linear" => shape("weight").and_then(|weight| weight.last().copied()),
            "matmul" => shape("x").and_then(|x| {
                let transposed = view.literal(operation, "transpose_x");
                let transposed = transposed.is_some_and(|l| l.bools() == Some(&[true]));
                let place = x.len().checked_sub(if transposed { 2 } else { 1 })?;
                x.get(place).copied()
            }),
            _ => None,
        };
        if inner.is_some_and(|inner| inner > limit) {
            report.add(
                output(operation),
                format!("an inner size above {limit} takes the product off the engine"),
            );
        }
    }
}

pub(super) fn static_shapes(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (name, kind) in &view.inputs {
        if kind.tensor().is_some_and(|tensor| tensor.fixed_shape().is_none()) {
            report.add(
                *name,
                "a shape that is not static may keep the whole function off the engine",
            );
        }
    }
}

fn ends_in_one(tensor: &TensorType) -> bool {
    tensor.rank() == 4
        && tensor.data_type.is_float()
        && tensor.shape[3] == Dimension::Fixed(1)
        && tensor.element_count().is_some_and(|count| count >= BIG)
}

pub(super) fn singleton_width(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    let count = view.running_tensors().filter(|(_, tensor)| ends_in_one(tensor)).count();
    if count > 0 {
        report.add(
            "",
            format!(
                "{count} tensors of {BIG} elements or more end in an axis of size 1, which is \
                 padded 32 times; 8 columns cost the same"
            ),
        );
    }
}

pub(super) fn scores(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, operation) in view.of_type("matmul") {
        let both_run = ["x", "y"]
            .iter()
            .all(|name| source(operation, name).is_some_and(|value| !view.is_constant(value)));
        let Some(tensor) = view.tensor(output(operation)).filter(|_| both_run) else { continue };
        if let [.., Dimension::Fixed(32..), Dimension::Fixed(1)] = tensor.shape[..] {
            report.add(
                output(operation),
                "scores end in an axis of size 1, which is padded 32 times; put the context last",
            );
        }
    }
}
