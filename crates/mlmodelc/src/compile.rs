//! Writing a compiled model so that it is there completely or not at all.

use crate::{
    Analytics, CoremlData, SPECIFICATION_VERSIONS, files, metadata, model_type::refuse_other,
};
use anemll_mil::text::{self, Guess, TextOptions, WriteError};
use anemll_mlpackage::{
    ErrorKind, Manifest, Package, PackageError, Placement, Result, Staging, place_file, sync_folder,
};
use coreml_proto::Model;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// What stands for the model's folder in the file name of a weight reference.
const MODEL_PATH: &str = "@model_path/";
/// How deep folders may nest below `weights/`; real ones have none.
const DEEPEST: usize = 8;

/// How to compile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Copy the weight files, also where a hard link could stand for a copy.
    pub copy: bool,
    /// Replace what stands under the destination's name. The old one stays until the new one is
    /// complete.
    pub replace: bool,
    /// What the program's text says of its compiler.
    pub text: TextOptions,
}

/// How the weight files came into a compiled model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// There are none.
    None,
    /// By hard link: package and compiled model share the files, which must not be changed in place.
    HardLinked,
    /// By copy; the reason is why a hard link was not possible, if one was wanted.
    Copied {
        /// What the operating system said.
        reason: Option<String>,
    },
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Where.
    pub path: PathBuf,
    /// How the weights came there.
    pub weights: Weights,
    /// Bytes of all weight files.
    pub weight_bytes: u64,
    /// Parts of the files whose form is guessed, each with the first place that needs it.
    pub guesses: Vec<Guess>,
    /// The replaced model, if it could not be removed.
    pub leftover: Option<PathBuf>,
}

/// Compiles a package, or a bare `.mlmodel` with its `weights/` folder beside it, to the folder
/// `destination`, whose name ends in `.mlmodelc` and whose parent exists.
///
/// The program must be an ML Program of one of [`SPECIFICATION_VERSIONS`]. Its weight records are
/// checked by their metadata; the weights themselves are not read, and come into the compiled model
/// by hard link where the file system can. Everything is made under a hidden name beside the
/// destination and renamed: under its final name the model is complete or not there. On an error
/// nothing is left behind.
///
/// # Errors
/// What [`ErrorKind`] lists; see there.
pub fn compile(source: &Path, destination: &Path, options: &Options) -> Result<Compiled> {
    if destination.extension().is_none_or(|extension| extension != "mlmodelc") {
        let kind = ErrorKind::Usage;
        let reason = "the name of a compiled model ends in .mlmodelc";
        return Err(PackageError::new(kind, destination, reason));
    }
    let Prepared { package, summary, data, analytics, weights, .. } = Prepared::of(source)?;
    let model = package.model();
    let staging = Staging::create(destination, options.replace)?;
    let (placement, weight_bytes, mut folders) = place(&staging, &weights, options.copy)?;
    folders.push(create_folder(staging.path().join(files::ANALYTICS_FOLDER))?);
    let written = [
        write_program(&staging, &package, &options.text)?,
        write_file(&staging, files::DESCRIPTION, &data.to_bytes())?,
        write_file(&staging, files::METADATA, metadata::to_text(&summary.value).as_bytes())?,
        write_file(&staging, files::ANALYTICS, &analytics.to_bytes())?,
    ];
    bring_to_disk(&written, &folders)?;
    let leftover = staging.publish(options.replace)?;
    let guesses = [text::guesses(model), summary.guesses].concat();
    Ok(Compiled {
        path: destination.to_owned(),
        weights: placement,
        weight_bytes,
        guesses,
        leftover,
    })
}

/// A package that can be compiled, and what its compiled model will hold.
pub(crate) struct Prepared {
    pub(crate) package: Package,
    pub(crate) model_path: PathBuf,
    pub(crate) summary: metadata::Summary,
    pub(crate) data: CoremlData,
    pub(crate) analytics: Analytics,
    /// Weight files by their place below the model's folder.
    pub(crate) weights: BTreeMap<PathBuf, PathBuf>,
}

impl Prepared {
    /// Opens and checks a package; weights are checked by their metadata, and not read.
    pub(crate) fn of(source: &Path) -> Result<Self> {
        // Other types are named before the strict reader sees fields that it does not know.
        let model_path = match source.join("Manifest.json").is_file() {
            true => Manifest::read(source)?.model_path(source)?,
            false => source.to_owned(),
        };
        if model_path.is_file() {
            refuse_other(&model_path)?;
        }
        let package = Package::open(source)?;
        let model = package.model();
        if !SPECIFICATION_VERSIONS.contains(&model.specification_version) {
            return Err(version_error(&model_path, model.specification_version));
        }
        package.check_weights()?;
        let program = |reason: String| PackageError::new(ErrorKind::Program, &model_path, reason);
        let summary = metadata::summary(model, &stem(source)).map_err(program)?;
        let data = CoremlData::of_model(model).map_err(program)?;
        let analytics = Analytics::of_model(&stem(&model_path), &hash_of(&model_path)?);
        let weights = weight_files(&package)?;
        Ok(Self { package, model_path, summary, data, analytics, weights })
    }

    /// The error of a program that cannot be printed.
    pub(crate) fn unprintable(&self, reason: &str) -> PackageError {
        PackageError::new(ErrorKind::Program, &self.model_path, reason)
    }
}

/// The parts of a model's compiled files whose form is guessed, each with the first place that needs
/// it; empty where every form was seen in the output of Apple's compiler.
///
/// # Errors
/// [`ErrorKind::Program`] for models that cannot be compiled.
pub fn guesses(model: &Model) -> Result<Vec<Guess>> {
    let summary = metadata::summary(model, "")
        .map_err(|reason| PackageError::new(ErrorKind::Program, "model.mlmodel", reason))?;
    Ok([text::guesses(model), summary.guesses].concat())
}

fn version_error(path: &Path, version: i32) -> PackageError {
    let (first, last) = (SPECIFICATION_VERSIONS.start(), SPECIFICATION_VERSIONS.end());
    PackageError::new(
        ErrorKind::Version,
        path,
        format!(
            "specification version {version}; compiled models of {first} to {last} are written"
        ),
    )
    .with_hint("--compiler coremlcompiler, on a Mac, compiles what its Xcode knows")
}

/// The name without its ending, as far as it is text.
fn stem(path: &Path) -> String {
    // `..` and the like have no name; what they stand for has.
    let named = match path.file_stem() {
        Some(_) => path.to_owned(),
        None => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
    };
    named.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// SHA-256 of a file.
fn hash_of(path: &Path) -> Result<[u8; 32]> {
    let failed = |error: std::io::Error| PackageError::reading(path, "cannot read", &error);
    let mut hash = Sha256::new();
    let mut file = BufReader::with_capacity(1 << 18, anemll_files::open(path).map_err(failed)?);
    loop {
        let part = file.fill_buf().map_err(failed)?;
        if part.is_empty() {
            return Ok(hash.finalize().into());
        }
        hash.update(part);
        let length = part.len();
        file.consume(length);
    }
}

/// The files that come along unchanged, by their place below the model's folder: what the program
/// refers to, and for a package all of its folder `weights`.
fn weight_files(package: &Package) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut found = BTreeMap::new();
    for (name, file) in package.weight_files() {
        // The package was opened, so all names are plain paths below the folder.
        let inner = name.strip_prefix(MODEL_PATH).unwrap_or(name);
        found.insert(inner.split('/').collect(), file.path().to_owned());
    }
    if package.manifest().is_some() {
        let folder = package.model_path().with_file_name(files::WEIGHTS);
        if folder.is_dir() {
            let root = folder
                .canonicalize()
                .map_err(|error| PackageError::reading(&folder, "cannot open", &error))?;
            walk(&root, &root, Path::new(files::WEIGHTS), DEEPEST, &mut found)?;
        }
    }
    Ok(found)
}

fn walk(
    root: &Path,
    folder: &Path,
    inner: &Path,
    depth: usize,
    found: &mut BTreeMap<PathBuf, PathBuf>,
) -> Result<()> {
    let failed = |error: std::io::Error| PackageError::reading(folder, "cannot list", &error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, inner) = (entry.path(), inner.join(entry.file_name()));
        let real = path
            .canonicalize()
            .map_err(|error| PackageError::reading(&path, "cannot open", &error))?;
        if !real.starts_with(root) || depth == 0 {
            let kind = ErrorKind::PathEscape;
            return Err(PackageError::new(kind, path, "leads out of the package").with_hint(
                "if the package holds symbolic links, make a copy that follows them (cp -RL)",
            ));
        }
        if real.is_dir() {
            walk(root, &real, &inner, depth - 1, found)?;
        } else {
            found.insert(inner, real);
        }
    }
    Ok(())
}

/// Brings the weight files into the staging folder; also gives the folders that hold them there.
fn place(
    staging: &Staging,
    weights: &BTreeMap<PathBuf, PathBuf>,
    copy: bool,
) -> Result<(Weights, u64, Vec<PathBuf>)> {
    let mut placement = Weights::None;
    let mut bytes = 0_u64;
    let mut folders = BTreeSet::new();
    for (inner, source) in weights {
        let target = staging.path().join(inner);
        if let Some(folder) = target.parent() {
            folders.insert(create_folder(folder.to_owned())?);
        }
        let placed = place_file(source, &target, !copy)?;
        let size = std::fs::metadata(&target).map(|metadata| metadata.len());
        bytes = bytes.saturating_add(size.unwrap_or_default());
        placement = match (placement, placed) {
            // One copy among links is what a user wants to know.
            (Weights::Copied { reason }, _) => Weights::Copied { reason },
            (_, Placement::HardLinked) => Weights::HardLinked,
            (_, Placement::Copied { reason }) => Weights::Copied { reason },
        };
    }
    Ok((placement, bytes, folders.into_iter().collect()))
}

/// A file of the staging folder that is written, but perhaps not yet on disk.
struct WrittenFile {
    path: PathBuf,
    file: File,
}

fn write_program(
    staging: &Staging,
    package: &Package,
    options: &TextOptions,
) -> Result<WrittenFile> {
    let path = staging.path().join(files::PROGRAM);
    let failed = |error: std::io::Error| PackageError::writing(&path, "cannot write", &error);
    let mut output = BufWriter::with_capacity(1 << 16, File::create_new(&path).map_err(failed)?);
    text::write(package.model(), options, &mut output).map_err(|error| match error {
        WriteError::Output(error) => failed(error),
        WriteError::Model(error) => {
            PackageError::new(ErrorKind::Program, package.model_path(), error.to_string())
        }
    })?;
    let file = output.into_inner().map_err(|error| failed(error.into_error()))?;
    Ok(WrittenFile { path, file })
}

fn write_file(staging: &Staging, inner: &str, bytes: &[u8]) -> Result<WrittenFile> {
    let path = staging.path().join(inner);
    let written = File::create_new(&path).and_then(|mut file| {
        file.write_all(bytes)?;
        Ok(file)
    });
    match written {
        Ok(file) => Ok(WrittenFile { path, file }),
        Err(error) => Err(PackageError::writing(&path, "cannot write", &error)),
    }
}

/// Waits until files and folders are on disk: for all at once, since a file system brings down
/// together what is asked for together, and each wait costs as much as all of them.
fn bring_to_disk(written: &[WrittenFile], folders: &[PathBuf]) -> Result<()> {
    let sync_file = |one: &WrittenFile| {
        let failed = |error| PackageError::writing(&one.path, "cannot write", &error);
        one.file.sync_all().map_err(failed)
    };
    let thread = std::thread::Builder::new;
    std::thread::scope(|scope| {
        let of_files: Vec<_> = written
            .iter()
            .map(|one| thread().spawn_scoped(scope, move || sync_file(one)))
            .collect();
        let of_folders: Vec<_> = folders
            .iter()
            .map(|one| thread().spawn_scoped(scope, move || sync_folder(one)))
            .collect();
        // What no thread could do is done here.
        for (one, thread) in written.iter().zip(of_files) {
            let done = thread.ok().and_then(|thread| thread.join().ok());
            done.unwrap_or_else(|| sync_file(one))?;
        }
        for (one, thread) in folders.iter().zip(of_folders) {
            let done = thread.ok().and_then(|thread| thread.join().ok());
            done.unwrap_or_else(|| sync_folder(one))?;
        }
        Ok(())
    })
}

fn create_folder(path: PathBuf) -> Result<PathBuf> {
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(PackageError::writing(&path, "cannot create the folder", &error)),
    }
}
