//! `diff`: in what two models differ, so that one sees what a new version of a tool changed.

mod align;
mod graph;
mod signature;
mod text;
mod weights;

use crate::inspect::open::Opened;
use anemll_plugin_api::Result;
use graph::FunctionDifference;
use serde::Serialize;
use weights::WeightsDifference;

/// Version of the JSON form; keys may be added within one.
const SCHEMA: u32 = 1;

/// One property in which two models differ.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which property.
    pub what: String,
    /// Its value in the first; absent where the first has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// Its value in the second; absent where the second has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
}

/// In what two models differ.
#[derive(Debug, Serialize)]
pub struct Difference {
    schema: u32,
    equal: bool,
    first: Side,
    second: Side,
    model: Vec<Change>,
    functions: Vec<FunctionDifference>,
    weights: WeightsDifference,
}

#[derive(Debug, Serialize)]
struct Side {
    path: String,
    program_bytes: u64,
    weight_bytes: u64,
}

impl Side {
    fn of(opened: &Opened) -> Self {
        Self {
            path: opened.path().display().to_string(),
            program_bytes: opened.program_bytes(),
            weight_bytes: opened.weight_bytes(),
        }
    }
}

impl Difference {
    /// Whether there is none.
    pub fn is_equal(&self) -> bool {
        self.equal
    }

    /// For people, in lines of at most `width` columns where one is given.
    pub fn to_text(&self, width: Option<usize>) -> String {
        text::difference(self, width)
    }
}

/// Compares two models.
///
/// # Errors
/// Weights that cannot be read; an interruption.
pub fn compare(first: &Opened, second: &Opened) -> Result<Difference> {
    let model = signature::model(first.model(), second.model());
    let graphs = graph::compare(first.model(), second.model());
    let weights = weights::compare(first, second, &graphs.pairs)?;
    let functions = graphs.functions;
    let equal = model.is_empty()
        && functions.iter().all(FunctionDifference::is_equal)
        && weights.is_equal();
    Ok(Difference {
        schema: SCHEMA,
        equal,
        first: Side::of(first),
        second: Side::of(second),
        model,
        functions,
        weights,
    })
}
