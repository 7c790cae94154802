//! Reads a configuration into the specification of a graph, and collects what is refused.

use anemll_plugin_api::Result;
use anemll_plugin_api::data::{ModelInput, StoredHead};

use crate::choices::{Choices, Head};
use crate::config::{Config, GENERIC_KEYS, Key, OTHER_ARCHITECTURES, check_keys, read_rope};
use crate::error::{key_invalid, key_unsupported};
use crate::family::Family;
use crate::names::TensorNames;
use crate::quantized::QUANTIZATION_KEYS;
use crate::refusals::Refusals;
use crate::rope::frequencies;
use crate::spec::{DecoderSpec, split_head};

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

/// A model: its specification, and what else the description says.
pub(crate) struct Reading {
    pub(crate) spec: DecoderSpec,
    pub(crate) architecture: &'static str,
    pub(crate) model_type: String,
    pub(crate) max_position_embeddings: u64,
    pub(crate) stored_head: Option<StoredHead>,
    pub(crate) notes: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Reads a configuration for a context and a batch; nothing where a key is refused.
///
/// # Errors
/// What is about no key of the configuration.
pub(crate) fn read(
    family: &Family,
    model: &ModelInput,
    choices: &Choices,
    refusals: &mut Refusals,
) -> Result<Option<Reading>> {
    let config = Config::new(&model.config)?;
    let form = (family.form)(&config, model.context, refusals)?;
    let mut tables = form.keys;
    tables.extend([KEYS, QUANTIZATION_KEYS, GENERIC_KEYS, OTHER_ARCHITECTURES]);
    let mut warnings = check_keys(&config, &tables, refusals)?;
    let mut notes = form.notes;
    let defaults = family.defaults;

    let hidden_size = refusals.take(config.required_size("hidden_size"))?;
    let attention_heads = refusals.take(config.required_size("num_attention_heads"))?;
    let key_value_heads = match refusals.take(config.size("num_key_value_heads"))? {
        None => None,
        Some(given) => match (given, defaults.num_key_value_heads) {
            (Some(heads), _) => Some(heads),
            (None, Some(heads)) if !config.is_null("num_key_value_heads") => {
                notes.push(default_note("num_key_value_heads", heads));
                Some(heads)
            }
            (None, _) => attention_heads,
        },
    };
    let head_dimension = match refusals.take(config.size("head_dim"))? {
        None => None,
        Some(given) => match (given, defaults.head_dim) {
            (Some(width), _) => Some(width),
            (None, Some(_)) if config.is_null("head_dim") => {
                refusals
                    .push(key_invalid("head_dim", "is null, which transformers cannot load"))?;
                None
            }
            (None, Some(width)) => {
                notes.push(default_note("head_dim", width));
                Some(width)
            }
            (None, None) => hidden_size.zip(attention_heads).map(|(width, heads)| width / heads),
        },
    };
    let vocabulary_size = refusals.take(config.required_size("vocab_size"))?;
    refusals.take(activation(&config))?;

    let longest = refusals.take(config.size("max_position_embeddings"))?.map(|given| {
        given.unwrap_or_else(|| {
            notes.push(default_note("max_position_embeddings", defaults.max_position_embeddings));
            defaults.max_position_embeddings
        })
    });
    let norm_epsilon = refusals.take(config.number("rms_norm_eps"))?.map(|given| {
        given.unwrap_or_else(|| {
            notes.push(default_note("rms_norm_eps", defaults.rms_norm_eps));
            defaults.rms_norm_eps
        })
    });
    let rope = match longest {
        Some(longest) => refusals.take(read_rope(&config, longest, model.context))?,
        None => None,
    };
    notes.extend(rope.iter().flat_map(|rope| rope.notes.iter().cloned()));
    if let Some(longest) = longest.filter(|longest| model.context > *longest) {
        warnings.push(format!(
            "the context of {} goes beyond `max_position_embeddings` = {longest}; the model was not \
             made for positions after that",
            model.context
        ));
    }

    let pieces = choices.head_pieces;
    let head_splits = vocabulary_size.map(|rows| split_head(rows, pieces));
    if let (Some(splits), Some(rows)) = (&head_splits, vocabulary_size)
        && (splits.len() as u64) < pieces
    {
        notes.push(format!(
            "the head has {} pieces, not {pieces}: `vocab_size` = {rows} is too small",
            splits.len()
        ));
    }
    let names = TensorNames::find(&model.tensors);
    let head = refusals.take(head(&config, model, &names, choices.head, &mut notes))?;
    let layers = refusals.take(layers(&config))?;
    let intermediate_size = refusals.take(config.required_size("intermediate_size"))?;
    let frequencies = match (&rope, head_dimension) {
        (Some(rope), Some(width)) => refusals.take(frequencies(rope.base, width, &rope.scaling))?,
        _ => None,
    };
    // What lacks is refused already.
    let specification = || {
        Some(DecoderSpec {
            layers: layers?,
            hidden_size: hidden_size?,
            attention_heads: attention_heads?,
            key_value_heads: key_value_heads?,
            head_dimension: head_dimension?,
            intermediate_size: intermediate_size?,
            vocabulary_size: vocabulary_size?,
            norm_epsilon: norm_epsilon?,
            query_key_value_bias: form.query_key_value_bias,
            output_bias: form.output_bias,
            mlp_bias: form.mlp_bias,
            query_key_norm: form.query_key_norm,
            tied_embeddings: head.as_ref()?.0,
            rope: frequencies?,
            head_splits: head_splits?,
            context: model.context,
            batch: model.batch,
            tensor_prefix: names.prefix,
            head_tensor: names.head,
            output_projection: form.output_projection,
            softmax: form.softmax,
        })
    };
    let spec = specification();
    if let Some(spec) = &spec {
        refusals.take(spec.validate())?;
        notes.extend(spec.notes());
    }
    if let Some(other) = refusals.take(other_architecture(&config, family.architecture))? {
        notes.extend(other);
    }
    let model_type = refusals.take(config.text("model_type"))?;
    let (Some(spec), Some(model_type), Some((_, stored_head)), Some(longest), true) =
        (spec, model_type, head, longest, refusals.is_empty())
    else {
        return Ok(None);
    };
    Ok(Some(Reading {
        spec,
        architecture: family.architecture,
        model_type: model_type.unwrap_or(family.model_type).to_owned(),
        max_position_embeddings: longest,
        stored_head,
        notes,
        warnings,
    }))
}

/// Whether the head is the embedding, and the head that is stored all the same and not asked for.
fn head(
    config: &Config<'_>,
    model: &ModelInput,
    names: &TensorNames,
    asked: Option<Head>,
    notes: &mut Vec<String>,
) -> Result<(bool, Option<StoredHead>)> {
    const KEY: &str = "tie_word_embeddings";
    let tied = config.boolean(KEY)?.unwrap_or(false);
    let stored = model.tensors.contains_key(&names.head);
    match asked {
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
            let stored = (tied && stored).then(|| {
                StoredHead::new(names.head.clone(), format!("{}embed_tokens.weight", names.prefix))
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
