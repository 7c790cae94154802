//! The frontend that families of decoder-only models share: what differs between them is data.
//!
//! A plugin names its [`Component`], with a [`Family`] for each `model_type`, and gets an
//! [`ArchFrontend`] that reads the configuration, checks the tensors, describes and lowers.

use anemll_plugin_api::data::{
    FunctionSpec, MatchRank, ModelDescription, ModelInput, Stage, Verdict,
};
use anemll_plugin_api::{
    ArchFrontend, ArchModel, ComponentOptions, Error, Host, Level, Result, Value, codes,
    no_such_component,
};

use crate::choices::{Choices, WINDOW_CACHE};
use crate::config::Config;
use crate::error::key_unsupported;
use crate::names::TensorNames;
use crate::quantized::check_quantization;
use crate::reading::{Reading, read};
use crate::refusals::Refusals;
use crate::spec::{DecoderSpec, WindowCache};
use crate::tensors::{check_input, tensors_of};

pub use crate::family::{
    Component, Defaults, EmbeddingScale, Family, Form, LocalRotation, Positions,
};
pub use crate::layers::{LayerForm, LayerMixer, LayerRotation, Layers};

/// Whether the weights are known, or only whether the family suits is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// A configuration alone is looked at, whatever the weights are.
    Accepts,
    /// The model is opened.
    Opens,
}

/// The frontend of a component.
#[derive(Debug, Clone, Copy)]
pub struct DecoderFrontend {
    component: &'static Component,
    choices: Choices,
}

/// A model that is ready to be lowered.
struct DecoderModel {
    component: &'static Component,
    reading: Reading,
}

impl Component {
    /// The frontend for the component `id` of a plugin that has this one only.
    ///
    /// # Errors
    /// Another id, or options that cannot be.
    pub fn frontend(
        &'static self,
        id: &str,
        options: &ComponentOptions,
    ) -> Result<Box<dyn ArchFrontend>> {
        if id != self.id {
            return Err(no_such_component(Stage::Arch, id));
        }
        Ok(Box::new(DecoderFrontend::with_options(self, options)?))
    }
}

impl DecoderFrontend {
    /// The frontend of a component without options.
    pub const fn new(component: &'static Component) -> Self {
        Self { component, choices: Choices::none(component) }
    }

    /// The frontend of a component with options: `split_lm_head`, `head` (`tied` or `stored`),
    /// `residual_scale`, `window_cache` (`full` or `ring`) and `allow_missing_weights`.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] with the option's name.
    pub fn with_options(component: &'static Component, options: &ComponentOptions) -> Result<Self> {
        Ok(Self { component, choices: Choices::new(component, options)? })
    }

    /// The family of a configuration, and how well it suits. As transformers has it, `model_type`
    /// decides; `architectures` stands in where it is absent.
    fn family(&self, config: &Value) -> Option<(&'static Family, MatchRank)> {
        let names = config.get("architectures").and_then(Value::as_array);
        let has = |name: &str| {
            names.is_some_and(|names| names.iter().any(|value| value.as_str() == Some(name)))
        };
        self.component.families.iter().find_map(|family| match config.get("model_type") {
            Some(Value::String(name)) if name == family.model_type => {
                Some((family, MatchRank::ModelType))
            }
            None | Some(Value::Null) if has(family.architecture) => {
                Some((family, MatchRank::Architecture))
            }
            _ => None,
        })
    }

    /// Reads the configuration and checks the tensors, if they are known; nothing where a key is
    /// refused.
    fn read(
        &self,
        model: &ModelInput,
        question: Question,
        refusals: &mut Refusals,
    ) -> Result<Option<Reading>> {
        let family = self.family(&model.config).map(|(family, _)| family);
        let Some(family) = family.or_else(|| self.component.families.first()) else {
            return Err(Error::new(codes::INTERNAL, "the component has no families"));
        };
        let Some(mut reading) = read(family, model, &self.choices, refusals)? else {
            return Ok(None);
        };
        if question == Question::Opens && reading.bidirectional && model.embedding.is_none() {
            let reason = "= true: the model gives the vector of a text, and no logits";
            let key = reading.spec.key_names.path("use_bidirectional_attention");
            let refusal = key_unsupported(&key, reason);
            refusals.push(refusal.with_hint("convert it to vectors: --task embed"))?;
            return Ok(None);
        }
        if question == Question::Opens {
            reading.notes.extend(refusals.take(ring_note(&reading.spec))?.flatten());
        }
        let names = TensorNames::find(&model.tensors);
        reading.notes.extend(names.note());
        let config = Config::new(&model.config)?;
        let wanted = tensors_of(&reading.spec);
        let believe = question == Question::Opens;
        let quantization = check_quantization(&config, &model.tensors, &wanted, believe);
        let Some(remark) = refusals.take(quantization)? else { return Ok(None) };
        reading.notes.extend(remark);
        let allow_missing = self.choices.allow_missing;
        let remarks = check_input(&reading.spec, model, &names, allow_missing)?;
        reading.notes.extend(remarks.notes);
        reading.warnings.extend(remarks.warnings);
        Ok(Some(reading))
    }
}

/// What is said of caches in rings, where they are asked for.
///
/// # Errors
/// There is no layer that could have one.
fn ring_note(spec: &DecoderSpec) -> Result<Option<String>> {
    if spec.window_cache == WindowCache::Full {
        return Ok(None);
    }
    let refuse = |reason: String, hint: &str| {
        let message = format!("option \"{WINDOW_CACHE}\" cannot be \"ring\": {reason}");
        let error = Error::new(codes::PLUGIN_OPTION_INVALID, message);
        Err(error.with_at(WINDOW_CACHE).with_hint(hint.to_owned()))
    };
    if let Some([_, _, length, _]) = spec.ring_state_shape() {
        let (layers, context) = (spec.ring_layers(), spec.context);
        return Ok(Some(format!(
            "the caches of {layers} layers with a window hold {length} positions, not {context}"
        )));
    }
    if !spec.keeps_keys() {
        let reason = "a text goes through in one call, and nothing is kept".to_owned();
        return refuse(reason, "leave the option out");
    }
    let windows = spec.blocks.iter().filter_map(|block| block.mixer.attention()?.window);
    match windows.max() {
        None => refuse(
            format!("no layer has a window that acts within a context of {} tokens", spec.context),
            "leave the option out; it changes nothing for this model",
        ),
        Some(window) => refuse(
            format!(
                "a window of {window} tokens and a batch of {} take a ring of {} positions, no fewer \
                 than the context's {}",
                spec.batch,
                spec.ring_length(window),
                spec.context
            ),
            "leave the option out, or convert with a longer --context or a smaller --batch",
        ),
    }
}

impl ArchFrontend for DecoderFrontend {
    fn accepts(&self, config_json: &str) -> Result<Verdict> {
        let config: Value = serde_json::from_str(config_json).map_err(|error| {
            Error::new(codes::CONFIG_UNREADABLE, "the configuration is not valid JSON")
                .with_at("config.json")
                .with_cause(error.to_string())
        })?;
        let Some((family, rank)) = self.family(&config) else {
            let types: Vec<String> = self
                .component
                .families
                .iter()
                .map(|family| {
                    format!("`model_type` \"{}\" ({})", family.model_type, family.architecture)
                })
                .collect();
            let reason = format!("it is not one of {}", types.join(", "));
            return Ok(Verdict::none(reason));
        };
        let reason = match rank {
            MatchRank::ModelType => format!("`model_type` is \"{}\"", family.model_type),
            _ => format!("`architectures` has \"{}\"", family.architecture),
        };
        // One token asks for nothing that depends on the context.
        let model = ModelInput::new(config, 1, 1);
        let mut refusals = Refusals::new();
        match self.read(&model, Question::Accepts, &mut refusals) {
            // What was refused before it may be its cause.
            Err(error) if refusals.is_empty() => Err(error),
            _ => Ok(Verdict::new(rank, reason).with_refusals(refusals.into_list())),
        }
    }

    fn open(&self, model: &ModelInput, _: &Host) -> Result<Box<dyn ArchModel>> {
        let mut refusals = Refusals::new();
        let read = self.read(model, Question::Opens, &mut refusals);
        if let Some(refused) = refusals.to_error() {
            return Err(refused);
        }
        match read? {
            Some(reading) => Ok(Box::new(DecoderModel { component: self.component, reading })),
            None => Err(Error::new(codes::INTERNAL, "a configuration is neither read nor refused")),
        }
    }
}

impl ArchModel for DecoderModel {
    fn describe(&self) -> ModelDescription {
        let reading = &self.reading;
        reading
            .spec
            .describe()
            .with_architecture(reading.architecture)
            .with_model_type(reading.model_type.clone())
            .with_default_prefix(reading.prefix)
            .with_max_position_embeddings(reading.max_position_embeddings)
            .with_stored_head(reading.stored_head.clone())
            .with_notes(reading.notes.clone())
            .with_warnings(reading.warnings.clone())
    }

    fn lower(&self, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        host.check_cancelled()?;
        let lowered = crate::lower(&self.reading.spec, function)?;
        host.log(Level::Debug, self.component.id, &format!("lowered `{}`", function.id));
        Ok(coreml_proto::write(&lowered))
    }
}
