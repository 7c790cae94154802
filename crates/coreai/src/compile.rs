//! A package to an asset.

use crate::blobs::Blobs;
use crate::functions;
use crate::interface::Interface;
use anemll_aicode::asset::{self, Metadata};
use anemll_aicode::{Program, needed_version};
use anemll_mil::validate_resolved;
use anemll_mlpackage::Package;
use anemll_plugin_api::{Error, Result, codes};
use std::path::Path;

/// What became of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Functions of the asset.
    pub functions: Vec<String>,
    /// Weights that are stored.
    pub weights: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Lowers a package, and writes the asset whole or not at all; another one that is there is replaced.
/// The same package gives the same bytes.
///
/// # Errors
/// Those of opening the package; [`codes::COMPILE_FAILED`] for what Core AI lacks, by function and
/// operation; those of [`asset::write`].
pub fn compile(
    package: &Path,
    destination: &Path,
    producer: &str,
    interface: Interface,
) -> Result<Compiled> {
    let opened = Package::open(package)?;
    let shown = package.display().to_string();
    let failed =
        |message: String| Error::new(codes::COMPILE_FAILED, message).with_at(shown.clone());
    opened.check_weights()?;
    let checked = validate_resolved(opened.model().clone(), &opened)
        .map_err(|error| failed(format!("the program is not valid: {error}")))?;
    let mut blobs = Blobs::new(&opened);
    let functions = functions::all(checked.model(), interface, &mut blobs)
        .map_err(|error| error.with_at(shown.clone()))?;
    let version = needed_version(&functions);
    let program = Program { version, functions, blobs: blobs.list().to_vec() };
    let description = opened.model().description.as_ref();
    let said = description.and_then(|description| description.metadata.as_ref());
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let metadata = Metadata {
        producer: producer.to_owned(),
        author: said.and_then(|said| text(&said.author)),
        license: said.and_then(|said| text(&said.license)),
        description: said.and_then(|said| text(&said.short_description)),
        custom: said.map(custom).unwrap_or_default(),
    };
    asset::write(destination, &program, &metadata, true, |index, output| {
        blobs.write(index, output)
    })?;
    Ok(Compiled {
        functions: program.functions.iter().map(|function| function.name.clone()).collect(),
        weights: program.blobs.len(),
        bytes: program.blobs.iter().map(|blob| blob.length).sum(),
    })
}

/// What the package's makers said of it beyond the fields that both formats have.
fn custom(said: &coreml_proto::Metadata) -> serde_json::Map<String, serde_json::Value> {
    said.user_defined.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()
}
