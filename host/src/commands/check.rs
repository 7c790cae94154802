//! `check`: whether a model can be converted: from its configuration, and from the other files that
//! are there.

use crate::arguments::{HeadArgument, ModelArgument, count};
use crate::progress::{Display, Reporter};
use anemll_codes as codes;
use anemll_huggingface::{ConfigFile, ModelDirectory};
use anemll_pipeline::event::Event;
use anemll_pipeline::model_files::{self, TOKENIZER};
use anemll_pipeline::model_source::{self, Need};
use anemll_pipeline::opinions::{Opinion, opinions};
use anemll_pipeline::plugins::Plugins;
use anemll_pipeline::task;
use anemll_plugin_api::data::{ModelDescription, ModelInput, StateInfo};
use anemll_plugin_api::{Error, Result};
use anemll_report::{asset, bundle};
use anemll_services as services;
use anemll_terminal::{self as terminal, size, wrapped_lines};
use clap::Args;
use serde::Serialize;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll check ./SmolLM2-135M
  anemll check Qwen/Qwen3-0.6B
  anemll check ./SmolLM2-135M --context 4096 --json
  anemll check ./SmolLM2-135M --strict

Only config.json is needed: of a model of the hub, no more is downloaded. What else is there,
is looked at too. Of a Core AI asset (.aimodel), or a bundle for Apple's apps, it is said what these
would not load. The exit code is 1 when there is such a thing, or when the model cannot be
converted, and with --strict when there are warnings.";

/// What can be typed.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgument,
    /// Context length in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = count)]
    pub context: u64,
    /// Tokens that one call of `prefill` takes.
    #[arg(long, value_name = "TOKENS", default_value_t = 64, value_parser = count)]
    pub batch: u64,
    /// Pieces that the output head is split into; default by architecture.
    #[arg(long, value_name = "N")]
    pub split_lm_head: Option<u64>,
    /// Which weight the head has, where it is tied to the embedding and another one is stored.
    #[arg(long, value_name = "HEAD", value_enum)]
    pub head: Option<HeadArgument>,
    /// Architecture to use, where several accept the model.
    #[arg(long, value_name = "ID")]
    pub arch: Option<String>,
    /// Ignore the tokenizer's files.
    #[arg(long)]
    pub no_tokenizer: bool,
    /// Exit with code 1 when there are warnings.
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Checked {
    model: String,
    config: String,
    convertible: bool,
    frontends: Vec<Opinion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<ModelDescription>,
    /// What was found of the weights' names and shapes.
    weights: String,
    /// What to know, without effect on the numbers.
    notes: Vec<String>,
    /// What may change what the model says, or how it is used.
    warnings: Vec<String>,
    /// Why it cannot be converted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Error>,
}

/// Runs the command.
pub fn run(arguments: &CheckArguments, plugins: &Plugins) -> Result<()> {
    let path: &Path = &arguments.model;
    if asset::is_at(path) || bundle::is_at(path) {
        let shown = made(path, arguments.json)?;
        super::print(&shown.text)?;
        return shown.verdict;
    }
    let reporter = Reporter::new(Display::Lines);
    let directory =
        model_source::resolve(&arguments.model, Need::Config, &|event| reporter.show(event))?;
    drop(reporter);
    let config = ConfigFile::read(&directory)?;
    let frontends = opinions(plugins, config.text(), arguments.arch.as_deref());
    let (weights, line) = model_files::weights(&directory);
    let mut checked = Checked {
        model: model_source::model_name(&directory),
        config: config.path().display().to_string(),
        convertible: false,
        frontends,
        arch: None,
        description: None,
        weights: line,
        notes: Vec::new(),
        warnings: Vec::new(),
        errors: Vec::new(),
    };
    let known = weights.as_ref().ok().and_then(Option::as_ref);
    match describe(arguments, plugins, &config, known, &mut checked.notes) {
        Ok((arch, description)) => {
            checked.arch = Some(arch);
            checked.notes.extend(description.notes.iter().cloned());
            checked.warnings.extend(description.warnings.iter().cloned());
            checked.description = Some(description);
        }
        Err(error) => checked.errors.push(error),
    }
    if !matches!(&weights, Ok(Some(_))) {
        checked.notes.extend(config.notes().iter().cloned());
    }
    let has_weights = matches!(&weights, Ok(Some(_)));
    if let Err(error) = weights {
        // Nothing else matters where there is no model.
        let first = error.code == codes::MODEL_IS_ADAPTER;
        checked.errors.insert(if first { 0 } else { checked.errors.len() }, error);
    }
    if !arguments.no_tokenizer {
        tokenizer(&directory, has_weights, &mut checked);
    }
    checked.convertible = checked.errors.is_empty();
    if arguments.json {
        super::print_json(&checked)?;
    } else {
        // Names and values come from files of others.
        let text = terminal::plain_lines(&text(&checked, arguments));
        super::print(&wrapped_lines(&text, terminal::width()))?;
    }
    let mut errors = checked.errors.into_iter();
    if let Some(first) = errors.next() {
        let also = |error: &Error| format!("also: {error}");
        return Err(errors.fold(first, |first, error| first.with_cause(also(&error))));
    }
    let count = checked.warnings.len();
    if arguments.strict && count > 0 {
        let plural = if count == 1 { "" } else { "s" };
        return Err(Error::new(
            codes::CHECK_STRICT,
            format!("{count} warning{plural}, and --strict allows none"),
        )
        .with_hint("mend what they say, or leave --strict out"));
    }
    Ok(())
}

/// What loaders would not like of an asset, or apps of a bundle.
fn made(path: &Path, json: bool) -> Result<asset::Shown> {
    let wanted = asset::Wanted { lint: true, strict: true, json, ..Default::default() };
    match asset::is_at(path) {
        true => asset::show(path, wanted, terminal::width()),
        false => bundle::show(path, json, terminal::width()),
    }
}

/// As `convert` does it: the frontend that is chosen describes the model.
fn describe(
    arguments: &CheckArguments,
    plugins: &Plugins,
    config: &ConfigFile,
    weights: Option<&ModelDirectory>,
    notes: &mut Vec<String>,
) -> Result<(String, ModelDescription)> {
    let directory = config.path().parent().unwrap_or(Path::new(""));
    let said = RefCell::new(notes);
    let sentence = task::sentence_model(None, directory, &|event| {
        if let Event::Note { text } = event {
            said.borrow_mut().push((*text).to_owned());
        }
    })?;
    let layered =
        weights.cloned().map(|it| task::with_layers(it, sentence.as_ref())).transpose()?;
    let weights = layered.as_ref();
    let options = model_files::frontend_options(
        arguments.split_lm_head,
        arguments.head.map(Into::into),
        false,
    );
    let (arch, frontend) = plugins.frontend(config.text(), arguments.arch.as_deref(), &options)?;
    let input = ModelInput::new(config.value().clone(), arguments.context, arguments.batch)
        .with_tensors(weights.map(model_files::tensor_infos).unwrap_or_default())
        .with_embedding(sentence.map(|sentence| sentence.head));
    let opened = model_files::open(
        frontend.as_ref(),
        &input,
        weights,
        arguments.head.map(Into::into),
        &services::host(),
    )?;
    Ok((arch, opened.description))
}

/// What the files beside the weights are, where there are any.
fn tokenizer(directory: &Path, has_weights: bool, checked: &mut Checked) {
    match model_files::check_companions(directory) {
        Ok(found) => {
            checked.notes.extend(found.notes);
            checked.warnings.extend(found.warnings);
        }
        Err(error) => checked.errors.push(error),
    }
    if has_weights && !directory.join(TOKENIZER).exists() {
        checked
            .warnings
            .push(format!("{TOKENIZER} is missing: it can be converted with --no-tokenizer only"));
    }
}

fn text(checked: &Checked, arguments: &CheckArguments) -> String {
    let mut text = format!("{}: {}\n", checked.model, checked.config);
    // The others have nothing to say about this model.
    let concerned = |opinion: &&Opinion| opinion.verdict != "no" || arguments.arch.is_some();
    for opinion in checked.frontends.iter().filter(concerned) {
        let Opinion { id, verdict, reason, refusals } = opinion;
        let _ = writeln!(text, "frontend {id}: {verdict}: {reason}");
        for refusal in refusals.iter().filter(|refusal| refusal.message != *reason) {
            let _ = writeln!(text, "  and: {}", refusal.message);
        }
    }
    if checked.frontends.is_empty() {
        text += "no frontend is installed\n";
    } else if !checked.frontends.iter().any(|opinion| concerned(&opinion)) {
        text += "no frontend knows this model\n";
    }
    if let Some(description) = &checked.description {
        text += &describe_text(description);
    }
    let _ = writeln!(text, "weights: {}", checked.weights);
    for note in &checked.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for warning in &checked.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text += match checked.convertible {
        true => "it can be converted\n",
        false => "it cannot be converted\n",
    };
    text
}

fn describe_text(description: &ModelDescription) -> String {
    let ModelDescription {
        architecture,
        layers,
        hidden_size,
        vocabulary_size,
        attention_heads,
        key_value_heads,
        head_dimension,
        max_position_embeddings,
        context,
        batch,
        parameters,
        tied_embeddings,
        head_splits,
        states,
        embedding,
        ..
    } = description;
    let head = if *tied_embeddings { "the embedding's weight" } else { "a weight of its own" };
    let head = match embedding {
        Some(vectors) => format!("gives vectors of {} numbers", vectors.dimension),
        None => format!("head in {} pieces, {head}", head_splits.len()),
    };
    let state = |state: &StateInfo| {
        format!("state: {} {:?}, {}\n", state.name, state.shape, size(state.bytes()))
    };
    let states: String = states.iter().map(state).collect();
    format!(
        "architecture: {architecture}, {:.1} M parameters\n\
         layers: {layers}, {hidden_size} wide, {attention_heads} heads of {head_dimension} \
         ({key_value_heads} for keys and values)\n\
         vocabulary: {vocabulary_size}, {head}\n\
         context: {context} of {max_position_embeddings}, batch {batch}\n\
         {states}",
        *parameters as f64 / 1e6,
    )
}
