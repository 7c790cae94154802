//! From packages to a joined package: what is opened, decided, checked, and at last written.

use crate::approximate::{self, Tolerance};
use crate::error::{Error, Result};
use crate::metadata;
use crate::parts::{self, PartsCheck};
use crate::report::{InputReport, Report, Totals};
use crate::rewrite::{Member, renumber};
use crate::sharing::{inventory, sizes};
use crate::store::{RecordId, RecordStore};
use crate::{Cancelled, check, exact, semantic};
use anemll_mil::{
    BlobCatalog, BlobInfo, Checked, FunctionSource, Resolved, combine_sources, extract_function,
    interface, validate_resolved,
};
use anemll_mlpackage::{
    BlobWriter, Package, PackageError, WEIGHT_FILE_NAME, WeightsSource, WriteOptions, Written,
    write_package,
};
use coreml_proto::Model;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Size of a weight file's header, of a record's metadata, and what offsets are multiples of.
const ALIGNMENT: u64 = 64;

/// Share of an input's weight file, in percent, that a joined package may not need: files of
/// coremltools hold small constants several times.
const SPARE: u64 = 1;

/// The functions that ANEMLL's apps call when they name none.
const DEFAULT_FUNCTION: &str = "infer";

/// A function of a package, and the name that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The new name.
    pub name: String,
    /// The package.
    pub path: PathBuf,
    /// Its name there; `None` for the only function, or the one that has the new name already.
    pub function: Option<String>,
}

/// How functions are joined.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// The function that runs when none is named; `infer` if there is one, else the first.
    pub default: Option<String>,
    /// Take palettized weights that are nearly the same as one.
    pub tolerance: Option<Tolerance>,
    /// Ask that the functions are parts of one conversion.
    pub parts: Option<PartsCheck>,
}

/// A joined package that has been decided on and validated, but not written.
#[derive(Debug)]
pub struct JoinPlan {
    model: Checked<Resolved>,
    store: RecordStore,
    weights: Weights,
    report: Report,
}

/// Where the weights of the result come from.
#[derive(Debug)]
enum Weights {
    None,
    /// A weight file of an input, by its number, which has all that is needed.
    Whole(usize),
    /// These records, in this order.
    Records(Vec<RecordId>),
}

/// Where and how a package is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output<'a> {
    /// The package.
    pub path: &'a Path,
    /// Replace a package that exists.
    pub replace: bool,
    /// Copy the weights, even where the result could be a second name of an input's weight file.
    pub copy: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The package.
    pub written: Written,
    /// What was found and decided.
    pub report: Report,
}

impl JoinPlan {
    /// Opens the packages, finds the weights that are the same, joins the functions in the given
    /// order and validates the result.
    ///
    /// # Errors
    /// Packages that cannot be read or are damaged; functions that are not there, or cannot stand
    /// together: names that are illegal or given twice, other opsets, states of other types, parts
    /// of other conversions; a result that breaks a rule of ML Programs; [`Error::Cancelled`].
    pub fn combine(
        sources: &[Source],
        options: &Options,
        cancelled: Cancelled<'_>,
    ) -> Result<Self> {
        let mut store = RecordStore::default();
        let default = default_function(sources, options)?;
        let mut opened = open(&mut store, sources, cancelled)?;
        if let Some(wanted) = &options.parts {
            parts::check(&opened.members, wanted)?;
        }
        if options.parts.is_none() {
            note_other_models(&mut opened);
        }
        // Joined once before the weights are looked at, which may take long, and once after.
        join(&opened.members, &default)?;
        let mut shared = share(store, opened, options.tolerance.as_ref(), cancelled)?;
        let model = join(&shared.members, &default)?;
        note_older_versions(&model, &mut shared);
        Self::finish(model, shared, Some(default), SPARE)
    }

    /// Opens a package and takes one function out, as the only one of its model, `main`.
    ///
    /// # Errors
    /// As [`JoinPlan::combine`].
    pub fn split(path: &Path, function: &str, cancelled: Cancelled<'_>) -> Result<Self> {
        let mut store = RecordStore::default();
        let source = Source {
            name: anemll_mil::model::MAIN.to_owned(),
            path: path.to_owned(),
            function: Some(function.to_owned()),
        };
        let opened = open(&mut store, &[source], cancelled)?;
        let shared = share(store, opened, None, cancelled)?;
        let mut model = shared.members.first().map(|member| member.model.clone());
        let mut model =
            model.take().ok_or_else(|| Error::combine("the package has no function"))?;
        if let Some(found) = &mut model.description.get_or_insert_default().metadata {
            *found = metadata::of_one(std::mem::take(found), function);
        }
        Self::finish(model, shared, None, 0)
    }

    /// Puts offsets into the model and validates it. The weight file of an input is taken as it is
    /// if it has all records, and no more than `spare` percent of others.
    fn finish(
        mut model: Model,
        shared: Shared,
        default: Option<String>,
        spare: u64,
    ) -> Result<Self> {
        let Shared { store, members, records, first, mut report } = shared;
        let (mut offsets, mut weight_bytes) = offsets(&store, &records);
        let weights = match store.whole_file(&records, &first, weight_bytes, spare) {
            _ if records.is_empty() => Weights::None,
            Some((file, inside)) => {
                for (id, same) in records.iter().zip(inside) {
                    offsets.insert(*id, store.record(same).offset());
                }
                weight_bytes = std::fs::metadata(store.path(file)).map_or(0, |file| file.len());
                Weights::Whole(file)
            }
            None => Weights::Records(records),
        };
        renumber(&mut model, |id| offsets.get(&id).copied().unwrap_or_default());
        let catalog = Planned(
            offsets
                .iter()
                .map(|(id, offset)| {
                    let record = store.record(*id);
                    let data_type = record.blob_type().data_type();
                    let size_in_bytes = record.size_in_bytes();
                    (*offset, BlobInfo { data_type, size_in_bytes })
                })
                .collect(),
        );
        let model = validate_resolved(model, &catalog).map_err(|error| {
            let owner = error
                .function
                .as_deref()
                .and_then(|name| members.iter().find(|member| member.name == name));
            let at = owner.map(|member| member.path.clone());
            Error::Invalid { message: error.to_string(), at }
        })?;
        report.weight_bytes = weight_bytes;
        report.default_function = default;
        Ok(Self { model, store, weights, report })
    }

    /// What was found and decided.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The model of the result.
    pub fn model(&self) -> &Model {
        self.model.model()
    }

    /// Writes the package, all of it at once under its name. The weight file of an input that has
    /// all weights gets a second name, where the file system can; else each weight is copied into a
    /// hidden file beside the package. Nothing is left behind on an error.
    ///
    /// # Errors
    /// A destination that exists (without `replace`) or cannot be written; packages that cannot be
    /// read any more; [`Error::Cancelled`].
    pub fn write(self, output: Output<'_>, cancelled: Cancelled<'_>) -> Result<Done> {
        let options = WriteOptions { replace: output.replace };
        let package = |source: WeightsSource<'_>| {
            check(cancelled)?;
            Ok::<_, Error>(write_package(output.path, &self.model, source, &options)?)
        };
        let written = match &self.weights {
            Weights::None => package(WeightsSource::None)?,
            Weights::Whole(file) if output.copy => {
                package(WeightsSource::Copy(self.store.path(*file)))?
            }
            Weights::Whole(file) => package(WeightsSource::HardLink(self.store.path(*file)))?,
            Weights::Records(records) => {
                let parent = match output.path.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                let folder = tempfile::Builder::new()
                    .prefix(".anemll-weights-")
                    .tempdir_in(parent)
                    .map_err(|source| PackageError::writing(parent, "cannot write", &source))?;
                let path = folder.path().join("weight.bin");
                let mut writer = BlobWriter::create(&path)?;
                for id in records {
                    check(cancelled)?;
                    writer.copy(self.store.reader(*id), self.store.record(*id))?;
                }
                writer.finish()?;
                package(WeightsSource::Move(&path))?
            }
        };
        Ok(Done { written, report: self.report })
    }
}

/// What the functions of packages could share, without joining them. Functions are named by their
/// package's file name, and by their own where the package has several.
///
/// # Errors
/// Packages that cannot be read or are damaged; [`Error::Cancelled`].
pub fn compare(
    paths: &[PathBuf],
    tolerance: Option<&Tolerance>,
    cancelled: Cancelled<'_>,
) -> Result<Report> {
    let mut store = RecordStore::default();
    let mut sources = Vec::new();
    for path in paths {
        let names = function_names(path)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        for function in &names {
            let mut name =
                if names.len() > 1 { format!("{stem}:{function}") } else { stem.clone().into() };
            while sources.iter().any(|source: &Source| source.name == name) {
                name.push('\'');
            }
            let function = Some(function.clone());
            sources.push(Source { name, path: path.clone(), function });
        }
    }
    let opened = open(&mut store, &sources, cancelled)?;
    let shared = share(store, opened, tolerance, cancelled)?;
    let (_, weight_bytes) = offsets(&shared.store, &shared.records);
    Ok(Report { weight_bytes, ..shared.report })
}

fn function_names(path: &Path) -> Result<Vec<String>> {
    let package = Package::open(path)?;
    let interfaces = interface(package.model()).map_err(|error| Error::Invalid {
        message: error.to_string(),
        at: Some(path.to_owned()),
    })?;
    Ok(interfaces.into_iter().map(|function| function.name).collect())
}

struct Opened {
    members: Vec<Member>,
    inputs: Vec<InputReport>,
    notes: Vec<String>,
}

/// Opens each package once and takes the functions out.
fn open(store: &mut RecordStore, sources: &[Source], cancelled: Cancelled<'_>) -> Result<Opened> {
    let mut opened = Opened { members: Vec::new(), inputs: Vec::new(), notes: Vec::new() };
    let mut order: Vec<&Path> = Vec::new();
    for source in sources {
        if !order.contains(&source.path.as_path()) {
            order.push(&source.path);
        }
    }
    let mut members: Vec<Option<Member>> = sources.iter().map(|_| None).collect();
    for path in order {
        check(cancelled)?;
        let package = Package::open(path)?;
        note_other_items(&package, &mut opened.notes);
        let weight_bytes = package.weight_files().values().map(|file| file.size_in_bytes()).sum();
        let model = store.adopt(package)?;
        let mut functions = Vec::new();
        for (source, member) in sources.iter().zip(&mut members) {
            if source.path != path {
                continue;
            }
            let wanted = wanted_function(&model, source).map_err(|error| error.at(path))?;
            let model = extract_function(&model, &wanted)
                .map_err(|error| Error::combine(error.to_string()).at(path))?;
            functions.push(source.name.clone());
            *member = Some(Member { name: source.name.clone(), path: path.to_owned(), model });
        }
        let path = path.display().to_string();
        opened.inputs.push(InputReport { path, functions, weight_bytes });
    }
    opened.members = members.into_iter().flatten().collect();
    Ok(opened)
}

/// The name of the function in its package.
fn wanted_function(model: &Model, source: &Source) -> Result<String> {
    let names: Vec<String> = interface(model)
        .map_err(|error| Error::Invalid { message: error.to_string(), at: None })?
        .into_iter()
        .map(|function| function.name)
        .collect();
    let list = names.join("`, `");
    match (&source.function, names.as_slice()) {
        (Some(wanted), _) if names.contains(wanted) => Ok(wanted.clone()),
        (Some(wanted), _) => {
            Err(Error::combine(format!("the package has no function `{wanted}`, only `{list}`")))
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) if names.contains(&source.name) => Ok(source.name.clone()),
        (None, _) => Err(Error::combine(format!(
            "the package has the functions `{list}`, none of them named `{}`",
            source.name
        ))
        .hint("say which one is meant: NAME=PATH:FUNCTION")),
    }
}

/// Other tools put more into a package than model and weights; it has no place in a joined one.
fn note_other_items(package: &Package, notes: &mut Vec<String>) {
    let items = package.manifest().into_iter().flat_map(|manifest| {
        manifest.items().iter().filter(|(id, _)| *id != manifest.root()).map(|(_, item)| item)
    });
    for item in items.filter(|item| item.name != "weights") {
        notes.push(format!("{}: the item `{}` is left out", package.path().display(), item.name));
    }
}

/// Functions of different models can be wanted, as those of adapters are, but seldom are.
fn note_other_models(opened: &mut Opened) {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    for member in &opened.members {
        let said = metadata::of(&member.model).user_defined;
        if let Some(source) = said.get(anemll_layout::anemll::SOURCE) {
            known.entry(source.clone()).or_insert(&member.name);
        }
    }
    if known.len() > 1 {
        let names: Vec<&str> = known.into_values().collect();
        opened.notes.push(format!("{} were made from different models", names.join(" and ")));
    }
}

/// Several functions need a specification version that older packages do not have.
fn note_older_versions(model: &Model, shared: &mut Shared) {
    let version = model.specification_version;
    let older = shared.members.iter().map(|member| member.model.specification_version).min();
    if let Some(older) = older.filter(|older| *older < version) {
        shared.report.notes.push(format!(
            "specification version {older} becomes {version}, which several functions need; the \
             functions keep their operation set"
        ));
    }
}

fn default_function(sources: &[Source], options: &Options) -> Result<String> {
    let names = || sources.iter().map(|source| source.name.as_str());
    let Some(first) = names().next() else {
        return Err(Error::combine("no function to combine"));
    };
    match &options.default {
        Some(default) if names().any(|name| name == default) => Ok(default.clone()),
        Some(default) => Err(Error::combine(format!(
            "the default function `{default}` is not among `{}`",
            names().collect::<Vec<_>>().join("`, `")
        ))),
        None => Ok(names().find(|name| *name == DEFAULT_FUNCTION).unwrap_or(first).to_owned()),
    }
}

fn join(members: &[Member], default: &str) -> Result<Model> {
    let sources: Vec<FunctionSource<'_>> = members
        .iter()
        .map(|member| FunctionSource { name: &member.name, model: &member.model, function: None })
        .collect();
    let mut model = combine_sources(&sources, default, "", &BTreeMap::new())
        .map_err(|error| Error::combine(error.to_string()))?;
    let parts: Vec<_> =
        members.iter().map(|member| (member.name.as_str(), metadata::of(&member.model))).collect();
    let description = model.description.get_or_insert_default();
    description.metadata = Some(metadata::joined(&parts, default));
    Ok(model)
}

struct Shared {
    store: RecordStore,
    members: Vec<Member>,
    records: Vec<RecordId>,
    /// For each record the first equal one.
    first: Vec<RecordId>,
    report: Report,
}

/// Finds the weights that are the same, and rewrites the functions to use the first of them.
fn share(
    store: RecordStore,
    opened: Opened,
    tolerance: Option<&Tolerance>,
    cancelled: Cancelled<'_>,
) -> Result<Shared> {
    let Opened { mut members, inputs, notes } = opened;
    let first = exact::first_equal(&store, cancelled)?;
    for member in &mut members {
        renumber(&mut member.model, |id| first.get(id).copied().unwrap_or(id) as u64);
    }
    let sizes = sizes(&store, &members);
    let semantic = semantic::share(&store, &mut members, cancelled)?;
    let approximate = match tolerance {
        Some(tolerance) => approximate::share(&store, &mut members, tolerance, cancelled)?,
        None => BTreeMap::new(),
    };
    let found = inventory(&store, &members, &sizes, &semantic, &approximate);
    let report = Report {
        inputs,
        functions: members.iter().map(|member| member.name.clone()).collect(),
        default_function: None,
        tolerance: tolerance.copied(),
        totals: Totals::of(&found.tensors),
        weight_bytes: 0,
        notes,
        tensors: found.tensors,
    };
    Ok(Shared { store, members, records: found.records, first, report })
}

/// Where each record will stand, and the size of the file.
fn offsets(store: &RecordStore, records: &[RecordId]) -> (HashMap<RecordId, u64>, u64) {
    let mut offsets = HashMap::new();
    let mut end = if records.is_empty() { 0 } else { ALIGNMENT };
    for id in records {
        let offset = end.next_multiple_of(ALIGNMENT);
        offsets.insert(*id, offset);
        end = offset + ALIGNMENT + store.record(*id).size_in_bytes();
    }
    (offsets, end)
}

/// The records of the file that will be written.
struct Planned(HashMap<u64, BlobInfo>);

impl BlobCatalog for Planned {
    fn blob(&self, file_name: &str, offset: u64) -> anemll_mil::Result<BlobInfo> {
        match self.0.get(&offset) {
            Some(info) if file_name == WEIGHT_FILE_NAME => Ok(*info),
            _ => Err(anemll_mil::Error::new(format!("{file_name} has no record for the weight"))),
        }
    }
}
