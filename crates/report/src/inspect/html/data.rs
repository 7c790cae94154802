//! The numbers that the page's script draws from, as JSON in a block that is no script.

use super::super::report::Inspection;
use super::super::weights::{PartInspection, WeightInspection};
use crate::page::{MAXIMUM_NAME, shorten};
use anemll_terminal as terminal;
use anemll_terminal::plain;
use serde_json::{Value, json};
use std::cmp::Reverse;

/// Weights that a page shows, the largest ones; a model of 30 layers has some 300.
const MAXIMUM_ROWS: usize = 4000;
/// Parts of a weight that are shown; real weights have three.
const MAXIMUM_PARTS: usize = 12;

/// The weights that are shown, in their order, and the bytes of those that are not.
pub(super) fn shown(found: &Inspection) -> (Vec<&WeightInspection>, u64) {
    let mut order: Vec<usize> = (0..found.weights.len()).collect();
    order.sort_by_key(|index| Reverse(found.weights[*index].bytes));
    let rest = order.split_off(order.len().min(MAXIMUM_ROWS));
    order.sort_unstable();
    let bytes =
        rest.iter().fold(0_u64, |sum, index| sum.saturating_add(found.weights[*index].bytes));
    (order.into_iter().map(|index| &found.weights[index]).collect(), bytes)
}

pub(super) fn json(found: &Inspection, shown: &[&WeightInspection], rest: u64) -> String {
    let weights: Vec<Value> = shown.iter().map(|weight| self::weight(weight)).collect();
    let data = json!({
        "program": found.model_bytes,
        "unused": found.unused_bytes,
        "rest": rest,
        "weights": weights,
    });
    // In HTML, only `<` could end the block or open a comment; in JSON it stands in strings only.
    data.to_string().replace('<', "\\u003c")
}

fn safe(text: &str) -> String {
    plain(&shorten(text, MAXIMUM_NAME)).into_owned()
}

fn weight(weight: &WeightInspection) -> Value {
    let mut value = json!({
        "name": safe(&weight.name),
        "layer": weight.layer.as_deref().map(safe),
        "role": weight.role.name(),
        "bytes": weight.bytes,
        "elements": weight.elements,
        "bits": rounded(weight.bits),
        "form": weight.form,
        "shape": terminal::shape(&weight.shape),
        "functions": weight.functions.iter().map(|name| safe(name)).collect::<Vec<_>>(),
        "uses": weight.uses,
        "parts": weight.parts.iter().take(MAXIMUM_PARTS).map(part).collect::<Vec<_>>(),
        "problem": super::super::terminal_text::problem(weight).as_deref().map(safe),
    });
    if let Some(found) = &weight.statistics {
        value["histogram"] = json!(found.histogram);
        value["finite"] = json!(found.finite);
        value["smallest"] = json!(found.smallest);
        value["largest"] = json!(found.largest);
        value["mean"] = json!(found.mean as f32);
        value["deviation"] = json!(found.deviation as f32);
        value["zeros"] = json!(found.zeros);
        value["nan"] = json!(found.not_a_number);
        value["infinite"] = json!(found.infinite);
    }
    if let Some(found) = &weight.tables {
        value["tables"] = json!([
            found.tables,
            found.entries,
            found.length,
            found.fewest_used,
            found.most_used,
            found.used,
            found.smallest,
            found.largest,
            rounded(found.entropy),
        ]);
    }
    value
}

fn part(part: &PartInspection) -> Value {
    json!([safe(&part.holder), part.dtype, terminal::shape(&part.shape), part.bytes, part.offset])
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
