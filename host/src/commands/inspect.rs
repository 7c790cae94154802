//! `inspect`: what is in a package, a model file or a compiled model.

use anemll_codes as codes;
use anemll_mil::text::{self, WriteError};
use anemll_plugin_api::{Error, Result};
use anemll_report::inspect::findings::{self, FindingInspection};
use anemll_report::inspect::open::Opened;
use anemll_report::inspect::{
    Inspection, SCHEMA, Scope, check_function, features, html, terminal_text,
};
use clap::Args;
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Examples below the help text.
pub const EXAMPLES: &str = "Examples:
  anemll inspect out/llama_lm_head.mlpackage
  anemll inspect out/llama_FFN_PF_chunk_01of02.mlpackage --function prefill --weights
  anemll inspect out/llama_FFN_PF_chunk_01of02.mlpackage --html report.html
  anemll inspect out/llama_lm_head.mlpackage --lint
  anemll inspect out/llama_lm_head.aimodel
  anemll inspect out --lint --strict";

/// What can be typed.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// A .mlpackage, .mlmodelc, .mlmodel or .aimodel; with --lint also a conversion's directory.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Write a page that shows everything, with a histogram for each weight.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Show this function only.
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// List every weight, with the range of its values and the use of its lookup tables.
    #[arg(long)]
    pub weights: bool,
    /// Print the program as MIL text, as `model.mil` of a compiled model has it; of an asset, its
    /// operations.
    #[arg(long, conflicts_with_all = ["weights", "html", "json", "lint"])]
    pub mil: bool,
    /// Print only what does not suit the Neural Engine; of a conversion, in all packages that ship.
    #[arg(long, conflicts_with_all = ["weights", "html"])]
    pub lint: bool,
    /// Exit with code 1 for errors and warnings of the lint that are not accepted.
    #[arg(long, requires = "lint")]
    pub strict: bool,
}

/// Runs the command.
pub fn run(arguments: &InspectArguments) -> Result<()> {
    let function = arguments.function.as_deref();
    if let Some(meta) = conversion(&arguments.path) {
        return lint_conversion(&meta, arguments);
    }
    if anemll_report::asset::is_at(&arguments.path) {
        return asset(arguments);
    }
    let opened = Opened::open(&arguments.path)?;
    if arguments.lint {
        return lint(&opened, arguments);
    }
    if arguments.mil {
        return mil(&opened, function);
    }
    let values = arguments.weights || arguments.html.is_some();
    let inspection = Inspection::of(&opened, Scope { function, values })?;
    if let Some(file) = &arguments.html {
        super::write_page(file, &html::page(&inspection)?)?;
    }
    match (arguments.json, &arguments.html) {
        (true, _) => super::print_json(&inspection),
        // Who asks for a page does not need the same as text.
        (false, Some(_)) if !arguments.weights => Ok(()),
        (false, _) => super::print(&terminal_text::inspection(
            &inspection,
            arguments.weights,
            anemll_terminal::width(),
        )),
    }
}

/// The same of a Core AI asset.
fn asset(arguments: &InspectArguments) -> Result<()> {
    let wanted = anemll_report::asset::Wanted {
        function: arguments.function.as_deref(),
        all_weights: arguments.weights,
        json: arguments.json,
        lint: arguments.lint,
        strict: arguments.strict,
        program: arguments.mil,
        page: arguments.html.is_some(),
    };
    let shown = anemll_report::asset::show(&arguments.path, wanted, anemll_terminal::width())?;
    super::print(&shown.text)?;
    shown.verdict
}

/// The meta.yaml of a conversion, where the path is one or its directory.
fn conversion(path: &Path) -> Option<PathBuf> {
    use anemll_conversion::META;
    if path.file_name().is_some_and(|name| name == META) {
        return Some(path.to_owned());
    }
    Some(path.join(META)).filter(|meta| meta.is_file())
}

fn lint(opened: &Opened, arguments: &InspectArguments) -> Result<()> {
    #[derive(Serialize)]
    struct Findings<'a> {
        schema: u32,
        findings: &'a [FindingInspection],
    }
    let function = arguments.function.as_deref();
    check_function(opened, features::functions(opened.model()), function)?;
    let findings = findings::of(opened, function);
    if arguments.json {
        super::print_json(&Findings { schema: SCHEMA, findings: &findings })?;
    } else {
        super::print(&findings::to_text(&findings, anemll_terminal::width()))?;
    }
    strict(arguments, findings.iter())
}

/// What the lint finds in the packages of a conversion that apps load.
fn lint_conversion(meta: &Path, arguments: &InspectArguments) -> Result<()> {
    #[derive(Serialize)]
    struct Package {
        path: String,
        findings: Vec<FindingInspection>,
    }
    #[derive(Serialize)]
    struct Conversion {
        schema: u32,
        packages: Vec<Package>,
    }
    if !arguments.lint || arguments.function.is_some() || arguments.mil {
        return Err(Error::new(codes::USAGE, "this is a conversion of several packages")
            .with_at(arguments.path.display().to_string())
            .with_hint("--lint looks at all that ships; else name one of the packages"));
    }
    let read = anemll_conversion::Conversion::read(meta)?;
    let mut conversion = Conversion { schema: SCHEMA, packages: Vec::new() };
    for model in read.description.models() {
        let path = read.package(model)?;
        let findings = findings::of(&Opened::open(&path)?, None);
        let name = path.strip_prefix(&read.directory).unwrap_or(&path);
        let path = name.to_string_lossy().replace('\\', "/");
        conversion.packages.push(Package { path, findings });
    }
    if arguments.json {
        super::print_json(&conversion)?;
    } else {
        let width = anemll_terminal::width();
        let mut text = String::new();
        for package in &conversion.packages {
            text += &format!("{}\n\n", anemll_terminal::plain(&package.path));
            text += &findings::to_text(&package.findings, width);
            text.push('\n');
        }
        super::print(text.trim_end_matches('\n'))?;
        super::print("\n")?;
    }
    strict(arguments, conversion.packages.iter().flat_map(|package| &package.findings))
}

/// With --strict, an error where errors or warnings are not accepted.
fn strict<'a>(
    arguments: &InspectArguments,
    findings: impl Iterator<Item = &'a FindingInspection>,
) -> Result<()> {
    let mut rules: Vec<&str> =
        findings.filter(|finding| finding.is_grave()).map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    if !arguments.strict || rules.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        codes::LINT_FOUND,
        format!("the lint found what --strict does not allow: {}", rules.join(", ")),
    )
    .with_at(arguments.path.display().to_string())
    .with_hint(format!("anemll explain {} says what it is about", rules[0])))
}

/// Prints the program; of several functions only the named one, if there is one.
fn mil(opened: &Opened, function: Option<&str>) -> Result<()> {
    check_function(opened, features::functions(opened.model()), function)?;
    let restricted = function.map(|name| {
        let mut model = opened.model().clone();
        if let Ok(program) = anemll_mil::model::program_mut(&mut model) {
            program.functions.retain(|known, _| known == name);
        }
        model
    });
    let model = restricted.as_ref().unwrap_or_else(|| opened.model());
    let mut output = std::io::BufWriter::new(anemll_terminal::stdout());
    let written = text::write(model, &opened.text_options(), &mut output);
    // The text itself ends without one.
    let end =
        |()| output.write_all(b"\n").and_then(|()| output.flush()).map_err(WriteError::Output);
    match written.and_then(end) {
        Ok(()) => Ok(()),
        Err(WriteError::Output(source)) => Err(super::unprintable(&source)),
        Err(WriteError::Model(source)) => Err(Error::new(codes::GRAPH_INVALID, source.to_string())
            .with_at(opened.path().display().to_string())),
    }
}
