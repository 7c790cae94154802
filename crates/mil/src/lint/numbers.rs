//! Numbers that fp16 and the engine's arithmetic do not carry.

use super::view::{FunctionView, is_constant, output, source, sources};
use super::{LintOptions, Report};
use crate::literal::Literal;
use coreml_proto::mil;
use std::collections::{HashSet, VecDeque};

/// Largest finite fp16 number.
const LARGEST: f64 = 65_504.0;

/// The operation that makes the value of a parameter.
fn before<'a>(
    view: &FunctionView<'a>,
    operation: &mil::Operation,
    parameter: &str,
) -> Option<&'a mil::Operation> {
    view.producer(source(operation, parameter)?)
}

/// Whether an operation squares its operand.
fn squares(view: &FunctionView<'_>, operation: &mil::Operation) -> bool {
    match operation.r#type.as_str() {
        "square" => true,
        "mul" => source(operation, "x") == source(operation, "y"),
        "pow" => view
            .literal(operation, "y")
            .is_some_and(|power| power.floats().is_some_and(|power| power == [2.0])),
        _ => false,
    }
}

/// Additions in a row that are looked through.
const MAXIMUM_ADDITIONS: usize = 8;

pub(super) fn squared_norm(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, operation) in view.running() {
        if !matches!(operation.r#type.as_str(), "rsqrt" | "sqrt" | "pow") {
            continue;
        }
        let mut sum = before(view, operation, "x");
        // An epsilon may be added between. Few steps: a program with a cycle has no end.
        for _ in 0..MAXIMUM_ADDITIONS {
            let Some(addition) = sum.filter(|source| source.r#type == "add") else { break };
            let operand = sources(addition).find(|value| !view.is_constant(value));
            sum = operand.and_then(|value| view.producer(value));
        }
        let Some(sum) = sum else { continue };
        let from_squares = match sum.r#type.as_str() {
            "reduce_mean" | "reduce_sum" => {
                before(view, sum, "x").is_some_and(|source| squares(view, source))
            }
            "reduce_sum_square" | "reduce_l2_norm" => true,
            _ => false,
        };
        if from_squares {
            report.add(
                output(sum),
                "squares of fp16 values above 256 overflow; norm by layer_norm over [x, -x]",
            );
        }
    }
}

/// Floating point constants that stand in the program, with their name.
fn float_constants<'a>(view: &FunctionView<'a>) -> impl Iterator<Item = (&'a str, Vec<f64>)> {
    let constants: Vec<_> = view.of_type("const").collect();
    constants.into_iter().filter_map(|(_, operation)| {
        let literal = Literal::from_value(operation.attributes.get("val")?).ok()?;
        Some((output(operation), literal.floats()?.to_vec()))
    })
}

/// Whether a constant reaches a softmax through additions and choices.
fn is_mask(view: &FunctionView<'_>, constant: &str) -> bool {
    // The nearest first, each value once: programs may have cycles and many ways to one place.
    let mut known = HashSet::from([constant]);
    let mut pending = VecDeque::from([(constant, 0)]);
    while let Some((value, depth)) = pending.pop_front() {
        for user in view.consumers(value).iter().map(|index| view.operations[*index]) {
            match user.r#type.as_str() {
                "softmax" | "exp" | "reduce_max" => return true,
                "add" | "cast" | "expand_dims" | "maximum" | "mul" | "reshape" | "select"
                | "slice_by_index" | "sub"
                    if depth < 6 && known.insert(output(user)) =>
                {
                    pending.push_back((output(user), depth + 1));
                }
                _ => {}
            }
        }
    }
    false
}

pub(super) fn masks(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (name, values) in float_constants(view) {
        let wrong = values.iter().any(|value| value.is_nan() || value.abs() > LARGEST);
        if wrong && is_mask(view, name) {
            report.add(name, "the mask is not finite in fp16; -1e4 does the same without risk");
        }
    }
}

pub(super) fn constants(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (name, values) in float_constants(view) {
        let wrong = values.iter().any(|value| value.is_nan() || value.abs() > LARGEST);
        if wrong && !is_mask(view, name) {
            report.add(name, "the constant is not finite in fp16");
        }
    }
    for operation in view.operations.iter().filter(|operation| !is_constant(operation)) {
        let epsilon = view.literal(operation, "epsilon");
        let values = epsilon.as_ref().and_then(Literal::floats);
        // Half of the smallest fp16 number rounds to zero.
        if values.is_some_and(|values| values.iter().any(|value| value.abs() < 3.0e-8)) {
            report
                .add(output(operation), "epsilon is zero in fp16, so a zero input divides by zero");
        }
    }
}
