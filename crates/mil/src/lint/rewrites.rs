//! Forms that a leaner graph avoids.

use super::view::{FunctionView, output, source, sources};
use super::{LintOptions, Report};
use crate::ops::facts;
use std::collections::HashSet;

/// Values that hold (part of) a state, in another shape at most.
fn cached<'a>(view: &FunctionView<'a>) -> HashSet<&'a str> {
    let mut cached = HashSet::new();
    for (_, operation) in view.running() {
        let kind = operation.r#type.as_str();
        let moved = facts(kind).moves() && sources(operation).any(|value| cached.contains(value));
        if kind == "read_state" || moved {
            cached.extend(operation.outputs.iter().map(|output| output.name.as_str()));
        }
    }
    cached
}

pub(super) fn repeated_cache(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    let cached = cached(view);
    for (_, operation) in view.running() {
        let mut from: Vec<&str> =
            sources(operation).filter(|value| cached.contains(value)).collect();
        let repeats = match operation.r#type.as_str() {
            "tile" => !from.is_empty(),
            "concat" => {
                let count = from.len();
                from.sort_unstable();
                from.dedup();
                from.len() < count
            }
            _ => false,
        };
        if repeats {
            report.add(
                output(operation),
                "cached keys or values are copied for every query head; group the queries instead",
            );
        }
    }
}

pub(super) fn scale(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, operation) in view.of_type("mul").chain(view.of_type("real_div")) {
        let from_product = sources(operation)
            .any(|value| view.producer(value).is_some_and(|producer| producer.r#type == "matmul"));
        let by_constant = sources(operation).any(|value| view.is_constant(value))
            || view.literal(operation, "x").is_some()
            || view.literal(operation, "y").is_some();
        if from_product && by_constant {
            report.add(
                output(operation),
                "scores are scaled after the product; fold the scale into the query weights",
            );
        }
    }
}

pub(super) fn tables(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    if !view.has_attention() {
        return;
    }
    for (_, operation) in view.running() {
        let value = output(operation);
        let found = match operation.r#type.as_str() {
            "sin" | "cos" => true,
            "gather" => {
                let table = source(operation, "x").is_some_and(|x| {
                    view.is_constant(x) && view.data_type(x).is_some_and(|kind| kind.is_float())
                });
                table && source(operation, "indices").is_some_and(|index| !view.is_constant(index))
            }
            _ => false,
        };
        if found {
            report.add(
                value,
                "a table is looked up in the graph, on the CPU; pass its row as an input",
            );
        }
    }
}
