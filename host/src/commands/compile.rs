//! `compile`: packages to `.mlmodelc`, given by name or as a part of a conversion.

mod parts;
mod verify;

use anemll_codes as codes;
use anemll_mlmodelc::CompiledModel;
use anemll_mlpackage::Package;
use anemll_pipeline::joining;
use anemll_pipeline::plugins::{AUTOMATIC, Plugins};
use anemll_plugin_api::data::{Joined, Stage};
use anemll_plugin_api::{Compiler, ComponentOptions, Error, Host, Result};
use anemll_services::{self as services, check_cancelled};
use clap::Args;
use parts::Parts;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The compiler that this program brings for every system.
const OURS: &str = "mlmodelc";
/// Apple's.
const APPLES: &str = "coremlcompiler";

/// What is shown below the help.
pub const EXAMPLES: &str = "Examples:
  anemll compile out/llama_embeddings.mlpackage --output-dir compiled
  anemll compile 2 --lut 4 --chunk 2 --prefix llama --input out --output compiled
  anemll compile all --input out --recursive --output compiled
  anemll compile out
  anemll compile all --input out --json

Of a conversion (its directory), what apps load is compiled. A PART of a conversion is 1 (embeddings), 2 (FFN_PF chunks), 3 (lm_head), monolithic, or all.
Weights are shared with the package by hard links where the file system can, so never change a
package in place. On a Mac with Xcode, Apple's coremlcompiler is used unless --compiler says else.";

const PARTS: &str = "Parts of a conversion";

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "a doc comment on a type would become help text")]
pub struct CompileArguments {
    /// Packages (.mlpackage, or .mlmodel with its weights), conversions, or one PART of a conversion.
    #[arg(value_name = "PACKAGE|OUT|PART", required = true)]
    pub targets: Vec<PathBuf>,
    /// Directory for the compiled models, created if it does not exist (default: where the package is).
    #[arg(short, long, value_name = "DIR", visible_alias = "output")]
    pub output_dir: Option<PathBuf>,
    /// Compiler backend: mlmodelc, coremlcompiler, coreai (X.aimodel for Core AI, iOS 27), or auto
    /// (coremlcompiler where it can run).
    #[arg(long, value_name = "ID", default_value = AUTOMATIC)]
    pub compiler: String,
    /// Copy the weights instead of sharing the package's files (mlmodelc; coremlcompiler copies).
    #[arg(long)]
    pub copy: bool,
    /// Compile with mlmodelc and with coremlcompiler, and say where the two differ.
    #[arg(long)]
    pub verify: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Replace compiled models that are there already.
    #[arg(long)]
    pub force: bool,
    /// Bits in the packages' names, as BITS or BITS,GROUP; none for 16-bit floats.
    #[arg(long, value_name = "LUT", help_heading = PARTS)]
    pub lut: Option<String>,
    /// Number of chunks (part 2; default: what the packages' names say).
    #[arg(long, value_name = "N", help_heading = PARTS)]
    pub chunk: Option<u32>,
    /// First part of the packages' names (default: llama, or the only one that is there).
    #[arg(long, value_name = "NAME", help_heading = PARTS)]
    pub prefix: Option<String>,
    /// Directory with the packages (default: this one).
    #[arg(long, value_name = "DIR", visible_alias = "input", help_heading = PARTS)]
    pub input_dir: Option<PathBuf>,
    /// Also look into directories below (part all).
    #[arg(long, help_heading = PARTS)]
    pub recursive: bool,
    /// Compile as ML Program; what is compiled here always is one.
    #[arg(long, help_heading = PARTS)]
    pub force_mlprogram: bool,
    /// Not supported: there are no packages of rotating caches.
    #[arg(long, hide = true)]
    pub split_rotate: bool,
}

/// A package, or a conversion whose packages become one model, and where the compiled model goes.
struct Job {
    package: PathBuf,
    joined: Option<Joined>,
    directory: PathBuf,
    compiled: PathBuf,
}

/// What became of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Compiled,
    UpToDate,
    Failed,
}

/// What is told of one package.
#[derive(Debug, Serialize)]
struct Made<'a> {
    package: &'a Path,
    /// Its compiled model, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    compiled: Option<&'a Path>,
    outcome: Outcome,
    /// Forms in what `mlmodelc` wrote that are guessed.
    guesses: Vec<&'static str>,
    /// Files of which the two compilers gave different ones, with `--verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    differing: Option<Vec<PathBuf>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

/// What is told of all.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    compiler: &'a str,
    packages: &'a [Made<'a>],
}

/// Runs the command. Each package has an outcome of its own: one that cannot be compiled, or of
/// which afterwards something cannot be told, does not keep the others from it.
///
/// # Errors
/// That of the package, where there is one; else [`codes::NOT_ALL_COMPILED`]. With `--verify`:
/// [`codes::COMPILERS_DIFFER`].
pub fn run(arguments: &CompileArguments, plugins: &Plugins) -> Result<()> {
    if arguments.split_rotate {
        return Err(Error::new(
            codes::NOT_YET_SUPPORTED,
            "--split-rotate compiles packages of rotating caches, which no architecture here has",
        )
        .with_hint("name the packages themselves if another tool made them"));
    }
    let id = plugins.compiler_id(&arguments.compiler)?;
    let joins = plugins.does_join(&id, &ComponentOptions::new());
    let jobs = jobs(arguments, &plugins.compiled_ending(&id), joins)?;
    let (id, compiler) = compiler(arguments, plugins, &arguments.compiler)?;
    let verifier = match arguments.verify {
        true => Some(other(arguments, plugins, &id)?),
        false => None,
    };
    let host = services::host();
    let mut all = Vec::new();
    for job in &jobs {
        check_cancelled()?;
        let made = one(job, arguments, &id, compiler.as_ref(), verifier.as_deref(), &host)?;
        if let (Some(error), true) = (&made.error, jobs.len() > 1) {
            super::say(&crate::error::render_short(error));
        }
        all.push(made);
    }
    if arguments.json {
        super::print_json(&Summary { compiler: &id, packages: &all })?;
    } else {
        tell(&all);
    }
    let failed = all.iter().filter(|made| made.error.is_some()).count();
    let differing = all.iter().filter(|made| !made.differing.as_deref().unwrap_or(&[]).is_empty());
    let differing = differing.count();
    if let ([_], Some(error)) = (jobs.as_slice(), all.iter_mut().find_map(|made| made.error.take()))
    {
        return Err(error);
    }
    if failed > 0 {
        let compiled = all.iter().filter(|made| made.outcome != Outcome::Failed).count();
        let message = match jobs.len() - compiled {
            0 => format!("of {failed} of {} packages not all could be told", jobs.len()),
            missing => format!("{missing} of {} packages were not compiled", jobs.len()),
        };
        return Err(Error::new(codes::NOT_ALL_COMPILED, message)
            .with_hint("mend what the errors above name, and run the same command again"));
    }
    match differing {
        0 => Ok(()),
        _ => Err(Error::new(
            codes::COMPILERS_DIFFER,
            format!("{APPLES} and {OURS} differ in {differing} of {} models", jobs.len()),
        )
        .with_hint("coremlcompiler is right: use what it made, and tell us what differs")),
    }
}

/// Compiles one package, and finds out what there is to tell of it.
///
/// # Errors
/// Only what ends the whole run: an interruption, and a standard output that is gone.
fn one<'a>(
    job: &'a Job,
    arguments: &CompileArguments,
    id: &str,
    compiler: &dyn Compiler,
    verifier: Option<&dyn Compiler>,
    host: &Host,
) -> Result<Made<'a>> {
    let mut told = Made {
        package: &job.package,
        compiled: None,
        outcome: Outcome::Failed,
        guesses: Vec::new(),
        differing: None,
        error: None,
    };
    match make(job, arguments, id, compiler, host) {
        Ok(outcome) => told.outcome = outcome,
        Err(error) if error.is_cancelled() => return Err(error),
        Err(error) => {
            told.error = Some(error);
            return Ok(told);
        }
    }
    told.compiled = Some(&job.compiled);
    if !arguments.json {
        super::print(&format!("{}\n", job.compiled.display()))?;
    }
    if told.outcome == Outcome::Compiled && (id == OURS || verifier.is_some()) {
        match guesses(&job.package) {
            Ok(found) => told.guesses = found,
            Err(error) => told.error = Some(error),
        }
    }
    let Some(verifier) = verifier else { return Ok(told) };
    match verify::run(job, &job.compiled, verifier, id == OURS, host) {
        Ok(files) => {
            if !arguments.json {
                super::print(&verify::text(&files))?;
            }
            told.differing = Some(verify::differing(files));
        }
        Err(error) if error.is_cancelled() => return Err(error),
        Err(error) => told.error = Some(error),
    }
    Ok(told)
}

/// Compiles a package, unless its compiled model is there and up to date.
fn make(
    job: &Job,
    arguments: &CompileArguments,
    id: &str,
    compiler: &dyn Compiler,
    host: &Host,
) -> Result<Outcome> {
    std::fs::metadata(&job.package).map_err(|source| {
        let what = "the package cannot be read";
        crate::error::io(codes::PACKAGE_UNREADABLE, what, &job.package, &source)
    })?;
    let there = job.compiled.symlink_metadata().is_ok();
    if there && !arguments.force {
        let current = match id {
            OURS => {
                let options =
                    anemll_mlmodelc::Options { copy: arguments.copy, ..Default::default() };
                anemll_mlmodelc::is_current(&job.package, &job.compiled, &options)
            }
            _ if !CompiledModel::is_at(&job.compiled) => Ok(false),
            // Other compilers do not say what they would write.
            _ => anemll_mlmodelc::is_made_from(&job.package, &job.compiled),
        };
        if current? {
            return Ok(Outcome::UpToDate);
        }
    }
    refuse_existing(&job.compiled, arguments.force)?;
    match &job.joined {
        None => compiler.compile(&job.package, &job.directory, host)?,
        Some(joined) => {
            let locate = |path: &str| job.package.join(format!("{path}.mlpackage"));
            joining::compile(compiler, joined, locate, &job.directory, host)?
        }
    };
    Ok(Outcome::Compiled)
}

/// What came of it all, where that is not plain, and how many forms are guessed.
fn tell(all: &[Made<'_>]) {
    let count = |wanted: Outcome| all.iter().filter(|made| made.outcome == wanted).count();
    let (compiled, up_to_date) = (count(Outcome::Compiled), count(Outcome::UpToDate));
    let failed = count(Outcome::Failed);
    // Of one that failed alone, its error says all.
    if up_to_date > 0 || (failed > 0 && all.len() > 1) {
        let parts = [(compiled, "compiled"), (up_to_date, "up to date"), (failed, "failed")];
        let said: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        super::say(&said.join(", "));
    }
    let guessed: BTreeSet<&str> =
        all.iter().flat_map(|made| made.guesses.iter().copied()).collect();
    if compiled > 0 && !guessed.is_empty() {
        let forms = match guessed.len() {
            1 => "1 form is a guess".to_owned(),
            count => format!("{count} forms are guesses"),
        };
        super::say(&format!(
            "note: in what {OURS} wrote, {forms}, not seen in any output of Apple's compiler: -v \
             lists them, and docs/reference/compiled-format.md gives the evidence"
        ));
    }
}

/// The compiler `requested`, with the options that the command line gives and it knows.
fn compiler(
    arguments: &CompileArguments,
    plugins: &Plugins,
    requested: &str,
) -> Result<(String, Box<dyn Compiler>)> {
    let id = plugins.compiler_id(requested)?;
    let known = plugins.components(Stage::Compiler);
    let component = known.iter().find(|(_, component)| component.id == id);
    let mut options = ComponentOptions::new();
    for (name, set) in [("copy", arguments.copy), ("force_mlprogram", arguments.force_mlprogram)] {
        if set && component.is_some_and(|(_, component)| component.options.contains_key(name)) {
            options.insert(name, true);
        }
    }
    let compiler = plugins.compiler_with(&id, &options)?;
    let availability = compiler.check()?;
    if !availability.available {
        return Err(Error::new(
            codes::COMPILER_UNAVAILABLE,
            format!("the compiler `{id}` cannot run here: {}", availability.reason),
        )
        .with_hint("--compiler mlmodelc compiles ML Programs on any system"));
    }
    Ok((id, compiler))
}

/// The one of the two compilers that is not `id`, to compare with.
fn other(arguments: &CompileArguments, plugins: &Plugins, id: &str) -> Result<Box<dyn Compiler>> {
    let other = match id {
        OURS => APPLES,
        APPLES => OURS,
        _ => {
            return Err(Error::new(
                codes::USAGE,
                format!("--verify compares {OURS} with {APPLES}, not with `{id}`"),
            ));
        }
    };
    let (_, compiler) = compiler(arguments, plugins, other)
        .map_err(|error| error.with_cause(format!("--verify needs both {OURS} and {APPLES}")))?;
    Ok(compiler)
}

/// What is to be compiled, and where it goes.
fn jobs(arguments: &CompileArguments, ending: &str, joins: bool) -> Result<Vec<Job>> {
    let alone = |package: PathBuf| (package, None);
    let packages: Vec<Target> = match Parts::asked_for(arguments)? {
        Some(parts) => parts.packages()?.into_iter().map(alone).collect(),
        None => named(&arguments.targets, joins)?,
    };
    let input = arguments.input_dir.as_ref();
    let mut taken: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut jobs = Vec::new();
    for (package, joined) in packages {
        let shown = package.display().to_string();
        let unnamed = || {
            Error::new(codes::PACKAGE_UNREADABLE, "the path has no name to be compiled under")
                .with_at(shown.clone())
        };
        let mut name = match &joined {
            Some(joined) => joined.name.clone().into(),
            None => package.file_stem().ok_or_else(unnamed)?.to_owned(),
        };
        name.push(format!(".{ending}"));
        let beside = || match package.parent() {
            _ if joined.is_some() => package.clone(),
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let directory = arguments.output_dir.clone().or_else(|| input.cloned());
        let directory = directory.unwrap_or_else(beside);
        let compiled = directory.join(name);
        if let Some(first) = taken.insert(compiled.clone(), package.clone()) {
            return Err(Error::new(
                codes::USAGE,
                format!("{} and {shown} would both become one compiled model", first.display()),
            )
            .with_at(compiled.display().to_string())
            .with_hint("compile one of them into another --output-dir"));
        }
        jobs.push(Job { package, joined, directory, compiled });
    }
    Ok(jobs)
}

/// A package; or the directory of a conversion, and what is made of all its packages.
type Target = (PathBuf, Option<Joined>);

/// The packages that are named, and of conversions those that apps load: as one, where the compiler joins them.
fn named(targets: &[PathBuf], joins: bool) -> Result<Vec<Target>> {
    let mut packages = Vec::new();
    for target in targets {
        let Some(conversion) = super::conversion_at(target)? else {
            packages.push((target.clone(), None));
            continue;
        };
        if let Some(joined) = conversion.description.as_one().filter(|_| joins) {
            // That of a meta.yaml that is here has no name.
            packages.push((PathBuf::from(".").join(conversion.directory), Some(joined)));
            continue;
        }
        for model in conversion.description.models() {
            packages.push((conversion.directory.join(format!("{model}.mlpackage")), None));
        }
    }
    Ok(packages)
}

/// A compiled model gives way to --force, and nothing else does.
fn refuse_existing(compiled: &Path, force: bool) -> Result<()> {
    let refusal = |message: &str, hint: &str| {
        Err(Error::new(codes::OUTPUT_EXISTS, message)
            .with_at(compiled.display().to_string())
            .with_hint(hint))
    };
    if compiled.symlink_metadata().is_err() {
        return Ok(());
    }
    if !force {
        return refusal(
            "a compiled model is already there, and is not what would be written",
            "--force replaces it",
        );
    }
    if !CompiledModel::is_at(compiled) && !compiled.join("main.mlirb").is_file() {
        return refusal(
            "something that is not a compiled model has this name",
            "remove it, or choose another --output-dir",
        );
    }
    Ok(())
}

/// The forms in what `mlmodelc` writes for a package that are guessed.
fn guesses(package: &Path) -> Result<Vec<&'static str>> {
    let opened = Package::open(package)?;
    let found = anemll_mlmodelc::guesses(opened.model())?;
    Ok(found.into_iter().map(|guess| guess.what).collect())
}
