//! States: form, number, and how they are read and written.

use super::view::{FunctionView, output, source};
use super::{LintOptions, Report};
use crate::dtype::DataType;
use crate::ops::{Movement, facts};
use crate::types::{Dimension, TensorType};
use coreml_proto::mil;
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) fn rank(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (name, tensor) in view.states().filter(|(_, tensor)| tensor.rank() != 4) {
        let reason = format!("a state of rank {} may fail to compile, 4 works", tensor.rank());
        report.add(name, reason);
    }
}

pub(super) fn last_axis(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (name, tensor) in view.states() {
        if let Some(Dimension::Fixed(last)) = tensor.shape.last()
            && last % 32 != 0
        {
            report.add(
                name,
                format!("the state's last axis is {last}, no multiple of 32: loading may fail"),
            );
        }
    }
}

pub(super) fn data_type(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (name, tensor) in view.states() {
        if tensor.data_type != DataType::Float16 {
            let reason = format!("the state is {}, Core ML keeps only fp16", tensor.data_type);
            report.add(name, reason);
        }
    }
}

pub(super) fn count(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    let count = view.states().count();
    if count > 1 {
        report.add_case(
            usize::from(count > 2),
            "",
            format!("{count} states in one function; from 3 on prediction fails on some systems"),
        );
    }
}

/// A `write_state` with what it writes.
struct Write<'a> {
    index: usize,
    state: &'a str,
    data: &'a str,
}

fn writes<'a>(view: &FunctionView<'a>) -> Vec<Write<'a>> {
    view.of_type("write_state")
        .filter_map(|(index, operation)| {
            Some(Write {
                index,
                state: source(operation, "input")?,
                data: source(operation, "data")?,
            })
        })
        .collect()
}

/// The state that a value was read from, if it is the result of `read_state`.
fn read_from<'a>(view: &FunctionView<'a>, value: &str) -> Option<&'a str> {
    view.producer(value)
        .filter(|source| source.r#type == "read_state")
        .and_then(|operation| source(operation, "input"))
}

/// The update whose result is written, if it is one.
fn update_of<'a>(view: &FunctionView<'a>, write: &Write<'_>) -> Option<&'a mil::Operation> {
    view.producer(write.data).filter(|operation| operation.r#type == "slice_update")
}

pub(super) fn canonical(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    let writes = writes(view);
    let mut overwritten = overwritten_reads(view, &writes);
    for write in writes {
        let Some(update) = update_of(view, &write) else {
            let kind = view.producer(write.data).map_or("an input", |source| &source.r#type);
            let reason =
                format!("the state is written with the result of {kind}, not slice_update");
            report.add(write.data, reason);
            continue;
        };
        let base = source(update, "x").and_then(|x| read_from(view, x));
        if base.is_some_and(|state| state != write.state) {
            let reason = "the state is written with an update of another state";
            report.add(write.data, reason);
        }
        if view.consumers(write.data).iter().any(|user| *user != write.index) {
            report.add(
                write.data,
                "the updated tensor is used itself; read the state again after the write",
            );
        }
        // What was read before the write is old; only the update itself may use it.
        for read in overwritten.remove(&write.index).unwrap_or_default() {
            if view.consumers(read).last().is_some_and(|user| *user > write.index) {
                report.add(read, "the state is used as it was before a write; read it again");
            }
        }
    }
}

/// Results of `read_state`, by the index of the first write of the same state after the read: that
/// write makes them stale, and later ones say nothing new.
fn overwritten_reads<'a>(
    view: &FunctionView<'a>,
    writes: &[Write<'a>],
) -> HashMap<usize, Vec<&'a str>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for write in writes {
        places.entry(write.state).or_default().push(write.index);
    }
    let mut reads: HashMap<usize, Vec<&str>> = HashMap::new();
    for (at, read) in view.of_type("read_state") {
        let places = source(read, "input").and_then(|state| places.get(state));
        let next = places.and_then(|all| all.get(all.partition_point(|place| *place <= at)));
        if let Some(next) = next {
            reads.entry(*next).or_default().push(output(read));
        }
    }
    reads
}

pub(super) fn direct(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    // Forwards, so that a program with a cycle, which is not valid, has an end too.
    let mut reshaped: HashSet<&str> = HashSet::new();
    for operation in &view.operations {
        let Some(x) = source(operation, "x") else { continue };
        if facts(&operation.r#type).movement == Movement::Whole {
            if reshaped.contains(x) || read_from(view, x).is_some() {
                reshaped.insert(output(operation));
            }
        } else if operation.r#type == "slice_update" && reshaped.contains(x) {
            report.add(
                output(operation),
                "the state is reshaped before the update, so loading fails; reshape the update",
            );
        }
    }
}

pub(super) fn standalone_update(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, update) in view.of_type("slice_update") {
        let from_state = source(update, "x").is_some_and(|x| read_from(view, x).is_some());
        let to_state = view
            .consumers(output(update))
            .iter()
            .any(|user| view.operations[*user].r#type == "write_state");
        if !(from_state && to_state) {
            report.add(
                output(update),
                "a slice_update that does not go from a state back to it runs on the CPU",
            );
        }
    }
}

pub(super) fn tokens(view: &FunctionView<'_>, _: &LintOptions, report: &mut Report) {
    for (_, update) in view.of_type("slice_update") {
        let Some(shape) = source(update, "update").and_then(|value| view.shape(value)) else {
            continue;
        };
        let [.., tokens, width] = shape[..] else { continue };
        // Whole rows of a state stand at no position: what is in them are not tokens.
        let fixed = source(update, "begin").is_some_and(|begin| view.is_constant(begin));
        let whole = source(update, "x").and_then(|value| view.shape(value));
        if fixed && whole.is_some_and(|whole| whole.ends_with(&[tokens, width])) {
            continue;
        }
        if tokens >= 128 || (tokens > 64 && width >= 128) {
            report.add(
                output(update),
                format!("{tokens} tokens are written at once; above 64 some systems fail"),
            );
        }
    }
}

pub(super) fn equal(views: &[FunctionView<'_>], _: &LintOptions, report: &mut Report) {
    let mut known: BTreeMap<&str, (&str, &TensorType)> = BTreeMap::new();
    for view in views {
        for (name, tensor) in view.states() {
            let (owner, other) = *known.entry(name).or_insert((view.name, tensor));
            if other != tensor {
                report.add(
                    name,
                    format!("the state is {other} in `{owner}`, but {tensor} in `{}`", view.name),
                );
            }
        }
    }
}
