//! A package, or several, to an asset.

use crate::blobs::Blobs;
use crate::functions;
use crate::interface::Interface;
use anemll_aicode::asset::{self, Metadata};
use anemll_aicode::{Function, Program, needed_version};
use anemll_layout::anemll;
use anemll_mil::{Checked, Resolved, validate_resolved};
use anemll_mlpackage::Package;
use anemll_plugin_api::data::Joined;
use anemll_plugin_api::{Error, Result, codes};
use std::collections::{BTreeMap, BTreeSet};
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
    let source = Source::open(package)?;
    let mut blobs = Blobs::new(vec![&source.package]);
    let functions = functions::all(source.checked.model(), interface, &mut blobs)
        .map_err(|error| error.with_at(source.shown.clone()))?;
    let metadata = Metadata { producer: producer.to_owned(), ..metadata(&[&source]) };
    write(destination, functions, &blobs, &metadata)
}

/// Lowers functions of several packages to one asset, in which each weight is stored once; otherwise as [`compile`].
/// Functions get the names that are listed, and a function has the interface of its package.
///
/// # Errors
/// As [`compile`]; [`codes::FUNCTION_UNKNOWN`] for a function that its package lacks.
pub fn compile_joined(joined: &Joined, destination: &Path, producer: &str) -> Result<Compiled> {
    let mut paths: Vec<&str> = Vec::new();
    // Of each function, its package's place among the paths.
    let mut places = Vec::new();
    for function in &joined.functions {
        let known = paths.iter().position(|path| *path == function.package);
        places.push(known.unwrap_or(paths.len()));
        if known.is_none() {
            paths.push(&function.package);
        }
    }
    let sources: Vec<Source> =
        paths.iter().map(|path| Source::open(Path::new(path))).collect::<Result<_>>()?;
    let mut blobs = Blobs::new(sources.iter().map(|source| &source.package).collect());
    let mut functions: Vec<Function> = Vec::new();
    for (wanted, place) in joined.functions.iter().zip(places) {
        blobs.turn_to(place);
        let source = &sources[place];
        let made = functions::renamed(source.checked.model(), wanted, &mut blobs)
            .map_err(|error| error.with_at(source.shown.clone()))?;
        functions.extend(made);
    }
    refuse_twice(&functions, destination)?;
    let mut metadata = metadata(&sources.iter().collect::<Vec<_>>());
    let names: Vec<&str> = joined.functions.iter().map(|one| one.name.as_str()).collect();
    // Of packages with several functions it says which; here it is all of them.
    metadata.custom.insert(anemll::FUNCTIONS.to_owned(), names.join(",").into());
    metadata.producer = producer.to_owned();
    write(destination, functions, &blobs, &metadata)
}

/// A function for another shape has a name with that shape, which another one may have of its own.
fn refuse_twice(functions: &[Function], destination: &Path) -> Result<()> {
    let mut names = BTreeSet::new();
    match functions.iter().find(|function| !names.insert(&function.name)) {
        None => Ok(()),
        Some(function) => Err(Error::new(
            codes::COMPILE_FAILED,
            format!("two functions would be named `{}`", function.name),
        )
        .with_at(destination.display().to_string())
        .with_hint(
            "compile the packages one by one, or join them under other names: anemll combine",
        )),
    }
}

/// A package that was opened, and its program, which is valid.
struct Source {
    package: Package,
    checked: Checked<Resolved>,
    shown: String,
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let package = Package::open(path)?;
        let shown = path.display().to_string();
        package.check_weights()?;
        let checked = validate_resolved(package.model().clone(), &package).map_err(|error| {
            Error::new(codes::COMPILE_FAILED, format!("the program is not valid: {error}"))
                .with_at(shown.clone())
        })?;
        Ok(Self { package, checked, shown })
    }

    /// What the package's makers said of it.
    fn said(&self) -> coreml_proto::Metadata {
        let description = self.package.model().description.as_ref();
        description.and_then(|description| description.metadata.clone()).unwrap_or_default()
    }
}

/// What packages say of themselves, as far as they do not contradict each other.
fn metadata(sources: &[&Source]) -> Metadata {
    let said: Vec<_> = sources.iter().map(|source| source.said()).collect();
    let agreed = |of: fn(&coreml_proto::Metadata) -> &String| {
        let first = said.first().map(of).filter(|text| !text.is_empty())?;
        said.iter().all(|other| of(other) == first).then(|| first.clone())
    };
    let mut custom = BTreeMap::new();
    for (key, value) in said.iter().flat_map(|said| &said.user_defined) {
        let known = custom.entry(key.clone()).or_insert(Some(value));
        *known = known.filter(|known| *known == value);
    }
    let custom = custom.into_iter().filter_map(|(key, value)| Some((key, value?.clone().into())));
    Metadata {
        producer: String::new(),
        author: agreed(|said| &said.author),
        license: agreed(|said| &said.license),
        description: agreed(|said| &said.short_description),
        custom: custom.collect(),
    }
}

fn write(
    destination: &Path,
    functions: Vec<Function>,
    blobs: &Blobs<'_>,
    metadata: &Metadata,
) -> Result<Compiled> {
    let version = needed_version(&functions);
    let program = Program { version, functions, blobs: blobs.list().to_vec() };
    asset::write(destination, &program, metadata, true, |index, output| {
        blobs.write(index, output)
    })?;
    Ok(Compiled {
        functions: program.functions.iter().map(|function| function.name.clone()).collect(),
        weights: program.blobs.len(),
        bytes: program.blobs.iter().map(|blob| blob.length).sum(),
    })
}
