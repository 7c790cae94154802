//! `preflight`: what a model's activations reach, before they are rounded to 16-bit floats.
//!
//! The model is converted to 16-bit packages in a temporary folder. A prompt then goes through
//! their evaluation functions twice: with activations in f32, where the largest value of every
//! operation is noted, and rounded to float16 as on the Neural Engine.

use crate::cli::{Cli, Command, ModelArgument};
use crate::engine::{Engine, Head};
use crate::error::{from_huggingface, from_package};
use crate::evaluation::{Evaluation, Reference, read_tokens, summarize};
use crate::model_files::HeadChoice;
use crate::model_source::{Need, Source};
use crate::observation::Observer;
use crate::plugins::Plugins;
use crate::progress::{Bar, Display, Event, Reporter, Unit};
use crate::services::{self, check_cancelled};
use crate::terminal::{self, Column, Table};
use crate::tokenizer::Tokenizer;
use anemll_huggingface::ConfigFile;
use anemll_mil::{DataType, Symbols, ValueType, model};
use anemll_mlpackage::Package;
use anemll_plugin_api::{DType, Error, Result, Tensor, codes};
use clap::{Args, Parser as _};
use coreml_proto::mil;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Examples for the help.
pub const EXAMPLES: &str = "Examples:
  anemll preflight ./Qwen3-0.6B --prompt-file prompt.txt
  anemll preflight ./Qwen3-0.6B --tokens ids.npy --json
  anemll preflight ./Qwen3-0.6B --tokens ids.npy --strict

Exit code 0 whatever is found, 1 when the model could not be run. With --strict also 1 when a weight or
a value is beyond the range of 16-bit floats, or logits are not numbers; a value near it does not count.";

/// The largest finite float16.
const LIMIT: f32 = 65504.0;
/// From here on a value is within a factor of 2 of the limit.
const NEAR: f32 = LIMIT / 2.0;
/// Schema of the JSON.
const SCHEMA: u32 = 1;
/// Batches to choose from: one that is no size of the model tells which axis counts tokens.
const BATCHES: [u64; 7] = [64, 96, 160, 32, 224, 48, 61];
/// Operations that only move elements, whose results have the peaks of their operands.
const MOVING: [&str; 13] = [
    "cast",
    "concat",
    "const",
    "expand_dims",
    "identity",
    "read_state",
    "reshape",
    "slice_by_index",
    "slice_update",
    "split",
    "squeeze",
    "tile",
    "transpose",
];

/// What can be typed.
#[derive(Debug, Args)]
pub struct PreflightArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgument,
    /// Text to run, tokenized by the model's tokenizer.
    #[arg(long, value_name = "FILE", required_unless_present = "tokens")]
    pub prompt_file: Option<PathBuf>,
    /// Token ids to run instead of a text: a .npy array of integers.
    #[arg(long, value_name = "IDS.npy", conflicts_with = "prompt_file")]
    pub tokens: Option<PathBuf>,
    /// Most tokens that are run.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = crate::cli::count)]
    pub context: u64,
    /// Arch frontend to use, where several accept the model.
    #[arg(long, value_name = "ID")]
    pub arch: Option<String>,
    /// Which weight the head has, where it is tied to the embedding and another one is stored.
    #[arg(long, value_name = "HEAD", value_enum)]
    pub head: Option<HeadChoice>,
    /// Runtime plugin; it must be able to compute with activations in f32.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Where the temporary packages go, which are as large as the model in 16-bit floats.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Exit code 1 when something is beyond the range of 16-bit floats.
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A weight that does not fit into float16.
#[derive(Debug, Serialize)]
struct WeightFinding {
    tensor: String,
    /// Values beyond ±65504, which were clamped for the runs.
    clamped: u64,
}

/// The largest value of an operation over all tokens, or of a layer over its operations.
#[derive(Debug, Clone, Serialize)]
struct Peak {
    /// Layer, counted from 0; null outside of the layers.
    layer: Option<u32>,
    /// The value with the largest absolute value.
    peak: f32,
    /// `beyond` the range of float16, `near` it (within a factor of 2), or `within`.
    range: &'static str,
    /// Token at which it stands; null where no axis counts tokens.
    position: Option<u64>,
    /// Name of the value in the program.
    value: String,
    /// Operation that computes it.
    operation: String,
    /// Values that are infinite or NaN even in f32, not counting minus infinity, which masks.
    not_finite: u64,
}

impl Peak {
    fn classify(&mut self) {
        self.range = match self.peak.abs() {
            _ if self.not_finite > 0 => "beyond",
            peak if peak > LIMIT => "beyond",
            peak if peak >= NEAR => "near",
            _ => "within",
        };
    }
}

/// What the command prints.
#[derive(Debug, Serialize)]
struct Preflight {
    schema: u32,
    /// Tokens that were run.
    tokens: u64,
    limit: f32,
    /// Weights beyond float16.
    weights: Vec<WeightFinding>,
    /// The largest value of each layer.
    layers: Vec<Peak>,
    /// All values beyond the range or near it, largest first.
    values: Vec<Peak>,
    /// Positions whose logits are not all numbers when activations are rounded to float16.
    broken_positions: u64,
    /// The rounded run against the other.
    rounding: Rounding,
}

#[derive(Debug, Serialize)]
struct Rounding {
    cosine_min: f64,
    kl_mean: f64,
    top1_agreement: f64,
    max_abs_error: f64,
}

/// Runs the command.
pub fn run(arguments: &PreflightArguments, plugins: &Plugins) -> Result<()> {
    let wide = plugins.runtime_with(&arguments.runtime, &json!({"activations": "float32"}))?;
    let narrow = plugins.runtime(&arguments.runtime)?;
    let reporter = Reporter::new(Display::Lines);
    // Bars alone: what the conversion says is of no use here.
    let bars = |event: &Event<'_>| {
        if event.line().is_none() {
            reporter.show(event);
        }
    };
    let model = find_model(arguments, plugins, &bars)?;
    let tokens = tokens(arguments, &model)?;
    let folder = scratch(arguments)?;
    let batch = batch(arguments, &model)?;
    convert(arguments, plugins, &model, folder.path(), batch, &bars)?;
    drop(reporter);
    let weights = weight_findings(&folder.path().join(crate::convert::REPORT))?;

    let host = services::host();
    let meta = folder.path().join("meta.yaml");
    let mut exact = Engine::open(&meta, wide.as_ref(), &host)?;
    let mut rounded = Engine::open(&meta, narrow.as_ref(), &host)?;
    if let Some(vocabulary) = exact.vocabulary()
        && let Some(token) = tokens.iter().find(|token| u64::from(**token) >= vocabulary)
    {
        return Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("token id {token} is beyond the model's vocabulary of {vocabulary}"),
        ));
    }
    let mut peaks = Peaks::new(&exact.evaluation_functions()?, exact.batch())?;
    let mut positions = Vec::new();
    let bar = Bar::new("running", tokens.len() as u64, Unit::Count("tokens"));
    for (number, part) in tokens.chunks(exact.batch() as usize).enumerate() {
        check_cancelled()?;
        peaks.first = number as u64 * exact.batch();
        peaks.tokens = part.len() as u64;
        let reference = exact.evaluate_observed(part, peaks.first, Some(&mut peaks))?;
        let ours = rounded.evaluate(part, peaks.first)?;
        for (row, (reference, ours)) in reference.into_iter().zip(&ours).enumerate() {
            let (Head::Logits(logits), Head::Logits(ours)) = (reference, ours) else { continue };
            let reference = Reference::Full { vocabulary: logits.len(), logits };
            let mut position = reference.compare(0, ours)?;
            position.position = peaks.first + row as u64;
            positions.push(position);
        }
        bar.set(peaks.first + peaks.tokens);
    }
    drop(bar);
    let broken = positions.iter().filter(|position| position.kl.is_nan()).count() as u64;
    let findings = peaks.findings(weights, tokens.len() as u64, broken, &summarize(positions)?);
    if arguments.json {
        super::print_json(&findings)?;
    } else {
        super::print(&findings.text(terminal::width()))?;
    }
    match findings.beyond() {
        0 => Ok(()),
        _ if !arguments.strict => Ok(()),
        count => Err(Error::new(
            codes::PREFLIGHT_FOUND,
            format!(
                "--strict: {count} finding{} beyond the range of 16-bit floats",
                if count == 1 { "" } else { "s" }
            ),
        )),
    }
}

/// The model's directory: of a model of the hub, the weights are downloaded when the configuration
/// is fine.
fn find_model(
    arguments: &PreflightArguments,
    plugins: &Plugins,
    show: &dyn Fn(&Event<'_>),
) -> Result<PathBuf> {
    let source = Source::open(&arguments.model, Need::Weights, show)?;
    let config = ConfigFile::read(source.directory()).map_err(from_huggingface)?;
    plugins.frontend(config.text(), arguments.arch.as_deref())?;
    source.whole(show)
}

/// The tokens to run, cut to the context.
fn tokens(arguments: &PreflightArguments, model: &Path) -> Result<Vec<u32>> {
    let mut tokens = match (&arguments.tokens, &arguments.prompt_file) {
        (Some(path), _) => read_tokens(path)?,
        (None, Some(path)) => {
            let text = fs_err::read_to_string(path).map_err(|source| {
                Error::new(codes::EVALUATION_INPUT, format!("the prompt cannot be read: {source}"))
                    .with_at(path.display().to_string())
            })?;
            Tokenizer::open(model)?.encode(&text, true)?
        }
        (None, None) => Vec::new(),
    };
    if tokens.is_empty() {
        return Err(Error::new(codes::EVALUATION_INPUT, "there are no tokens to run")
            .with_hint("give a text with --prompt-file, or ids with --tokens"));
    }
    if tokens.len() as u64 > arguments.context {
        super::say(&format!(
            "note: the first {} of {} tokens are run; more with --context",
            arguments.context,
            tokens.len()
        ));
        tokens.truncate(arguments.context as usize);
    }
    Ok(tokens)
}

fn scratch(arguments: &PreflightArguments) -> Result<tempfile::TempDir> {
    let parent = arguments.scratch.clone().unwrap_or_else(std::env::temp_dir);
    tempfile::Builder::new().prefix("anemll-preflight-").tempdir_in(&parent).map_err(|source| {
        Error::new(codes::OUTPUT_UNWRITABLE, format!("no temporary folder: {source}"))
            .with_at(parent.display().to_string())
            .with_hint("choose another folder with --scratch")
    })
}

/// A batch that is none of the model's sizes.
fn batch(arguments: &PreflightArguments, model: &Path) -> Result<u64> {
    let directory =
        anemll_huggingface::ModelDirectory::open(model).map_err(crate::error::from_huggingface)?;
    let mut sizes: Vec<u64> = Vec::new();
    for info in directory.tensors().values() {
        sizes.extend(&info.shape);
    }
    let config = directory.config().as_object();
    sizes.extend(config.into_iter().flatten().filter_map(|(_, value)| value.as_u64()));
    // Norms see [x, -x].
    let doubled: Vec<u64> = sizes.iter().map(|size| size.saturating_mul(2)).collect();
    let free = |batch: &&u64| {
        **batch <= arguments.context && !sizes.contains(batch) && !doubled.contains(batch)
    };
    Ok(BATCHES.iter().find(free).copied().unwrap_or(arguments.context.min(BATCHES[0])))
}

/// Converts in 16-bit floats, with weights beyond them clamped: they are a finding, not an error.
fn convert(
    arguments: &PreflightArguments,
    plugins: &Plugins,
    model: &Path,
    output: &Path,
    batch: u64,
    show: &dyn Fn(&Event<'_>),
) -> Result<()> {
    super::say("converting to 16-bit floats in a temporary folder");
    let text = |number: u64| std::ffi::OsString::from(number.to_string());
    let mut line: Vec<std::ffi::OsString> = vec!["anemll".into(), "convert".into()];
    line.extend(["--model".into(), model.as_os_str().to_owned()]);
    line.extend(["--output".into(), output.as_os_str().to_owned()]);
    line.extend(["--context".into(), text(arguments.context), "--batch".into(), text(batch)]);
    for flag in ["--combiner", "chunked", "--chunk", "1", "--lut", "none", "--runtime", "none"] {
        line.push(flag.into());
    }
    line.extend(["--clamp", "--force", "--no-tokenizer"].map(Into::into));
    if let Some(arch) = &arguments.arch {
        line.extend(["--arch".into(), arch.into()]);
    }
    if let Some(head) = arguments.head {
        line.extend(["--head".into(), head.name().into()]);
    }
    let parsed = Cli::try_parse_from(line)
        .map_err(|refusal| Error::new(codes::INTERNAL, refusal.to_string()))?;
    let Command::Convert(conversion) = &parsed.command else {
        return Err(Error::new(codes::INTERNAL, "`convert` was typed"));
    };
    crate::convert::run(conversion, plugins, "anemll preflight", show)
}

/// What the conversion's report says of weights beyond float16.
fn weight_findings(report: &Path) -> Result<Vec<WeightFinding>> {
    let text = fs_err::read_to_string(report)
        .map_err(|source| Error::new(codes::INTERNAL, format!("no report: {source}")))?;
    let report: Value = serde_json::from_str(&text)
        .map_err(|source| Error::new(codes::INTERNAL, format!("no report: {source}")))?;
    let files = report["weight_files"].as_array().into_iter().flatten();
    let weights = files.flat_map(|file| file["weights"].as_array().into_iter().flatten());
    Ok(weights
        .filter_map(|weight| {
            let clamped = weight["clamped"].as_u64().filter(|count| *count > 0)?;
            Some(WeightFinding { tensor: weight["tensor"].as_str()?.to_owned(), clamped })
        })
        .collect())
}

/// Notes the peaks of all values that operations compute.
struct Peaks {
    /// Values to see, by package and function.
    taps: BTreeMap<(PathBuf, String), Vec<String>>,
    /// Operation of each value.
    operations: BTreeMap<String, String>,
    batch: u64,
    /// Position of the first token of this batch.
    first: u64,
    /// Tokens of this batch that are none of the padding.
    tokens: u64,
    found: BTreeMap<String, Peak>,
}

impl Peaks {
    fn new(functions: &[(PathBuf, String)], batch: u64) -> Result<Self> {
        let mut peaks = Self {
            taps: BTreeMap::new(),
            operations: BTreeMap::new(),
            batch,
            first: 0,
            tokens: 0,
            found: BTreeMap::new(),
        };
        for (path, function) in functions {
            let package = Package::open(path).map_err(from_package)?;
            let invalid =
                |source: anemll_mil::Error| Error::new(codes::PACKAGE_INVALID, source.to_string());
            let program = model::program(package.model()).map_err(invalid)?;
            let Some(body) = program.functions.get(function) else { continue };
            let mut taps = Vec::new();
            // Norms are made of x and -x; the latter would only repeat the peaks of another layer.
            let mut minus_one = BTreeSet::new();
            for operation in &model::block(body).map_err(invalid)?.operations {
                let kind = operation.r#type.as_str();
                if kind == "const" && is_minus_one(operation) {
                    minus_one.extend(operation.outputs.iter().map(|output| output.name.as_str()));
                }
                let negates =
                    kind == "mul" && reads(operation).any(|name| minus_one.contains(name));
                if negates || MOVING.contains(&kind) || kind.starts_with("constexpr_") {
                    continue;
                }
                for output in &operation.outputs {
                    let declared = output.r#type.as_ref();
                    let declared = declared
                        .and_then(|kind| ValueType::from_proto(kind, &Symbols::default()).ok());
                    if matches!(declared, Some(ValueType::Tensor(kind)) if kind.data_type == DataType::Float16)
                    {
                        taps.push(output.name.clone());
                        peaks.operations.insert(output.name.clone(), kind.to_owned());
                    }
                }
            }
            peaks.taps.insert((path.clone(), function.clone()), taps);
        }
        Ok(peaks)
    }

    fn findings(
        self,
        weights: Vec<WeightFinding>,
        tokens: u64,
        broken_positions: u64,
        evaluation: &Evaluation,
    ) -> Preflight {
        let mut layers: BTreeMap<Option<u32>, Peak> = BTreeMap::new();
        let mut values: Vec<Peak> = self.found.into_values().collect();
        values.iter_mut().for_each(Peak::classify);
        for peak in &values {
            match layers.get_mut(&peak.layer) {
                Some(known) if known.not_finite == 0 && larger(peak, known) => {
                    *known = peak.clone();
                }
                Some(_) => {}
                None => {
                    layers.insert(peak.layer, peak.clone());
                }
            }
        }
        values.retain(|peak| peak.range != "within");
        values.sort_by(|left, right| right.peak.abs().total_cmp(&left.peak.abs()));
        Preflight {
            schema: SCHEMA,
            tokens,
            limit: LIMIT,
            weights,
            layers: layers.into_values().collect(),
            values,
            broken_positions,
            rounding: Rounding {
                cosine_min: evaluation.cosine_min,
                kl_mean: evaluation.kl_mean,
                top1_agreement: evaluation.top1_agreement,
                max_abs_error: evaluation.max_abs_error,
            },
        }
    }
}

/// Whether a constant is the float16 number -1.
fn is_minus_one(operation: &mil::Operation) -> bool {
    let value = operation.attributes.get("val");
    let bytes = value.and_then(|value| anemll_mil::literal::tensor_bytes(value).ok());
    bytes.is_some_and(|(_, bytes)| bytes[..] == half::f16::NEG_ONE.to_le_bytes())
}

/// Names of the values that an operation reads.
fn reads(operation: &mil::Operation) -> impl Iterator<Item = &str> {
    let bindings = operation.inputs.values().flat_map(|argument| &argument.arguments);
    bindings.filter_map(|binding| match &binding.binding {
        Some(mil::argument::binding::Binding::Name(name)) => Some(name.as_str()),
        _ => None,
    })
}

fn larger(peak: &Peak, known: &Peak) -> bool {
    peak.not_finite > 0 || peak.peak.abs() > known.peak.abs()
}

/// The layer in a value's name, `layers_3_mlp_…`.
fn layer_of(name: &str) -> Option<u32> {
    let (_, rest) = name.split_once("layers_")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

impl Observer for Peaks {
    fn taps(&self, package: &Path, function: &str) -> Vec<String> {
        let key = (package.to_owned(), function.to_owned());
        self.taps.get(&key).cloned().unwrap_or_default()
    }

    fn see(&mut self, function: &str, value: &Tensor) -> Result<()> {
        if value.dtype != DType::FLOAT32 {
            return Err(Error::new(
                codes::RUN_FAILED,
                format!("the runtime gave `{}` as {}, not as float32", value.name, value.dtype),
            )
            .with_at(format!("function `{function}`")));
        }
        let axis = value.shape.iter().position(|size| *size == self.batch && self.batch > 1);
        let inner: u64 = match axis {
            Some(axis) => value.shape[axis + 1..].iter().product(),
            None => 1,
        };
        let entry = self.found.entry(value.name.clone()).or_insert_with(|| Peak {
            layer: layer_of(&value.name),
            peak: 0.0,
            range: "within",
            position: None,
            value: value.name.clone(),
            operation: self.operations.get(&value.name).cloned().unwrap_or_default(),
            not_finite: 0,
        });
        for (index, bytes) in value.bytes.as_chunks::<4>().0.iter().enumerate() {
            let number = f32::from_le_bytes(*bytes);
            if number.abs() <= entry.peak.abs() || number == f32::NEG_INFINITY {
                continue;
            }
            let row = index as u64 / inner.max(1) % self.batch.max(1);
            // What the padding of the last batch gives is no finding.
            if axis.is_some() && row >= self.tokens {
                continue;
            }
            if number.is_finite() {
                entry.peak = number;
                entry.position = axis.map(|_| self.first + row);
            } else {
                entry.not_finite += 1;
            }
        }
        Ok(())
    }
}

impl Preflight {
    /// How much there is that 16-bit floats cannot hold: weights, values, and logits without numbers.
    fn beyond(&self) -> u64 {
        let values = self.values.iter().filter(|peak| peak.range == "beyond").count();
        (self.weights.len() + values) as u64 + u64::from(self.broken_positions > 0)
    }

    fn text(&self, width: Option<usize>) -> String {
        let mut text = String::new();
        for weight in &self.weights {
            let line = format!(
                "weight beyond float16: {} values of `{}` (clamped for this run)",
                weight.clamped, weight.tensor
            );
            text += &terminal::wrapped(line.split(' '), " ", 0, width);
        }
        text += &terminal::wrapped(
            format!(
                "largest activations over {} tokens, computed in float32; of the layers within the \
                 range, the one with the largest:",
                self.tokens
            )
            .split(' '),
            " ",
            0,
            width,
        );
        let columns = [
            Column::Left,
            Column::Right,
            Column::Left,
            Column::Right,
            Column::Right,
            Column::Left,
            Column::Flexible,
        ];
        let head = ["LAYER", "LARGEST", "RANGE", "TOKEN", "MORE", "OPERATION", "VALUE"];
        let mut table = Table::new(&columns).with_head(&head).leaving_out(&[5, 4]);
        for peak in self.layers.iter().filter(|peak| peak.range != "within") {
            let same = self.values.iter().filter(|value| value.layer == peak.layer).count();
            table.row(peak.cells(same.saturating_sub(1)));
        }
        let rest = self.layers.iter().filter(|peak| peak.range == "within");
        if let Some(peak) = rest.max_by(|a, b| a.peak.abs().total_cmp(&b.peak.abs())) {
            table.row(peak.cells(0));
        }
        text += &table.render(width);
        let more = if self.values.is_empty() {
            "no value is beyond the range of float16, or near it"
        } else {
            "MORE: further values of the layer that are beyond float16 or near it; --json lists them"
        };
        text += &terminal::wrapped(more.split(' '), " ", 0, width);
        let rounding = format!(
            "float16 against float32: mean KL {:.3e}, top-1 agreement {:.2} %, smallest cosine {:.7}",
            self.rounding.kl_mean,
            100.0 * self.rounding.top1_agreement,
            self.rounding.cosine_min
        );
        text += &terminal::wrapped(rounding.split(' '), " ", 0, width);
        if self.broken_positions > 0 {
            text += &format!(
                "at {} of {} tokens the logits are not all numbers\n",
                self.broken_positions, self.tokens
            );
        }
        text
    }
}

impl Peak {
    fn cells(&self, more: usize) -> [String; 7] {
        [
            self.layer.map_or_else(|| "none".to_owned(), |layer| layer.to_string()),
            self.peak.to_string(),
            match self.range {
                "beyond" => "beyond 65504",
                "near" => "near 65504",
                other => other,
            }
            .to_owned(),
            self.position.map_or_else(String::new, |position| position.to_string()),
            if more > 0 { more.to_string() } else { String::new() },
            self.operation.clone(),
            self.value.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peaks(batch: u64, first: u64, tokens: u64) -> Peaks {
        Peaks {
            taps: BTreeMap::new(),
            operations: BTreeMap::from([("layers_7_mlp_x".to_owned(), "mul".to_owned())]),
            batch,
            first,
            tokens,
            found: BTreeMap::new(),
        }
    }

    fn tensor(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor { name: name.to_owned(), dtype: DType::FLOAT32, shape: shape.to_vec(), bytes }
    }

    #[test]
    fn peaks_have_their_token_and_leave_padding_and_masks_out() {
        let mut peaks = peaks(3, 10, 2);
        let values = [1.0, -5.0, 99.0, f32::NEG_INFINITY, -70000.0, 1e9];
        peaks.see("main", &tensor("layers_7_mlp_x", &[1, 2, 1, 3], &values)).unwrap();
        let peak = &peaks.found["layers_7_mlp_x"];
        assert_eq!((peak.layer, peak.peak, peak.position), (Some(7), -70000.0, Some(11)));
        assert_eq!((peak.operation.as_str(), peak.not_finite), ("mul", 0));
        let mut halves = tensor("x", &[1], &[1.0]);
        halves.dtype = DType::FLOAT16;
        assert_eq!(peaks.see("main", &halves).unwrap_err().code, codes::RUN_FAILED);
    }

    #[test]
    fn layers_are_read_from_names() {
        assert_eq!(layer_of("layers_12_self_attn_add_0"), Some(12));
        assert_eq!(layer_of("model_layers_0_x"), Some(0));
        assert_eq!(layer_of("lm_head_conv"), None);
        assert_eq!(layer_of("layers_"), None);
    }
}
