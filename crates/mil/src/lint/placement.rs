//! Operations that leave the Neural Engine, and how often the work changes place.

use super::view::{FunctionView, is_constant, output, source, sources};
use super::{LAYERS_PER_FUNCTION, LintOptions, Report};
use crate::dtype::DataType;
use crate::ops::facts;
use coreml_proto::mil;

/// A value with the operations that use it, for people who look for an island.
fn with_consumers(view: &FunctionView<'_>, operation: &mil::Operation) -> String {
    let value = output(operation);
    let mut kinds: Vec<&str> =
        view.consumers(value).iter().map(|index| view.operations[*index].r#type.as_str()).collect();
    kinds.dedup();
    let users = if kinds.is_empty() { "output".to_owned() } else { kinds.join(", ") };
    format!("{value} ({}) for {users}", operation.r#type)
}

/// Element types of the tensors that an operation computes with: operands that run, and results.
fn types<'a>(
    view: &'a FunctionView<'_>,
    operation: &'a mil::Operation,
) -> impl Iterator<Item = DataType> + 'a {
    let operands = sources(operation).filter(|value| !view.is_constant(value));
    let results = operation.outputs.iter().map(|output| output.name.as_str());
    operands.chain(results).filter_map(|value| view.data_type(value))
}

fn is_wide(view: &FunctionView<'_>, operation: &mil::Operation) -> bool {
    let constants = sources(operation).filter(|value| view.is_constant(value));
    let wide = |kind: DataType| matches!(kind, DataType::Float32 | DataType::Float64);
    types(view, operation).any(wide)
        || constants.filter_map(|value| view.data_type(value)).any(wide)
}

fn is_integer_arithmetic(view: &FunctionView<'_>, operation: &mil::Operation) -> bool {
    facts(&operation.r#type).arithmetic
        && sources(operation)
            .filter(|value| !view.is_constant(value))
            .any(|value| view.data_type(value) == Some(DataType::Int32))
}

fn is_number_cast(view: &FunctionView<'_>, operation: &mil::Operation) -> bool {
    let kinds = source(operation, "x").and_then(|x| view.data_type(x));
    match (kinds, view.data_type(output(operation))) {
        (Some(from), Some(to)) if operation.r#type == "cast" => {
            (from.is_float() && to.is_integer()) || (from.is_integer() && to.is_float())
        }
        _ => false,
    }
}

/// Why only the CPU has an operation, and which case of the rule that is; `None` where it does not.
fn denied_reason(
    view: &FunctionView<'_>,
    operation: &mil::Operation,
) -> Option<(usize, &'static str)> {
    let kind = operation.r#type.as_str();
    if facts(kind).on_cpu {
        return Some((1, "the engine has no such operation, it runs on the CPU"));
    }
    let runs = |name| source(operation, name).is_some_and(|value| !view.is_constant(value));
    if kind.starts_with("gather") && runs("indices") {
        return Some((0, "a gather by indices that are known only at run time leaves the engine"));
    }
    if kind == "slice_by_size" && runs("begin") {
        return Some((0, "a slice by size from a place known only at run time leaves the engine"));
    }
    None
}

pub(super) fn half_precision(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, operation) in view.running().filter(|(_, operation)| is_wide(view, operation)) {
        let place = with_consumers(view, operation);
        report.add(place, "fp32 runs on the GPU or the CPU");
    }
}

pub(super) fn integer_arithmetic(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    let found = view.running().filter(|(_, operation)| is_integer_arithmetic(view, operation));
    for (_, operation) in found {
        let place = with_consumers(view, operation);
        report.add(place, "int32 arithmetic runs on the CPU");
    }
}

pub(super) fn casts(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, operation) in view.running().filter(|(_, operation)| is_number_cast(view, operation)) {
        let place = with_consumers(view, operation);
        report.add(place, "casts between integers and floats run on the CPU");
    }
}

pub(super) fn denied(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, operation) in view.running() {
        if let Some((case, reason)) = denied_reason(view, operation) {
            report.add_case(case, with_consumers(view, operation), reason);
        }
    }
}

/// Stretches of operations, in order, that do not run on the engine.
pub(super) fn islands(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    let leaves = |operation: &mil::Operation| {
        is_wide(view, operation)
            || is_integer_arithmetic(view, operation)
            || is_number_cast(view, operation)
            || denied_reason(view, operation).is_some()
    };
    let (mut count, mut inside) = (0_usize, false);
    for operation in view.operations.iter().filter(|operation| !is_constant(operation)) {
        let now = leaves(operation);
        count += usize::from(now && !inside);
        inside = now;
    }
    if count > 0 {
        report.add(
            "",
            format!(
                "{count} stretch{} of operations leave{} the engine; each switch costs 0.1 ms",
                if count == 1 { "" } else { "es" },
                if count == 1 { "s" } else { "" }
            ),
        );
    }
}

pub(super) fn layers(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    let layers = view.layers();
    if layers > LAYERS_PER_FUNCTION as usize {
        report.add_case(
            usize::from(layers > 28),
            "",
            format!(
                "{layers} attention layers in one function; above {LAYERS_PER_FUNCTION} some \
                 devices fail to load it"
            ),
        );
    }
}
