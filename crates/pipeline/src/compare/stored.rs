//! The weights of a finished conversion, read from its packages or compiled models.

use anemll_conversion::Conversion;
use anemll_mil::model;
use anemll_mlmodelc::CompiledModel;
use anemll_mlpackage::Package;
use anemll_plugin_api::Result;
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
    pub(super) fn all(conversion: &Conversion) -> Result<Vec<Self>> {
        let models = conversion.description.models();
        models.into_iter().map(|model| Self::open(&conversion.package(model)?)).collect()
    }

    fn open(path: &Path) -> Result<Self> {
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

    /// A weight's values; none where they cannot be told.
    pub(super) fn read(&self, weight: &Weight<'_>) -> Result<Option<Found>> {
        let program = model::program(self.model()).ok();
        let body = program.and_then(|program| program.functions.get(*weight.functions.first()?));
        let Some(block) = body.and_then(|body| model::block(body).ok()) else { return Ok(None) };
        let Ok(values) = Decoder::new(block, self.files()).effective_values(weight.name) else {
            return Ok(None);
        };
        let mut read = vec![0.0; values.count()];
        values.fill(0, &mut read)?;
        Ok(Some(Found { values: read, bytes: weight.bytes(), form: form(weight) }))
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
