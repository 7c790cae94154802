//! `convert`: from a model directory to packages, meta.yaml and the report.

mod finish;
mod lut;
mod meta;
mod output;
mod packages;
mod references;
mod report;
mod weights;

use crate::cli::ConvertArguments;
use crate::error::from_huggingface;
use crate::plugins::Plugins;
use crate::progress::Event;
use crate::services::{self, check_cancelled};
use anemll_huggingface::ModelDirectory;
use anemll_mil::{Checked, Referenced};
use anemll_plugin_api::data::{
    LayoutOptions, ModelInput, PackageKind, PackageSpec, Step, TensorInfo,
};
use anemll_plugin_api::{Error, Result, codes};
use coreml_proto::Model;
use finish::{compile, publish, shipped, test, write_report, write_small_files};
use lut::Luts;
use output::Output;
use packages::{PackageContext, lint_warnings};
use report::{EarlierReport, PluginReport, Report, StepReport, WeightFileReport};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use weights::{Quantization, WeightJob};

/// Name of the report in the output directory.
pub const REPORT: &str = "anemll-report.json";

/// Runs the command, and tells `show` what happens.
pub fn run(
    arguments: &ConvertArguments,
    plugins: &Plugins,
    command_line: &str,
    show: &dyn Fn(&Event<'_>),
) -> Result<()> {
    let started = Instant::now();
    check_arguments(arguments)?;
    let host = services::host();
    let directory = ModelDirectory::open(&arguments.model).map_err(from_huggingface)?;
    let (arch, frontend) = plugins.frontend(directory.config_text(), arguments.arch.as_deref())?;
    let combiner = plugins.combiner(&arguments.combiner)?;
    let compiler = plugins.compiler(&arguments.compiler)?;
    let runtime = match arguments.runtime.as_str() {
        "none" => None,
        id => Some(plugins.runtime(id)?),
    };
    let luts = Luts::new(&arguments.luts, arguments.combiner == WHOLE_COMBINER)?;
    let quantization = quantization(arguments, &luts, plugins)?;
    let input = model_input(arguments, &directory);
    let description = frontend.describe(&input)?;
    let mut layout = combiner.layout(&description, &layout_options(arguments, &luts))?;
    layout.meta.extend(luts.group_keys());
    let model_name = model_name(&arguments.model);
    show(&Event::Started {
        model: &model_name,
        architecture: &description.architecture,
        arch: &arch,
        layers: description.layers,
        parameters: description.parameters,
        packages: shipped(&layout).count(),
        combiner: &arguments.combiner,
        context: description.context,
        batch: description.batch,
    });
    for text in &description.notes {
        show(&Event::Note { text });
    }
    if !arguments.model.join("tokenizer.json").is_file() {
        let text = "the model has no tokenizer.json, so `anemll generate` will not run";
        show(&Event::Note { text });
    }

    let mut functions = BTreeMap::new();
    for function in &layout.functions {
        check_cancelled()?;
        let bytes = frontend.lower(&input, function, &host)?;
        let model = coreml_proto::read_model(&bytes).map_err(|source| {
            Error::new(
                codes::GRAPH_INVALID,
                format!(
                    "the frontend `{arch}` gave no valid model for `{}`: {source}",
                    function.id
                ),
            )
        })?;
        let checked = anemll_mil::validate_referenced(model)
            .map_err(|source| graph_error(&arch, &function.id, &source))?;
        functions.insert(function.id.clone(), checked);
    }

    let output = Output::create(&arguments.output)?;
    let source_sha256 = hash_source(&directory)?;
    refuse_foreign_output(arguments, &source_sha256)?;
    let job = WeightJob {
        directory: &directory,
        clamp: arguments.clamp,
        quantization: quantization.as_ref(),
        host: &host,
    };
    let mut warnings = Vec::new();
    let mut weight_files = Vec::new();
    let mut resolved_models: BTreeMap<String, Model> = BTreeMap::new();
    for file in &layout.weight_files {
        let members = members(&file.functions, &functions)?;
        let path = output.staging().join(format!("{}.bin", file.id));
        let progress = |done, total| show(&Event::Weights { file: &file.id, done, total });
        let result = job.write(&members, &path, &progress)?;
        warnings.extend(result.notes());
        for (id, model) in members {
            let mut model = model.clone();
            references::resolve(&mut model, &result.resolved)?;
            resolved_models.insert(id.to_owned(), model);
        }
        tracing::info!("weights {}: {} bytes", file.id, result.bytes);
        for weight in &result.weights {
            if weight.clamped > 0 {
                warnings.push(format!(
                    "{} values of `{}` were clamped to the range of 16-bit floats",
                    weight.clamped, weight.tensor
                ));
            }
        }
        weight_files.push(WeightFileReport {
            id: file.id.clone(),
            bytes: result.bytes,
            deduplicated_bytes: result.deduplicated,
            weights: result.weights,
        });
    }
    drop(functions);

    let context = PackageContext {
        arguments,
        combiner: combiner.as_ref(),
        output: &output,
        models: &resolved_models,
        source_sha256: &source_sha256,
        weight_files: &weight_files,
        host: &host,
    };
    let mut packages = Vec::new();
    let (shipping, evaluation): (Vec<&PackageSpec>, Vec<&PackageSpec>) =
        layout.packages.iter().partition(|package| package.kind != PackageKind::Evaluate);
    let (package_steps, last_steps): (Vec<&Step>, Vec<&Step>) = layout
        .steps
        .iter()
        .partition(|step| shipping.iter().any(|package| package.step == step.number));
    for step in package_steps {
        for package in shipping.iter().filter(|package| package.step == step.number) {
            check_cancelled()?;
            packages.push(context.write(package)?);
        }
        show(&Event::Step { number: step.number, title: &step.title, message: "" });
    }
    for package in evaluation {
        check_cancelled()?;
        packages.push(context.write(package)?);
    }
    // The steps without packages: compile, small files, test.
    let mut last_steps = last_steps.into_iter();
    let mut show_step = |message: &str| {
        if let Some(step) = last_steps.next() {
            show(&Event::Step { number: step.number, title: &step.title, message });
        }
    };
    warnings.extend(lint_warnings(&packages));

    let mut report = Report {
        schema: report::SCHEMA,
        anemll: env!("CARGO_PKG_VERSION").to_owned(),
        options: options_json(arguments),
        source_sha256,
        arch: arch.clone(),
        model: description.clone(),
        plugins: [
            ("arch", arch.as_str()),
            ("combiner", &arguments.combiner),
            ("compiler", &arguments.compiler),
            ("runtime", &arguments.runtime),
        ]
        .into_iter()
        .chain(quantization.as_ref().map(|stage| ("quantizer", stage.id.as_str())))
        .map(|(stage, id)| PluginReport { stage: stage.to_owned(), id: id.to_owned() })
        .collect(),
        weight_files,
        packages,
        warnings,
        compile: StepReport::default(),
        test: StepReport::default(),
        seconds: 0.0,
    };
    let mut files = write_small_files(
        &output,
        &directory,
        &meta::meta_yaml(&model_name, &description, &layout, command_line, &report)?,
        &layout,
    )?;
    let (compiled, step) = compile(compiler.as_ref(), arguments, &layout, &output, &host)?;
    files.extend(compiled);
    report.compile = step;
    show_step(&report.compile.message);
    show_step("");
    report.test = match &runtime {
        Some(runtime) => test(runtime.as_ref(), &output, &description, &host)?,
        None => StepReport { done: false, message: "left out (--runtime none)".to_owned() },
    };
    show_step(&report.test.message);
    report.seconds = started.elapsed().as_secs_f64();
    files.push(write_report(&output, &report)?);
    check_cancelled()?;
    publish(&output, &layout, &files)?;
    for text in &report.warnings {
        show(&Event::Warning { text });
    }
    let meta = output.directory().join("meta.yaml").display().to_string();
    show(&Event::Done { seconds: report.seconds, meta: &meta });
    output.finish();
    Ok(())
}

fn check_arguments(arguments: &ConvertArguments) -> Result<()> {
    let refuse = |message: String, hint: &str| {
        Err(Error::new(codes::USAGE, message).with_hint(hint.to_owned()))
    };
    if !arguments.model.is_dir() {
        return Err(Error::new(
            codes::MODEL_DIRECTORY_UNREADABLE,
            "Model directory does not exist",
        )
        .with_at(arguments.model.display().to_string())
        .with_hint("check the --model path"));
    }
    if arguments.context == 0 || arguments.batch == 0 {
        return refuse(
            "--context and --batch must be at least 1".to_owned(),
            "the defaults are 512 and 64",
        );
    }
    if arguments.batch > arguments.context {
        return refuse(
            format!("--batch {} is more than --context {}", arguments.batch, arguments.context),
            "choose a batch that divides the context, such as 64",
        );
    }
    Ok(())
}

/// The quantizer of `--lut`.
const LUT_QUANTIZER: &str = "lut";
/// The combiner for which `--lut` stands for the embeddings too, as ANEMLL's script has it.
const WHOLE_COMBINER: &str = "monolithic";

fn quantization(
    arguments: &ConvertArguments,
    luts: &Luts,
    plugins: &Plugins,
) -> Result<Option<Quantization>> {
    let mut options = match luts.options() {
        Value::Object(options) if !luts.is_none() => options,
        _ => serde_json::Map::new(),
    };
    for option in &arguments.quantizer_option {
        let Some((name, value)) = option.split_once('=') else {
            return Err(Error::new(
                codes::USAGE,
                format!("--quantizer-option {option}: expected NAME=VALUE"),
            ));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        options.insert(name.to_owned(), value);
    }
    let id = match &arguments.quantizer {
        Some(id) if id != LUT_QUANTIZER && !luts.is_none() => {
            return Err(Error::new(
                codes::USAGE,
                format!("the --lut flags belong to the quantizer `{LUT_QUANTIZER}`, not `{id}`"),
            )
            .with_hint("leave --quantizer out, or give its options with --quantizer-option"));
        }
        Some(id) => id.as_str(),
        None if !luts.is_none() => LUT_QUANTIZER,
        None if options.is_empty() => return Ok(None),
        None => {
            return Err(Error::new(codes::USAGE, "--quantizer-option needs --quantizer"));
        }
    };
    let options = Value::Object(options);
    let quantizer = plugins.quantizer(id, &options)?;
    Ok(Some(Quantization { id: id.to_owned(), quantizer, options }))
}

fn model_input(arguments: &ConvertArguments, directory: &ModelDirectory) -> ModelInput {
    let tensors = directory
        .tensors()
        .iter()
        .map(|(name, info)| {
            let info = TensorInfo { dtype: info.source_type.name(), shape: info.shape.clone() };
            (name.clone(), info)
        })
        .collect();
    let mut options = serde_json::Map::new();
    if let Some(splits) = arguments.split_lm_head {
        options.insert("split_lm_head".to_owned(), json!(splits));
    }
    ModelInput {
        config: directory.config().clone(),
        tensors,
        context: arguments.context,
        batch: arguments.batch,
        options: Value::Object(options),
    }
}

fn layout_options(arguments: &ConvertArguments, luts: &Luts) -> LayoutOptions {
    let metadata = BTreeMap::from([(
        "com.anemll.tool_version".to_owned(),
        env!("CARGO_PKG_VERSION").to_owned(),
    )]);
    LayoutOptions {
        chunks: arguments.chunk,
        prefix: arguments.prefix.clone(),
        argmax: arguments.argmax,
        bits: luts.bits(),
        metadata,
    }
}

/// The options that decide the output.
fn options_json(arguments: &ConvertArguments) -> Value {
    json!({
        "context": arguments.context,
        "batch": arguments.batch,
        "combiner": arguments.combiner,
        "chunk": arguments.chunk,
        "prefix": arguments.prefix,
        "argmax": arguments.argmax,
        "split_lm_head": arguments.split_lm_head,
        "lut": arguments.luts.lut,
        "lut1": arguments.luts.lut1,
        "lut2": arguments.luts.lut2,
        "lut3": arguments.luts.lut3,
        "quantizer": arguments.quantizer,
        "quantizer_option": arguments.quantizer_option,
        "clamp": arguments.clamp,
    })
}

fn model_name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn graph_error(arch: &str, function: &str, source: &anemll_mil::Error) -> Error {
    Error::new(
        codes::GRAPH_INVALID,
        format!("the frontend `{arch}` gave an invalid program for `{function}`: {source}"),
    )
    .with_hint("this is an error of the arch plugin")
}

fn members<'a>(
    ids: &'a [String],
    functions: &'a BTreeMap<String, Checked<Referenced>>,
) -> Result<Vec<(&'a str, &'a Model)>> {
    ids.iter()
        .map(|id| match functions.get(id) {
            Some(checked) => Ok((id.as_str(), checked.model())),
            None => {
                Err(layout_error(&format!("names the function `{id}`, which it does not define")))
            }
        })
        .collect()
}

fn hash_source(directory: &ModelDirectory) -> Result<String> {
    directory.source_sha256(|_, _| check_cancelled().is_ok()).map_err(from_huggingface)
}

/// Packages of another model are not replaced without being asked to.
fn refuse_foreign_output(arguments: &ConvertArguments, source_sha256: &str) -> Result<()> {
    let path = arguments.output.join(REPORT);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
    let same = serde_json::from_str::<EarlierReport>(&text)
        .is_ok_and(|earlier| earlier.source_sha256 == source_sha256);
    if same || arguments.force {
        return Ok(());
    }
    Err(Error::new(
        codes::OUTPUT_EXISTS,
        "the output directory holds the conversion of another model",
    )
    .with_at(path.display().to_string())
    .with_hint("choose another --output, or replace it with --force"))
}

fn layout_error(what: &str) -> Error {
    Error::new(codes::PLUGIN_BAD_ANSWER, format!("the combiner's layout {what}"))
        .with_hint("this is an error of the combiner plugin")
}
