//! `combine`: functions of packages that exist, joined into one package.

mod parts;

use crate::error::from_multifunction;
use anemll_codes as codes;
use anemll_conversion::Conversion;
use anemll_multifunction::{Done, JoinPlan, Options, Output, PartsCheck, Source, Tolerance};
use anemll_plugin_api::{Error, Result};
use anemll_report::sharing;
use anemll_services as services;
use clap::Args;
use fs_err as fs;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Shown below the options.
pub const EXAMPLES: &str = "Examples:
  anemll combine infer=A.mlpackage prefill=B.mlpackage --output Y.mlpackage
  anemll combine infer=A.mlpackage infer_ctx1024=C.mlpackage:infer --default infer --output Y.mlpackage
  anemll combine --chunk 2 --lut 4 --input ./parts --output ./parts --prefix llama
  anemll combine --monolithic --input ./parts
  anemll combine out --output ./joined

NAME=PACKAGE takes the only function of a package, or of several the one named NAME;
NAME=PACKAGE:FUNCTION takes the one that is named.";

const PARTS: &str = "Parts of a conversion, found by their names";
const SHARING: &str = "Sharing of weights";

#[derive(Debug, Default, Args)]
#[expect(missing_docs, reason = "a doc comment on the type would become help text")]
pub struct CombineArguments {
    /// A function of the result: its name, and the package that it comes from; or a conversion, whose
    /// combined packages are made anew.
    #[arg(value_name = "NAME=PACKAGE[:FUNCTION]|OUT")]
    pub functions: Vec<String>,
    /// The package to write; with --chunk or --monolithic the directory for the packages.
    #[arg(short, long, visible_alias = "output-dir", value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// The function that runs when none is named (default: infer if there is one, else the first).
    #[arg(long, value_name = "NAME")]
    pub default: Option<String>,
    /// Replace packages that exist.
    #[arg(long)]
    pub force: bool,
    /// Copy the weights, even where a second name (hard link) of an input's weight file would do.
    #[arg(long)]
    pub copy: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// List every weight, not only those that are not shared exactly.
    #[arg(long, conflicts_with = "json")]
    pub tensors: bool,

    /// Join PREFIX_FFN and PREFIX_prefill of each of N chunks.
    #[arg(long, value_name = "N", conflicts_with = "monolithic", help_heading = PARTS)]
    pub chunk: Option<u32>,
    /// Join PREFIX_monolithic and PREFIX_monolithic_prefill.
    #[arg(long, help_heading = PARTS)]
    pub monolithic: bool,
    /// BITS or BITS,GROUP of the parts, if they are palettized; only the bits are in the names.
    #[arg(long, value_name = "LUT", help_heading = PARTS)]
    pub lut: Option<String>,
    /// Directory with the parts (default: the current one).
    #[arg(long, visible_alias = "input-dir", value_name = "DIR", help_heading = PARTS)]
    pub input: Option<PathBuf>,
    /// First part of the file names (default: the only one that is there).
    #[arg(long, value_name = "NAME", help_heading = PARTS)]
    pub prefix: Option<String>,

    /// Take palettized weights that are nearly the same as one, such as cos=0.9999,mae=0.001.
    #[arg(long, value_name = "BOUNDS", help_heading = SHARING)]
    pub tolerance: Option<Tolerance>,
    /// The same as --tolerance cos=0.9999,mae=0.001.
    #[arg(long, conflicts_with = "tolerance", help_heading = SHARING)]
    pub anemll_dedup: bool,
    /// Share only what is equal; this is the default.
    #[arg(long, conflicts_with_all = ["tolerance", "anemll_dedup"], help_heading = SHARING)]
    pub skip_anemll_dedup: bool,

    /// Of ANEMLL's scripts; refused: Gemma 3 has the usual parts here.
    #[arg(long, hide = true)]
    pub gemma3: bool,
    /// As --gemma3.
    #[arg(long, hide = true)]
    pub rotate: bool,
    /// As --gemma3.
    #[arg(long, hide = true)]
    pub split_rotate: bool,
}

/// One package to make.
struct Job {
    sources: Vec<Source>,
    parts: Option<PartsCheck>,
    output: PathBuf,
    /// The function that runs when none is named, unless the command line names one.
    default: Option<String>,
}

#[derive(Serialize)]
struct Outcome<'a> {
    packages: Vec<sharing::Written<'a>>,
}

/// Runs the command.
pub fn run(arguments: &CombineArguments) -> Result<()> {
    refuse_rotation(arguments)?;
    let jobs = jobs(arguments)?;
    for job in &jobs {
        check_output(job, arguments.force)?;
    }
    let tolerance = match arguments.anemll_dedup {
        true => Some(Tolerance::ANEMLL),
        false => arguments.tolerance,
    };
    let cancelled = || services::check_cancelled().is_err();
    // All are decided on before the first is written: an error then leaves nothing.
    let mut plans = Vec::with_capacity(jobs.len());
    for job in jobs {
        let options = Options {
            default: arguments.default.clone().or(job.default),
            tolerance,
            parts: job.parts,
        };
        let plan =
            JoinPlan::combine(&job.sources, &options, &cancelled).map_err(from_multifunction)?;
        plans.push((plan, job.output));
    }
    let mut done: Vec<Done> = Vec::with_capacity(plans.len());
    for (plan, output) in plans {
        if let Some(parent) = output.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|source| {
                let what = "cannot make the output directory";
                crate::error::io(codes::OUTPUT_UNWRITABLE, what, parent, &source)
            })?;
        }
        let output = Output { path: &output, replace: arguments.force, copy: arguments.copy };
        done.push(plan.write(output, &cancelled).map_err(from_multifunction)?);
    }
    let packages: Vec<sharing::Written<'_>> = done.iter().map(sharing::Written::new).collect();
    if arguments.json {
        return super::print_json(&Outcome { packages });
    }
    let texts: Vec<String> =
        packages.iter().map(|package| package.to_text(arguments.tensors)).collect();
    super::print(&texts.concat())
}

fn usage(message: impl Into<String>, hint: &str) -> Error {
    Error::new(codes::USAGE, message).with_hint(hint)
}

/// ANEMLL's packages with rotating caches have four functions of kinds that we do not make.
fn refuse_rotation(arguments: &CombineArguments) -> Result<()> {
    let flag = match arguments {
        CombineArguments { gemma3: true, .. } => "--gemma3",
        CombineArguments { rotate: true, .. } => "--rotate",
        CombineArguments { split_rotate: true, .. } => "--split-rotate",
        _ => return Ok(()),
    };
    Err(Error::new(
        codes::NOT_YET_SUPPORTED,
        "rotating caches of Gemma 3 are not supported, so their parts are not looked for",
    )
    .with_at(flag)
    .with_hint(
        "name the functions: anemll combine infer=A infer_rotate=B prefill=C prefill_rotate=D \
         --output Y.mlpackage",
    ))
}

fn jobs(arguments: &CombineArguments) -> Result<Vec<Job>> {
    let by_name = arguments.chunk.is_some() || arguments.monolithic;
    if !by_name {
        for (given, flag) in [
            (arguments.lut.is_some(), "--lut"),
            (arguments.input.is_some(), "--input"),
            (arguments.prefix.is_some(), "--prefix"),
        ] {
            if given {
                return Err(usage(
                    format!("`{flag}` needs `--chunk N` or `--monolithic`"),
                    "say which parts are to be found by their names",
                ));
            }
        }
        if let [only] = arguments.functions.as_slice()
            && let Some(conversion) = super::conversion_at(Path::new(only))?
        {
            return of_conversion(arguments, &conversion);
        }
        return Ok(vec![named(arguments)?]);
    }
    if !arguments.functions.is_empty() {
        return Err(usage(
            "functions are named, and parts are to be found by `--chunk` or `--monolithic`",
            "leave one of the two out",
        ));
    }
    parts::find(arguments)
}

/// The combined packages of a conversion, each from the packages that have its functions alone.
fn of_conversion(arguments: &CombineArguments, conversion: &Conversion) -> Result<Vec<Job>> {
    let output = arguments.output.as_ref().unwrap_or(&conversion.directory);
    let mut jobs = Vec::new();
    for package in &conversion.description.packages {
        let parts: Vec<_> = package
            .functions
            .iter()
            .filter_map(|function| Some((&function.name, function.part.as_ref()?)))
            .collect();
        if parts.is_empty() || parts.len() != package.functions.len() {
            continue;
        }
        let sources = parts.into_iter().map(|(name, part)| Source {
            name: name.clone(),
            path: conversion.directory.join(format!("{}.mlpackage", part.package)),
            function: Some(part.function.clone()),
        });
        jobs.push(Job {
            sources: sources.collect(),
            parts: Some(PartsCheck::default()),
            output: output.join(format!("{}.mlpackage", package.path)),
            default: package.default_function.clone(),
        });
    }
    if jobs.is_empty() {
        return Err(Error::new(codes::META_INVALID, "the conversion has no combined packages")
            .with_at(conversion.source().display().to_string())
            .with_hint("name the functions: infer=A.mlpackage prefill=B.mlpackage"));
    }
    Ok(jobs)
}

/// The job that the arguments spell out.
fn named(arguments: &CombineArguments) -> Result<Job> {
    if arguments.functions.is_empty() {
        return Err(usage(
            "nothing to combine is named",
            "write infer=A.mlpackage prefill=B.mlpackage --output Y.mlpackage, or --chunk N, or \
             --monolithic",
        ));
    }
    let mut pairs = Vec::with_capacity(arguments.functions.len());
    for text in &arguments.functions {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => pairs.push((name, path)),
            _ => {
                return Err(usage(
                    format!("`{text}` is not NAME=PACKAGE"),
                    "name each function, such as infer=A.mlpackage",
                ));
            }
        }
    }
    let sources = match script_pairs(&pairs) {
        Some(sources) => sources,
        None => pairs.iter().map(|(name, path)| source(name, path)).collect(),
    };
    let output = arguments
        .output
        .clone()
        .ok_or_else(|| usage("the package to write is not named", "add --output Y.mlpackage"))?;
    if output.extension().is_none_or(|extension| extension != "mlpackage") {
        return Err(usage(
            "the name of the package to write does not end in .mlpackage",
            "add --output Y.mlpackage",
        )
        .with_at(output.display().to_string()));
    }
    Ok(Job { sources, parts: None, output, default: None })
}

/// `name=A.mlpackage func=infer name=B.mlpackage func=prefill`, as combine_models.py takes it.
fn script_pairs(pairs: &[(&str, &str)]) -> Option<Vec<Source>> {
    let (both, rest) = pairs.as_chunks::<2>();
    let is_script = rest.is_empty()
        && both.iter().all(|[(name, _), (function, _)]| {
            name.starts_with("name") && function.starts_with("func")
        });
    is_script
        .then(|| both.iter().map(|[(_, path), (_, function)]| source(function, path)).collect())
}

/// `PATH` or `PATH:FUNCTION`. A path that exists is a path, whatever it looks like.
fn source(name: &str, text: &str) -> Source {
    let whole = Source { name: name.to_owned(), path: text.into(), function: None };
    if whole.path.exists() {
        return whole;
    }
    match text.rsplit_once(':') {
        Some((path, function))
            if !path.is_empty() && anemll_mil::identifier::is_legal(function) =>
        {
            Source { path: path.into(), function: Some(function.to_owned()), ..whole }
        }
        _ => whole,
    }
}

/// Refuses a destination that exists, or that is one of the inputs, before any work is done.
fn check_output(job: &Job, force: bool) -> Result<()> {
    let Ok(there) = job.output.canonicalize() else { return Ok(()) };
    let is_there = |path: &Path| path.canonicalize().is_ok_and(|path| path == there);
    if job.sources.iter().any(|source| is_there(&source.path)) {
        return Err(usage(
            "the package to write is one of those that are to be combined",
            "choose another name",
        )
        .with_at(job.output.display().to_string()));
    }
    if force {
        return Ok(());
    }
    Err(Error::new(codes::OUTPUT_EXISTS, "the package to write exists already")
        .with_at(job.output.display().to_string())
        .with_hint("choose another name, or replace it with --force"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(functions: &[&str]) -> CombineArguments {
        CombineArguments {
            functions: functions.iter().map(|text| (*text).to_owned()).collect(),
            output: Some("Y.mlpackage".into()),
            ..CombineArguments::default()
        }
    }

    fn sources(functions: &[&str]) -> Vec<(String, PathBuf, Option<String>)> {
        let job = named(&arguments(functions)).unwrap();
        job.sources.into_iter().map(|s| (s.name, s.path, s.function)).collect()
    }

    #[test]
    fn functions_are_read_in_both_forms() {
        let taken = |name: &str, path: &str, function: Option<&str>| {
            (name.to_owned(), PathBuf::from(path), function.map(str::to_owned))
        };
        assert_eq!(
            sources(&["infer=no/a.mlpackage", "p=no/b=c.mlpackage:prefill", r"w=C:\no.mlpackage"]),
            [
                taken("infer", "no/a.mlpackage", None),
                taken("p", "no/b=c.mlpackage", Some("prefill")),
                taken("w", r"C:\no.mlpackage", None),
            ]
        );
        assert_eq!(
            sources(&["name1=a.mlpackage", "func1=infer", "name2=b.mlpackage", "func2=prefill"]),
            [taken("infer", "a.mlpackage", None), taken("prefill", "b.mlpackage", None)]
        );
    }

    #[test]
    fn command_lines_without_sense_are_refused() {
        for functions in [&[][..], &["a.mlpackage"], &["=a.mlpackage"], &["infer="]] {
            let error = jobs(&arguments(functions)).err().unwrap();
            assert_eq!(error.code, codes::USAGE, "{functions:?}");
            assert!(error.hint.is_some());
        }
        let cases = [
            CombineArguments { output: None, ..arguments(&["infer=a"]) },
            CombineArguments { output: Some("Y".into()), ..arguments(&["infer=a"]) },
            CombineArguments { chunk: Some(2), ..arguments(&["infer=a"]) },
            CombineArguments { lut: Some("4".to_owned()), ..arguments(&["infer=a"]) },
        ];
        for arguments in cases {
            assert_eq!(jobs(&arguments).err().unwrap().code, codes::USAGE, "{arguments:?}");
        }
        let rotating = CombineArguments { split_rotate: true, ..arguments(&[]) };
        assert_eq!(refuse_rotation(&rotating).unwrap_err().code, codes::NOT_YET_SUPPORTED);
    }
}
