//! What the flags of `convert` come to once the defaults are filled in.

use super::quantization::Quantization;
use crate::component_options;
use crate::model_files::{self, tensor_infos};
use crate::plugins::Plugins;
use crate::request::{CalibrationChoice, ChunkCount, ConvertRequest};
use crate::statistics;
use anemll_codes as codes;
use anemll_huggingface::{ModelDirectory, SentenceModel};
use anemll_plugin_api::data::{LayoutRequest, ModelInput, Outline, Scheme, Stage};
use anemll_plugin_api::{ArchFrontend, ComponentOptions, Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How the model is cut, and what the quantizer says of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// Id of the combiner.
    pub(super) combiner: String,
    /// What the combiner is made with.
    pub(super) options: ComponentOptions,
    /// Chunks of the layers; none leaves it to the combiner.
    pub(super) chunks: Option<u32>,
    /// What the quantizer is told.
    pub(super) outline: Outline,
    /// What the quantizer says of the conversion.
    pub(super) scheme: Scheme,
}

/// Refuses what cannot be, whatever the model is.
pub(super) fn check_arguments(arguments: &ConvertRequest) -> Result<()> {
    let refuse = |message: String, hint: &str| {
        Err(Error::new(codes::USAGE, message).with_hint(hint.to_owned()))
    };
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

/// The quantizer that was chosen, with the statistics that were named.
///
/// # Errors
/// Flags that do not suit, and statistics that cannot be used.
pub(super) fn quantization(
    arguments: &ConvertRequest,
    plugins: &Plugins,
    directory: Option<&ModelDirectory>,
) -> Result<Option<Quantization>> {
    let chosen = arguments.quantizer.choose(plugins)?.map(Quantization::new);
    if let (Some(chosen), Some(decided)) = (&chosen, &arguments.decided) {
        chosen.decide((**decided).clone());
    }
    match (chosen, &arguments.calibration) {
        (Some(chosen), CalibrationChoice::File(path)) => {
            chosen.with_statistics(path, directory).map(Some)
        }
        (None, CalibrationChoice::File(_)) => Err(statistics::for_nobody()),
        (chosen, CalibrationChoice::Auto | CalibrationChoice::None) => Ok(chosen),
    }
}

/// The frontend for a config.json, made with what is asked of it.
///
/// # Errors
/// There is none, and those of the plugin.
pub(super) fn frontend(
    arguments: &ConvertRequest,
    plugins: &Plugins,
    config: &str,
) -> Result<(String, Box<dyn ArchFrontend>)> {
    let id = plugins.frontend_id(config, arguments.arch.as_deref())?;
    let mut options = model_files::frontend_options(
        arguments.split_lm_head,
        arguments.head,
        arguments.allow_missing_weights,
    );
    let typed = &arguments.quantizer.options;
    component_options::add(&mut options, typed, plugins, (Stage::Arch, &id));
    plugins.frontend(config, Some(&id), &options)
}

/// What a frontend is told of the model; of its tensors nothing, where only the configuration is
/// known.
pub(super) fn model_input(
    arguments: &ConvertRequest,
    config: &Value,
    directory: Option<&ModelDirectory>,
    sentence: Option<&SentenceModel>,
) -> ModelInput {
    ModelInput::new(config.clone(), arguments.context, arguments.batch)
        .with_tensors(directory.map(tensor_infos).unwrap_or_default())
        .with_embedding(sentence.map(|sentence| sentence.head.clone()))
}

impl Settings {
    /// What is said of a conversion without a quantizer.
    pub(super) fn float16() -> Scheme {
        Scheme::default().with_idle(true).with_summary("16-bit floats")
    }

    /// What the combiner is asked.
    pub(super) fn layout_request(&self, arguments: &ConvertRequest) -> LayoutRequest {
        layout_request(arguments).with_labels(self.scheme.labels.clone())
    }

    /// The options that decide the output, as they stand in the packages, the report and the record
    /// by which a later run knows this conversion.
    ///
    /// # Errors
    /// The quantizer records something under a name that is taken.
    pub(super) fn options_json(&self, arguments: &ConvertRequest) -> Result<Value> {
        let quantizer = &arguments.quantizer;
        let resolved = ConvertRequest {
            combiner: self.combiner.clone(),
            chunk: self.chunks.map(ChunkCount::Count),
            ..arguments.clone()
        };
        let options = serde_json::to_value(&resolved).map_err(|source| {
            Error::new(codes::INTERNAL, format!("a request has no JSON form: {source}"))
        })?;
        let Value::Object(mut options) = options else {
            return Err(Error::new(codes::INTERNAL, "a request is a JSON object"));
        };
        options.insert("quantizer_option".to_owned(), json!(quantizer.own_options()));
        // Those of the runtime change nothing in the output.
        let others: Vec<String> = quantizer
            .options
            .iter()
            .filter(|option| !quantizer.is_own(option))
            .filter(|option| !option.is_of(Stage::Runtime, &arguments.runtime))
            .map(ToString::to_string)
            .collect();
        if !others.is_empty() {
            options.insert("option".to_owned(), json!(others));
        }
        let record = &self.scheme.record;
        if let Some(name) = record.keys().find(|name| options.contains_key(*name)) {
            return Err(Error::new(
                codes::PLUGIN_BAD_ANSWER,
                format!("the quantizer records `{name}`, a name that is taken"),
            )
            .with_hint("this is a bug in the quantizer plugin; please report it to its author"));
        }
        options.extend(record.clone());
        Ok(Value::Object(in_order(options)))
    }
}

/// Options in the order in which packages have them, which is a part of their bytes: first those that
/// every conversion has, with what the quantizer records before its id, then the others.
fn in_order(mut options: Map<String, Value>) -> Map<String, Value> {
    const FIRST: [&str; 7] =
        ["context", "batch", "combiner", "chunk", "prefix", "argmax", "split_lm_head"];
    const LAST: [&str; 6] =
        ["quantizer", "quantizer_option", "clamp", "head", "allow_missing_weights", "option"];
    let mut taken = |names: &[&str]| -> Vec<(String, Value)> {
        names.iter().filter_map(|name| options.shift_remove_entry(*name)).collect()
    };
    let (first, last) = (taken(&FIRST), taken(&LAST));
    first.into_iter().chain(options).chain(last).collect()
}

/// What any combiner is asked, whatever becomes of the weights.
pub(super) fn layout_request(arguments: &ConvertRequest) -> LayoutRequest {
    let metadata = BTreeMap::from([(
        "com.anemll.tool_version".to_owned(),
        env!("CARGO_PKG_VERSION").to_owned(),
    )]);
    LayoutRequest::default().with_prefix(arguments.prefix.clone()).with_metadata(metadata)
}
