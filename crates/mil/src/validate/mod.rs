//! The proof that a model is well formed, which writers and compilers demand.
//!
//! [`validate_referenced`] takes what an arch frontend made: weights are references.
//! [`validate_resolved`] takes what is written to disk: weights are records of a weight file, whose
//! types and sizes the [`BlobCatalog`] tells. Both check everything else alike. Nothing that was
//! decoded from protobuf makes them panic.

mod description;
mod function;
mod weights;

use crate::dtype::DataType;
use crate::error::{Error, Result};
use crate::model::program;
use crate::types::TensorType;
use coreml_proto::Model;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// Stage of a model whose weights are references to the source model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referenced {}

/// Stage of a model whose weights are records of a weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {}

/// A model that passed validation at a stage. There is no other way to make one.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked<Stage> {
    model: Model,
    stage: PhantomData<Stage>,
}

impl<Stage> Checked<Stage> {
    /// The model.
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to be changed; the proof is lost.
    pub fn into_model(self) -> Model {
        self.model
    }
}

/// Element type and size of a record of a weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// Element type of the record.
    pub data_type: DataType,
    /// Bytes of data.
    pub size_in_bytes: u64,
}

/// Knows the records of weight files.
pub trait BlobCatalog {
    /// The record whose metadata stand at `offset` of a file as the program names it, such as
    /// `@model_path/weights/weight.bin`. Errors: no such file or record.
    fn blob(&self, file_name: &str, offset: u64) -> Result<BlobInfo>;
}

/// What weights must be at a stage.
pub(crate) enum Weights<'a> {
    References,
    Records(&'a dyn BlobCatalog),
}

/// Validates a model whose weights are references. Errors name the function, the operation and
/// what is wrong.
pub fn validate_referenced(model: Model) -> Result<Checked<Referenced>> {
    validate(&model, &Weights::References)?;
    Ok(Checked { model, stage: PhantomData })
}

/// Validates a model whose weights are records of a weight file. Errors name the function, the
/// operation and what is wrong.
pub fn validate_resolved(model: Model, catalog: &dyn BlobCatalog) -> Result<Checked<Resolved>> {
    validate(&model, &Weights::Records(catalog))?;
    Ok(Checked { model, stage: PhantomData })
}

fn validate(model: &Model, weights: &Weights<'_>) -> Result<()> {
    let program = program(model)?;
    if program.version != 1 {
        return Err(Error::new(format!("the program has version {}, not 1", program.version)));
    }
    if program.functions.is_empty() {
        return Err(Error::new("the program has no function"));
    }
    description::check_model(model, program)?;
    let lists = description::lists(model)?;
    for (name, value) in &program.attributes {
        crate::literal::check_value(value)
            .map_err(|error| Error::new(format!("program attribute `{name}`: {error}")))?;
    }
    let mut states: BTreeMap<String, (&str, TensorType)> = BTreeMap::new();
    for (name, function) in &program.functions {
        let place = |error: Error| error.in_function(name);
        let signature =
            function::check(function, model.specification_version, weights).map_err(place)?;
        description::check_function(model, lists.get(name.as_str()), &signature).map_err(place)?;
        for (state, kind) in &signature.states {
            match states.get(state) {
                Some((_, other)) if other == kind => {}
                Some((owner, other)) => {
                    return Err(Error::new(format!(
                        "state `{state}` is {other} in `{owner}`, but {kind} in `{name}`"
                    )));
                }
                None => {
                    states.insert(state.clone(), (name, kind.clone()));
                }
            }
        }
    }
    Ok(())
}
