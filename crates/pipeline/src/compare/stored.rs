//! The weights of a finished conversion, read from its packages or compiled models.

use anemll_conversion::Conversion;
use anemll_mil::model;
use anemll_mlmodelc::CompiledModel;
use anemll_mlpackage::Package;
use anemll_plugin_api::Error;
use anemll_weights::{Decoder, Part, Weight, WeightFiles};
use coreml_proto::Model;
use std::path::Path;

/// A model of a conversion, with its weight files.
pub(super) enum Stored {
    Package(Box<Package>),
    Compiled(Box<CompiledModel>),
}

/// The values of one weight, as the conversion multiplies with them.
pub(super) struct Found {
    pub(super) values: Vec<f32>,
    pub(super) bytes: u64,
    /// `16-bit`, or such as `4-bit palettized`.
    pub(super) form: String,
}

impl Stored {
    /// Every model that a conversion has, in the order of its description.
    pub(super) fn all(conversion: &Conversion) -> Result<Vec<Self>, Error> {
        let models = conversion.description.models();
        models.into_iter().map(|model| Self::open(&conversion.package(model)?)).collect()
    }

    fn open(path: &Path) -> Result<Self, Error> {
        if CompiledModel::is_at(path) {
            return Ok(Self::Compiled(Box::new(CompiledModel::open(path)?)));
        }
        Ok(Self::Package(Box::new(Package::open(path)?)))
    }

    pub(super) fn model(&self) -> &Model {
        match self {
            Self::Package(package) => package.model(),
            Self::Compiled(compiled) => compiled.model(),
        }
    }

    fn files(&self) -> &WeightFiles {
        match self {
            Self::Package(package) => package.weight_files(),
            Self::Compiled(compiled) => compiled.weight_files(),
        }
    }

    /// A weight's values, or why they cannot be told.
    pub(super) fn read(&self, weight: &Weight<'_>) -> Result<Found, String> {
        let program = model::program(self.model()).map_err(|error| error.to_string())?;
        let name = weight.functions.first().copied().unwrap_or_default();
        let body = program.functions.get(name);
        let body = body.ok_or_else(|| format!("the model has no function `{name}`"))?;
        let block = model::block(body).map_err(|error| error.to_string())?;
        let values = Decoder::new(block, self.files()).effective_values(weight.name);
        let values = values.map_err(|error| error.to_string())?;
        let mut read = vec![0.0; values.count()];
        values.fill(0, &mut read).map_err(|error| error.to_string())?;
        Ok(Found { values: read, bytes: weight.bytes(), form: form(weight) })
    }
}

/// How a weight is stored, in words.
fn form(weight: &Weight<'_>) -> String {
    let bits = |part: &Part<'_>| part.data_type.bits();
    let indices = weight.parts.iter().find(|part| part.holder.ends_with(".indices"));
    if let Some(bits) = indices.and_then(bits) {
        return format!("{bits}-bit palettized");
    }
    match weight.parts.first().filter(|_| weight.operation == "const").and_then(bits) {
        Some(bits) => format!("{bits}-bit"),
        None => weight.operation.trim_start_matches("constexpr_").replace('_', " "),
    }
}
