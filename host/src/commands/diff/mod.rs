//! `diff`: in what two models differ, so that one sees what a new version of a tool changed.

mod align;
mod graph;
mod signature;
mod text;
mod weights;

use super::inspect::open::Opened;
use anemll_plugin_api::Result;
use clap::Args;
use graph::FunctionDifference;
use serde::Serialize;
use std::path::PathBuf;
use weights::WeightsDifference;

/// Examples below the help text.
pub const EXAMPLES: &str = "Examples:
  anemll diff old/llama_lm_head.mlpackage new/llama_lm_head.mlpackage
  anemll diff model.mlpackage model.mlmodelc --json

The exit code is 0 when both are equal, 1 when they differ.";

/// Version of the JSON form; keys may be added within one.
const SCHEMA: u32 = 1;

/// What can be typed.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// A .mlpackage, a .mlmodelc or a .mlmodel file.
    #[arg(value_name = "A")]
    pub first: PathBuf,
    /// What it is compared with.
    #[arg(value_name = "B")]
    pub second: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

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

/// Runs the command.
pub fn run(arguments: &DiffArguments) -> Result<()> {
    let first = Opened::open(&arguments.first)?;
    let second = Opened::open(&arguments.second)?;
    let difference = compare(&first, &second)?;
    if arguments.json {
        super::print_json(&difference)?;
    } else {
        super::print(&text::difference(&difference, crate::terminal::width()))?;
    }
    if difference.equal { Ok(()) } else { Err(crate::error::different()) }
}

/// Compares two models.
fn compare(first: &Opened, second: &Opened) -> Result<Difference> {
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
