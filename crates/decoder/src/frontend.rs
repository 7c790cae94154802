//! The frontend that families of decoder-only models share: what differs between them is data.
//!
//! A plugin names its [`Component`], with a [`Family`] for each `model_type`, and gets an
//! [`ArchFrontend`] that reads the configuration, checks the tensors, describes and lowers.

use anemll_plugin_api::data::{
    FunctionSpec, MatchRank, ModelDescription, ModelInput, Stage, StoredHead, Verdict,
};
use anemll_plugin_api::{
    ArchFrontend, Error, Host, Level, Result, Value, codes, no_such_component,
};

use crate::config::{Config, GENERIC_KEYS, Key, OTHER_ARCHITECTURES, check_keys, read_rope};
use crate::error::{key_invalid, key_unsupported};
use crate::names::TensorNames;
use crate::quantized::{QUANTIZATION_KEYS, check_quantization};
use crate::rope::frequencies;
use crate::spec::{DecoderSpec, OutputProjection, SoftmaxForm, split_head};
use crate::tensors::{check_input, tensors_of};

/// The option that says which weight the head has.
const HEAD: &str = "head";
/// The option that says how many pieces the head has.
const SPLIT: &str = "split_lm_head";
/// Most pieces of the head.
const LARGEST_SPLIT: u64 = 64;

/// The keys that every family reads. A key that no table names is remarked on.
const KEYS: &[Key] = &[
    Key::used("architectures"),
    Key::used("head_dim"),
    Key::used("hidden_act"),
    Key::used("hidden_size"),
    Key::used("intermediate_size"),
    Key::used("max_position_embeddings"),
    Key::used("model_type"),
    Key::used("num_attention_heads"),
    Key::used("num_hidden_layers"),
    Key::used("num_key_value_heads"),
    Key::used("original_max_position_embeddings"),
    Key::used("partial_rotary_factor"),
    Key::used("rms_norm_eps"),
    Key::used("rope_parameters"),
    Key::used("rope_scaling"),
    Key::used("rope_theta"),
    Key::used("tie_word_embeddings"),
    Key::used("vocab_size"),
];

/// A component of an arch plugin.
#[derive(Debug)]
pub struct Component {
    /// Its id, as in the manifest.
    pub id: &'static str,
    /// What package names begin with, as the apps expect it.
    pub prefix: &'static str,
    /// Pieces of the head when the option `split_lm_head` is not given, as the apps expect them.
    pub head_pieces: u64,
    /// The families that it takes; the first one also reads models that `--arch` sends here.
    pub families: &'static [Family],
}

/// The models of one `model_type`.
#[derive(Debug)]
pub struct Family {
    /// Value of `model_type`.
    pub model_type: &'static str,
    /// Value in `architectures`.
    pub architecture: &'static str,
    /// What transformers takes where `config.json` says nothing.
    pub defaults: Defaults,
    /// Reads what is the family's own, for a context of this many tokens.
    pub form: fn(&Config<'_>, u64) -> Result<Form>,
}

/// What transformers takes for keys that a configuration does not have.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// `max_position_embeddings`.
    pub max_position_embeddings: u64,
    /// `rms_norm_eps`.
    pub rms_norm_eps: f64,
    /// `num_key_value_heads`; `None` is `num_attention_heads`, which `null` always means.
    pub num_key_value_heads: Option<u64>,
    /// `head_dim`; `None` is `hidden_size / num_attention_heads`. Where there is a number, `null`
    /// is refused, since transformers fails on it.
    pub head_dim: Option<u64>,
}

/// What a family's configuration says beyond the sizes that all have.
#[derive(Debug, Clone)]
pub struct Form {
    /// Rules for the family's keys, before those of all families and of other architectures.
    pub keys: Vec<&'static [Key]>,
    /// Whether the projections to queries, keys and values have biases.
    pub query_key_value_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Whether queries and keys are normalized per head before the rotation.
    pub query_key_norm: bool,
    /// Form of the attention's output projection.
    pub output_projection: OutputProjection,
    /// Form of the softmax.
    pub softmax: SoftmaxForm,
    /// Remarks for the report.
    pub notes: Vec<String>,
}

/// Which weight the head has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// The embedding's.
    Tied,
    /// One of its own.
    Stored,
}

/// Whether the weights are known, or only whether the family suits is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// A configuration alone is looked at, whatever the weights are.
    Accepts,
    /// The model is described or lowered.
    Describes,
}

/// The frontend of a component.
#[derive(Debug, Clone, Copy)]
pub struct DecoderFrontend {
    component: &'static Component,
    head_pieces: u64,
}

/// A model: its specification, and what else the description says.
struct Reading {
    spec: DecoderSpec,
    architecture: &'static str,
    model_type: String,
    max_position_embeddings: u64,
    stored_head: Option<StoredHead>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl Component {
    /// The frontend for the component `id` of a plugin that has this one only.
    ///
    /// # Errors
    /// Another id, or options that cannot be.
    pub fn frontend(&'static self, id: &str, options: &Value) -> Result<Box<dyn ArchFrontend>> {
        if id != self.id {
            return Err(no_such_component(Stage::Arch, id));
        }
        let head_pieces = head_pieces(options)?.unwrap_or(self.head_pieces);
        Ok(Box::new(DecoderFrontend { component: self, head_pieces }))
    }
}

impl DecoderFrontend {
    /// The frontend of a component without options.
    pub const fn new(component: &'static Component) -> Self {
        Self { component, head_pieces: component.head_pieces }
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

    /// Reads the configuration and checks the tensors, if they are known.
    fn read(&self, model: &ModelInput, question: Question) -> Result<Reading> {
        let pieces = head_pieces(&model.options)?.unwrap_or(self.head_pieces);
        let family = self.family(&model.config).map(|(family, _)| family);
        let Some(family) = family.or_else(|| self.component.families.first()) else {
            return Err(Error::new(codes::INTERNAL, "the component has no families"));
        };
        let mut reading = read(family, model, pieces)?;
        let names = TensorNames::find(&model.tensors);
        reading.notes.extend(names.note());
        let config = Config::new(&model.config)?;
        let wanted = tensors_of(&reading.spec);
        let believe = question == Question::Describes;
        reading.notes.extend(check_quantization(&config, &model.tensors, &wanted, believe)?);
        let remarks = check_input(&reading.spec, model, &names)?;
        reading.notes.extend(remarks.notes);
        reading.warnings.extend(remarks.warnings);
        Ok(reading)
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
            let reason = format!("it is none of {}", types.join(", "));
            return Ok(Verdict { rank: MatchRank::None, reason });
        };
        let reason = match rank {
            MatchRank::ModelType => format!("`model_type` is \"{}\"", family.model_type),
            _ => format!("`architectures` has \"{}\"", family.architecture),
        };
        // One token asks for nothing that depends on the context.
        let model = ModelInput { config, context: 1, batch: 1, ..ModelInput::default() };
        self.read(&model, Question::Accepts)?;
        Ok(Verdict { rank, reason })
    }

    fn describe(&self, model: &ModelInput) -> Result<ModelDescription> {
        let reading = self.read(model, Question::Describes)?;
        Ok(ModelDescription {
            architecture: reading.architecture.to_owned(),
            model_type: reading.model_type,
            default_prefix: self.component.prefix.to_owned(),
            max_position_embeddings: reading.max_position_embeddings,
            stored_head: reading.stored_head,
            notes: reading.notes,
            warnings: reading.warnings,
            ..reading.spec.describe()
        })
    }

    fn lower(&self, model: &ModelInput, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        host.check_cancelled()?;
        let reading = self.read(model, Question::Describes)?;
        let lowered = crate::lower(&reading.spec, function)?;
        host.log(Level::Debug, self.component.id, &format!("lowered `{}`", function.id));
        Ok(coreml_proto::write(&lowered))
    }
}

/// Reads a configuration for a context, a batch and `pieces` pieces of the head.
fn read(family: &Family, model: &ModelInput, pieces: u64) -> Result<Reading> {
    let config = Config::new(&model.config)?;
    let form = (family.form)(&config, model.context)?;
    let mut tables = form.keys;
    tables.extend([KEYS, QUANTIZATION_KEYS, GENERIC_KEYS, OTHER_ARCHITECTURES]);
    let mut warnings = check_keys(&config, &tables)?;
    let mut notes = form.notes;
    let defaults = family.defaults;

    let hidden_size = config.required_size("hidden_size")?;
    let attention_heads = config.required_size("num_attention_heads")?;
    let key_value_heads = match (config.size("num_key_value_heads")?, defaults.num_key_value_heads)
    {
        (Some(heads), _) => heads,
        (None, Some(heads)) if !config.is_null("num_key_value_heads") => {
            notes.push(default_note("num_key_value_heads", heads));
            heads
        }
        (None, _) => attention_heads,
    };
    let head_dimension = match (config.size("head_dim")?, defaults.head_dim) {
        (Some(width), _) => width,
        (None, Some(_)) if config.is_null("head_dim") => {
            return Err(key_invalid("head_dim", "is null, which transformers cannot load"));
        }
        (None, Some(width)) => {
            notes.push(default_note("head_dim", width));
            width
        }
        (None, None) => hidden_size / attention_heads,
    };
    let vocabulary_size = config.required_size("vocab_size")?;
    activation(&config)?;

    let longest = config.size("max_position_embeddings")?.unwrap_or_else(|| {
        notes.push(default_note("max_position_embeddings", defaults.max_position_embeddings));
        defaults.max_position_embeddings
    });
    let norm_epsilon = config.number("rms_norm_eps")?.unwrap_or_else(|| {
        notes.push(default_note("rms_norm_eps", defaults.rms_norm_eps));
        defaults.rms_norm_eps
    });
    let rope = read_rope(&config, longest, model.context)?;
    notes.extend(rope.notes);
    if model.context > longest {
        warnings.push(format!(
            "the context of {} goes beyond `max_position_embeddings` = {longest}; the model was not \
             made for positions after that",
            model.context
        ));
    }

    let head_splits = split_head(vocabulary_size, pieces);
    if (head_splits.len() as u64) < pieces {
        notes.push(format!(
            "the head has {} pieces, not {pieces}: `vocab_size` = {vocabulary_size} is too small",
            head_splits.len()
        ));
    }
    let names = TensorNames::find(&model.tensors);
    let (tied_embeddings, stored_head) = head(&config, model, &names, &mut notes)?;
    let spec = DecoderSpec {
        layers: layers(&config)?,
        hidden_size,
        attention_heads,
        key_value_heads,
        head_dimension,
        intermediate_size: config.required_size("intermediate_size")?,
        vocabulary_size,
        norm_epsilon,
        query_key_value_bias: form.query_key_value_bias,
        output_bias: form.output_bias,
        mlp_bias: form.mlp_bias,
        query_key_norm: form.query_key_norm,
        tied_embeddings,
        rope: frequencies(rope.base, head_dimension, &rope.scaling)?,
        head_splits,
        context: model.context,
        batch: model.batch,
        tensor_prefix: names.prefix,
        head_tensor: names.head,
        output_projection: form.output_projection,
        softmax: form.softmax,
    };
    spec.validate()?;
    notes.extend(spec.notes());
    notes.extend(other_architecture(&config, family.architecture)?);
    let model_type = config.text("model_type")?.unwrap_or(family.model_type).to_owned();
    Ok(Reading {
        spec,
        architecture: family.architecture,
        model_type,
        max_position_embeddings: longest,
        stored_head,
        notes,
        warnings,
    })
}

/// Whether the head is the embedding, and the head that is stored all the same and not asked for.
fn head(
    config: &Config<'_>,
    model: &ModelInput,
    names: &TensorNames,
    notes: &mut Vec<String>,
) -> Result<(bool, Option<StoredHead>)> {
    const KEY: &str = "tie_word_embeddings";
    let tied = config.boolean(KEY)?.unwrap_or(false);
    let stored = model.tensors.contains_key(&names.head);
    match head_option(&model.options)? {
        Some(Head::Tied) => {
            if !tied || stored {
                notes
                    .push(format!("the head is the embedding, not `{}`, as asked for", names.head));
            }
            Ok((true, None))
        }
        Some(Head::Stored) => {
            if tied {
                notes
                    .push(format!("the head is `{}`, not the embedding, as asked for", names.head));
            }
            Ok((false, None))
        }
        None => {
            let stored = (tied && stored).then(|| StoredHead {
                head: names.head.clone(),
                embedding: format!("{}embed_tokens.weight", names.prefix),
            });
            Ok((tied, stored))
        }
    }
}

fn default_note(key: &str, value: impl std::fmt::Display) -> String {
    format!("config.json: `{key}` is not given; {value} is taken, as transformers does")
}

fn layers(config: &Config<'_>) -> Result<u32> {
    let layers = config.required_size("num_hidden_layers")?;
    u32::try_from(layers)
        .map_err(|_| key_invalid("num_hidden_layers", format!("is {layers}, which is too many")))
}

fn activation(config: &Config<'_>) -> Result<()> {
    match config.text("hidden_act")? {
        // Two names of one function in transformers.
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => Err(key_unsupported(
            "hidden_act",
            format!("= \"{other}\": the activation is silu here"),
        )),
    }
}

/// A remark where `architectures` names something else.
fn other_architecture(config: &Config<'_>, name: &str) -> Result<Option<String>> {
    let given = config.texts("architectures")?;
    let other = !given.is_empty() && !given.contains(&name);
    Ok(other.then(|| format!("config.json: `architectures` = {given:?} is read as {name}")))
}

/// The option `head`, if it is given.
fn head_option(options: &Value) -> Result<Option<Head>> {
    match options.get(HEAD) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == "tied" => Ok(Some(Head::Tied)),
        Some(Value::String(text)) if text == "stored" => Ok(Some(Head::Stored)),
        Some(value) => Err(Error::new(
            codes::PLUGIN_OPTION_INVALID,
            format!("`{HEAD}` is {value}, not \"tied\" or \"stored\""),
        )
        .with_at(HEAD)),
    }
}

/// The option `split_lm_head`, if it is given.
fn head_pieces(options: &Value) -> Result<Option<u64>> {
    match options.get(SPLIT) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(pieces) if (1..=LARGEST_SPLIT).contains(&pieces) => Ok(Some(pieces)),
            _ => Err(Error::new(
                codes::PLUGIN_OPTION_INVALID,
                format!("`{SPLIT}` is {value}, not a whole number from 1 to {LARGEST_SPLIT}"),
            )
            .with_at(SPLIT)),
        },
    }
}
