//! What the flags of `convert` come to once the defaults are filled in.

use super::lut::Luts;
use super::quantization::Quantization;
use crate::model_files::{self, tensor_infos};
use crate::plugins::Plugins;
use crate::request::ConvertRequest;
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::data::{LayoutRequest, ModelInput};
use anemll_plugin_api::{ComponentOptions, Error, Result, codes};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The quantizer of the `--lut` flags.
pub(super) const LUT_QUANTIZER: &str = "lut";
/// Those that take the options which the `--lut` flags become.
const LUT_QUANTIZERS: [&str; 2] = [LUT_QUANTIZER, "lut-aware"];

/// How the model is cut, and how many bits its parts get.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// Id of the combiner.
    pub(super) combiner: String,
    /// What the combiner is made with.
    pub(super) options: ComponentOptions,
    /// Chunks of the layers; none leaves it to the combiner.
    pub(super) chunks: Option<u32>,
    /// Whether the embedding is in a function with layers. `--lut` then stands for it too, as
    /// ANEMLL's script for whole models has it.
    pub(super) whole: bool,
    /// Bits of each part.
    pub(super) luts: Luts,
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

/// The quantizer stage, if there is one.
pub(super) fn quantization(
    arguments: &ConvertRequest,
    luts: &Luts,
    plugins: &Plugins,
) -> Result<Option<Quantization>> {
    let mut options = ComponentOptions::new();
    if !luts.is_none() {
        options = luts.options().try_into()?;
    }
    for option in &arguments.quantizer_option {
        let (name, value) = named_value("--quantizer-option", option)?;
        options.insert(name, value);
    }
    let id = match &arguments.quantizer {
        Some(id) if !LUT_QUANTIZERS.contains(&id.as_str()) && arguments.luts.is_typed() => {
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
    let quantizer = plugins.quantizer(id, &options).map_err(|error| {
        if arguments.luts.is_typed() || arguments.quantizer.is_some() {
            return error;
        }
        error.with_hint(
            "weights are palettized by default: name the quantizer's library with --plugin PATH, \
             or convert to 16-bit floats with --lut none",
        )
    })?;
    Ok(Some(Quantization { id: id.to_owned(), quantizer, statistics: None }))
}

/// What is asked of the frontend.
pub(super) fn frontend_options(arguments: &ConvertRequest) -> ComponentOptions {
    model_files::frontend_options(
        arguments.split_lm_head,
        arguments.head,
        arguments.allow_missing_weights,
    )
}

/// What a frontend is told of the model; of its tensors nothing, where only the configuration is
/// known.
pub(super) fn model_input(
    arguments: &ConvertRequest,
    config: &Value,
    directory: Option<&ModelDirectory>,
) -> ModelInput {
    ModelInput {
        config: config.clone(),
        tensors: directory.map(tensor_infos).unwrap_or_default(),
        context: arguments.context,
        batch: arguments.batch,
    }
}

impl Settings {
    /// What the combiner is asked.
    pub(super) fn layout_request(&self, arguments: &ConvertRequest) -> LayoutRequest {
        LayoutRequest { labels: self.luts.labels(), ..layout_request(arguments) }
    }

    /// The options that decide the output, as they stand in the packages, the report and the record
    /// by which a later run knows this conversion.
    pub(super) fn options_json(&self, arguments: &ConvertRequest) -> Value {
        let mut options = json!({
            "context": arguments.context,
            "batch": arguments.batch,
            "combiner": self.combiner,
            "chunk": self.chunks,
            "prefix": arguments.prefix,
            "argmax": arguments.argmax,
            "split_lm_head": arguments.split_lm_head,
            "lut": self.luts.options(),
            "quantizer": arguments.quantizer,
            "quantizer_option": arguments.quantizer_option,
            "clamp": arguments.clamp,
        });
        if let Some(head) = arguments.head {
            options["head"] = json!(head.name());
        }
        if arguments.allow_missing_weights {
            options["allow_missing_weights"] = json!(true);
        }
        if !arguments.combiner_option.is_empty() {
            options["combiner_option"] = json!(arguments.combiner_option);
        }
        options
    }
}

/// What any combiner is asked, whatever becomes of the weights.
pub(super) fn layout_request(arguments: &ConvertRequest) -> LayoutRequest {
    let metadata = BTreeMap::from([(
        "com.anemll.tool_version".to_owned(),
        env!("CARGO_PKG_VERSION").to_owned(),
    )]);
    LayoutRequest { prefix: arguments.prefix.clone(), metadata, ..LayoutRequest::default() }
}

/// NAME=VALUE as it was typed after `flag`: a JSON value, or else a text.
pub(super) fn named_value<'a>(flag: &str, option: &'a str) -> Result<(&'a str, Value)> {
    let Some((name, value)) = option.split_once('=') else {
        return Err(Error::new(codes::USAGE, format!("{flag} {option}: expected NAME=VALUE")));
    };
    Ok((name, serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
}
